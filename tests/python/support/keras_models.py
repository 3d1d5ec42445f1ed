"""Models of Keras and what they give, from a process of their own: ``python keras_models.py FOLDER [RANDOM]``.

Keras chooses its backend when it is imported, for the whole process. For each case the folder holds the model as
``.keras``, as ``.h5`` and as weights alone, and ``.npz`` with inputs ``x``, outputs ``y0``, ``y1``, ... and what
`latchwork.from_keras` made of the object itself gave, ``object``. RANDOM is how many random models come on top.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

FEATURES, STEPS, ROWS, TOKENS = 7, 9, 5, 11
GATES = ["sigmoid", "tanh", "relu", "hard_sigmoid", "softsign", "softplus", "elu", "selu", "silu", "gelu", "linear",
         "leaky_relu", "exponential"]  # fmt: skip
BOUNDED = ["sigmoid", "tanh", "hard_sigmoid", "softsign"]
DENSE = [*GATES, "softmax", "log_softmax"]


def make(folder, random_models=0):
    """Run this file. Give the names of the cases."""
    package = Path(__import__("latchwork").__file__).parents[1]
    environment = os.environ | {
        "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(package),
    }  # fmt: skip
    process = subprocess.run(
        [sys.executable, __file__, folder, str(random_models)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return sorted(path.stem for path in Path(folder).glob("*.npz"))


def cases(keras):
    """Give each case's model by name."""
    layers = keras.layers
    lstm, dense, bidirectional = layers.LSTM, layers.Dense, layers.Bidirectional

    def chain(*content, tokens=False, batch=None):
        shape = (STEPS,) if tokens else (STEPS, FEATURES)
        start = keras.Input(shape, batch_size=batch, dtype="int32" if tokens else None)
        return keras.Sequential([start, *content])

    yield "sequences", chain(lstm(5, return_sequences=True), dense(3, activation="relu"))
    yield "last", chain(lstm(17), dense(1))
    yield "one_unit", chain(lstm(1, return_sequences=True))
    yield "no_bias", chain(lstm(5, use_bias=False, unit_forget_bias=False, unroll=True), dense(2, use_bias=False))
    lower = lstm(3, return_sequences=True, dropout=0.2, recurrent_dropout=0.3, name="encoder")
    yield "stack", chain(lower, lstm(4, name="decoder"), dense(2))
    yield "backwards", chain(lstm(4, go_backwards=True), dense(2))
    yield "backwards_sequences", chain(lstm(4, go_backwards=True, return_sequences=True), dense(2), lstm(3))
    yield "cell", chain(layers.RNN(layers.LSTMCell(4), return_sequences=True), dense(2))
    cells = [layers.LSTMCell(4, activation="relu"), layers.LSTMCell(3, use_bias=False), layers.LSTMCell(6)]
    yield "cells", chain(layers.RNN(cells, return_sequences=True), dense(2))
    cells = layers.StackedRNNCells([layers.LSTMCell(4), layers.LSTMCell(3)])
    yield "cells_backwards", chain(layers.RNN(cells, go_backwards=True), dense(2))
    yield "stateful", chain(lstm(4, stateful=True), dense(2), batch=ROWS)
    for merge in ("concat", "sum", "mul", "ave"):
        yield f"both_{merge}", chain(bidirectional(lstm(4, return_sequences=True), merge_mode=merge), dense(2))
        yield f"both_{merge}_last", chain(bidirectional(lstm(4), merge_mode=merge), dense(2))
    unlike = lstm(4, activation="softsign", use_bias=False, go_backwards=True, return_sequences=True)
    yield "unlike", chain(bidirectional(lstm(4, return_sequences=True), backward_layer=unlike), dense(2))
    turned = [lstm(4, return_sequences=True, go_backwards=first, activation=name) for first, name in
              ((True, "tanh"), (False, "relu"))]  # fmt: skip
    yield "backward_first", chain(bidirectional(turned[0], backward_layer=turned[1], merge_mode="mul"), dense(2))
    yield "both_stacked", chain(bidirectional(lstm(4, return_sequences=True)), bidirectional(lstm(3)), dense(2))
    for gate in GATES[:-1]:  # exponentials of nine steps are too large
        yield f"gates_{gate}", chain(lstm(4, return_sequences=True, recurrent_activation=gate), dense(2))
        yield f"content_{gate}", chain(lstm(4, return_sequences=True, activation=gate), dense(2))
    for activation in DENSE:
        yield f"dense_{activation}", chain(lstm(4, return_sequences=True), dense(3, activation=activation))
    extra = {
        "relu": lambda: layers.ReLU(), "relu_slope": lambda: layers.ReLU(negative_slope=0.3),
        "threshold": lambda: layers.ReLU(threshold=0.1), "leaky": lambda: layers.LeakyReLU(negative_slope=0.25),
        "elu": lambda: layers.ELU(alpha=0.7), "softmax": lambda: layers.Softmax(),
        "tanh": lambda: layers.Activation("tanh"), "linear": lambda: layers.Activation("linear"),
    }  # fmt: skip
    for name, layer in extra.items():
        yield f"layer_{name}", chain(lstm(4, return_sequences=True), layer(), dense(2), layer())
    yield "dense_layer", chain(lstm(4), dense(3, activation=layers.LeakyReLU(negative_slope=0.4)))
    yield "dense_first", chain(dense(5, activation="tanh"), layers.TimeDistributed(dense(3)), lstm(4))
    yield "per_step", chain(lstm(4, return_sequences=True), layers.TimeDistributed(dense(3, activation="softmax")))
    yield "idle", chain(
        layers.GaussianNoise(0.1), layers.SpatialDropout1D(0.2), lstm(4, return_sequences=True), layers.Dropout(0.5),
        layers.Permute((1, 2)), layers.Reshape((-1, 4)), lstm(3), layers.Flatten(), layers.Reshape((3,)),
        layers.AlphaDropout(0.1), dense(2),
    )  # fmt: skip
    yield "mean", chain(lstm(4, return_sequences=True), layers.GlobalAveragePooling1D(), dense(2))
    yield "max", chain(lstm(4, return_sequences=True), layers.GlobalMaxPooling1D(), dense(2))
    yield "tokens", chain(layers.Embedding(TOKENS, 5), lstm(4), dense(2), tokens=True)
    yield "float64", chain(lstm(4, dtype="float64"), dense(2, dtype="float64"))
    half = {"dtype": "float16", "recurrent_initializer": "glorot_uniform"}
    yield "float16", chain(lstm(4, **half), dense(2, dtype="float16"))
    body = chain(lstm(4, return_sequences=True), lstm(3), dense(4))
    body.layers[0].trainable = False
    yield "nested", chain(body, dense(2))
    inner = chain(dense(6), lstm(4))
    yield "nested_first", chain(inner, dense(2))
    bodies = [keras.Sequential([lstm(units, return_sequences=True, name="same")]) for units in (4, 3)]
    yield "namesakes", chain(*bodies)

    def functional(build, *shapes):
        inputs = [keras.Input(shape) for shape in ((STEPS, FEATURES), *shapes)]
        return keras.Model(inputs if shapes else inputs[0], build(*inputs))

    yield "functional", functional(lambda x: dense(2)(lstm(4)(lstm(3, return_sequences=True, name="z")(x))))
    yield "states_out", functional(lambda x: lstm(4, return_sequences=True, return_state=True)(x))
    yield "hidden_alone", functional(lambda x: dense(2)(lstm(4, return_sequences=True, return_state=True)(x)[1]))
    yield "last_item", functional(lambda x: dense(2)(lstm(4, return_sequences=True)(x)[:, -1]))
    yield "last_item_3", functional(lambda x: dense(2)(lstm(4, return_sequences=True)(x)[:, -1, :]))
    yield "apart", functional(lambda x: bidirectional(lstm(4, return_sequences=True), merge_mode=None)(x))
    yield "apart_forward", functional(lambda x: bidirectional(lstm(4, return_sequences=True), merge_mode=None)(x)[0])
    yield "apart_backward", functional(lambda x: bidirectional(lstm(4, return_sequences=True), merge_mode=None)(x)[1])
    for name in ("Concatenate", "Add", "Multiply", "Average"):
        joined = getattr(layers, name)()
        yield (
            f"apart_{name.lower()}",
            functional(lambda x, joined=joined: dense(2)(joined(bidirectional(lstm(4), merge_mode=None)(x)))),
        )
    yield (
        "states_in",
        functional(lambda x, h, c: dense(2)(lstm(4, return_sequences=True)(x, initial_state=[h, c])), (4,), (4,)),
    )
    yield from masked_cases(keras, chain)


