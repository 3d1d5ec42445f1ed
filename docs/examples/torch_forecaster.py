"""A forecaster in PyTorch, with a DataLoader, a schedule and checkpoints; docs/pytorch-drop-in.md tells of it.

python docs/examples/torch_forecaster.py [--latchwork] [--epochs N] [--save FILE] [--resume FILE]

It is a program as users of PyTorch write it. ``--latchwork`` adds one line: ``latchwork.torch.replace(model)``.
"""

import argparse
import time

import latchwork.torch
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

PAST, FUTURE = 48, 12  # hours
EPOCHS, LEARNING_RATE = 10, 5e-3


class Windows(Dataset):
    """Every window of a series: the hours that are known, and those that are to be said."""

    def __init__(self, series):
        self.series = series

    def __len__(self):
        """Count the windows."""
        return len(self.series) - PAST - FUTURE + 1

    def __getitem__(self, start):
        """Give the past and the future of one."""
        window = self.series[start : start + PAST + FUTURE]
        return window[:PAST], window[PAST:, 0]


class Forecaster(nn.Module):
    """An LSTM reads the past, and a linear layer says all of the future at once."""

    def __init__(self, features, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, FUTURE))

    def forward(self, past):
        """(N, PAST, features) to (N, FUTURE)."""
        _, (h, _) = self.lstm(past)
        return past[:, -1:, 0] + self.head(h[-1])  # the last value is what a naive forecast says


def series_of_hours(hours=800, dtype=torch.float32):
    """Make a load with a daily and a weekly cycle and noise that lasts, beside the time of day: (hours, 3)."""
    generator = torch.Generator().manual_seed(1)
    time_of_day = torch.arange(hours, dtype=torch.float64) * (2 * torch.pi / 24)
    noise, shocks = [0.0], torch.randn(hours, generator=generator, dtype=torch.float64).mul(0.1).tolist()
    for shock in shocks[1:]:
        noise.append(0.9 * noise[-1] + shock)
    load = time_of_day.sin() + 0.5 * (time_of_day / 7).cos() + torch.tensor(noise, dtype=torch.float64)
    return torch.stack((load, time_of_day.sin(), time_of_day.cos()), 1).to(dtype)


def train(epochs=EPOCHS, dtype=torch.float32, with_latchwork=False, resume=None, save=None):
    """Train, from the beginning or after a checkpoint. Return the model, each step's loss and each epoch's error."""
    torch.manual_seed(0)
    series = series_of_hours(dtype=dtype)
    known, later = Windows(series[:700]), Windows(series[700 - PAST :])
    model = Forecaster(series.shape[1]).to(dtype)
    if with_latchwork:
        print(latchwork.torch.replace(model))
    shuffle = torch.Generator()
    batches = DataLoader(known, batch_size=32, shuffle=True, drop_last=True, generator=shuffle)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs=EPOCHS, steps_per_epoch=len(batches)
    )
    first = 0
    if resume is not None:
        checkpoint = torch.load(resume, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        schedule.load_state_dict(checkpoint["schedule"])
        first = checkpoint["epoch"]
    losses, errors = [], []
    for epoch in range(first, first + epochs):
        model.train()
        shuffle.manual_seed(epoch)
        for past, future in batches:
            loss = functional.smooth_l1_loss(model(past), future)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        with torch.inference_mode():
            said = [(model(past) - future).abs().mean() for past, future in DataLoader(later, batch_size=len(later))]
        errors.append(torch.stack(said).mean().item())
        if save is not None:
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(content | {"schedule": schedule.state_dict(), "epoch": epoch + 1}, save)
    return model, losses, errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latchwork", action="store_true")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--resume")
    parser.add_argument("--save")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    _, course, of_epochs = train(arguments.epochs, torch.float32, arguments.latchwork, arguments.resume, arguments.save)
    print(f"loss {course[0]:.4f} at first, {course[-1]:.4f} at last, after {time.perf_counter() - begun:.1f} s")
    print(f"mean absolute error of later hours {of_epochs[0]:.4f} at first, {of_epochs[-1]:.4f} at last")
