"""The options of the cell: defaults, attributes, and what is refused.

Options that the core refuses are in test_refused_options.py. Here are those that only Python has, and wrong types.
"""

import inspect

import latchwork as lw
import numpy as np
import pytest
from cell_options import ACTIVATIONS, CELL_DEFAULTS, DEFAULTS, GATES, RICH
from comparison import assert_same_bits
from latchwork import _core

KINDS = (
    "embedding, lstm, last, linear, mean, max, dropout, scale, impute, embed_columns, sort, reverse, input_skip, mask, "
    "activation"
)


def test_options_are_keywords_with_these_defaults():
    for kind, defaults in ((lw.LSTM, DEFAULTS), (lw.LSTMCell, CELL_DEFAULTS)):
        parameters = inspect.signature(kind).parameters
        module = kind(3, 5)
        for name, default in defaults.items():
            if kind is lw.LSTMCell or name != "proj_size":
                assert parameters[name].kind is parameters[name].KEYWORD_ONLY
            assert parameters[name].default == default
            assert getattr(module, name) == default
        assert repr(module) == f"{kind.__name__}(3, 5)"
    assert "residual" not in inspect.signature(lw.LSTMCell).parameters


def test_defaults_that_are_given_change_nothing():
    plain = lw.LSTM(3, 5, seed=1)
    given = DEFAULTS | {"activations": {"input": "sigmoid", "forget": ["sigmoid"], "cell": ("tanh",)}}
    module = lw.LSTM(3, 5, seed=1, **given)
    assert repr(module) == "LSTM(3, 5)"
    assert_same_bits(module.state_dict(), plain.state_dict())
    both = lw.LSTM(3, 5, bidirectional=True, activations=({"input": "relu"}, {"input": ("relu",)}))
    assert both.activations == {"input": "relu"}


@pytest.mark.parametrize(("given", "kept"), RICH)
def test_attributes_are_what_was_given(given, kept):
    module = lw.LSTM(**given)
    for name, value in (given | kept).items():
        assert getattr(module, name) == value
        reason = "has no setter" if name == "dtype" else f"{name} cannot be changed: build a new LSTM instead"
        with pytest.raises(AttributeError, match=reason):
            setattr(module, name, value)


def test_changing_what_was_given_or_read_changes_nothing():
    given = {"candidate": "relu"}
    module = lw.LSTM(3, 5, activations=given)
    given["candidate"] = "tanh"
    module.activations["candidate"] = "tanh"
    assert module.activations == {"candidate": "relu"}


# Options, and the message that they must cause.
REFUSED = [
    ({"forget_gate": "own"}, "forget_gate: expected True, False or \"coupled\", got 'own'"),
    ({"forget_gate": ""}, "forget_gate: expected True, False or \"coupled\", got ''"),
    ({"init": "xavier"}, 'init: expected one of torch, keras, orthogonal, chrono, got "xavier"'),
    ({"init": "\ud800"}, "init: expected text of Unicode characters, got '\\\\ud800'"),
    ({"init": "chrono", "t_max": 2**63}, "t_max: expected at most 9223372036854775807, got 9223372036854775808"),
    ({"forget_bias": 10**400}, "forget_bias: expected a finite number, got 1000"),
    ({"recurrent_dropout_on": "cell"}, 'recurrent_dropout_on: expected one of hidden, candidate, got "cell"'),
    ({"activations": ({}, {})}, "activations: expected one set for one direction, got 2"),
    ({"activations": [{}]}, "activations: expected a mapping or a pair of mappings, got 1 items"),
    ({"activations": {"gate": "tanh"}}, "activations: expected keys among input, forget, .*, got 'gate'"),
    ({"activations": {3: "tanh"}}, "activations: expected keys among input, forget, .*, got 3"),
    ({"activations": {"cell": ""}}, 'activations.cell: expected one of sigmoid, tanh, .*, got ""'),
    ({"activations": {"cell": ()}}, r"activations.cell: expected a name or \(name, alpha, beta\), got 0 items"),
    ({"activations": {"cell": ("affine", 1, 1, 1)}}, "activations.cell: expected a name or .*, got 4 items"),
    ({"zoneout": (0.1,)}, "zoneout: expected a pair .*, got 1 items"),
    ({"zoneout": (0.1, 0.1, 0.1)}, "zoneout: expected a pair .*, got 3 items"),
]


