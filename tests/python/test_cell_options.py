"""The options that make other cells of the LSTM: defaults, refusals, copies and files, parameters and their values."""

import copy
import inspect
import json
import pickle
import re

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from latchwork import _core
from latchwork._cell_options import _ACTIVATIONS, _GATE_DEFAULTS
from latchwork.cli import main
from layers import normal
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

DEFAULTS = {
    "forget_gate": True,
    "coupled": False,
    "peephole": False,
    "layer_norm": False,
    "activations": None,
    "clip": None,
    "cell_clip": None,
    "zoneout": (0.0, 0.0),
    "recurrent_dropout": 0.0,
    "recurrent_dropout_on": "hidden",
    "weight_dropout": 0.0,
    "residual": False,
    "learn_start_state": False,
    "forget_bias": None,
    "init": "torch",
    "t_max": None,
}
CELL_DEFAULTS = {name: value for name, value in DEFAULTS.items() if name != "residual"} | {"proj_size": 0}

STACK = {"input_size": 3, "hidden_size": 5, "num_layers": 2, "bidirectional": True}
WITHOUT_FORGET_GATE = [{"forget_gate": False}, {"coupled": True}]

# Rich configurations, each as given and as it is kept.
HARD = ("hard_sigmoid", 1 / 6, 0.5)
RICH = [
    (STACK | {"coupled": True, "peephole": True, "activations": {"candidate": "relu"}, "residual": True}, {}),
    (STACK | {"activations": [{"input": list(HARD)}, {"cell": ("elu", 2)}]},
     {"activations": ({"input": HARD}, {"cell": ("elu", 2.0)})}),
    (STACK | {"activations": ({}, {"output": ("affine", 2.0)})},
     {"activations": ({}, {"output": ("affine", 2.0, 0.0)})}),
    (STACK | {"layer_norm": True, "bias": False, "clip": 3, "cell_clip": np.float32(0.5), "proj_size": 2},
     {"clip": 3.0, "cell_clip": 0.5}),
    (STACK | {"learn_start_state": True, "zoneout": [np.float64(0.25), 1], "dtype": "float64"},
     {"zoneout": (0.25, 1.0)}),
    (STACK | {"recurrent_dropout": 0.5, "recurrent_dropout_on": "candidate", "weight_dropout": 1, "dropout": 0.1}, {}),
    (STACK | {"init": "chrono", "t_max": 40, "coupled": True}, {}),
    (STACK | {"init": "keras", "forget_bias": 2, "peephole": True, "learn_start_state": True}, {"forget_bias": 2.0}),
    ({"input_size": 3, "hidden_size": 5, "reverse": True, "forget_gate": False, "init": "orthogonal"}, {}),
]  # fmt: skip
CELL_OPTIONS = set(CELL_DEFAULTS) | {"input_size", "hidden_size", "bias", "dtype"}


def one_direction(options):
    """The same options for a cell, with the first of two sets of activations."""
    options = {name: value for name, value in options.items() if name in CELL_OPTIONS}
    if isinstance(options.get("activations"), (tuple, list)):
        options["activations"] = options["activations"][0]
    return options


MODULES = [
    *[pytest.param(lw.LSTM, given, id=f"LSTM-{place}") for place, (given, _) in enumerate(RICH)],
    *[pytest.param(lw.LSTMCell, one_direction(given), id=f"LSTMCell-{place}") for place, (given, _) in enumerate(RICH)],
]


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
        with pytest.raises(AttributeError):
            setattr(module, name, value)


def test_changing_what_was_given_or_read_changes_nothing():
    given = {"candidate": "relu"}
    module = lw.LSTM(3, 5, activations=given)
    given["candidate"] = "tanh"
    module.activations["candidate"] = "tanh"
    assert module.activations == {"candidate": "relu"}


