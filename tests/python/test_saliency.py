"""explain.saliency and explain.integrated_gradients: which inputs an output depends on."""

import copy
import re
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from latchwork.explain import integrated_gradients, saliency
from layers import data, normal, random_lstm
from variants import PLAIN

FORMS = ("gradient", "times_input", "output")


def embedded(network, tokens):
    """The network without its embedding, and what that makes of tokens."""
    rest = lw.Network([copy.deepcopy(layer) for layer in network.layers[1:]], members=network.members)
    return rest, np.array(network[0].parameters["weight"])[..., tokens, :]


def language_model(dtype="float32", members=1, **options):
    layers = [lw.Embedding(11, 4, seed=0, dtype=dtype), lw.LSTM(4, 9, seed=1, dtype=dtype, **options),
              lw.Linear(9, 5, seed=2, dtype=dtype)]  # fmt: skip
    return lw.Network(layers, members=members)


def attributed(found):
    """All that was attributed to each row of a batch."""
    total = found.attributions.astype(np.float64).sum(axis=(0, 2))
    pairs = found.state if found.state and isinstance(found.state[0], tuple) else [found.state]
    for pair in pairs:
        total = total + sum(part.astype(np.float64).sum(axis=(0, 2)) for part in pair)
    return total


# ---- Saliency.


@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"reverse": True}, {"proj_size": 3, "peephole": True}]
)
def test_saliency_equals_finite_differences(options):
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64", **options)
    x, start, reset = data(lstm, steps=6, rows=4)
    call = {"lengths": [6, 3, 5, 1], "reset": reset}
    chosen, last = np.array([0, 2, 1, 0]), np.array([5, 2, 4, 0])
    found = saliency(lstm, x, start, **call, output=chosen)

    def outputs():
        return lstm(x, start, **call)[0][last, np.arange(4), chosen]

    assert_same_bits(found.output, outputs())
    expected = np.zeros_like(x)
    for step, feature in np.ndindex(6, 3):
        kept = x[step, :, feature].copy()
        ends = []
        for change in (1e-5, -1e-5):
            x[step, :, feature] = kept + change
            ends.append(outputs())
        x[step, :, feature] = kept
        expected[step, :, feature] = (ends[0] - ends[1]) / 2e-5
    assert_close(found.gradient, expected, 1e-8)
    assert_close(found.times_input, expected * x, 1e-8)
    assert_close(found.gradient_by_step, expected.sum(axis=-1), 1e-8)
    assert_close(found.times_input_by_step, (expected * x).sum(axis=-1), 1e-8)


def test_saliency_of_a_step_ignores_later_inputs(dtype):
    lstm = random_lstm(input_size=3, hidden_size=17, dtype=dtype)
    x = normal(1, (9, 4, 3), dtype)
    steps = np.array([0, 4, -1, -9])
    found = saliency(lstm, x, step=steps, output=-1)
    for row, step in enumerate(steps % 9):
        assert found.gradient[: step + 1, row].all()
        assert not found.gradient[step + 1 :, row].any()
        part = saliency(lstm, x[: step + 1, row], output=16)
        assert_same_bits(found.gradient[: step + 1, row], part.gradient)
        assert_same_bits(found.output[row], part.output)
        assert part.output.shape == ()


@pytest.mark.parametrize("lengths", [None, [7, 3, 0, 5]])
def test_saliency_of_tokens_is_that_of_their_vectors(lengths, dtype):
    network = language_model(dtype)
    tokens = np.random.RandomState(0).randint(0, 11, (7, 4))
    rest, x = embedded(network, tokens)
    expected = saliency(rest, x, lengths=lengths, output=3)
    if lengths is not None:
        for row, length in enumerate(lengths):
            tokens[length:, row] = 10**6  # what lies in padding does not matter
    found = saliency(network, tokens, lengths=lengths, output=3)
    for name in FORMS:
        assert_same_bits(getattr(found, name), getattr(expected, name))
    assert found.gradient.shape == (7, 4, 4)
    assert found.gradient_by_step.shape == found.times_input_by_step.shape == (7, 4)
    last = [6] * 4 if lengths is None else [6, 2, 0, 4]
    outputs = network(np.where(tokens == 10**6, 0, tokens), lengths=lengths)[0]
    assert_same_bits(found.output, np.where(np.array(last) > 0, outputs[last, range(4), 3], 0).astype(dtype))


