"""``latchwork verify``: whether a model comes from the training that its certificate describes."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from latchwork.cli.arguments import HelpFormatter, integer
from latchwork.cli.errors import CommandError
from latchwork.cli.input import read_text, shown
from latchwork.cli.models import load_model
from latchwork.cli.table_problem import Problem, Wanted, read_problem, target_of_past
from latchwork.cli.train_text import default_text, training_length
from latchwork.estimators.classifier import LSTMClassifier
from latchwork.estimators.language_model import LSTMLanguageModel
from latchwork.estimators.runs.verification import Verification, has_data, verify
from latchwork.estimators.sequence_estimator import SequenceEstimator
from latchwork.machine import set_num_threads

UNEQUAL = 1  # the exit status if anything is found

Data = tuple[str, Callable[[], tuple[Any, ...]]]  # in words, and what gives what was passed to fit


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "verify",
        help="check that a model comes from the training that its certificate describes",
        description="Compare a model, its options and DATA with the certificate of its training, and train random "
        "epochs again from the states beside the certificate: each must end in the next state, bit for bit, on any "
        "machine and with any number of threads. The exit status is 0 if all is equal, 1 if something is not. Equal "
        "segments say that these data and options make this model, not who made it.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by latchwork train or save")
    parser.add_argument("certificate", metavar="CERTIFICATE", help="a file written by --certificate of latchwork train")
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="what the model was trained on, a text or a table: all of it, or all but the last tenth, as latchwork "
        "train does; without it, the text of Python's own documentation",
    )
    parser.add_argument(
        "--segments", metavar="N", type=_segments, default=3, help="how many epochs to train again, or all"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column of a table that the model predicts")
    parser.add_argument(
        "--threads", type=integer(1, 1024), help="number of threads; without it, as many as there are CPUs to use"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find out which part of the data was trained on, repeat, and say what came out."""
    if arguments.threads is not None:
        set_num_threads(arguments.threads)
    model, name, _ = load_model(arguments.model)
    if isinstance(model, LSTMLanguageModel):
        candidates = list(_texts(arguments))
    elif isinstance(model, SequenceEstimator):
        candidates = list(_tables(arguments, model))
    else:
        raise CommandError(f"{name}: expected a model of an estimator, got {type(model).__name__}")
    try:
        words, found = _verified(model, arguments.certificate, candidates, arguments.segments)
    except ValueError as error:
        raise CommandError(str(error)) from error
    print(f"data      {words}")
    print(f"segments  {found.segments}, one for each epoch")
    print(found)
    return 0 if found.passed else UNEQUAL


def _verified(model: Any, certificate: str, candidates: list[Data], segments: int | str) -> tuple[str, Verification]:
    """Verify with the data of the certificate or, if none of the candidates are these, with the first."""
    for words, data in candidates:
        if has_data(model, certificate, *data()):
            return words, verify(model, certificate, *data(), segments=segments)
    words, data = candidates[0]
    return words, verify(model, certificate, *data(), segments=segments)


def _texts(arguments: argparse.Namespace) -> Iterator[Data]:
    if arguments.target is not None:
        raise CommandError("--target: expected a model of a table, got a language model")
    name, text = default_text() if arguments.data is None else (shown(arguments.data), read_text(arguments.data))
    yield f"{name}: all but the last tenth", lambda: (text[: training_length(text)],)
    yield f"{name}: all of it", lambda: (text,)


def _tables(arguments: argparse.Namespace, model: SequenceEstimator) -> Iterator[Data]:
    if arguments.data is None:
        raise CommandError("DATA: expected a table for this model, got none")
    schema = model._learned.schema
    past = next((target for each in schema.names or () if (target := target_of_past(each)) is not None), None)
    target = arguments.target or past
    if target is None:
        raise CommandError("--target: expected the column that the model predicts, got none")
    wanted = Wanted(
        target=target,
        sequence=schema.sequence,
        time=schema.time,
        task="classification" if isinstance(model, LSTMClassifier) else "regression",
        categorical=tuple(target_of_past(name) or name for name in model.categorical or ()),
        own_past=past is not None,
        missing=model.missing,
        bidirectional=model.bidirectional,
    )
    problem = read_problem(arguments.data, wanted)
    name = problem.sequences.table.name
    yield f"{name}: all but what latchwork train holds out", problem.training_part
    yield f"{name}: all of it", _whole(problem).training_part


def _whole(problem: Problem) -> Problem:
    both = np.sort(np.concatenate([problem.training, problem.held_out]))
    return dataclasses.replace(problem, training=both)


def _segments(text: str) -> int | str:
    return text if text == "all" else integer(0, 10**9)(text)
