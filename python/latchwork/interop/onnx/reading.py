"""Models from ONNX."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from latchwork._arrays import real_dtype
from latchwork.interop.chain import Part, model_of
from latchwork.interop.found import refusal
from latchwork.interop.onnx.loading import opened, text
from latchwork.interop.onnx.reader import Reader
from latchwork.interop.onnx.values import Data, Known, Opaque, Spread
from latchwork.lstm import LSTM
from latchwork.step_layers import Reverse

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from latchwork.interop.found import FoundLSTM
    from latchwork.interop.onnx.entries import Entry
    from latchwork.interop.onnx.values import Stage
    from latchwork.network import Network


def from_onnx(model: Any, *, node: str | None = None, dtype: DTypeLike | None = None) -> LSTM | Network:
    """Make a model of an ONNX file: an `LSTM` if it is nothing but that, and a `Network` if it is a chain of layers.

    Whatever the graph does with axes around the layers is understood, and what only prepares start states does not
    matter: inputs that hold a start state become the state that a call takes and gives, layer by layer, an input of
    lengths becomes ``lengths``. A batch or a number of steps that an exporter fixed is no limit for the result.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        The file, its content or the message. Tensors in files of their own are read if they lie in the folder of the
        model, for which it must be given by its path.
    node : str, optional
        The path of one LSTM as `onnx_lstms` gives it, or the name of a node: that LSTM alone is made. What is around it
        may be anything.
    dtype : {"float32", "float64"}, optional
        The dtype of the model. None: that of the file, float32 for float16 and bfloat16.

    Returns
    -------
    LSTM or Network
        ``batch_first`` is as the graph's input has it, and input and output have the same order of steps and rows.
        Axes of one element that the graph drops or adds are as our layers have them. Start states that are constants
        become those of ``learn_start_state=True``.

    Raises
    ------
    ValueError
        If the file is no ONNX model, is damaged, or is more than a chain of layers that Latchwork has. The message says
        what stands in the way, and lists the LSTMs in the file.
    TypeError
        If ``model`` is none of these.
    ImportError
        If the package onnx is not installed.
    OSError
        If the file cannot be read.

    Notes
    -----
    Of ONNX's LSTM everything is read, of opset 7 and later: peepholes, lengths, start states, ``clip``,
    ``input_forget``, all activations with ``alpha`` and ``beta``, three directions, both layouts. Weights may be
    computed from constants. LSTMs that are written out as one step (PyTorch's ``LSTMCell``, TensorFlow's cells) or as
    the body of a Scan are recognised. Where lengths are given, steps after the end of a sequence are zero in our
    output, whatever the graph has there.
    """
    if node is not None and not isinstance(node, str):
        raise TypeError(f"node: expected str or None, got {type(node).__name__}")
    chosen = None if dtype is None else real_dtype(dtype).name
    source = opened(model)
    try:
        reader = Reader(source)
        made: LSTM | Network = _chain(reader, chosen) if node is None else _taken_out(reader, node, chosen)
    except RecursionError:
        raise ValueError(f"{source.name}: expected a graph of moderate depth, got one that is deeper") from None
    except ValueError as error:
        if str(error).startswith(f"{source.name}: "):
            raise
        raise ValueError(f"{source.name}: {error}") from error
    return made


def onnx_lstms(model: Any) -> list[FoundLSTM]:
    """List the LSTMs in an ONNX file, those within If, Loop and Scan too.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        As for `from_onnx`.

    Returns
    -------
    list of FoundLSTM
        ``path`` is what ``from_onnx(model, node=path)`` takes; ``input_size``, ``hidden_size``, ``direction``,
        ``options``; ``obstacles`` say what keeps the whole file from becoming a chain.

    Raises
    ------
    ValueError, TypeError, ImportError, OSError
        As `from_onnx`, but not because the file is more than a chain.
    """
    source = opened(model)
    try:
        return [entry.found() for entry in Reader(source).entries]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source.name}: {error}") from error


def _taken_out(reader: Reader, node: str, dtype: str | None) -> Any:
    """Make one LSTM by itself."""
    entries = [entry for entry in reader.entries if entry.path == node]
    entries = entries or [entry for entry in reader.entries if entry.name == node]
    if len(entries) != 1:
        found = ", ".join(repr(entry.path) for entry in reader.entries[:20]) or "none"
        count = "that of several LSTMs" if entries else "no LSTM's"
        raise ValueError(f"node: expected one of {found}, got {node!r}, {count} name")
    entry = entries[0]
    part, operator = entry.part, entry.operator
    assert operator is not None
    return model_of([part], dtype or operator.dtype.name, batch_first=operator.layout == 1)


def _chain(reader: Reader, dtype: str | None) -> Any:
    """Make a model of the whole graph, or say what stands in the way."""
    try:
        main, stage = _main_output(reader)
        used = {each.lstm for each in stage.chain if each.lstm is not None}
        entries = [reader.entries[number] for number in sorted(used)]
        _check_inputs(reader, stage, entries)
        batch_first = _batch_first(reader, main, stage)
        parts = [each.part for each in stage.chain if each.part is not None]
        if main is not None and main.flipped:
            parts.append(Part(Reverse))
        dtypes = {entry.operator.dtype.name for entry in entries if entry.operator is not None}
        return model_of(parts, dtype or max(dtypes), batch_first=batch_first)
    except (ValueError, TypeError) as error:  # what the layers refuse too, or a network of them
        found = [each.found() for each in reader.entries if not each.error]
        unreadable = [f"LSTM {each.path!r}: {each.error}" for each in reader.entries if each.error]
        reason = "; ".join(dict.fromkeys([str(error), *unreadable]))
        if unreadable and not found:
            raise ValueError(reason) from None
        raise refusal(reader.source.name, reason, found, "node") from None


def _main_output(reader: Reader) -> tuple[Data | None, Stage]:
    """Find the output that the chain leads to. None, and the topmost LSTM: there are states alone."""
    mains: dict[str, Data] = {}
    states: dict[str, Data] = {}
    numbers: set[int] = set()
    for name, value in reader.outputs.items():
        if isinstance(value, (Known, Spread)):
            raise ValueError(f"output {text(name)!r} does not depend on any input")
        if isinstance(value, Opaque):
            if not value.states or value.inputs:
                raise _in_the_way(value)
            numbers |= value.states
            continue
        if value.stage.broken:
            raise _in_the_way(value.stage.broken)
        value = _without_step(reader, value)
        if value.state:
            states[name] = value
            numbers |= {value.stage.lstm} if value.stage.lstm is not None else set()
        else:
            mains[name] = value
    alone = [value for value in states.values() if value.state == "h"]
    if not mains and len(states) == len(alone) == 1 and numbers == {alone[0].stage.lstm} and _is_pooled(alone[0]):
        mains = states
    if not mains:
        return None, _topmost(reader, numbers)
    first, *others = mains.values()
    if any(other != first for other in others):
        raise ValueError(f"it has several outputs, {', '.join(repr(text(name)) for name in mains)}")
    within = {each.lstm for each in first.stage.chain if each.lstm is not None}
    if not numbers <= within:
        beside = reader.entries[min(numbers - within)].path
        raise ValueError(f"LSTM {beside!r} stands beside the chain that leads to its output")
    if not within:
        raise ValueError("no LSTM leads to its output")
    return first, first.stage


def _without_step(reader: Reader, value: Data) -> Data:
    """Take the last of the steps that a graph has in a row for what it is: an end state, or a last output."""
    if value.step is None:
        return value
    name, place = value.step
    if place + 1 != reader.axes.sizes[name] or value.flipped or value.stage.lstm is None:
        raise ValueError("an output is one step of many")
    if value.state:
        return replace(value, step=None)
    is_lstm = value.stage is reader.stages[value.stage.lstm]
    return replace(value, step=None, stage=reader.last_of(value.stage), state="h" if is_lstm else "")


def _in_the_way(value: Opaque) -> ValueError:
    return ValueError(value.reason if value.reason.startswith("LSTM ") else f"{value.reason} has no counterpart")


def _is_pooled(value: Data) -> bool:
    """Say whether an LSTM's last output has lost the axis of directions, as a layer after it would take it."""
    return len(value.axes) == 2