# Options, the error, and what the message has to say.
REFUSED = [
    ({"forget_gate": False, "coupled": True}, "coupled: .*forget_gate=False"),
    ({"forget_gate": False, "activations": {"forget": "tanh"}}, r'activations\["forget"\]: .*forget_gate=False'),
    ({"coupled": True, "activations": {"forget": "sigmoid"}}, r'activations\["forget"\]: .*coupled=True'),
    ({"forget_gate": False, "forget_bias": 1.0}, "forget_bias: .*forget_gate=False"),
    ({"coupled": True, "forget_bias": 1.0}, "forget_bias: .*coupled=True"),
    ({"bias": False, "forget_bias": 1.0}, "forget_bias: .*bias=False"),
    ({"forget_bias": float("inf")}, "forget_bias: expected a finite number, got inf"),
    ({"forget_bias": float("nan")}, "forget_bias: expected a finite number, got nan"),
    ({"init": "chrono"}, "t_max: .*init=\"chrono\", got None"),
    ({"init": "chrono", "t_max": 1}, "t_max: expected at least 2, got 1"),
    ({"init": "chrono", "t_max": 2**63}, "t_max: expected at most"),
    ({"init": "chrono", "t_max": 9, "bias": False}, "init: .*bias=False.*got 'chrono'"),
    ({"init": "chrono", "t_max": 9, "forget_gate": False}, "init: .*forget_gate=False.*got 'chrono'"),
    ({"init": "chrono", "t_max": 9, "forget_bias": 1.0}, "forget_bias: .*init=\"chrono\""),
    ({"t_max": 9}, "t_max: .*init=\"chrono\".*got 9"),
    ({"t_max": 9, "init": "keras"}, "t_max: .*init=\"chrono\".*got 9"),
    ({"init": "xavier"}, "init: expected one of torch, keras, orthogonal, chrono, got 'xavier'"),
    ({"recurrent_dropout_on": "cell"}, "recurrent_dropout_on: expected one of hidden, candidate, got 'cell'"),
    ({"activations": ({}, {})}, "activations: .*one direction"),
    ({"activations": [{}]}, "activations: expected a mapping or a pair of mappings, got 1 items"),
    ({"activations": {"gate": "tanh"}}, "activations: expected keys among input, forget, .*got 'gate'"),
    ({"activations": {3: "tanh"}}, "activations: expected keys among input, forget, .*got 3"),
    ({"activations": {"cell": "swish"}}, r'activations\["cell"\]: expected one of sigmoid, tanh, .*, got \'swish\''),
    ({"activations": {"cell": ""}}, r'activations\["cell"\]: expected one of'),
    ({"activations": {"cell": ()}}, r'activations\["cell"\]: expected a name or'),
    ({"activations": {"cell": ("tanh", 1.0)}}, r'activations\["cell"\]: expected neither alpha nor beta for tanh'),
    ({"activations": {"cell": ("elu", 1.0, 1.0)}}, r'activations\["cell"\]: expected alpha alone for elu'),
    ({"activations": {"cell": ("affine", 1, 1, 1)}}, r'activations\["cell"\]: expected alpha and beta for affine'),
    ({"activations": {"cell": ("leaky_relu", -0.1)}}, "alpha of leaky_relu: expected at least 0, got -0.1"),
    ({"activations": {"cell": ("thresholded_relu", -0.1)}}, "alpha of thresholded_relu: expected at least 0, got -0.1"),
    ({"activations": {"cell": ("elu", -0.1)}}, "alpha of elu: expected at least 0, got -0.1"),
    ({"activations": {"cell": ("scaled_tanh", 0)}}, "alpha of scaled_tanh: expected any number but 0, got 0"),
    ({"activations": {"cell": ("affine", float("nan"))}}, "alpha of affine: expected a finite number, got nan"),
    ({"activations": {"cell": ("affine", 1, float("inf"))}}, "beta of affine: expected a finite number, got inf"),
    ({"clip": 0}, "clip: expected above 0, or None for no limit, got 0"),
    ({"clip": -1.0}, "clip: expected above 0, .*got -1.0"),
    ({"clip": float("inf")}, "clip: expected a finite number, got inf"),
    ({"cell_clip": 0.0}, "cell_clip: expected above 0"),
    ({"cell_clip": float("nan")}, "cell_clip: expected a finite number, got nan"),
    ({"zoneout": (0.1,)}, "zoneout: expected a pair .*got 1 items"),
    ({"zoneout": (0.1, 0.1, 0.1)}, "zoneout: expected a pair .*got 3 items"),
    ({"zoneout": (1.5, 0)}, r"zoneout\[0\]: expected 0 to 1, got 1.5"),
    ({"zoneout": (0, -0.5)}, r"zoneout\[1\]: expected 0 to 1, got -0.5"),
    ({"recurrent_dropout": 1.5}, "recurrent_dropout: expected 0 to 1, got 1.5"),
    ({"weight_dropout": float("nan")}, "weight_dropout: expected 0 to 1, got nan"),
    ({"proj_size": 5}, r"proj_size: expected less than hidden_size \(5\), got 5"),
]  # fmt: skip