def masked_cases(keras, chain):
    """Give models that leave steps out, also in the middle of sequences."""
    layers = keras.layers
    lstm, dense, both = layers.LSTM, layers.Dense, layers.Bidirectional

    def mask():
        return layers.Masking(0.0)

    yield "masked", chain(mask(), lstm(4, return_sequences=True))
    yield "masked_zero", chain(mask(), lstm(4, return_sequences=True, zero_output_for_mask=True))
    yield "masked_last", chain(mask(), lstm(4, return_sequences=True), lstm(3), dense(2))
    yield "masked_both", chain(mask(), both(lstm(4, return_sequences=True)))
    yield "masked_both_sum", chain(mask(), both(lstm(4, return_sequences=True), merge_mode="sum"))
    yield "masked_both_last", chain(mask(), both(lstm(4), merge_mode="ave"), dense(2))
    yield "masked_backwards", chain(mask(), lstm(4, return_sequences=True, go_backwards=True))
    yield "masked_backwards_last", chain(mask(), lstm(4, go_backwards=True), dense(2))
    yield "masked_mean", chain(mask(), both(lstm(4, return_sequences=True)), layers.GlobalAveragePooling1D(), dense(2))
    yield (
        "masked_dense",
        chain(mask(), lstm(4, return_sequences=True), layers.Dropout(0.1), dense(2, activation="tanh")),
    )
    yield "masked_tagger", chain(
        layers.Embedding(TOKENS, 5, mask_zero=True), both(lstm(4, return_sequences=True)),
        layers.TimeDistributed(dense(3, activation="softmax")), tokens=True,
    )  # fmt: skip
    yield "masked_tokens", chain(layers.Embedding(TOKENS, 5, mask_zero=True), lstm(4), dense(2), tokens=True)
    tokens = keras.Input((STEPS,), dtype="int32")
    embedded = layers.Embedding(TOKENS, 5, mask_zero=True)(tokens)
    yield (
        "masked_functional_tokens",
        keras.Model(tokens, dense(2)(lstm(4)(both(lstm(3, return_sequences=True))(embedded)))),
    )
    x = keras.Input((STEPS, FEATURES))
    yield "masked_functional", keras.Model(x, dense(2)(lstm(4, return_state=True)(mask()(x))[1]))