@pytest.mark.parametrize("kind", [lw.LSTM, lw.LSTMCell])
@pytest.mark.parametrize(("options", "reason"), REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(kind, options, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        kind(3, 5, **options)


def test_what_makes_no_sense_in_a_stack_alone():
    with pytest.raises(ValueError, match=r"^activations\[1\]: expected keys among"):
        lw.LSTM(3, 5, bidirectional=True, activations=({}, {"gate": "tanh"}))
    with pytest.raises(ValueError, match=r"^reverse: expected False with bidirectional=True, .*, got True"):
        lw.LSTM(3, 5, bidirectional=True, reverse=True)
    with pytest.raises(TypeError, match="residual"):
        lw.LSTMCell(3, 5, residual=True)


FLAGS = ["yes", None, 1, 0.0]
WRONG_TYPES = {
    "forget_gate": [None, 1, 0.0, ["coupled"]],
    "peephole": FLAGS,
    "layer_norm": FLAGS,
    "learn_start_state": FLAGS,
    "activations": ["relu", 3, True, {"cell": 3}, {"cell": None}, {"cell": (3,)}, {"cell": (["elu"],)},
                    {"cell": {"elu": 1}}, {"cell": ("elu", "1")}, {"cell": ("elu", None)},
                    {"cell": ("affine", 1, True)}],
    "clip": ["3", True, [3.0], 1j],
    "cell_clip": ["3", True, np.ones(1)],
    "zoneout": [0.1, None, "01", {0.1, 0.2}, (0.1, "0.1"), (None, 0.1)],
    "recurrent_dropout": [None, "half", True],
    "recurrent_dropout_on": [None, 3, ["hidden"]],
    "weight_dropout": [None, "half", True],
    "forget_bias": ["1", True, [1.0]],
    "init": [None, 3, ["keras"]],
    "t_max": [9.0, "9", True],
}  # fmt: skip


@pytest.mark.parametrize("kind", [lw.LSTM, lw.LSTMCell])
@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types_are_type_errors(kind, name):
    for value in WRONG_TYPES[name]:
        with pytest.raises(TypeError, match=f"{name}.*: expected .*, got "):
            kind(3, 5, **{name: value})


def test_a_pair_of_activations_is_of_mappings():
    for pair in (("relu", "tanh"), ({}, None), [{}, [{}]]):
        with pytest.raises(TypeError, match=r"activations\[[01]\]: expected a mapping, got "):
            lw.LSTM(3, 5, bidirectional=True, activations=pair)
    with pytest.raises(TypeError, match="residual: expected bool, got int"):
        lw.LSTM(3, 5, 2, residual=1)


def test_the_activations_are_onnxs():
    for name, defaults in ACTIVATIONS.items():
        kept = (name, *defaults) if defaults else name
        for given in (name, [name], (name, *defaults[:1]), (name, *defaults)):
            module = lw.LSTM(3, 5, activations={"input": given, "candidate": given})
            expected = {"input": kept, "candidate": kept}
            assert module.activations == ({gate: each for gate, each in expected.items() if GATES[gate] != each})


def core(**options):
    return _core.checked_module({"kind": "lstm", "input_size": 3, "hidden_size": 5, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "gru"}, ValueError, f"kind: expected one of {KINDS}, got \"gru\""),
        ({"kind": 3}, TypeError, "kind: expected str, got int"),
        ({"direction": "backward"}, ValueError, "direction: expected one of forward, reverse, both, got \"backward\""),
        ({"forget_gate": "some"}, ValueError, "forget_gate: expected one of own, none, coupled, got \"some\""),
        ({"forget_gate": False}, TypeError, "forget_gate: expected str, got bool"),
        ({"peephole": 1}, TypeError, "peephole: expected bool, got int"),
        ({"activations": {}}, TypeError, "activations: expected a sequence of mappings, got dict"),
        ({"activations": []}, ValueError, "activations: expected one set for one direction, got 0"),
        ({"activations": [{}] * 3, "direction": "both"}, ValueError,
         "activations: expected one set, or two for two directions, got 3"),
        ({"activations": [3]}, TypeError, r"activations\[0\]: expected a mapping, got int"),
        ({"zoneout": (0.1, 0.1)}, ValueError, "unknown option 'zoneout' for kind \"lstm\""),
        ({3: 3}, ValueError, "unknown option 3 for kind \"lstm\""),
    ],
)  # fmt: skip
def test_what_only_the_core_can_be_given(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        _core.checked_module(core() | options)
    with pytest.raises(error, match=rf"^modules\[1\](\.|: ){message}"):
        _core.checked_modules([core(), core(input_size=5) | options])


def test_checked_options_are_whole_and_pass_again():
    for given, _ in RICH:
        (options,) = lw.LSTM(**given)._config.modules
        assert _core.checked_module(options) == options
        assert set(options) - {"merge"} == set(core())  # with its default it is left out
    assert core()["clip"] is None
    assert core(clip=3)["clip"] == 3.0
    assert core(activations=[{"cell": "elu"}, {"cell": ("elu", 1)}], direction="both")["activations"] == [
        core()["activations"][0] | {"cell": ["elu", 1.0]}
    ]


def test_a_kind_is_needed():
    with pytest.raises(ValueError, match=f"^kind: expected one of {KINDS}, got none"):
        _core.checked_module({})
    with pytest.raises(TypeError, match="^options: expected a mapping, got int"):
        _core.checked_module(3)
    with pytest.raises(TypeError, match="^modules: expected a sequence of mappings, got int"):
        _core.checked_modules(3)