@pytest.mark.parametrize("kind", [lw.LSTM, lw.LSTMCell])
@pytest.mark.parametrize(("options", "reason"), REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(kind, options, reason):
    with pytest.raises(ValueError, match=reason) as raised:
        kind(3, 5, **options)
    assert re.match(r".*: expected .*, got ", str(raised.value))


def test_what_makes_no_sense_in_a_stack_alone():
    with pytest.raises(ValueError, match="residual: expected False with num_layers=1"):
        lw.LSTM(3, 5, residual=True)
    with pytest.raises(ValueError, match=r"activations\[1\]: expected keys among"):
        lw.LSTM(3, 5, bidirectional=True, activations=({}, {"gate": "tanh"}))
    with pytest.raises(ValueError, match=r'activations\[1\]\["forget"\]: .*coupled=True'):
        lw.LSTM(3, 5, bidirectional=True, coupled=True, activations=({}, {"forget": "tanh"}))
    with pytest.raises(ValueError, match="activations: .*one direction"):
        lw.LSTM(3, 5, reverse=True, activations=({}, {}))
    with pytest.raises(TypeError, match="residual"):
        lw.LSTMCell(3, 5, residual=True)


FLAGS = ["yes", None, 1, 0.0]
WRONG_TYPES = {
    "forget_gate": FLAGS,
    "coupled": FLAGS,
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


def core(**options):
    return _core.Network32([{"kind": "lstm", "input_size": 3, "hidden_size": 5, **options}], False, 1)


def test_the_table_of_activations_is_the_cores():
    with pytest.raises(ValueError, match="one of") as raised:
        core(activations=[{"cell": ("none of them", None, None)}])
    assert re.search("one of (.*), got", str(raised.value)).group(1) == ", ".join(_ACTIVATIONS)
    for name, (defaults, alpha_range) in _ACTIVATIONS.items():
        allowed = [core(activations=[{"cell": (name, *defaults, *[None] * (2 - len(defaults)))}])]
        if len(defaults) < 2:
            with pytest.raises(ValueError, match="expected none"):
                core(activations=[{"cell": (name, *defaults, *[0.5] * (2 - len(defaults)))}])
        for refused, alpha in (("not negative", -1.0), ("not zero", 0.0)):
            if alpha_range == refused:
                with pytest.raises(ValueError, match="alpha"):
                    core(activations=[{"cell": (name, alpha, None)}])
            elif defaults:
                allowed.append(core(activations=[{"cell": (name, alpha, None)}]))
        assert all(len(each.read()) == 20 * 10 for each in allowed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"forget_gate": "some"}, ValueError, r"modules\[0\].forget_gate: expected \"own\", \"none\", \"coupled\""),
        ({"forget_gate": False}, TypeError, r"modules\[0\].forget_gate: expected str, got bool"),
        ({"peephole": 1}, TypeError, r"modules\[0\].peephole: expected bool, got int"),
        ({"activations": {}}, TypeError, r"modules\[0\].activations: expected a sequence of mappings, got dict"),
        ({"activations": []}, ValueError, r"modules\[0\].activations: expected 1 or 2 mappings, got 0"),
        ({"activations": [{}] * 3}, ValueError, r"modules\[0\].activations: expected 1 or 2 mappings, got 3"),
        ({"activations": [3]}, TypeError, r"modules\[0\].activations\[0\]: expected a mapping, got int"),
        ({"activations": [{"gate": "tanh"}]}, ValueError, r"modules\[0\].activations\[0\]: .*got \"gate\""),
        ({"activations": [{3: "tanh"}]}, TypeError, r"modules\[0\].activations\[0\]: a key: expected str, got int"),
        ({"activations": [{"cell": "tanh"}]}, TypeError, r"activations\[0\].cell: expected a sequence"),
        ({"activations": [{"cell": ("tanh",)}]}, ValueError, r"activations\[0\].cell: expected 3 items, got 1"),
        ({"activations": [{"cell": (3, None, None)}]}, TypeError, r"activations\[0\].cell: expected str, got int"),
        ({"activations": [{"cell": ("elu", "1", None)}]}, TypeError, r"activations\[0\].cell.alpha: expected float"),
        ({"activations": [{}, {"cell": ("elu", None, None)}]}, ValueError, "activations: expected one set"),
        ({"clip": None}, TypeError, r"modules\[0\].clip: expected float, got NoneType"),
        ({"clip": -1.0}, ValueError, "clip: expected 0 for none or a positive finite number, got -1"),
        ({"forget_bias": "1"}, TypeError, r"modules\[0\].forget_bias: expected float, got str"),
        ({"init": "xavier"}, ValueError, r"modules\[0\].init: expected \"torch\", \"keras\""),
        ({"t_max": None}, TypeError, r"modules\[0\].t_max: expected int, got NoneType"),
        ({"residual": True}, ValueError, "residual: expected false with one layer"),
        ({"zoneout": (0.1, 0.1)}, ValueError, "unknown option 'zoneout'"),
    ],
)  # fmt: skip
def test_the_core_checks_too(options, error, message):
    with pytest.raises(error, match=message):
        core(**options)


