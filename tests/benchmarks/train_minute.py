"""Compare a minute of `latchwork train` with the same training in PyTorch, by held-out bits per character over time.

Both sides have forget gates of their own, because PyTorch has no coupled ones, which are the default of Latchwork's
language model. `latchwork train` itself measures that.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import latchwork as lw
import numpy as np
from latchwork.cli.train_text import default_text
from latchwork.estimators.language_model import LSTMLanguageModel
from latchwork.estimators.runs.fit_loop import FitLoop
from latchwork.estimators.text.tokenizers import Tokenizer
from numpy.typing import NDArray

SIDES = ("Latchwork", "PyTorch")
SEED = 0
MARKS = 12  # one for every fifth second of the minute
COMPARED_STEPS = 50
LARGEST_DIFFERENCE = 1e-4

Weights = Mapping[str, NDArray[np.float32]]
State = tuple[Any, Any] | None


class PyTorchTrainer:
    """A trainer in PyTorch that stands in for the language model's `latchwork.Trainer`, with the network's weights."""

    def __init__(self, model: LSTMLanguageModel, network: lw.Network) -> None:
        import torch

        self._torch = torch
        self.network = network
        self.optimizer = lw.optim.AdamW()  # it has no schedule
        self.gradient_norm = 0.0
        embedding, lstm, linear = network
        self._network = torch.nn.Sequential(
            torch.nn.Embedding(*embedding.parameters["weight"].shape),
            torch.nn.LSTM(lstm.input_size, lstm.hidden_size, lstm.num_layers, dropout=lstm.dropout),
            torch.nn.Linear(*reversed(linear.parameters["weight"].shape)),
        )
        self._network.load_state_dict({name: torch.from_numpy(value) for name, value in network.state_dict().items()})
        self._parameters = list(self._network.parameters())
        self._clip_norm = model.clip_norm
        self._optimizer = torch.optim.AdamW(self._parameters, model.lr, weight_decay=model.weight_decay, fused=True)

    @property
    def lr(self) -> float:
        lr: float = self._optimizer.param_groups[0]["lr"]
        return lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._optimizer.param_groups[0]["lr"] = value

    def step(
        self, inputs: NDArray[Any], targets: NDArray[Any], state: State = None, *nothing: None
    ) -> tuple[float, State]:
        torch = self._torch
        embedding, lstm, linear = self._network
        output, (h, c) = lstm(embedding(torch.from_numpy(inputs.astype(np.int64))), state)
        scores = linear(output).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(targets.astype(np.int64)).flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm, foreach=True)
        self.gradient_norm = norm.item()
        self._optimizer.step()
        return loss.item(), (h.detach(), c.detach())

    def weights(self) -> Weights:
        """Copy the learned weights, under Latchwork's names, which are PyTorch's too."""
        return {name: value.numpy().copy() for name, value in self._network.state_dict().items()}


class Run(NamedTuple):
    """A training run of one side, made as `LSTMLanguageModel.fit` makes it; the clock starts when it is made."""

    model: LSTMLanguageModel
    tokenizer: Tokenizer
    network: lw.Network
    loop: FitLoop
    weights: Callable[[], Weights]


def new_run(side: str, model: LSTMLanguageModel, text: str) -> Run:
    tokenizer, network, run = model._prepare(text, seed=model.random_state)
    weights = network.state_dict
    if side == "PyTorch":
        trainer = PyTorchTrainer(model, network)
        run.trainer = trainer
        weights = trainer.weights
    loop = FitLoop(run)
    loop._started = time.perf_counter()
    return Run(model, tokenizer, network, loop, weights)


class Moment(NamedTuple):
    seconds: float
    characters: int
    weights: Weights


class Watch:
    """Takes the place of a trainer's ``step``; keeps the weights when each mark has passed, while the clock stands."""

    def __init__(self, run: Run, marks: Sequence[float]) -> None:
        self._run = run
        self._marks = marks
        self._step = run.loop.trainer.step
        self._characters = 0
        self.moments: list[Moment] = []
        run.loop.trainer.step = self.step

    def step(self, inputs: NDArray[Any], *others: Any) -> tuple[float, Any]:
        result = self._step(inputs, *others)
        self._characters += inputs.size
        seconds = time.perf_counter() - self._run.loop._started
        while len(self.moments) < len(self._marks) and seconds >= self._marks[len(self.moments)]:
            self.keep(seconds)
        return result

    def keep(self, seconds: float) -> None:
        start = time.perf_counter()
        self.moments.append(Moment(seconds, self._characters, self._run.weights()))
        self._run.loop._started += time.perf_counter() - start


def train(run: Run) -> None:
    run.loop.run()
    if run.loop.interrupted:
        raise KeyboardInterrupt


def marks(seconds: float) -> list[float]:
    return [seconds * mark / MARKS for mark in range(1, MARKS + 1)]


