"""What other processes run in tests of the drop-in, found by name. Imported only where PyTorch is installed."""

import torch
from torch_programs import DROP_IN, TORCH


class InWorker(torch.utils.data.Dataset):
    """Rows that a model has seen."""

    def __init__(self, model, rows):
        self.model, self.rows = model, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        with torch.no_grad():
            return self.model(self.rows[index])[0]


def share(lstm, x, answers):
    """In another process: train a step in place, and say what the model gives after it."""
    optimizer = torch.optim.SGD(lstm.parameters(), lr=0.5)
    lstm(x)[0].square().sum().backward()
    optimizer.step()
    answers.put(lstm(x)[0].detach().tolist())


def averaged_gradients(rank, meeting, path):
    """One of two processes that train together: its weights after some steps, with each kind of layers."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = {}
    for name, layers in (("torch", TORCH), ("drop-in", DROP_IN)):
        torch.manual_seed(0)
        lstm = layers.LSTM(3, 5, 2, bidirectional=True, dtype=torch.float64)
        parallel = torch.nn.parallel.DistributedDataParallel(lstm)
        optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
        for _ in range(3):
            x = torch.randn(6, 8, 3, dtype=torch.float64)[:, rank::2]
            optimizer.zero_grad()
            parallel(x)[0].square().sum().backward()
            optimizer.step()
        found[name] = {key: value.detach() for key, value in lstm.named_parameters()}
    torch.save(found, path)
    torch.distributed.destroy_process_group()