@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_repr_says_how_to_build_it(kind, options):
    module = kind(**options)
    again = eval(repr(module), {kind.__name__: kind})
    assert repr(again) == repr(module)
    assert again._config == module._config
    for name in set(DEFAULTS) - set(options):
        assert f"{name}=" not in repr(module)


@pytest.mark.parametrize(("kind", "options"), MODULES)
@pytest.mark.parametrize("clone", ["deepcopy", "pickle", "file"])
def test_clones_are_equal(kind, options, clone, tmp_path):
    module = kind(**options, seed=3)
    if clone == "file":
        module.save(tmp_path / "model.safetensors")
        other = lw.load(tmp_path / "model.safetensors")
    else:
        other = copy.deepcopy(module) if clone == "deepcopy" else pickle.loads(pickle.dumps(module))
    assert type(other) is kind
    assert repr(other) == repr(module)
    assert other._config == module._config
    assert_same_bits(other.state_dict(), module.state_dict())


def rewrite_config(path, change):
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    change(config)
    save_file(load_file(path), path, metadata | {"config": json.dumps(config)})


def forget(config, names):
    for layer in config.get("layers", [config])[:1]:
        for name in names:
            del layer[name]


def test_files_from_before_these_options_load(tmp_path):
    path = tmp_path / "model.safetensors"
    network = lw.Network([lw.LSTM(4, 3, 2, bias=False), lw.Last(), lw.Linear(3, 2)])
    for module, new in (
        (lw.LSTM(**STACK, proj_size=2, dropout=0.25), DEFAULTS),
        (lw.LSTMCell(3, 5), CELL_DEFAULTS),
        (network, DEFAULTS),
    ):
        module.save(path)
        rewrite_config(path, lambda config, new=new: forget(config, new))
        loaded = lw.load(path)
        assert repr(loaded) == repr(module)
        assert_same_bits(loaded.state_dict(), module.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"forget_gate": None}, {"coupled": "yes"}, {"peephole": 2}, {"peephole": True}, {"layer_norm": True},
        {"learn_start_state": True}, {"coupled": True}, {"forget_gate": False},
        {"activations": 3}, {"activations": []}, {"activations": [[[]]]}, {"activations": [{}, {"cell": [[]]}]},
        {"activations": {"cell": ["__import__('os')"]}}, {"activations": {"cell": ["elu", 1e400]}},
        {"activations": {"__class__": "x"}}, {"activations": {"cell": {"elu": 1}}},
        {"clip": float("nan")}, {"clip": "3"}, {"zoneout": 0.5}, {"zoneout": {}}, {"zoneout": [2, 0]},
        {"recurrent_dropout_on": []}, {"weight_dropout": -1}, {"residual": 1}, {"forget_bias": {}}, {"init": {}},
        {"init": "chrono"}, {"t_max": 2**70},
    ],
)  # fmt: skip
def test_hostile_configurations_are_value_errors(change, tmp_path):
    path = tmp_path / "model.safetensors"
    lw.LSTM(**STACK).save(path)
    rewrite_config(path, lambda config: config.update(change))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        lw.load(path)


