"""Writes the models of format version 2 beside this script, and what they answer: python make_files.py [MODEL]...

Files that are there already stay as they are, because they are kept to show that they load for ever. A model is written
if there is no file of its name yet, or if its name is given.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import latchwork as lw  # noqa: E402
import numpy as np  # noqa: E402
from layers import normal  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from saved_models import EXPECTED, answers  # noqa: E402

GAPS = np.where(normal(27, (5, 2, 3)) > 0.5, np.nan, normal(28, (5, 2, 3)))
CODES = np.stack([normal(29, (5, 2)), [[0, 4], [3, 1], [2, 2], [4, 0], [1, 3]]], axis=-1)
MASKED = np.where(normal(42, (5, 2, 1)) > 0, np.float32(0.5), normal(43, (5, 2, 3)))
TOKENS = np.array([[0, 4], [3, 1], [2, 2], [4, 0], [1, 3]])
VARIANT = {
    "peephole": True, "learn_start_state": True, "clip": 1.5, "cell_clip": 0.75,
    "zoneout": (0.25, 0.125), "recurrent_dropout": 0.5, "recurrent_dropout_on": "candidate", "weight_dropout": 0.25,
}  # fmt: skip


def models():
    """Each model by the name of its file, and what to ask it."""
    yield "lstm", lw.LSTM(3, 4, seed=1), normal(1, (5, 2, 3))
    yield (
        "lstm_variant",
        lw.LSTM(
            3, 5, 2, dropout=0.25, batch_first=True, bidirectional=True, proj_size=2, dtype="float64", seed=2,
            activations=({"input": ("hard_sigmoid", 0.25, 0.5)}, {"cell": "softsign"}), residual=True,
            forget_bias=1.0, init="keras", **VARIANT,
        ),
        normal(2, (2, 5, 3), "float64"),
    )  # fmt: skip
    yield "lstm_coupled", lw.LSTM(3, 4, forget_gate="coupled", init="chrono", t_max=9, seed=3), normal(3, (5, 2, 3))
    yield "lstm_1997", lw.LSTM(3, 4, bias=False, reverse=True, forget_gate=False, seed=4), normal(4, (5, 2, 3))
    yield "lstm_layer_norm", lw.LSTM(3, 4, layer_norm=True, seed=17), normal(17, (5, 2, 3))
    yield "lstm_cell", lw.LSTMCell(3, 4, seed=5), normal(5, (2, 3))
    # The file that is kept has the dropouts of VARIANT, which cells could be built with when it was written.
    without_dropout = {name: value for name, value in VARIANT.items() if "dropout" not in name}
    yield "lstm_cell_variant", lw.LSTMCell(3, 4, proj_size=2, seed=6, **without_dropout), normal(6, (2, 3))
    yield "embedding", lw.Embedding(5, 3, seed=7), TOKENS
    yield "linear", lw.Linear(3, 4, activation="tanh", dtype="float64", seed=8), normal(8, (2, 3), "float64")
    yield "last", lw.Last(), normal(9, (5, 2, 3))
    yield "mean", lw.Mean(), normal(21, (5, 2, 3))
    yield "max", lw.Max(), normal(22, (5, 2, 3))
    yield "dropout", lw.Dropout(0.25), normal(23, (5, 2, 3))
    yield "scale", lw.Scale([1.0, -0.1, 2.0], [3.0, 1 / 3, -1.0]), GAPS
    yield "impute", lw.Impute(3, indicators=[2, 0]), GAPS
    yield "impute_persistence", lw.Impute(3, fill=[1.0, -0.1, 2.0], persistence=[0.5, 1.0, 0.9]), GAPS
    yield "impute_constant", lw.Impute(3, "constant", [1.0, -0.1, 2.0], [1]), GAPS
    yield "embed_columns", lw.EmbedColumns(2, [1], 5, 3, seed=30), CODES
    yield "activation", lw.Activation(("leaky_relu", 0.25)), normal(37, (5, 2, 3))
    yield (
        "network_merge",
        lw.Network(
            [
                lw.LSTM(3, 4, bidirectional=True, merge="mul", activations={"input": "gelu", "cell": "silu"}, seed=38),
                lw.Last(), lw.Linear(4, 3, activation="selu", seed=39), lw.Activation("softmax"),
            ]
        ),
        normal(40, (5, 2, 3)),
    )  # fmt: skip
    yield "sort", lw.Sort(3), normal(31, (5, 2, 3))
    yield "reverse", lw.Reverse(), normal(37, (5, 2, 3))
    yield "input_skip", lw.InputSkip(2, 0.3), normal(44, (5, 2, 3))
    yield "mask", lw.Mask(0.5, "zero"), MASKED
    yield (
        "network_steps",
        lw.Network(
            [
                lw.Mask(0.5), lw.Reverse(), lw.LSTM(3, 4, seed=38), lw.Reverse(), lw.InputSkip(2, 0.3),
                lw.Linear(4, 2, seed=39),
            ]
        ),
        MASKED,
    )  # fmt: skip
    embedding = lw.Embedding(5, 3, seed=40, mask_token=4, mask_output="zero")
    yield "network_masked_tokens", lw.Network([embedding, lw.LSTM(3, 4, seed=41)]), TOKENS
    yield (
        "network_input_layers",
        lw.Network(
            [
                lw.Scale([0.5, 0.0], [2.0, 1.0]), lw.Impute(2, fill=[0.0, 4.0], indicators=[0]),
                lw.EmbedColumns(4, [1], 5, 2, seed=32), lw.LSTM(5, 3, seed=33), lw.Linear(3, 4, seed=34), lw.Sort(2),
                lw.Scale([0.0] * 4, [3.0] * 4),
            ]
        ),
        np.where(GAPS[..., :1] > 0, np.nan, CODES),
    )  # fmt: skip
    yield (
        "network",
        lw.Network([lw.Embedding(5, 3, seed=10), lw.LSTM(3, 4, seed=11), lw.Last(), lw.Linear(4, 2, seed=12)]),
        TOKENS,
    )
    yield (
        "network_batch_first",
        lw.Network([lw.LSTM(3, 4, batch_first=True, seed=13), lw.Linear(4, 2, False, seed=14)]),
        normal(15, (2, 5, 3)),
    )
    head = lw.Linear(4, 2, activation=("elu", 0.5), init_scale=2.0, seed=25)
    yield (
        "network_mean",
        lw.Network([lw.Dropout(0.25), lw.LSTM(3, 4, seed=24), lw.Dropout(), lw.Mean(), head]),
        normal(26, (5, 2, 3)),
    )
    layers = [lw.Embedding(5, 3, seed=18), lw.LSTM(3, 4, seed=19), lw.Linear(4, 2, seed=20)]
    yield "network_members", lw.Network(layers, members=3), TOKENS
    text = "\ud800\udc00\U00010000 a" * 10  # both surrogates, and the character that JSON would make of them
    model = lw.LSTMLanguageModel(4, 3, batch_size=2, window=8, max_epochs=1, random_state=16)
    yield "language_model", model.fit(text), TOKENS
    series = np.where(GAPS > 1, np.nan, GAPS).transpose(1, 0, 2)
    model = lw.LSTMRegressor(3, quantiles=[0.25, 0.75], max_epochs=1, n_members=2, random_state=35)
    yield "regressor", model.fit(series, [[1.0, -2.0], [0.5, 4.0]]), GAPS
    model = lw.LSTMClassifier(3, head="sequence", categorical=[1], missing="mean", max_epochs=1, random_state=36)
    yield "classifier", model.fit(CODES.transpose(1, 0, 2), np.where(TOKENS.T > 2, "many", "\ud800 few")), CODES


def main(names):
    expected_path = HERE / f"{EXPECTED}.safetensors"
    expected = load_file(expected_path) if expected_path.exists() else {}
    for name, model, x in models():
        path = HERE / f"{name}.safetensors"
        if path.exists() if not names else name not in names:
            continue
        model.save(path)
        expected[f"{name}.x"] = x
        expected |= {f"{name}.{each}": np.ascontiguousarray(value) for each, value in answers(model, x).items()}
    save_file(expected, expected_path)


if __name__ == "__main__":
    main(sys.argv[1:])