def random_model(keras, seed):
    """Draw a chain of recurrent layers with options of any kind."""
    random, layers = np.random.default_rng(seed), keras.layers

    def chance(share=0.5):
        return bool(random.random() < share)

    def options():
        return {
            "units": int(random.integers(1, 9)), "activation": str(random.choice(GATES[:5])), "use_bias": chance(0.8),
            "recurrent_activation": str(random.choice(BOUNDED)),
        }  # fmt: skip

    masked, content = chance(0.3), []
    if masked:
        content.append(layers.Masking(0.0))
    count = int(random.integers(1, 4))
    for place in range(count):
        sequences = place < count - 1 or chance()
        turned = chance(0.3) and not (masked and sequences)
        run = {"return_sequences": sequences, "go_backwards": turned, "unroll": chance(0.2) and not masked}
        kind = random.choice(["LSTM", "Bidirectional", "RNN"])
        if kind == "Bidirectional":
            run["go_backwards"] = False
            merge = str(random.choice(["concat", "sum", "mul", "ave"]))
            content.append(layers.Bidirectional(layers.LSTM(**options(), **run), merge_mode=merge))
        elif kind == "RNN":
            # With a mask Keras itself cannot run several cells on PyTorch.
            cells = [layers.LSTMCell(**options()) for _ in range(random.integers(1, 4))]
            content.append(layers.RNN(cells[0] if masked or len(cells) == 1 else cells, **run))
        else:
            content.append(layers.LSTM(**options(), **run))
        if chance(0.3):
            content.append(layers.Dropout(0.5))
    if not masked and sequences and chance():
        content.append(layers.GlobalMaxPooling1D() if chance() else layers.GlobalAveragePooling1D())
        sequences = False
    if not (masked and sequences):
        content.append(layers.Dense(3, activation=str(random.choice(DENSE[:11]))))
    return keras.Sequential([keras.Input((STEPS, FEATURES)), *content])


def inputs_of(model, name, random):
    """Draw inputs: tokens with zeros, steps that are all zero where the model masks them."""
    drawn = []
    for tensor in model.inputs:
        shape = (ROWS, *tensor.shape[1:])
        if "int" in str(tensor.dtype):
            x = random.integers(0 if "masked" in name else 1, TOKENS, shape).astype(np.int32)
        else:
            x = random.normal(size=shape).astype(np.float32)
        if any(type(layer).__name__ == "Masking" for layer in model.layers) or "masked" in name:
            x[random.random(shape[:2]) < 0.3] = 0
            x[0, :2], x[1, -3:], x[2] = 0, 0, x[2] + (x[2] == 0)  # at the start, at the end, and a row without
        drawn.append(x)
    return drawn