def test_a_network_keeps_the_options_and_values_of_its_layers(tmp_path):
    options = {"coupled": True, "peephole": True, "layer_norm": True, "learn_start_state": True, "init": "keras"}
    lstm = lw.LSTM(4, 5, 2, residual=True, activations={"cell": "softsign"}, seed=1, **options)
    before = lstm.state_dict()
    network = lw.Network([lw.Embedding(7, 4), lstm, lw.Last(), lw.Linear(5, 3)])
    assert_same_bits(lstm.state_dict(), before)
    assert network.parameters["1.weight_peephole_l1"].shape == (10,)
    network.save(tmp_path / "model.safetensors")
    for other in (lw.load(tmp_path / "model.safetensors"), copy.deepcopy(network)):
        assert repr(other) == repr(network)
        assert other[1]._config == lstm._config
        assert_same_bits(other.state_dict(), network.state_dict())


def test_info_shows_the_options(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    lw.LSTM(3, 5, coupled=True, activations={"cell": ("elu", 2.0)}).save(path)
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "coupled=True, activations={'cell': ('elu', 2.0)}" in printed
    assert re.search(r"weight_ih_l0 +\(15, 3\)", printed)


def expected_shapes(lstm, suffixes):
    units, output = lstm.hidden_size, lstm.proj_size or lstm.hidden_size
    gates = 4 if lstm.forget_gate and not lstm.coupled else 3
    shapes = {}
    for place, suffix in enumerate(suffixes):
        above = place * 2 >= len(suffixes) > 1
        inputs = len(suffixes) // 2 * output if above else lstm.input_size
        shapes["weight_ih" + suffix] = (gates * units, inputs)
        shapes["weight_hh" + suffix] = (gates * units, output)
        if lstm.bias:
            shapes |= {name + suffix: (gates * units,) for name in ("bias_ih", "bias_hh")}
        if lstm.proj_size:
            shapes["weight_hr" + suffix] = (output, units)
        if lstm.peephole:
            shapes["weight_peephole" + suffix] = ((gates - 1) * units,)
        if lstm.layer_norm:
            for norm, size in (("ih", gates * units), ("hh", gates * units), ("cell", units)):
                shapes |= {f"norm_{norm}_{part}{suffix}": (size,) for part in ("weight", "bias")}
        if lstm.learn_start_state:
            shapes |= {"h_0" + suffix: (output,), "c_0" + suffix: (units,)}
    return shapes


@pytest.mark.parametrize("gate", [{}, *WITHOUT_FORGET_GATE])
@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("extra", [(), ("peephole",), ("layer_norm",), ("learn_start_state",),
                                   ("peephole", "layer_norm", "learn_start_state")])  # fmt: skip
def test_names_and_shapes_of_parameters(gate, proj_size, bias, extra):
    options = gate | {"proj_size": proj_size, "bias": bias} | dict.fromkeys(extra, True)
    lstm = lw.LSTM(**STACK, **options)
    expected = expected_shapes(lstm, ["_l0", "_l0_reverse", "_l1", "_l1_reverse"])
    assert [(name, value.shape) for name, value in lstm.parameters.items()] == list(expected.items())
    cell = lw.LSTMCell(3, 5, **options)
    expected = expected_shapes(cell, [""])
    assert [(name, value.shape) for name, value in cell.parameters.items()] == list(expected.items())
    for module in (lstm, cell):
        assert module._parameter_count() == sum(value.size for value in module.parameters.values())


def parameters_of(**options):
    return lw.LSTM(**({"input_size": 30, "hidden_size": 64, "dtype": "float64", "seed": 5} | options)).state_dict()


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.95 * bound
    assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)
    assert abs(values.std() / (bound / np.sqrt(3)) - 1) < 5 * np.sqrt(0.2 / values.size)