@pytest.mark.parametrize("pool", [lw.Last, lw.Mean, lw.Max])
def test_saliency_of_a_network_that_pools(pool):
    network = lw.Network([lw.LSTM(3, 8, seed=0), pool(), lw.Linear(8, 1, seed=1)])
    x, lengths = normal(1, (6, 4, 3)), [6, 2, 0, 5]
    found = saliency(network, x, lengths=lengths)
    expected = network.record(x, lengths=lengths, training=False).backward(np.ones((4, 1))).x
    assert_same_bits(found.gradient, expected)
    assert_same_bits(found.output, network(x, lengths=lengths)[0][:, 0])
    with pytest.raises(ValueError, match="step: expected None for a network whose output has no steps, got 3"):
        saliency(network, x, step=3)


@pytest.mark.parametrize("batch_first", [False, True])
def test_axes_are_those_of_x(batch_first):
    options = {"input_size": 3, "hidden_size": 5, "batch_first": batch_first}
    lstm = random_lstm(**options)
    other = random_lstm(**options | {"batch_first": False})
    assert_same_bits(lstm.state_dict(), other.state_dict())
    x, reset = normal(1, (4, 6, 3)), np.zeros((4, 6), bool)
    reset[1, 2] = True
    swapped = (x.swapaxes(0, 1), reset.swapaxes(0, 1)) if batch_first else (x, reset)
    call = {"output": 2, "step": 2}
    found = saliency(lstm, x, reset=reset, **call)
    expected = saliency(other, swapped[0], reset=swapped[1], **call)
    assert_same_bits(found.gradient, expected.gradient.swapaxes(0, 1) if batch_first else expected.gradient)
    assert_same_bits(found.output, expected.output)
    paths = integrated_gradients(lstm, x, reset=reset, **call, warm_up=3)
    expected = integrated_gradients(other, swapped[0], reset=swapped[1], **call, warm_up=3)
    shown = expected.attributions.swapaxes(0, 1) if batch_first else expected.attributions
    assert_same_bits(paths.attributions, shown)
    assert_same_bits(paths.state, expected.state)


def test_members_have_what_they_have_alone():
    network = language_model(members=3, num_layers=2)
    tokens, lengths = np.random.RandomState(0).randint(0, 11, (6, 4)), np.array([6, 2, 0, 5])
    call = {"output": [1, 2, 3, 4], "lengths": lengths}
    found = saliency(network, tokens, **call)
    paths = integrated_gradients(network, tokens, **call, baseline=3, warm_up=4, steps=5)
    assert found.gradient.shape == paths.attributions.shape == (3, 6, 4, 4)
    assert found.output.shape == paths.error.shape == (3, 4)
    assert paths.state[1].shape == (3, 2, 4, 9)
    for member in range(3):
        alone = saliency(network.member(member), tokens, **call)
        for name in FORMS:
            assert_same_bits(getattr(found, name)[member], getattr(alone, name))
        alone = integrated_gradients(network.member(member), tokens, **call, baseline=3, warm_up=4, steps=5)
        assert_same_bits(paths.attributions[member], alone.attributions)
        assert_same_bits(tuple(part[member] for part in paths.state), alone.state)
        assert_same_bits(paths.output[member], alone.output)
    separate = np.stack([tokens, tokens[::-1], (tokens + 1) % 11])
    found = saliency(network, separate, output=1)
    for member in range(3):
        alone = saliency(network.member(member), separate[member], output=1)
        assert_same_bits(found.gradient[member], alone.gradient)