def _topmost(reader: Reader, numbers: set[int]) -> Stage:
    stages = [reader.stages[number] for number in numbers]
    if not stages:
        raise ValueError("no LSTM leads to its output")
    top = max(stages, key=lambda stage: stage.depth)
    if top.broken:
        raise _in_the_way(top.broken)
    if not numbers <= {each.lstm for each in top.chain if each.lstm is not None}:
        raise ValueError("its LSTMs do not follow each other")
    return top


def _check_inputs(reader: Reader, stage: Stage, entries: list[Entry]) -> None:
    """See that inputs are data, or states, or lengths, and that all LSTMs have the same lengths."""
    for entry in entries:
        if entry.error or entry.obstacles:
            blocking = [each for each in [entry.error, *entry.obstacles] if each and not each.endswith(" after it")]
            if blocking:
                raise ValueError(f"LSTM {entry.path!r}: {blocking[0]}")
        for name in sorted({*entry.state_inputs, entry.lengths} - {""}):
            if name == stage.input:
                raise ValueError(f"input {text(name)!r} is both the data and something else")
    lengths = {entry.lengths for entry in entries}
    if len(lengths) > 1:
        raise ValueError("its LSTMs have different lengths")


def _batch_first(reader: Reader, main: Data | None, stage: Stage) -> bool:
    """Find the order of steps and rows, which input and output must share."""
    given = [reader.axes.roles.get(f"{stage.input}.{place}", "") for place in range(reader.inputs[stage.input])]
    order = [role for role in given if role]
    if main is not None:
        names = [name for axis in main.axes for name in axis if name in reader.axes.features]
        complete = tuple(names) == main.stage.features and main.direction is None
        if not complete and (names or any(reader.axes.sizes[name] != 1 for name in main.stage.features)):
            raise ValueError("its output does not hold the features of its last layer in their order")
        if any(len(axis) > 1 and not reader.axes.features.issuperset(axis) for axis in main.axes):
            raise ValueError("its output holds steps, rows or features in one axis")
        result = [role for role in map(reader.axes.role, main.axes) if role not in ("1", "features")]
        if [role for role in order if role in result] != result:
            raise ValueError(f"the order of steps and rows is not the same in input {text(stage.input)!r} and output")
    return order == ["N", "T"]