def assert_orthonormal_columns(values):
    np.testing.assert_allclose(values.T @ values, np.eye(values.shape[1]), atol=1e-13)


def test_plain_initial_values_are_torchs():
    p = parameters_of(peephole=True, layer_norm=True, learn_start_state=True, proj_size=16)
    for name in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "weight_peephole"):
        assert_uniform(p[f"{name}_l0"], 1 / 8)
    for norm in ("ih", "hh", "cell"):
        assert np.all(p[f"norm_{norm}_weight_l0"] == 1)
        assert np.all(p[f"norm_{norm}_bias_l0"] == 0)
    assert np.all(p["h_0_l0"] == 0)
    assert np.all(p["c_0_l0"] == 0)


@pytest.mark.parametrize("gate", [{}, *WITHOUT_FORGET_GATE])
def test_keras_initial_values(gate):
    p = parameters_of(init="keras", peephole=True, proj_size=16, **gate)
    rows = 192 if gate else 256
    assert_uniform(p["weight_ih_l0"], np.sqrt(6 / (30 + rows)))
    assert_uniform(p["weight_hr_l0"], np.sqrt(6 / (64 + 16)))
    assert_orthonormal_columns(p["weight_hh_l0"])
    assert np.all(p["weight_peephole_l0"] == 0)
    assert np.all(p["bias_hh_l0"] == 0)
    expected = np.zeros(rows)
    if not gate:
        expected[64:128] = 1
    np.testing.assert_array_equal(p["bias_ih_l0"], expected)


def test_orthogonal_initial_values():
    p = parameters_of(init="orthogonal", peephole=True)
    assert_uniform(p["weight_ih_l0"], np.sqrt(6 / (30 + 64)))
    for gate in np.split(p["weight_hh_l0"], 4):
        assert_orthonormal_columns(gate)
    for name in ("bias_ih_l0", "bias_hh_l0", "weight_peephole_l0"):
        assert np.all(p[name] == 0)


def test_chrono_initial_values():
    p = parameters_of(init="chrono", t_max=100, hidden_size=1000)
    i, f, g, o = np.split(p["bias_ih_l0"], 4)
    steps = np.exp(f)
    assert steps.min() >= 1 - 1e-12
    assert steps.max() <= 99 + 1e-12
    assert_uniform(steps - 50, 49 + 1e-9)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    assert not p["bias_hh_l0"].any()
    torch = parameters_of(hidden_size=1000)
    assert_same_bits(p["weight_hh_l0"], torch["weight_hh_l0"])
    coupled = np.split(parameters_of(init="chrono", t_max=100, hidden_size=1000, coupled=True)["bias_ih_l0"], 3)
    np.testing.assert_array_equal(coupled[0], i)
    assert not np.any(coupled[1:])


@pytest.mark.parametrize("init", ["torch", "keras", "orthogonal"])
def test_forget_bias(init):
    p, plain = parameters_of(init=init, forget_bias=-1.5), parameters_of(init=init)
    for name, value in (("bias_ih_l0", -1.5), ("bias_hh_l0", 0)):
        expected = np.array(plain[name])
        expected[64:128] = value
        np.testing.assert_array_equal(p[name], expected)
    assert_same_bits(p["weight_hh_l0"], plain["weight_hh_l0"])