def test_members_that_share_real_input():
    network = lw.Network([lw.LSTM(3, 5, seed=0), lw.Linear(5, 1, seed=0)], members=2)
    x, lengths = normal(1, (6, 4, 3)), np.array([[6, 2, 0, 5], [1, 6, 6, 0]])
    found = integrated_gradients(network, x, lengths=lengths, baseline=[0.1, 0.2, 0.3], warm_up=3)
    for member in range(2):
        alone = integrated_gradients(
            network.member(member), x, lengths=lengths[member], baseline=[0.1, 0.2, 0.3], warm_up=3
        )
        assert_same_bits(found.attributions[member], alone.attributions)
        assert_same_bits(found.error[member], alone.error)


# ---- Integrated gradients: what is attributed adds up.

COMPLETE = {"float32": 1e-5, "float64": 1e-10}  # of the largest output, as the docstring says


@pytest.mark.parametrize("warm_up", [0, 30])
@pytest.mark.parametrize(
    "options",
    [{}, {"hidden_size": 31}, {"bidirectional": True, "num_layers": 2}, {"reverse": True},
     *(PLAIN[name] for name in ("coupled", "no forget gate", "peephole", "zoneout", "projection",
                                "residual", "learned start state", "cell of 1997"))],
    ids=str,
)  # fmt: skip
def test_attributions_are_complete(options, warm_up, dtype):
    options = {"hidden_size": 7} | options
    lstm = lw.LSTM(3, **options, dtype=dtype, seed=0)
    if lstm.learn_start_state:
        lstm.parameters["c_0_l0"] = normal(5, (7,), dtype)
    x, start, reset = data(lstm, steps=12, rows=4)
    lengths = [12, 5, 0, 9]
    for state, resets in ((None, None), (start, reset)):
        found = integrated_gradients(lstm, x, state, lengths, resets, output=1, baseline=0.3, warm_up=warm_up, steps=50)
        begin = state
        if warm_up and state is None:
            _, begin = lstm(np.full((warm_up, 4, 3), 0.3))
        output = lstm(x, begin, lengths, resets)[0]
        last = np.maximum(np.array(lengths) - 1, 0)
        assert_same_bits(found.output, np.where(np.array(lengths) > 0, output[last, range(4), 1], 0).astype(dtype))
        apart = found.output.astype(np.float64) - found.baseline_output - attributed(found)
        scale = max(abs(found.output).max(), abs(found.baseline_output).max())
        assert abs(apart).max() < COMPLETE[dtype] * scale
        assert abs(found.error).max() < COMPLETE[dtype] * scale
        assert abs(found.output - found.baseline_output)[:2].min() > 1e-3 * scale
        assert not found.attributions[:, 2].any()
        assert not found.attributions[5:, 1].any()
        assert any(part.any() for part in found.state) == (warm_up > 0 and state is not None)


def test_few_points_are_not_enough_and_error_says_so():
    lstm = random_lstm(input_size=3, hidden_size=9, dtype="float64")
    x = 3 * normal(1, (12, 4, 3), "float64")
    few, many = (integrated_gradients(lstm, x, output=0, steps=steps) for steps in (1, 100))
    assert abs(few.error).max() > 1e-3
    assert_close(few.error, few.output - few.baseline_output - attributed(few), 1e-12)
    assert abs(many.error).max() < 1e-8


def test_they_are_the_integral_of_the_gradient():
    lstm = random_lstm(input_size=3, hidden_size=5, dtype="float64")
    x, base = normal(1, (6, 2, 3), "float64"), normal(2, (6, 2, 3), "float64")
    found = integrated_gradients(lstm, x, output=0, baseline=base, steps=40)
    shares = (np.arange(4000) + 0.5) / 4000
    points = base + shares[:, None, None, None] * (x - base)
    batch = points.swapaxes(0, 1).reshape(6, 8000, 3)
    gradient = saliency(lstm, batch, output=0).gradient.reshape(6, 4000, 2, 3).mean(axis=1)
    assert_close(found.attributions, gradient * (x - base), 1e-6)
    assert_same_bits(found.baseline_output, lstm(base)[0][-1, :, 0])


