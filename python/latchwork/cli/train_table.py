"""``latchwork train`` on a table: a regressor or a classifier, by what the target is."""

from __future__ import annotations

import argparse
import os
from typing import Any

from latchwork.cli.arguments import integer
from latchwork.cli.errors import INTERRUPTED
from latchwork.cli.fitting import fit_and_write
from latchwork.cli.history_picture import write_picture
from latchwork.cli.output import check_apart, check_writable, what_is_replaced
from latchwork.cli.table_problem import Problem, Wanted, read_problem
from latchwork.cli.table_score import score_lines
from latchwork.estimators.classifier import LSTMClassifier
from latchwork.estimators.regressor import LSTMRegressor

MISSING = ("forward", "mean", "zero", "refuse")
SCALES = ("standard", "robust", "none")

# A sequence longer than this is read in windows of so many steps, so that each epoch has many steps of training and
# memory stays bounded.
WINDOW = 64
LONGEST_WHOLE = 512


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that only tables have."""
    group = parser.add_argument_group(
        "tables",
        "With --target, DATA is a CSV file with a line of names, or a Parquet file (.parquet; needs PyArrow). A target "
        "of words or of few different whole numbers is classified, any other predicted as a number; targets that are "
        "equal in all rows of a sequence are predicted from its whole, others row by row from the rows so far. All "
        "other columns are inputs. The last tenth, of the sequences or of the rows of one series, is held out for the "
        "score.",
    )
    group.add_argument("--target", metavar="COLUMN", help="what to predict")
    group.add_argument("--sequence", metavar="COLUMN", help="what tells sequences apart; without it there is one")
    group.add_argument("--time", metavar="COLUMN", help="what orders the rows: numbers or dates; without it they stay")
    group.add_argument("--task", choices=("regression", "classification"), help="instead of what the target suggests")
    group.add_argument(
        "--categorical",
        metavar="COLUMN",
        action="append",
        help="read this column as texts, which are categories; may be given several times",
    )
    group.add_argument(
        "--own-past",
        action=argparse.BooleanOptionalAction,
        help="let the model read the target of the row before; by default it does for one series of numbers, and where "
        "there are no other inputs",
    )
    group.add_argument("--missing", choices=MISSING, help="what stands for missing inputs; refuse: an error")
    group.add_argument("--scale", choices=SCALES, help="how inputs are scaled; by default standard")
    group.add_argument(
        "--bidirectional",
        action=argparse.BooleanOptionalAction,
        help="read the sequences backward too; by default where each has one target",
    )
    group.add_argument("--members", type=integer(1, 10_000), metavar="COUNT", help="train a committee of so many")


def table_options(arguments: argparse.Namespace) -> list[str]:
    """Give the options among those of `add_options` that were used."""
    given = {
        "--target": arguments.target,
        "--sequence": arguments.sequence,
        "--time": arguments.time,
        "--task": arguments.task,
        "--categorical": arguments.categorical,
        "--own-past": arguments.own_past,
        "--missing": arguments.missing,
        "--scale": arguments.scale,
        "--bidirectional": arguments.bidirectional,
        "--members": arguments.members,
    }
    return [option for option, value in given.items() if value is not None]


def wanted_of(arguments: argparse.Namespace) -> Wanted:
    """Give what the options of `add_options` say of the table."""
    return Wanted(
        target=arguments.target,
        sequence=arguments.sequence,
        time=arguments.time,
        task=arguments.task,
        categorical=tuple(arguments.categorical or ()),
        own_past=arguments.own_past,
        missing=arguments.missing,
        bidirectional=arguments.bidirectional,
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, train, write, measure."""
    output = arguments.output
    check_apart(output, DATA=arguments.data)
    problem = read_problem(arguments.data, wanted_of(arguments))
    target = check_writable(output)
    print(f"output    {output}{what_is_replaced(output, target)}")
    for line in _description(problem):
        print(line)
    model = _new_model(problem, arguments)
    print(f"model     {_model_in_words(model)}", flush=True)
    part = problem.training_part()
    for note in fit_and_write(model, arguments, part.X, part.y):
        print(f"note      {note}")
    print(f"training  {_training_in_words(model)}")
    print(f"written   {output} ({os.path.getsize(output) / 1e6:.1f} MB)", flush=True)
    for line in write_picture(arguments.plot, model.history_):
        print(line)
    print()
    print("\n".join(score_lines(problem, model)))
    return INTERRUPTED if model.interrupted_ else 0


