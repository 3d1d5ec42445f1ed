"""A tagger in PyTorch: packed sequences and a conditional random field; docs/pytorch-drop-in.md tells of it.

python docs/examples/torch_tagger.py [--latchwork] [--steps N] [--save FILE] [--resume FILE]

It is a program as users of PyTorch write it. ``--latchwork`` adds one line: ``latchwork.torch.replace(model)``.
"""

import argparse
import time

import latchwork.torch
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

WORDS, TAGS = 60, 5
ROWS, LONGEST = 16, 25


class Tagger(nn.Module):
    """An LSTM in both directions scores tags, and a conditional random field the order in which they follow."""

    def __init__(self, embedding=12, hidden=24):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, TAGS)
        self.follows = nn.Parameter(torch.zeros(TAGS, TAGS))  # [a, b]: how well b follows a

    def forward(self, words, lengths):
        """Score each tag of each word: (N, T, TAGS)."""
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(packed)
        return self.head(pad_packed_sequence(output, batch_first=True)[0])

    def loss(self, words, tags, lengths):
        """Give the mean negative log-likelihood of a word's tag: all paths by the forward algorithm, less the right."""
        scores = self(words, lengths)
        valid = torch.arange(scores.shape[1]) < lengths[:, None]
        of_tags = scores.gather(2, tags[..., None])[..., 0] * valid
        of_pairs = self.follows[tags[:, :-1], tags[:, 1:]] * valid[:, 1:]
        paths = scores[:, 0]
        for t in range(1, scores.shape[1]):
            longer = (paths[..., None] + self.follows).logsumexp(1) + scores[:, t]
            paths = torch.where(valid[:, t, None], longer, paths)
        return (paths.logsumexp(1) - of_tags.sum(1) - of_pairs.sum(1)).sum() / lengths.sum()

    @torch.no_grad()
    def best(self, words, lengths):
        """Find the most probable tags of each sentence, by Viterbi's algorithm."""
        found = []
        for scores, length in zip(self(words, lengths), lengths.tolist(), strict=True):
            path, back = scores[0], []
            for score in scores[1:length]:
                path, before = (path[:, None] + self.follows).max(0)
                path = path + score
                back.append(before)
            tags = [path.argmax()]
            for before in reversed(back):
                tags.insert(0, before[tags[0]])
            found.append(torch.stack(tags))
        return found


def sentences(step):
    """Make the sentences of a step: a word's tag is its class, or the next class if a word below 20 comes next."""
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(3, LONGEST + 1, (ROWS,), generator=generator)
    words = [torch.randint(0, WORDS, (length,), generator=generator) for length in lengths]
    tags = [(each // (WORDS // TAGS) + (torch.cat((each[1:], each[:1])) < 20)) % TAGS for each in words]
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True), lengths


def train(steps=200, dtype=torch.float32, with_latchwork=False, resume=None, save=None):
    """Train, from the beginning or from where a checkpoint was saved. Return the model and the loss of each step."""
    torch.manual_seed(0)
    model = Tagger().to(dtype)
    if with_latchwork:
        print(latchwork.torch.replace(model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = 0
    if resume is not None:
        checkpoint = torch.load(resume, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first = checkpoint["step"]
    losses = []
    for step in range(first, first + steps):
        loss = model.loss(*sentences(step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    if save is not None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": first + steps}, save)
    return model, losses


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
    words, tags, lengths = sentences(-1)
    right = sum((said == tags[row, : len(said)]).sum().item() for row, said in enumerate(trained.best(words, lengths)))
    print(f"right tags of other sentences: {right / lengths.sum():.1%}")