def test_the_baseline_of_tokens(dtype):
    network = language_model(dtype)
    tokens = np.random.RandomState(0).randint(0, 11, (6, 3))
    rest, x = embedded(network, tokens)
    token = np.array(network[0].parameters["weight"][7])
    for baseline, vectors in ((None, None), (7, token), (np.full((6, 3), 7), token)):
        found = integrated_gradients(network, tokens, output=1, baseline=baseline, warm_up=5, steps=9)
        expected = integrated_gradients(rest, x, output=1, baseline=vectors, warm_up=5, steps=9)
        for name in ("attributions", "output", "baseline_output", "error", "state"):
            assert_same_bits(getattr(found, name), getattr(expected, name))
        assert found.by_step.shape == (6, 3)


def test_the_warm_up_is_a_run_of_the_baseline(dtype):
    lstm = random_lstm(input_size=3, hidden_size=9, num_layers=2, bidirectional=True, dtype=dtype)
    x, start, _ = data(lstm, steps=6, rows=4)
    base = normal(3, (6, 4, 3), dtype)
    _, warm = lstm(np.repeat(base[:1], 20, axis=0))
    found = integrated_gradients(lstm, x, start, output=2, baseline=base, warm_up=20)
    assert_same_bits(found.baseline_output, lstm(base, warm)[0][-1, :, 2])
    assert_same_bits(found.output, lstm(x, start)[0][-1, :, 2])
    # If x starts from that state too, nothing is left for the start state to explain.
    same = integrated_gradients(lstm, x, warm, output=2, baseline=base, warm_up=20)
    assert not any(part.any() for part in same.state)
    assert_same_bits(same.attributions, integrated_gradients(lstm, x, warm, output=2, baseline=base).attributions)


def test_skipped_steps_are_left_out():
    lstm = random_lstm(input_size=3, hidden_size=9, dtype="float64")
    x = normal(1, (8, 2, 3), "float64")
    skip = np.zeros((8, 2), bool)
    skip[[2, 5, 7]] = True
    x[skip] = np.nan
    found = integrated_gradients(lstm, x, output=2, skip=skip, warm_up=4)
    kept = ~skip[:, 0]
    expected = integrated_gradients(lstm, x[kept], output=2, warm_up=4)
    assert_close(found.attributions[kept], expected.attributions, 1e-14)
    assert not found.attributions[skip].any()
    gradient = saliency(lstm, x, output=2, skip=skip)
    assert_same_bits(gradient.gradient[kept], saliency(lstm, x[kept], output=2).gradient)
    assert not gradient.times_input[skip].any()


def test_checkpoints_and_threads_change_no_bit():
    lstm = random_lstm(input_size=3, hidden_size=17)
    x = normal(1, (20, 3, 3))
    expected = integrated_gradients(lstm, x, output=2, warm_up=4)
    lw.set_num_threads(1)
    found = integrated_gradients(lstm, x, output=2, warm_up=4, checkpoint=5)
    assert_same_bits(found.attributions, expected.attributions)
    assert_same_bits(found.state, expected.state)


def test_unbatched_input_is_a_batch_of_one():
    network = lw.Network([lw.LSTM(3, 5, num_layers=2, seed=0), lw.LSTM(5, 4, seed=1), lw.Linear(4, 2, seed=2)])
    x, reset = normal(1, (6, 3)), np.array([0, 0, 1, 0, 0, 0])
    for call in ({}, {"reset": reset}):
        batched = {name: value[:, None] for name, value in call.items()}
        found = integrated_gradients(network, x, **call, output=1, warm_up=3, baseline=np.full((6, 3), 0.5))
        expected = integrated_gradients(
            network, x[:, None], **batched, output=1, warm_up=3, baseline=np.full((6, 1, 3), 0.5)
        )
        assert_same_bits(found.attributions, expected.attributions[:, 0])
        assert found.error.shape == found.output.shape == ()
        assert [part.shape for pair in found.state for part in pair] == [(2, 5), (2, 5), (1, 4), (1, 4)]
        for pair, other in zip(found.state, expected.state, strict=True):
            assert_same_bits(pair, tuple(part[:, 0] for part in other))