# From here on the cells run.


def perturbed(module, seed=1):
    """The module with random parameters, norms and start states included."""
    module.load_state_dict(
        {
            name: 0.5 * normal(seed + place, value.shape, module.dtype)
            for place, (name, value) in enumerate(module.parameters.items())
        }
    )
    return module


@pytest.mark.parametrize("place", range(len(RICH)))
def test_a_cell_is_one_step_of_a_layer(place, dtype):
    options = one_direction(RICH[place][0]) | {"dtype": dtype}
    lstm = perturbed(lw.LSTM(**options))
    cell = lw.LSTMCell(**options)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    x = normal(1, (6, 3), dtype)
    h, c = normal(2, (6, cell.proj_size or 5), dtype), normal(3, (6, 5), dtype)
    for state in (None, (h, c)):
        layer_state = None if state is None else (h[None], c[None])
        _, (h_n, c_n) = lstm(x[None], layer_state)
        assert_same_bits(cell(x, state), (h_n[0], c_n[0]))
        row_state = None if state is None else (h[2], c[2])
        assert_same_bits(cell(x[2], row_state), (h_n[0, 2], c_n[0, 2]))


@pytest.mark.parametrize("proj_size", [0, 2])
def test_a_state_that_is_not_passed_is_the_learned_one(proj_size, dtype):
    lstm = perturbed(lw.LSTM(**STACK, proj_size=proj_size, learn_start_state=True, dtype=dtype))
    x = normal(1, (7, 4, 3), dtype)
    names = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    start = tuple(
        np.repeat(np.stack([lstm.parameters[part + name] for name in names])[:, None], 4, axis=1)
        for part in ("h_0", "c_0")
    )
    assert_same_bits(lstm(x), lstm(x, start))
    zeros = tuple(np.zeros_like(part) for part in start)
    assert not np.array_equal(lstm(x)[0], lstm(x, zeros)[0])

    cell = perturbed(lw.LSTMCell(3, 5, proj_size=proj_size, learn_start_state=True, dtype=dtype))
    start = tuple(np.tile(cell.parameters[name], (4, 1)) for name in ("h_0", "c_0"))
    assert_same_bits(cell(x[0]), cell(x[0], start))


def test_a_reset_goes_back_to_the_learned_state(dtype):
    lstm = perturbed(lw.LSTM(3, 5, 2, learn_start_state=True, dtype=dtype))
    x, passed = normal(1, (7, 4, 3), dtype), (normal(2, (2, 4, 5), dtype), normal(3, (2, 4, 5), dtype))
    reset = np.zeros((7, 4), bool)
    reset[0] = reset[3] = True
    output, state = lstm(x, passed, reset=reset)
    assert_same_bits(output[:3], lstm(x[:3])[0])
    assert_same_bits((output[3:], state), lstm(x[3:]))


def test_dropouts_of_a_cell_never_act(dtype):
    options = {"recurrent_dropout": 0.9, "weight_dropout": 0.9, "dtype": dtype}
    x, state = normal(1, (6, 3), dtype), (normal(2, (6, 5), dtype), normal(3, (6, 5), dtype))
    plain = perturbed(lw.LSTMCell(3, 5, dtype=dtype))(x, state)
    for place in ("hidden", "candidate"):
        assert_same_bits(perturbed(lw.LSTMCell(3, 5, recurrent_dropout_on=place, **options))(x, state), plain)


def test_every_gate_takes_every_activation():
    x = normal(1, (5, 4, 3))
    for gate, default in _GATE_DEFAULTS.items():
        outputs = [perturbed(lw.LSTM(3, 5, activations={gate: name}))(x)[0] for name in _ACTIVATIONS]
        assert all(np.isfinite(output).all() for output in outputs)
        plain = perturbed(lw.LSTM(3, 5))(x)[0]
        assert sum(np.array_equal(output, plain) for output in outputs) in (1, 2)
        assert np.array_equal(outputs[list(_ACTIVATIONS).index(default)], plain)