def _new_model(problem: Problem, arguments: argparse.Namespace) -> Any:
    kind = LSTMRegressor if problem.target.task == "regression" else LSTMClassifier
    options: dict[str, Any] = {
        "hidden_size": arguments.hidden_size,
        "num_layers": arguments.layers,
        "max_epochs": arguments.epochs,
        "max_seconds": arguments.seconds,
        "n_members": arguments.members,
        # What is held out may lack what all that is learned has.
        "missing": "forward" if arguments.missing is None and problem.has_gaps else arguments.missing,
        "checkpoint_dir": arguments.checkpoint_dir,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if problem.target.per_step:
        given["head"] = "sequence"
        given["bidirectional"] = bool(arguments.bidirectional)
        if not given["bidirectional"] and (problem.one_series or problem.sequences.lengths.max() > LONGEST_WHOLE):
            given["window"] = WINDOW
    elif arguments.bidirectional is not None:
        given["bidirectional"] = arguments.bidirectional
    if arguments.scale is not None:
        given["scale"] = None if arguments.scale == "none" else arguments.scale
    if problem.categorical:
        given["categorical"] = problem.categorical
    return kind(
        **given,
        sequence=problem.wanted.sequence,
        time=problem.wanted.time,
        random_state=arguments.seed,
        verbose=True,
    )


def _description(problem: Problem) -> list[str]:
    """Say what the table holds and what will be done with it."""
    table, target, wanted = problem.sequences.table, problem.target, problem.wanted
    lengths = problem.sequences.lengths
    inputs = [f"{name} (category)" if name in problem.categorical else name for name in problem.inputs]
    order = "of the file" if wanted.time is None else f"of {wanted.time!r}"
    shortest, longest = int(lengths.min()), int(lengths.max())
    each = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    count = "one series" if problem.one_series else f"{len(lengths):,} sequences"
    if problem.one_series:
        held = f"the last {len(problem.held_out):,} rows of {longest:,}"
    else:
        of_each = " of each class" if target.classes and not target.per_step else ""
        sequences = "sequence" if len(problem.held_out) == 1 else "sequences"
        held = f"{len(problem.held_out):,} {sequences} of {len(lengths):,}, the last tenth{of_each}"
    if target.per_step:
        reads = "of all rows" if wanted.bidirectional else "of the rows up to it"
        past = " and the targets of those before it, which the first row has not" if problem.own_past else ""
        what = [
            f"one for each row, because {target.per_step_reason}:",
            f"predicted from the inputs {reads}{past}",
        ]
    else:
        what = [f"one for each sequence, because {target.per_step_reason}"]
    return [
        f"table     {table.name}: {count} of {each} rows in the order {order}",
        f"inputs    {', '.join(inputs)}",
        f"target    {wanted.target!r}: {target.task}, because {target.task_reason}",
        *(f"          {line}" for line in what),
        f"held out  {held}",
        *(f"note      {note}" for note in problem.notes),
    ]


def _model_in_words(model: Any) -> str:
    directions = ", bidirectional" if model._reads_backward() else ""
    members = f", {model.n_members} members" if model.n_members > 1 else ""
    return f"{type(model).__name__}, {model.num_layers} x LSTM {model.hidden_size}{directions}{members}"


def _training_in_words(model: Any) -> str:
    if not model.history_:
        return "ended before its first step"
    last = model.history_[-1]
    ended = "ended by Ctrl-C after" if model.interrupted_ else "took"
    epochs = "1 epoch" if last["epoch"] == 1 else f"{last['epoch']} epochs"
    return f"{ended} {last['seconds']:.1f} s: {epochs}, loss {last['loss']:.4g}"
