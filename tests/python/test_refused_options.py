"""The options in tests/refused_options.txt, which Python and C++ refuse with the same words."""

import re
from pathlib import Path

import latchwork as lw
import pytest
from latchwork import _core

TABLE = Path(__file__).parents[1] / "refused_options.txt"
WORDS = {"true": True, "false": False}
FORGET_GATES = {"own": True, "none": False}
OPTIMIZERS = {"sgd": lw.optim.SGD, "adam": lw.optim.Adam, "adamw": lw.optim.AdamW, "rmsprop": lw.optim.RMSprop}
LOSSES = ("squared_error", "cross_entropy", "huber", "quantile", "gaussian", "student_t", "negative_binomial")
LAYERS = {
    "lstm": lw.LSTM, "embedding": lw.Embedding, "linear": lw.Linear, "last": lw.Last,
    "mean": lw.Mean, "max": lw.Max, "dropout": lw.Dropout, "scale": lw.Scale, "impute": lw.Impute,
    "embed_columns": lw.EmbedColumns, "sort": lw.Sort, "activation": lw.Activation,
    "reverse": lw.Reverse, "input_skip": lw.InputSkip, "mask": lw.Mask,
}  # fmt: skip
LISTS = {"scale": {"shift", "factor"}, "impute": {"fill", "indicators", "persistence"},
         "embed_columns": {"columns", "num_embeddings", "embedding_dim"}}  # fmt: skip


def value_of(name, text):
    if name == "activations":
        return [activations_of(each) for each in text.split("|")]
    if name == "activation" and ":" in text:
        name, *coefficients = text.split(":")
        return (name, *map(float, coefficients))
    if name in ("quantiles", "quantile_weights"):
        return [float(number) for number in text.split(",")]
    if text in WORDS:
        return WORDS[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def activations_of(text):
    gates = [gate.split(":") for gate in text.split(",")] if text != "-" else []
    return {gate: (name, *map(float, coefficients)) for gate, name, *coefficients in gates}


def module_of(text):
    kind, *options = text.split()
    pairs = [option.split("=") for option in options]
    values = {name: value_of(name, value) for name, value in pairs if name not in LISTS.get(kind, ())}
    for name, value in pairs:
        if name in LISTS.get(kind, ()):
            values[name] = [value_of(name, number) for number in value.split(",")] if value != "-" else []
    return {"kind": kind} | values


def read_table():
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            modules, message = line.split(" -> ")
            yield [module_of(module) for module in modules.split(" ; ")], message


LINES = list(read_table())
CASES = [(modules, message) for modules, message in LINES if modules[0]["kind"] in LAYERS]
OPTIMIZER_CASES = [(options, message) for (options, *_), message in LINES if options["kind"] in OPTIMIZERS]
LOSS_CASES = [(options, message) for (options, *_), message in LINES if options["kind"] in LOSSES]


def can_be_asked(modules):
    """Whether a constructor has these options: LSTMCell lacks some."""
    of_stacks = {"num_layers", "dropout", "direction", "merge", "residual"}
    return not modules[0].get("cell") or not modules[0].keys() & of_stacks


def layer_of(options):
    """Build the layer as a user of Python does."""
    arguments = dict(options)
    kind = arguments.pop("kind")
    layer = LAYERS[kind]
    if arguments.pop("cell", False):
        layer = lw.LSTMCell
    direction = arguments.pop("direction", "forward")
    if direction != "forward":
        arguments["bidirectional" if direction == "both" else "reverse"] = True
    if "forget_gate" in arguments:
        arguments["forget_gate"] = FORGET_GATES.get(arguments["forget_gate"], arguments["forget_gate"])
    if len(arguments.get("activations", ())) == 1:
        (arguments["activations"],) = arguments["activations"]
    zoneout = [arguments.pop(f"zoneout_{part}", 0.0) for part in ("hidden", "cell")]
    if any(zoneout):
        arguments["zoneout"] = zoneout
    return layer(**arguments)


def in_pythons_words(modules, message):
    if len(modules) > 1:
        return message.replace("modules", "layers")
    message = re.sub("^zoneout_hidden", "zoneout[0]", message)
    message = re.sub("^zoneout_cell", "zoneout[1]", message)
    if len(modules[0].get("activations", ())) == 1:
        message = message.replace("activations[0]", "activations")
    return message


@pytest.mark.parametrize(("modules", "message"), CASES, ids=[str(modules) for modules, _ in CASES])
def test_the_core_says_it_in_these_words(modules, message):
    checks = [lambda: _core.checked_modules(modules), lambda: _core.Network32(modules, "of_chain", 0, 1)]
    if len(modules) == 1:
        checks.append(lambda: _core.checked_module(modules[0]))
    for check in checks:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check()


@pytest.mark.parametrize("names", ["of_chains", True, None])
def test_the_core_names_tensors_as_those_of_a_layer_or_of_a_chain(names):
    with pytest.raises(ValueError, match=f"^names: expected of_layer or of_chain, got {re.escape(repr(names))}$"):
        _core.Network32([{"kind": "lstm", "input_size": 2, "hidden_size": 3}], names, 0, 1)


PYTHON_CASES = [case for case in CASES if can_be_asked(case[0])]


@pytest.mark.parametrize(("modules", "message"), PYTHON_CASES, ids=[str(modules) for modules, _ in PYTHON_CASES])
def test_python_says_it_in_the_same_words(modules, message):
    message = in_pythons_words(modules, message)
    if len(modules) > 1 and re.match(r"layers\[\d\]\.(out_features|clip|activation)", message):
        message = message.split(".", 1)[1]  # Python sees each layer before there is a chain
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lw.Network([layer_of(module) for module in modules])


@pytest.mark.parametrize(("options", "message"), OPTIMIZER_CASES, ids=[str(options) for options, _ in OPTIMIZER_CASES])
def test_optimisers_say_it_in_the_same_words(options, message):
    network = lw.Linear(1, 1)._core
    for check in (_core.checked_optimizer, lambda options: _core.Optimizer32(options, [network])):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check(options)
    arguments = dict(options)
    optimizer = OPTIMIZERS[arguments.pop("kind")]
    if arguments.keys() & {"beta1", "beta2"}:
        arguments["betas"] = (arguments.pop("beta1", 0.9), arguments.pop("beta2", 0.999))
        message = message.replace("beta1", "betas[0]").replace("beta2", "betas[1]")
    for target in (None, lw.Linear(1, 1)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            optimizer(target, **arguments)
    if list(arguments) == ["lr"]:
        for holder in (
            optimizer(),
            optimizer(lw.Linear(1, 1)),
            lw.Trainer(lw.LSTM(1, 1), "squared_error", optimizer()),
        ):
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                holder.lr = arguments["lr"]
            assert holder.lr == (1e-2 if optimizer is lw.optim.RMSprop else 1e-3)


@pytest.mark.parametrize(("options", "message"), LOSS_CASES, ids=[str(options) for options, _ in LOSS_CASES])
def test_trainers_say_it_in_the_same_words(options, message):
    network = lw.LSTM(1, options["output_size"])
    more = {name: value for name, value in options.items() if name not in ("kind", "output_size")}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lw.Trainer(network, options["kind"], lw.optim.Adam(), **more)


def test_the_table_is_read():
    assert len(OPTIMIZER_CASES) >= 19
    assert len(LOSS_CASES) >= 17
    assert len(CASES) > 70
    assert len(PYTHON_CASES) > 65