@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (4, 0), (0, 0), (1, 1)])
def test_nothing_to_explain(steps, rows):
    lstm = random_lstm(input_size=3, hidden_size=5)
    x = np.ones((steps, rows, 3))
    assert saliency(lstm, x, output=0).gradient.shape == (steps, rows, 3)
    found = integrated_gradients(lstm, x, output=0, warm_up=2)
    assert found.attributions.shape == (steps, rows, 3)
    assert found.output.shape == found.error.shape == (rows,)
    if steps == 0:
        assert not found.output.any()


def test_nothing_is_changed_and_any_layout_is_read():
    lstm = random_lstm(input_size=3, hidden_size=5)
    wide = normal(1, (12, 4, 6))
    x = wide[::2, :, ::2]
    x.flags.writeable = False
    kept, weights = wide.copy(), lstm.state_dict()
    found = integrated_gradients(lstm, x, output=0, warm_up=2)
    assert_same_bits(found.attributions, integrated_gradients(lstm, x.copy(), output=0, warm_up=2).attributions)
    assert_same_bits(wide, kept)
    assert_same_bits(lstm.state_dict(), weights)


def test_nan_stays_in_its_row():
    lstm = random_lstm(input_size=3, hidden_size=5)
    x = normal(1, (6, 3, 3))
    x[2, 1, 0] = np.nan
    x[3, 2, 0] = np.inf
    for found in (saliency(lstm, x, output=0).gradient, integrated_gradients(lstm, x, output=0).attributions):
        assert np.isnan(found[:, 1]).any()
        assert np.isfinite(found[:, 0]).all()


def first_input_counts():
    """A layer of one unit whose input gate shuts once something is in the cell: only a start from zeros opens it."""
    lstm = lw.LSTM(1, 1, dtype="float64")
    with lstm.edit() as p:
        for value in p.values():
            value[:] = 0
        p["weight_hh_l0"][0] = -20  # the input gate
        p["bias_ih_l0"][:] = 6, 10, 0, 10
        p["weight_ih_l0"][2] = 1  # the candidate
    return lstm


def test_a_warm_up_takes_the_start_from_zeros_off_the_first_step():
    lstm = first_input_counts()
    x = 0.5 + 0.2 * normal(1, (20, 30, 1), "float64")
    shares = {}
    for warm_up in (0, 50):
        found = integrated_gradients(lstm, x, output=0, baseline=0.5, warm_up=warm_up)
        sizes = abs(found.by_step).mean(axis=1)
        shares[warm_up] = sizes[0] / sizes.sum()
        assert abs(found.error).max() < 1e-6
    assert shares[0] > 0.5
    assert shares[50] < 0.1
    # From zeros, which are then known to be the past of x, the change of the state has a share of its own.
    zeros = np.zeros((1, 30, 1))
    found = integrated_gradients(lstm, x, (zeros, zeros), output=0, baseline=0.5, warm_up=50)
    assert_same_bits(found.output, lstm(x)[0][-1, :, 0])
    assert found.state[0].any()
    assert found.state[1].any()
    assert abs(found.error).max() < 1e-6


def test_layer_norm_takes_more_points():
    lstm = lw.LSTM(3, 7, layer_norm=True, dtype="float64", seed=0)
    x = normal(1, (12, 4, 3), "float64")
    few, many = (integrated_gradients(lstm, x, output=1, baseline=0.3, steps=steps) for steps in (20, 1000))
    assert abs(many.error).max() < 0.05 * abs(many.output - many.baseline_output).max()
    assert abs(few.error).max() > abs(many.error).max()


# ---- What is refused.

