"""A character model in PyTorch, by truncated backpropagation through time; docs/pytorch-drop-in.md tells of it.

python docs/examples/torch_character_model.py [--latchwork] [--steps N] [--save FILE] [--resume FILE]

It is a program as users of PyTorch write it. ``--latchwork`` adds one line: ``latchwork.torch.replace(model)``.
"""

import argparse
import time
from pydoc_data.topics import topics

import latchwork.torch
import torch
from torch import nn
from torch.nn import functional

TEXT = "".join(topics[name] for name in sorted(topics))[:200_000]
CHARACTERS = sorted(set(TEXT))
ROWS, WINDOW = 16, 32  # how many places of the text are read side by side, and how far gradients go back


class CharacterModel(nn.Module):
    """Says what comes next: ``logits, state = model(tokens, state)``, tokens (T, N)."""

    def __init__(self, embedding=16, hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, dropout=0.1)
        self.head = nn.Linear(hidden, len(CHARACTERS))

    def forward(self, tokens, state=None):
        """Read on from a state."""
        output, state = self.lstm(self.embedding(tokens), state)
        return self.head(output), state


def rows_of_text():
    """Cut the text into rows that are read side by side: (steps, ROWS)."""
    numbers = {character: number for number, character in enumerate(CHARACTERS)}
    tokens = torch.tensor([numbers[character] for character in TEXT])
    return tokens[: len(tokens) // ROWS * ROWS].view(ROWS, -1).t().contiguous()


def train(steps=200, dtype=torch.float32, with_latchwork=False, resume=None, save=None):
    """Train, from the beginning or from where a checkpoint was saved. Return the model and the loss of each step."""
    torch.manual_seed(0)
    model = CharacterModel().to(dtype)
    if with_latchwork:
        print(latchwork.torch.replace(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first, state = 0, None
    if resume is not None:
        checkpoint = torch.load(resume, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first, state = checkpoint["step"], checkpoint["state"]
        torch.set_rng_state(checkpoint["random"])  # the next masks of dropout
    text = rows_of_text()
    windows = (len(text) - 1) // WINDOW
    losses = []
    for step in range(first, first + steps):
        start = step % windows * WINDOW
        # At the end of a window gradients end, and what was read does not.
        state = None if start == 0 else tuple(part.detach() for part in state)
        logits, state = model(text[start : start + WINDOW], state)
        target = text[start + 1 : start + WINDOW + 1]
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    if save is not None:
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": first + steps}
        torch.save(content | {"state": state, "random": torch.get_rng_state()}, save)
    return model, losses


@torch.no_grad()
def sample(model, start="The ", length=80):
    """Let the model write."""
    model.eval()
    text, state = start, None
    tokens = torch.tensor([[CHARACTERS.index(character)] for character in start])
    for _ in range(length):
        logits, state = model(tokens, state)
        tokens = torch.multinomial(logits[-1].softmax(-1), 1)
        text += CHARACTERS[tokens.item()]
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latchwork", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--resume")
    parser.add_argument("--save")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    trained, course = train(arguments.steps, torch.float32, arguments.latchwork, arguments.resume, arguments.save)
    print(f"loss {course[0]:.4f} at first, {course[-1]:.4f} at last, after {time.perf_counter() - begun:.1f} s")
    print(repr(sample(trained)))