def measure(side: str, model: LSTMLanguageModel, text: str, held_out: str) -> list[dict[str, float]]:
    """Train until the seconds or the epochs are over, then measure the weights that were kept at each mark.

    If the epochs are over first, the last weights count for the marks that are left.
    """
    run = new_run(side, model, text)
    assert model.max_seconds is not None
    watch = Watch(run, marks(model.max_seconds))
    train(run)
    if len(watch.moments) < MARKS:
        watch.keep(run.loop.history[-1]["seconds"])
    results = []
    for moment in watch.moments:
        run.network.load_state_dict(moment.weights)
        model._keep(run.tokenizer, run.network, run.loop.history, interrupted=False)
        bits = model.bits_per_character(held_out)
        results.append({"seconds": moment.seconds, "characters": moment.characters, "bits_per_character": bits})
    return results + results[-1:] * (MARKS - len(results))


def first_losses(side: str, model: LSTMLanguageModel, text: str) -> list[float]:
    """Return the losses of the steps of one epoch over as much of the text as COMPARED_STEPS steps read."""
    model = LSTMLanguageModel(**model.get_params() | {"max_epochs": 1, "max_seconds": None})
    run = new_run(side, model, text[: COMPARED_STEPS * model.window * model.batch_size])
    losses = []
    step = run.loop.trainer.step

    def recorded_step(*arguments: Any) -> tuple[float, Any]:
        loss, state = step(*arguments)
        losses.append(loss)
        return loss, state

    run.loop.trainer.step = recorded_step
    train(run)
    return losses


def largest_difference(losses: Mapping[str, list[float]]) -> float:
    """Return the largest relative difference between the losses of both sides."""
    ours, theirs = (np.array(losses[side]) for side in SIDES)
    return float(np.max(np.abs(ours - theirs) / theirs))


def in_fresh_process(threads: int, job: Callable[..., Any], side: str, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1, set_num_threads, (side, threads)) as pool:
        return pool.apply(job, (side, *arguments))


def set_num_threads(side: str, threads: int) -> None:
    lw.set_num_threads(threads)
    if side == "PyTorch":
        import torch

        torch.set_num_threads(threads)


def print_results(results: Mapping[str, list[dict[str, float]]], seconds: float) -> None:
    print("\n| seconds | bits per character: Latchwork | PyTorch | characters read: Latchwork | PyTorch |")
    print("| --- | --- | --- | --- | --- |")
    for mark, ours, theirs in zip(marks(seconds), *(results[side] for side in SIDES), strict=True):
        bits = " | ".join(f"{one['bits_per_character']:.4f}" for one in (ours, theirs))
        characters = " | ".join(f"{one['characters']:,}" for one in (ours, theirs))
        print(f"| {mark:.3g} | {bits} | {characters} |")
    print()
    rates = []
    for side in SIDES:
        last = results[side][-1]
        rates.append(last["characters"] / last["seconds"])
        print(f"{side:<9} {last['characters']:,} characters in {last['seconds']:.1f} s: {rates[-1]:,.0f} a second")
    print(f"ratio     {rates[0] / rates[1]:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each side trains at most")
    parser.add_argument("--threads", type=int, default=lw.get_num_threads(), help="of both sides")
    parser.add_argument("--json", type=Path, help="keep the results here")
    arguments = parser.parse_args()
    if arguments.seconds <= 0:
        parser.error(f"--seconds: expected more than 0, got {arguments.seconds:g}")
    if importlib.util.find_spec("torch") is None:
        print("the comparison needs PyTorch (pip install torch)", file=sys.stderr)
        return 2

    name, text = default_text()
    held_out_length = len(text) // 10
    training, held_out = text[:-held_out_length], text[-held_out_length:]
    model = LSTMLanguageModel(forget_gate=True, max_seconds=arguments.seconds, random_state=SEED)
    versions = {"latchwork": lw.__version__, "torch": importlib.metadata.version("torch")}
    print(
        f"{name}: {len(training):,} characters to train on, {len(held_out):,} held out\n"
        f"latchwork {versions['latchwork']}, torch {versions['torch']}, float32, {lw.cpu_info()['isa']}, "
        f"{arguments.threads} thread(s), {model}",
        flush=True,
    )
    losses = {side: in_fresh_process(arguments.threads, first_losses, side, model, training) for side in SIDES}
    difference = largest_difference(losses)
    print(
        f"losses of the first {len(losses['PyTorch'])} steps differ by up to {difference:.1e} of their size", flush=True
    )
    if not difference <= LARGEST_DIFFERENCE:
        print(f"which is more than {LARGEST_DIFFERENCE:g}: the sides do not do the same", file=sys.stderr)
        return 1

    results = {side: in_fresh_process(arguments.threads, measure, side, model, training, held_out) for side in SIDES}
    print_results(results, arguments.seconds)
    if arguments.json:
        document = {
            "versions": versions,
            "threads": arguments.threads,
            "isa": lw.cpu_info()["isa"],
            "largest_difference": difference,
            "marks": results,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