LSTM = random_lstm(input_size=3, hidden_size=5)
X = np.ones((6, 4, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "output: expected which of the 5 features of the output, got None"),
        ({"output": 5}, IndexError, "output: expected -5 to 4, got 5"),
        ({"output": [0, 1, 2, -6]}, IndexError, "output: expected -5 to 4, got -6"),
        ({"output": [0, 1]}, ValueError, r"output: expected an int or one for each row, \(4,\), got \(2,\)"),
        ({"output": 1.0}, TypeError, "output: expected integers, got dtype float64"),
        ({"output": True}, TypeError, "output: expected integers, got dtype bool"),
        ({"output": 0, "step": 6}, IndexError, "step: expected -6 to 5, got 6"),
        ({"output": 0, "step": -7}, IndexError, "step: expected -6 to 5, got -7"),
        ({"output": 0, "step": 3, "lengths": [6, 5, 3, 6]}, ValueError,
         "step: expected a step before the end of each row, got 3 in row 2, whose length is 3"),
        ({"output": 0, "x": np.ones((6, 4, 2))}, ValueError, r"x: expected \(T, N, 3\), got \(6, 4, 2\)"),
        ({"output": 0, "lengths": [6, 5, 7, 6]}, ValueError, r"lengths: expected 0 to 6 \(T\), got 7 in row 2"),
        ({"output": 0, "skip_output": "x"}, ValueError, "skip_output: expected"),
        ({"output": 0, "module": np.tanh}, TypeError, "module: expected LSTM or Network, got ufunc"),
        ({"output": 0, "module": lw.LSTMLanguageModel()}, TypeError, "module: .*, got LSTMLanguageModel"),
        ({"output": 0, "module": lw.Linear(3, 5)}, TypeError, "module: expected LSTM or Network, got Linear"),
        ({"output": 0, "module": lw.LSTMCell(3, 5)}, TypeError, "module: expected LSTM or Network, got LSTMCell"),
        ({"output": 0, "module": lw.Network([lw.Linear(3, 5)])}, ValueError, "module: expected at least one LSTM in"),
    ],
)  # fmt: skip
def test_bad_arguments_of_both_are_refused(arguments, error, message):
    arguments = {"module": LSTM, "x": X} | arguments
    for function in (saliency, integrated_gradients):
        with pytest.raises(error, match=message):
            function(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps: expected at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "steps: expected int, got float"),
        ({"warm_up": -1}, ValueError, "warm_up: expected at least 0, got -1"),
        ({"warm_up": None}, TypeError, "warm_up: expected int, got NoneType"),
        ({"baseline": np.ones(4)}, ValueError,
         r"baseline: expected the shape \(\) or \(3,\) or \(6, 4, 3\), got \(4,\)"),
        ({"baseline": "zero"}, TypeError, "baseline: expected real numbers, got dtype <U4"),
        ({"checkpoint": 0}, ValueError, "checkpoint: expected at least 1, got 0"),
    ],
)  # fmt: skip
def test_bad_arguments_of_integrated_gradients_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        integrated_gradients(LSTM, X, output=0, **arguments)


def test_bad_baselines_of_tokens_are_refused():
    network, tokens = language_model(), np.zeros((6, 4), int)
    for baseline, error, message in (
        (11, ValueError, "baseline: expected tokens from 0 to 10, got 11 at step 0, row 0"),
        (0.5, TypeError, "baseline: expected integers, got dtype float64"),
        (np.zeros((6, 4, 4), int), ValueError, r"baseline: expected the shape \(\) or \(6, 4\), got \(6, 4, 4\)"),
    ):
        with pytest.raises(error, match=message):
            integrated_gradients(network, tokens, output=0, baseline=baseline)


def test_the_examples_of_the_page_run():
    page = Path(__file__).parents[2] / "docs" / "explain-gradients.md"
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(examples) == 6
    names = {}
    for number, example in enumerate(examples, start=1):
        exec(compile(example, f"docs/explain-gradients.md, example {number}", "exec"), names)
    assert abs(names["true"].state[1]).max() > 0
