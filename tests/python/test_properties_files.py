"""Files of any layer or network: what was saved comes back, and what was damaged is refused with a ValueError."""

import contextlib
import json
import tempfile
from pathlib import Path

import latchwork as lw
import numpy as np
from cell_options import CELL_OPTIONS
from comparison import assert_same_bits
from generated import DTYPES, SEEDS, input_of, lstms, networks, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from variants import EVERY, forward_only


@st.composite
def cells(draw):
    options = forward_only(EVERY[draw(st.sampled_from(sorted(EVERY)))])
    options = {name: value for name, value in options.items() if name in CELL_OPTIONS}
    return lw.LSTMCell(draw(st.integers(1, 4)), draw(st.integers(4, 9)), dtype=draw(DTYPES), **options)


@st.composite
def linear_layers(draw):
    activation = draw(st.sampled_from([None, "relu", "sigmoid", "tanh"]))
    sizes = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return lw.Linear(*sizes, bias=draw(st.booleans()), activation=activation, dtype=draw(DTYPES), seed=draw(SEEDS))


@st.composite
def embeddings(draw):
    return lw.Embedding(draw(st.integers(1, 9)), draw(st.integers(1, 9)), dtype=draw(DTYPES), seed=draw(SEEDS))


# Few examples, because each file is written through to the disk, which takes long.
FEW = settings(max_examples=100)

MODULES = st.one_of(lstms(), networks(), cells(), linear_layers(), embeddings())


def answer(module):
    """What a module computes from some input."""
    if isinstance(module, lw.Network):
        return module(input_of(module, 1, 4, 3))
    if isinstance(module, lw.Embedding):
        return module(np.zeros(2, int))
    if isinstance(module, lw.Linear):
        return module(numbers(1, (3, module.state_dict()["weight"].shape[1]), module.dtype))
    shape = (3, module.input_size) if isinstance(module, lw.LSTMCell) else (4, 3, module.input_size)
    return module(numbers(1, shape, module.dtype))


@contextlib.contextmanager
def saved(module):
    """The path of a file that holds it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        module.save(path)
        yield path


@FEW
@given(MODULES)
def test_what_was_saved_comes_back(module):
    with saved(module) as path:
        loaded = lw.load(path)
    assert type(loaded) is type(module)
    assert repr(loaded) == repr(module)
    assert loaded.dtype == module.dtype
    assert_same_bits(loaded.state_dict(), module.state_dict())
    assert_same_bits(answer(loaded), answer(module))


@FEW
@given(st.data())
def test_a_file_cut_short_or_made_longer_is_refused(data):
    with saved(data.draw(MODULES)) as path:
        content = path.read_bytes()
        damaged = data.draw(
            st.one_of(
                st.integers(0, len(content) - 1).map(lambda length: content[:length]),
                st.binary(min_size=1, max_size=20).map(lambda more: content + more),
            )
        )
        path.write_bytes(damaged)
        assert refused(path)


def refused(path):
    """Whether loading raises a ValueError that names the file; any other exception passes through."""
    refusal = None
    try:
        lw.load(path)
    except ValueError as error:
        refusal = str(error)
    assert refusal is None or path.name in refusal
    return refusal is not None


@FEW
@given(st.data())
def test_changed_bytes_are_refused_or_harmless(data):
    module = data.draw(MODULES)
    with saved(module) as path:
        content = bytearray(path.read_bytes())
        # Only the header can do harm: weights may have any value.
        header = 8 + int.from_bytes(content[:8], "little")
        places = st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1))
        for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
            content[place] = byte
        path.write_bytes(content)
        if not refused(path):
            answer(lw.load(path))


NUMBERS = st.one_of(
    st.integers(-2, 9), st.sampled_from([2**31, 2**62, 2**63, 2**64, 2**80, -(2**63), 10**400]),
    st.floats(), st.sampled_from([0.0, 0.5, 1.0, 1e308]),
)  # fmt: skip
WORDS = st.one_of(st.text(max_size=4), st.sampled_from(["float64", "float16", "tanh", "none", "own", "both", "lstm"]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)


def places_in(value, path=()):
    """The paths to all values within a JSON value, itself included."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places_in(value[key], (*path, key))


def replaced(value, path, new):
    """A copy of a JSON value with ``new`` at a path."""
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], rest, new)
    return copy


@FEW
@given(st.data())
def test_a_description_that_says_anything_else_is_refused_or_harmless(data):
    module = data.draw(MODULES)
    with saved(module) as path:
        with safe_open(path, framework="np") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = {
            name: json.loads(text) if text.startswith(("{", "[")) else text for name, text in sorted(metadata.items())
        }
        for _ in range(data.draw(st.integers(1, 2))):
            place = data.draw(st.sampled_from(list(places_in(description))[1:]))
            description = replaced(description, place, data.draw(JSON))
        metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
        save_file(tensors, path, {name: text.encode("utf-8", "replace").decode() for name, text in metadata.items()})
        if not refused(path):
            answer(lw.load(path))