def refused_models(keras):
    """Give models that are no chain of what Latchwork has, and what they are refused for, by name."""
    layers = keras.layers
    lstm, dense, both = layers.LSTM, layers.Dense, layers.Bidirectional

    def input_of(*shape, **options):
        return keras.Input(shape or (STEPS, FEATURES), **options)

    def model(build, *more):
        x = input_of()
        return keras.Model([x, *more] if more else x, build(x))

    def chain(*content):
        return keras.Sequential([input_of(), *content])

    def pair(x, y):
        return layers.Add()([x, y])

    state = lstm(4, return_state=True, name="encoder")
    second = input_of(None, 2)
    decoded = lstm(4, name="decoder")
    yield (
        "decoder",
        model(lambda x: decoded(second, initial_state=state(x)[1:]), second),
        ("LSTM 'decoder' starts from a state of LSTM 'encoder'"),
    )
    yield "branch", model(lambda x: pair(lstm(4)(x), lstm(4)(x))), "has 2 inputs"
    residual = lstm(FEATURES, return_sequences=True)
    yield "residual", model(lambda x: pair(residual(x), x)), "has 2 inputs"
    yield "twice", model(lambda x: residual(residual(x))), "is called 2 times"
    outputs = lstm(4, return_sequences=True, name="lower")
    yield "outputs", model(lambda x: [outputs(x), dense(2, name="head")(outputs.output)]), "has outputs of 'head' and"
    yield "cell", model(lambda x: dense(2)(lstm(4, return_state=True)(x)[2])), "its cell state goes on"
    yield "first_item", model(lambda x: lstm(4, return_sequences=True)(x)[:, 0]), "steps of its own choice"
    yield "last_item", model(lambda x: both(lstm(4, return_sequences=True))(x)[:, -1]), "steps of its own choice"
    mask = input_of(STEPS, dtype="bool")
    yield "mask", model(lambda x: lstm(4)(x, mask=mask), mask), "takes a mask of InputLayer"
    yield "gru", chain(both(layers.GRU(4))), r"Bidirectional '\w+' with GRU 'forward_gru\w*' and GRU"
    yield "conv", chain(layers.Conv1D(4, 2), lstm(4)), r"Conv1D 'conv1d\w*' has no counterpart.*before it"
    yield "normed", chain(lstm(4), layers.BatchNormalization()), "BatchNormalization.* has no counterpart.*after it"
    yield "repeated", chain(lstm(4), layers.RepeatVector(3), lstm(2)), "RepeatVector"
    yield (
        "both_cells",
        chain(both(layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)]))),
        "several cells in each direction",
    )
    turned = lstm(4, go_backwards=True), lstm(4)
    yield "turned", chain(both(turned[0], backward_layer=turned[1])), "the backward direction first"
    sequences = {"return_sequences": True}
    yield "masked_max", chain(layers.Masking(), lstm(4, **sequences), layers.GlobalMaxPooling1D()), "masked steps"
    back = lstm(4, go_backwards=True, **sequences)
    yield "masked_back", chain(layers.Masking(), back, lstm(3)), "go_backwards before it has turned round"
    yield "masked_end", chain(layers.Masking(), lstm(4, zero_output_for_mask=True)), "for the last step alone"
    yield "late_mask", chain(dense(3), layers.Masking(), lstm(4)), r"Masking 'masking\w*' with layers before it"
    yield "dense", chain(dense(3)), "no recurrent layer that is an LSTM, and there is no LSTM in it"
    yield "not_built", keras.Sequential([lstm(4)]), "got none, as a layer that was never built has"

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = lstm(4, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x) + 1

    own = Own()
    own(np.ones((1, STEPS, FEATURES), np.float32))
    yield "own", own, r">Own 'own\w*' with LSTM 'inner' has no counterpart.*'inner' \(7 -> 4\)"


def refusals(keras):
    """Convert them. Give what was expected and what came by name."""
    import latchwork as lw

    found = {}
    for name, model, expected in refused_models(keras):
        try:
            found[name] = expected, f"no error: {lw.from_keras(model)!r}"
        except ValueError as error:
            found[name] = expected, str(error)
    return found


def main(folder, random_models):
    import keras
    import latchwork as lw

    (folder / "refusals.json").write_text(json.dumps(refusals(keras)))

    models = dict(cases(keras)) | {f"random_{seed}": random_model(keras, seed) for seed in range(random_models)}
    for place, (name, model) in enumerate(models.items()):
        random = np.random.default_rng(place)
        # In order of layers and not by model.set_weights, whose order depends on what is trainable.
        scale = 0.2 if name.startswith(("gates", "content")) else 0.5  # not every activation has bounds
        for variable in model.weights:
            variable.assign(random.normal(size=variable.shape) * scale)
        inputs = inputs_of(model, name, random)
        content = {f"x{number}": x for number, x in enumerate(inputs)}
        for call in ("", "again") if name == "stateful" else ("",):
            outputs = model(inputs if len(inputs) > 1 else inputs[0])
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            content |= {f"y{call}{number}": keras.ops.convert_to_numpy(y) for number, y in enumerate(outputs)}
        state = tuple(x[np.newaxis] for x in inputs[1:]) or None
        content["object"] = lw.from_keras(model)(inputs[0], state)[0]
        np.savez(folder / f"{name}.npz", **content)
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        model.save_weights(folder / f"{name}.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
