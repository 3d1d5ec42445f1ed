"""Scale, Impute, EmbedColumns and Sort against plain loops: calls, streams, gradients, training and files."""

import copy
import pickle

import latchwork as lw
import numpy as np
import pytest

DTYPES = ("float32", "float64")


def imputed(x, options, start=None, lengths=None, reset=None, skip=None):
    """Impute (T, N, F) by loops: the output, and the values and ages after the last step."""
    steps, rows, features = x.shape
    fill = np.zeros(features) if options.get("fill") is None else np.asarray(options["fill"], float)
    indicators = options.get("indicators", ())
    forward = options.get("method", "forward") == "forward"
    persistence = np.ones(features) if options.get("persistence") is None else np.asarray(options["persistence"])
    value, age = (np.tile(fill, (rows, 1)), np.zeros((rows, features))) if start is None else map(np.copy, start)
    ends = np.full(rows, steps) if lengths is None else lengths
    output = np.zeros((steps, rows, features + len(indicators) * (2 if forward else 1)))
    for n in range(rows):
        for t in range(ends[n]):
            if reset is not None and reset[t, n]:
                value[n], age[n] = fill, 0
            if skip is not None and skip[t, n]:
                continue
            seen = ~np.isnan(x[t, n])
            carried = np.where(persistence == 1, value[n], fill + persistence * (value[n] - fill))
            value[n] = np.where(seen, x[t, n], carried if forward else fill)
            age[n] = np.where(seen, 0, age[n] + 1)
            masks = [float(seen[k]) for k in indicators]
            ages = [np.log1p(age[n, k]) for k in indicators] if forward else []
            output[t, n] = [*value[n], *masks, *ages]
    return output, value, age


def with_gaps(shape, seed, share=0.4, dtype="float64"):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape)
    x[generator.random(shape) < share] = np.nan
    return x.astype(dtype)


def prepared(dtype="float64", method="forward", **lstm):
    """A network with every layer for inputs, whose columns 0 and 2 are numbers and column 1 holds codes."""
    chain = [
        lw.Scale([1.0, 0.0, -2.0], [0.5, 1.0, 3.0]),
        lw.Impute(3, method, [0.25, 2.0, 0.0], [0, 2], [0.75, 1.0, 0.5] if method == "forward" else None),
        lw.EmbedColumns(7 if method == "forward" else 5, [1], 4, 2, dtype=dtype, seed=1),
    ]
    lstm_layer = lw.LSTM(8 if method == "forward" else 6, 5, dtype=dtype, seed=2, **lstm)
    return lw.Network(
        [*chain, lstm_layer, lw.Linear(5, 4, dtype=dtype, seed=3), lw.Sort(2), lw.Scale([0] * 4, [2] * 4)]
    )


def table_of_inputs(steps, rows, seed, dtype="float64", share=0.4):
    x = with_gaps((steps, rows, 3), seed, share)
    generator = np.random.default_rng(seed + 1)
    codes = generator.integers(0, 4, (steps, rows)).astype(float)
    x[..., 1] = np.where(np.isnan(x[..., 1]), np.nan, codes)
    return x.astype(dtype)


# ---- Each layer by itself.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (7, 3), (0, 3), (5, 1, 3), (2, 3, 4, 3)])
def test_scale_is_a_difference_times_a_factor(dtype, shape):
    shift, factor = [1.0, -0.25, 1e3], [0.1, 3.0, 1.0]
    x = with_gaps(shape, 0, 0.2, dtype)
    expected = (x - np.array(shift, dtype)) * np.array(factor, dtype)
    actual = lw.Scale(shift, factor)(x)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected)


def test_scale_reads_what_numbers_can_be_read_from():
    layer = lw.Scale(np.array([1, 2]), (np.float32(0.5), 1))
    assert (layer.shift, layer.factor, layer.features) == ((1.0, 2.0), (0.5, 1.0), 2)
    assert repr(layer) == "Scale((1.0, 2.0), (0.5, 1.0))"
    frozen = np.asfortranarray(np.arange(12).reshape(2, 3, 2))[::-1]
    frozen.flags.writeable = False
    np.testing.assert_array_equal(layer(frozen), (frozen - [1, 2]) * [0.5, 1])


@pytest.mark.parametrize("method", ["forward", "constant"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("steps", "rows"), [(0, 3), (1, 1), (7, 17), (31, 2), (40, 60)])
def test_impute_equals_loops(method, dtype, steps, rows):
    options = {"method": method, "fill": [0.5, -1.0, 0.0], "indicators": [2, 0]}
    if method == "forward" and rows != 17:
        options["persistence"] = [0.9, 0.0, 1.0]
    x = with_gaps((steps, rows, 3), steps, dtype=dtype)
    lengths = np.random.default_rng(1).integers(0, steps + 1, rows)
    for given in (None, lengths):
        expected, *_ = imputed(x, options, lengths=given)
        # What a carried value loses on its way to the fill is rounded in units of the fill's own last digit.
        atol = 3e-7 if "persistence" in options else 0
        np.testing.assert_allclose(lw.Impute(3, **options)(x, given), expected, rtol=1e-6, atol=atol)
    if rows:
        np.testing.assert_array_equal(lw.Impute(3, **options)(x[:, 0]), lw.Impute(3, **options)(x)[:, 0])


def test_ages_are_the_cores_own_logarithm():
    x = np.full((1000, 1), np.nan)
    ages = lw.Impute(1, indicators=[0])(x)[:, 2]
    np.testing.assert_array_equal(ages, lw._core.log(1.0 + np.arange(1, 1001)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sort_sorts_each_run(dtype):
    x = with_gaps((4, 5, 6), 3, 0.1, dtype)
    for group in (1, 2, 3, 6):
        expected = np.sort(x.reshape(4, 5, 6 // group, group), axis=-1).reshape(x.shape)
        np.testing.assert_array_equal(lw.Sort(group)(x), expected)
        network = lw.Network([lw.Scale([0] * 6, [1] * 6), lw.Sort(group)])
        np.testing.assert_array_equal(network(x.astype("float32"))[0], expected.astype("float32"))


def test_embed_columns_looks_codes_up():
    layer = lw.EmbedColumns(4, [2, 0], [3, 5], [2, 4], dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((6, 3, 4))
    x[..., 2], x[..., 0] = np.arange(18).reshape(6, 3) % 3, np.arange(18).reshape(6, 3) % 5
    first, second = layer.parameters["weight_0"], layer.parameters["weight_1"]
    assert (first.shape, second.shape) == ((3, 2), (5, 4))
    expected = np.concatenate([x[..., [1, 3]], first[x[..., 2].astype(int)], second[x[..., 0].astype(int)]], axis=-1)
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(layer(x[0, 0]), expected[0, 0])
    assert lw.EmbedColumns(2, [1], 3, 4).embedding_dim == (4,)


def test_embed_columns_has_the_gradient_of_torch():
    torch = pytest.importorskip("torch")
    layer = lw.EmbedColumns(3, [1, 2], [4, 3], [2, 5], dtype="float64", seed=0)
    generator = np.random.default_rng(5)
    x = np.stack([generator.standard_normal(40), generator.integers(0, 4, 40), generator.integers(0, 3, 40)], axis=-1)
    d_output = generator.standard_normal((40, 8))
    tables = [torch.tensor(layer.parameters[f"weight_{k}"].copy(), requires_grad=True) for k in (0, 1)]
    kept = torch.tensor(x[:, :1], requires_grad=True)
    codes = torch.tensor(x[:, 1:].astype(int))
    parts = [kept, *(torch.nn.functional.embedding(codes[:, k], tables[k]) for k in (0, 1))]
    (torch.cat(parts, dim=-1) * torch.tensor(d_output)).sum().backward()
    grads = layer.record(x).backward(d_output)
    for k in (0, 1):
        np.testing.assert_allclose(grads.parameters[f"weight_{k}"], tables[k].grad.numpy(), rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(grads.x[:, :1], kept.grad.numpy())
    assert not grads.x[:, 1:].any()
    twice = layer.record(x).backward(d_output, into=copy.deepcopy(grads))
    np.testing.assert_allclose(twice.parameters.flat, 2 * grads.parameters.flat, rtol=1e-13)


# ---- In networks.


def expected_output(network, x, state=None, **masks):
    """What the layers give one after another, by NumPy up to the LSTM: output and states."""
    scale, impute, embed, lstm, linear, sort, last = network
    dtype = network.dtype
    names = ("method", "fill", "indicators", "persistence")
    options = {name: getattr(impute, name) for name in names}
    start = None if state is None or impute.method == "constant" else tuple(part[0] for part in state[0])
    values, value, age = imputed(scale(x), options, start, **masks)
    alone = lw.LSTM(lstm.input_size, lstm.hidden_size, dtype=dtype)
    alone.load_state_dict(lstm.state_dict())
    tables, head = embed.parameters["weight_0"], (linear.parameters["weight"], linear.parameters["bias"])
    steps, rows = x.shape[:2]
    ends = masks.get("lengths", np.full(rows, steps))
    valid = np.arange(steps)[:, np.newaxis] < ends
    codes = np.where(valid & ~masks.get("skip", np.zeros_like(valid)), values[..., 1], 0).astype(int)
    inputs = np.concatenate([np.delete(values, 1, axis=-1), tables[codes]], axis=-1)
    h, lstm_state = alone(inputs.astype(dtype), None if state is None else state[-1], skip_output="zero", **masks)
    y = np.where(valid[..., np.newaxis], last(sort((h @ head[0].T + head[1]).astype(dtype))), 0)
    return y, (value, age), lstm_state


@pytest.mark.parametrize("method", ["forward", "constant"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_equals_its_layers_one_after_another(method, dtype):
    network = prepared(dtype, method)
    x = table_of_inputs(11, 7, 3, dtype)
    generator = np.random.default_rng(4)
    lengths = generator.integers(0, 12, 7)
    reset = generator.random((11, 7)) < 0.15
    state = tuple(
        (generator.standard_normal((1, 7, 5)).astype(dtype), generator.standard_normal((1, 7, 5)).astype(dtype))
        for _ in range(1)
    )
    if method == "forward":
        value = np.stack([generator.standard_normal(7), generator.integers(0, 4, 7), np.zeros(7)], axis=-1)
        state = ((value[np.newaxis].astype(dtype), np.full((1, 7, 3), 4.0, dtype)), *state)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    for masks in ({}, {"lengths": lengths}, {"reset": reset}, {"lengths": lengths, "reset": reset}):
        for start in (None, state):
            given = start[0] if start is not None and len(start) == 1 else start
            output, end = network(x, given, **masks)
            expected, carried, lstm_end = expected_output(network, x, start, **masks)
            np.testing.assert_allclose(output, expected, **tolerance)
            if method == "forward":
                (values, ages), end = end
                np.testing.assert_allclose(values[0], carried[0], **tolerance)
                np.testing.assert_array_equal(ages[0], carried[1])
            for actual, part in zip(end, lstm_end, strict=True):
                np.testing.assert_allclose(actual, part, **tolerance)


def test_steps_that_are_skipped_do_not_happen():
    network = prepared()
    x = table_of_inputs(9, 4, 5)
    skip = np.random.default_rng(0).random((9, 4)) < 0.4
    spoilt = np.where(skip[..., np.newaxis], 1e9, x)  # codes and numbers that would be refused or seen
    output, state = network(spoilt, skip=skip)
    for n in range(4):
        alone, end = network(x[~skip[:, n]][:, n : n + 1])
        np.testing.assert_array_equal(output[~skip[:, n], n], alone[:, 0])
        for actual, expected in zip(np.concatenate([*state[0], *state[1]], -1)[:, n],
                                    np.concatenate([*end[0], *end[1]], -1)[:, 0], strict=True):  # fmt: skip
            np.testing.assert_array_equal(actual, expected)


def test_windows_continue_the_carried_values():
    network = prepared()
    x = table_of_inputs(12, 3, 6, share=0.7)
    whole, end = network(x)
    state, outputs = None, []
    for begin, stop in ((0, 5), (5, 5), (5, 6), (6, 12)):
        output, state = network(x[begin:stop], state)
        outputs.append(output)
    np.testing.assert_array_equal(np.concatenate(outputs), whole)
    for pair, expected in zip(state, end, strict=True):
        for part, other in zip(pair, expected, strict=True):
            np.testing.assert_array_equal(part, other)


def test_batch_first_and_unbatched_and_one_row_are_the_same_numbers():
    network, first = prepared(), prepared(batch_first=True)
    x = table_of_inputs(6, 5, 7)
    output, _ = network(x)
    np.testing.assert_array_equal(first(x.swapaxes(0, 1))[0], output.swapaxes(0, 1))
    alone, state = network(x[:, 2])
    np.testing.assert_array_equal(alone, output[:, 2])
    assert [[part.shape for part in pair] for pair in state] == [[(1, 3), (1, 3)], [(1, 5), (1, 5)]]


def test_threads_and_rows_do_not_change_a_bit():
    network = prepared("float32")
    x = table_of_inputs(60, 120, 8, "float32")
    before = lw.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        lw.set_num_threads(threads)
        tape = network.record(x)
        grads = tape.backward(np.ones_like(tape.output), tape.state)
        results.append([tape.output, grads.x, grads.parameters.flat, *grads.state[0], *grads.state[1]])
    lw.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert one.tobytes() == other.tobytes()
    part = network(x[:, 17:18])[0]
    assert part.tobytes() == results[0][0][:, 17:18].tobytes()


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("method", ["forward", "constant"])
def test_streams_give_what_calls_give(batch_size, method):
    network = prepared(method=method)
    rows = batch_size or 1
    x = table_of_inputs(14, rows, 9, share=0.6)
    generator = np.random.default_rng(2)
    reset, skip = generator.random((14, rows)) < 0.2, generator.random((14, rows)) < 0.3
    expected, end = network(x, reset=reset, skip=skip)
    stream = network.stream(batch_size)
    for t in range(14):
        one = (slice(None),) if batch_size else (0,)
        y = stream.step(np.ascontiguousarray(x[t][one]), reset=reset[t][one], skip=skip[t][one])
        np.testing.assert_array_equal(y, expected[t][one])
        if t == 6:
            stream.refresh()
            state, other = stream.state, network.stream(batch_size)
            other.state = state
            stream = other if not skip[7:].any(axis=0).any() else stream
    pairs = (stream.state,) if method == "constant" else stream.state
    ends = (end,) if method == "constant" else end
    for pair, of_call in zip(pairs, ends, strict=True):
        for part, other in zip(pair, of_call, strict=True):
            np.testing.assert_array_equal(part if batch_size else part[:, np.newaxis], other)
    stream.reset()
    fresh = network.stream(batch_size)
    first = np.ascontiguousarray(x[0] if batch_size else x[0, 0])
    np.testing.assert_array_equal(stream.step(first), fresh.step(first))


def test_a_stream_starts_as_the_fill_and_goes_on_from_a_state():
    network = lw.Network([lw.Impute(2, fill=[3.0, -1.0], indicators=[1])])
    stream = network.stream()
    nothing = np.full(2, np.nan, "float32")
    np.testing.assert_allclose(stream.step(nothing), [3.0, -1.0, 0.0, np.log(2.0)], rtol=1e-6)
    value, age = stream.state
    np.testing.assert_array_equal(value, [[3.0, -1.0]])
    np.testing.assert_array_equal(age, [[1.0, 1.0]])
    stream.state = (np.array([[7.0, 8.0]]), np.array([[0.0, 9.0]]))
    np.testing.assert_allclose(stream.step(nothing), [7.0, 8.0, 0.0, np.log(11.0)], rtol=1e-6)


def test_members_have_tables_and_carried_values_of_their_own():
    layers = [
        lw.Impute(2, indicators=[0]),
        lw.EmbedColumns(4, [1], 3, 2, seed=0),
        lw.LSTM(5, 4, seed=1),
        lw.Linear(4, 2),
    ]
    network = lw.Network(layers, members=3)
    x = with_gaps((3, 6, 5, 2), 1, dtype="float32")
    x[..., 1] = np.where(np.isnan(x[..., 1]), np.nan, np.arange(6)[:, np.newaxis] % 3)
    output, state = network(x)
    tape = network.record(x)
    grads = tape.backward(np.ones_like(output))
    stream = network.stream(5)
    steps = [stream.step(np.ascontiguousarray(x[:, t])) for t in range(6)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), output)
    for m in range(3):
        alone = network.member(m)
        one, end = alone(x[m])
        np.testing.assert_array_equal(one, output[m])
        np.testing.assert_array_equal(end[0][0], state[0][0][m])
        other = alone.record(x[m]).backward(np.ones_like(one))
        np.testing.assert_array_equal(other.x, grads.x[m])
        np.testing.assert_array_equal(other.parameters["1.weight_0"], grads.parameters["1.weight_0"][m])
    assert len({table.tobytes() for table in network.parameters["1.weight_0"]}) == 3


# ---- Gradients.


def slopes(value, loss, step=1e-6):
    """Central differences of a loss with respect to an array that is changed in place; NaN stays NaN."""
    found = np.zeros_like(value)
    for place in np.ndindex(value.shape):
        middle = value[place]
        value[place] = middle + step
        above = loss()
        value[place] = middle - step
        below = loss()
        value[place] = middle
        found[place] = (above - below) / (2 * step)
    return found


@pytest.mark.parametrize("method", ["forward", "constant"])
def test_gradients_are_slopes(method):
    network = prepared(method=method)
    x = table_of_inputs(7, 4, 11, share=0.5)
    generator = np.random.default_rng(3)
    lengths, reset = np.array([7, 3, 0, 5]), generator.random((7, 4)) < 0.2
    pairs = [tuple(generator.standard_normal((1, 4, 5)) for _ in range(2))]
    if method == "forward":
        value = generator.standard_normal((1, 4, 3))
        value[..., 1] = 3
        pairs.insert(0, (value, np.ones((1, 4, 3))))
    state = tuple(pairs) if len(pairs) > 1 else pairs[0]
    for masks in ({}, {"lengths": lengths, "reset": reset}, {"skip": reset, "lengths": lengths}):
        output, end = network(x, state, **masks)
        ends = end if len(pairs) > 1 else (end,)
        d_output = generator.standard_normal(output.shape)
        d_ends = [tuple(generator.standard_normal(part.shape) for part in pair) for pair in ends]
        if method == "forward":
            d_ends[0][0][..., 1] = 0  # of carried codes

        def loss(masks=masks, d_output=d_output, d_ends=d_ends):
            output, end = network(x, state, **masks)
            total = float((output * d_output).sum())
            for pair, d_pair in zip(end if len(pairs) > 1 else (end,), d_ends, strict=True):
                total += sum(float((part * d_part).sum()) for part, d_part in zip(pair, d_pair, strict=True))
            return total

        tape = network.record(x, state, training=False, **masks)
        grads = tape.backward(d_output, tuple(d_ends) if len(pairs) > 1 else d_ends[0])
        numbers = [0, 2]
        seen = ~np.isnan(x[..., numbers])
        expected = np.zeros((7, 4, 2))
        for k, column in enumerate(numbers):
            differences = slopes(x[..., column], loss)
            expected[..., k] = np.where(seen[..., k], differences, 0)
        np.testing.assert_allclose(grads.x[..., numbers], expected, rtol=1e-6, atol=1e-7)
        assert not grads.x[..., 1].any()
        assert not grads.x[np.isnan(x)].any()
        d_states = grads.state if len(pairs) > 1 else (grads.state,)
        for (first, second), (d_first, d_second) in zip(pairs[-1:], d_states[-1:], strict=True):
            np.testing.assert_allclose(d_first, slopes(first, loss), rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(d_second, slopes(second, loss), rtol=1e-6, atol=1e-7)
        if method == "forward":
            for column in numbers:
                differences = slopes(pairs[0][0][..., column], loss)
                np.testing.assert_allclose(d_states[0][0][..., column], differences, rtol=1e-6, atol=1e-7)
            assert not d_states[0][1].any()  # ages have no gradient
        for name, parameter in network.state_dict().items():

            def loss_with(name=name, parameter=parameter):
                network.parameters[name] = parameter
                return loss()

            expected = slopes(parameter, loss_with)
            network.parameters[name] = parameter
            np.testing.assert_allclose(grads.parameters[name], expected, rtol=1e-6, atol=1e-7)


def test_the_gradient_of_a_carried_value_goes_to_where_it_was_seen():
    network = lw.Network([lw.Impute(1, fill=[9.0])])
    nan = np.nan
    x = np.array([nan, nan, 1.0, nan, 2.0, nan, nan])[:, np.newaxis, np.newaxis]
    tape = network.record(x)
    np.testing.assert_array_equal(tape.output[:, 0, 0], [9, 9, 1, 1, 2, 2, 2])
    weights = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])[:, np.newaxis, np.newaxis]
    grads = tape.backward(weights, (np.full((1, 1, 1), 128.0), np.ones((1, 1, 1))))
    np.testing.assert_array_equal(grads.x[:, 0, 0], [0, 0, 12, 0, 16 + 32 + 64 + 128, 0, 0])
    assert grads.state[0].item() == 3
    reset = np.array([0, 0, 0, 1, 0, 0, 1])[:, np.newaxis]
    grads = network.record(x, reset=reset).backward(weights)
    np.testing.assert_array_equal(grads.x[:, 0, 0], [0, 0, 4, 0, 16 + 32, 0, 0])


def test_a_carried_value_moves_towards_the_fill():
    layer = lw.Impute(2, fill=[8.0, -1.0], persistence=[0.5, 1.0])
    nan = np.nan
    x = np.array([[nan, nan], [0.0, 0.1], [nan, nan], [nan, nan], [nan, 0.3], [16.0, nan], [nan, nan]])
    expected = [[8, -1], [0, 0.1], [4, 0.1], [6, 0.1], [7, 0.3], [16, 0.3], [12, 0.3]]
    np.testing.assert_array_equal(layer(x), expected)
    tape = lw.Network([layer]).record(x[:, np.newaxis])
    np.testing.assert_array_equal(tape.state[0][0, 0], np.array([12, 0.3], "float32"))
    weights = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])[:, np.newaxis, np.newaxis] * np.ones(2)
    grads = tape.backward(weights, (np.full((1, 1, 2), 128.0), np.ones((1, 1, 2))))
    of_first = [0, 2 + 4 / 2 + 8 / 4 + 16 / 8, 0, 0, 0, 32 + (64 + 128) / 2, 0]
    of_second = [0, 2 + 4 + 8, 0, 0, 16 + 32 + 64 + 128, 0, 0]
    np.testing.assert_array_equal(grads.x[:, 0], np.stack([of_first, of_second], axis=-1))
    np.testing.assert_array_equal(grads.state[0][0, 0], [0.5, 1.0])


def test_a_persistence_of_one_carries_the_same_bits():
    x = with_gaps((50, 20, 3), 4, share=0.8)
    for dtype in DTYPES:
        plain = lw.Impute(3, fill=[0.3, 1e5, -0.7])(x.astype(dtype))
        given = lw.Impute(3, fill=[0.3, 1e5, -0.7], persistence=[1, 1, 1])(x.astype(dtype))
        assert given.tobytes() == plain.tobytes()
    assert lw.Impute(3, persistence=np.ones(3)).persistence == (1.0, 1.0, 1.0)
    assert lw.Impute(3).persistence is None


def test_the_gradient_of_sort_follows_the_values():
    network = lw.Network([lw.Scale([0] * 6, [1] * 6), lw.Sort(3)])
    x = np.array([3.0, 1.0, 2.0, 5.0, 5.0, np.nan]).reshape(1, 1, 6)
    tape = network.record(x)
    np.testing.assert_array_equal(tape.output.ravel(), [1, 2, 3, 5, 5, np.nan])
    grads = tape.backward(np.arange(1.0, 7.0).reshape(1, 1, 6))
    np.testing.assert_array_equal(grads.x.ravel(), [3, 1, 2, 4, 5, 6])


@pytest.mark.parametrize("checkpoint", [None, 3])
def test_checkpoints_and_no_input_gradient_change_no_bit(checkpoint):
    network = prepared("float32")
    x = table_of_inputs(10, 5, 12, "float32")
    plain = network.record(x).backward(np.ones((10, 5, 4)))
    grads = network.record(x, checkpoint=checkpoint).backward(np.ones((10, 5, 4)), input_gradient=False)
    assert grads.x is None
    assert grads.parameters.flat.tobytes() == plain.parameters.flat.tobytes()
    for pair, other in zip(grads.state, plain.state, strict=True):
        assert [part.tobytes() for part in pair] == [part.tobytes() for part in other]


def test_blocks_of_rows_are_what_machines_with_these_rows_add():
    network = prepared("float32")
    x = table_of_inputs(10, 12, 23, "float32")
    d_output = np.random.default_rng(1).standard_normal((10, 12, 4)).astype("float32")

    def gradient(rows, blocks):
        tape = network.record(x[:, rows], gradient_blocks=blocks)
        return tape.backward(d_output[:, rows]).parameters.flat

    halves = [gradient(slice(0, 6), 1), gradient(slice(6, 12), 1)]
    assert gradient(slice(0, 12), 2).tobytes() == (halves[0] + halves[1]).tobytes()
    assert gradient(slice(0, 12), 1).tobytes() != gradient(slice(0, 12), 2).tobytes()


# ---- Training.


def test_a_trainer_takes_missing_values_where_they_are_replaced():
    x = table_of_inputs(8, 6, 13, "float32")
    y = np.zeros((8, 6, 4))
    network = prepared("float32")
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(lr=0.01), seed=0)
    losses = [trainer.step(x, y)[0] for _ in range(30)]
    assert losses[-1] < losses[0]
    x[2, 3, 0] = np.inf
    with pytest.raises(ValueError, match="^x: expected finite numbers or NaN, got inf at step 2, row 3$"):
        trainer.step(x, y)
    lengths = np.array([8, 8, 8, 2, 8, 8])
    trainer.step(x, y, lengths=lengths)  # it lies in padding


@pytest.mark.parametrize(
    "layers",
    [
        [lw.Scale([0.0], [1.0]), lw.LSTM(1, 3)],
        [lw.Linear(1, 1), lw.Impute(1), lw.LSTM(1, 3)],
        [lw.LSTM(1, 3)],
    ],
    ids=["Scale", "Linear before Impute", "LSTM"],
)
def test_a_trainer_refuses_missing_values_elsewhere(layers):
    trainer = lw.Trainer(lw.Network(layers), "squared_error", lw.optim.Adam())
    x = np.zeros((4, 2, 1))
    x[1, 1] = np.nan
    with pytest.raises(ValueError, match="^x: expected finite numbers, got nan at step 1, row 1$"):
        trainer.step(x, np.zeros((4, 2, 3)))


def test_a_trainer_carries_values_from_window_to_window():
    x = table_of_inputs(12, 3, 14, share=0.8)
    network = prepared()
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.0))
    state = None
    for begin in (0, 4, 8):
        _, state = trainer.step(x[begin : begin + 4], np.zeros((4, 3, 4)), state)
    _, expected = network(x)
    for pair, other in zip(state, expected, strict=True):
        for part, values in zip(pair, other, strict=True):
            np.testing.assert_array_equal(part, values)


def test_training_gives_the_bits_of_a_recording():
    x = table_of_inputs(9, 40, 15, "float32")
    y = np.random.default_rng(0).standard_normal((9, 40, 4)).astype("float32")
    network = prepared("float32")
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.0), seed=0)
    trainer.gradient(x, y)
    tape = network.record(x)
    _, d_output = lw.losses.squared_error(tape.output, y)
    grads = tape.backward(d_output)
    assert trainer.gradients.flat.tobytes() == grads.parameters.flat.tobytes()


# ---- The norm of the gradient.


@pytest.mark.parametrize("clip_norm", [None, 1e-3])
def test_gradient_norm_is_that_before_clipping(clip_norm):
    network = prepared()
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam(), clip_norm=clip_norm)
    with pytest.raises(ValueError, match="^gradient_norm: expected a step before it, got <Trainer of Network"):
        _ = trainer.gradient_norm
    x, y = table_of_inputs(6, 4, 16), np.ones((6, 4, 4))
    trainer.gradient(x, y)
    expected = np.linalg.norm(trainer.gradients.flat)
    trainer.apply()
    assert isinstance(trainer.gradient_norm, float)
    assert trainer.gradient_norm == pytest.approx(expected, rel=1e-12)


def test_gradient_norm_of_members_and_of_a_step_that_is_refused():
    network = lw.Network([lw.LSTM(2, 3, seed=0), lw.Linear(3, 1)], members=3)
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam())
    trainer.gradient(np.ones((4, 2, 2)), np.ones((4, 2, 1)))
    flat = trainer.gradients.flat.reshape(3, -1).astype(float)
    trainer.apply()
    np.testing.assert_allclose(trainer.gradient_norm, np.linalg.norm(flat, axis=1), rtol=1e-6)
    trainer.gradient(np.ones((4, 2, 2)), np.ones((4, 2, 1)))
    trainer.gradients.flat[0] = np.inf
    with pytest.raises(RuntimeError, match="norm of the gradient of member 0"):
        trainer.apply()
    assert trainer.gradient_norm.tolist()[0] == np.inf


# ---- Bad input.


@pytest.mark.parametrize("code", [4.0, -1.0, 0.5, np.inf])
def test_codes_out_of_range_are_refused_before_any_work(code):
    network = prepared()
    x = table_of_inputs(5, 3, 17)
    x[3, 1, 1] = code
    message = f"^x: expected a code, an integer from 0 to 3, in column 1, got {code:g} at step 3, row 1$"
    before = network.state_dict()
    trainer = lw.Trainer(network, "squared_error", lw.optim.Adam())
    for call in (network, network.record):
        with pytest.raises(ValueError, match=message):
            call(x)
    if np.isfinite(code):
        with pytest.raises(ValueError, match=message):
            trainer.step(x, np.zeros((5, 3, 4)))
    assert all((network.state_dict()[name] == value).all() for name, value in before.items())
    network(x, lengths=[5, 3, 5])
    skip = np.zeros((5, 3), bool)
    skip[3, 1] = True
    network(x, skip=skip)
    stream = network.stream(3)
    state = stream.state
    with pytest.raises(ValueError, match=f"^x: expected a code, .* in column 1, got {code:g} in row 1$"):
        stream.step(x[3])
    for pair, other in zip(stream.state, state, strict=True):
        np.testing.assert_array_equal(pair[0], other[0])
    stream.step(x[3], skip=skip[3])


def test_a_missing_code_needs_an_impute_and_codes_are_read_as_scaled():
    network = lw.Network([lw.Scale([10.0], [2.0]), lw.EmbedColumns(1, [0], 3, 2), lw.LSTM(2, 3)])
    network(np.array([[[10.0]], [[10.5]], [[11.0]]]))
    for code in (11.5, 10.25, np.nan):
        with pytest.raises(ValueError, match=f"^x: expected a code, .* got {code} at step 0, row 0$"):
            network(np.array([[[code]]]))


def test_states_and_fills_hold_codes():
    network = prepared()
    output, state = network(table_of_inputs(4, 2, 18))
    state[0][0][0, 1, 1] = 2.5
    message = "expected a code, an integer from 0 to 3, in column 1, got 2.5 among the carried values of row 1$"
    with pytest.raises(ValueError, match=message):
        network(table_of_inputs(4, 2, 18), state)
    stream = network.stream(2)
    with pytest.raises(ValueError, match=message):
        stream.state = state
    with pytest.raises(
        ValueError, match=r"^layers\[0\].fill\[0\]: expected a code, an integer from 0 to 2, in column 0"
    ):
        lw.Network([lw.Impute(1, fill=[3.0]), lw.EmbedColumns(1, [0], 3, 2), lw.LSTM(2, 3)])


def test_constants_must_fit_the_dtype():
    with pytest.raises(ValueError, match=r"^layers\[0\].factor\[1\]: expected a number of at most 3.4.*e\+38, which"):
        lw.Network([lw.Scale([0, 0], [1, 1e300]), lw.LSTM(2, 3)])
    lw.Network([lw.Scale([0, 0], [1, 1e300]), lw.LSTM(2, 3, dtype="float64")])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: lw.Scale([[1.0]], [1.0]), ValueError, r"shift: expected \(features,\), got \(1, 1\)"),
        (lambda: lw.Scale(["a"], [1.0]), TypeError, "shift: expected real numbers"),
        (lambda: lw.Impute(2, "backward"), ValueError, 'method: expected one of forward, constant, got "backward"'),
        (lambda: lw.Impute(2.0), TypeError, "features: expected int"),
        (lambda: lw.Impute(2, indicators=[0.5]), TypeError, "indicators: expected integers"),
        (lambda: lw.EmbedColumns(2, 1, 3, 2), ValueError, r"columns: expected a sequence of features, got \(\)"),
        (lambda: lw.EmbedColumns(2, [1], True, 2), TypeError, "num_embeddings: expected integers"),
        (lambda: lw.Sort("2"), TypeError, "group: expected int"),
        (lambda: lw.Scale([1.0], [1.0])([[1.0, 2.0]]), ValueError, r"x: expected \(..., 1\), got \(1, 2\)"),
        (lambda: lw.Impute(1)(np.zeros((2, 2, 2, 1))), ValueError, r"x: expected \(T, N, 1\) or \(T, 1\)"),
        (lambda: lw.Impute(1)(np.zeros((2, 1)), [2]), ValueError, "lengths: expected None for unbatched"),
        (lambda: lw.EmbedColumns(2, [1], 3, 2)([1.0]), ValueError, r"x: expected \(..., 2\), got \(1,\)"),
        (lambda: lw.Sort(2)([1.0]), ValueError, r"x: expected \(..., a multiple of 2\), got \(1,\)"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_a_state_of_another_form_is_refused_by_name():
    network = prepared()
    x = table_of_inputs(4, 2, 18)
    _, state = network(x)
    with pytest.raises(ValueError, match="^state: expected 2 pairs, one for each LSTM and Impute, got 1$"):
        network(x, state[1:])
    with pytest.raises(ValueError, match=r"^state\[0\] value: expected \(1, 2, 3\), got \(1, 2, 5\)"):
        network(x, state[::-1])


# ---- Copies and files.


@pytest.mark.parametrize("method", ["forward", "constant"])
def test_files_and_copies_hold_the_whole_network(tmp_path, method):
    network = prepared(method=method)
    x = table_of_inputs(6, 3, 19)
    expected, _ = network(x)
    network.save(tmp_path / "model.safetensors")
    loaded = lw.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(network)
    for other in (loaded, copy.deepcopy(network), pickle.loads(pickle.dumps(network)), lw.Network.stack([network])):
        np.testing.assert_array_equal(other(x)[0], expected)


@pytest.mark.parametrize(
    "layer",
    [
        lw.Scale([0.1, 1 / 3], [3.0, -2.0]),
        lw.Impute(2),
        lw.Impute(2, "constant", [1.0, 2.0], [1]),
        lw.EmbedColumns(3, [2, 0], [4, 2], [3, 1]),
        lw.Sort(3),
    ],
    ids=repr,
)
def test_a_layer_alone_is_saved_copied_and_shown(tmp_path, layer):
    layer.save(tmp_path / "layer.safetensors")
    for other in (lw.load(tmp_path / "layer.safetensors"), copy.deepcopy(layer)):
        assert type(other) is type(layer)
        assert repr(other) == repr(layer)
        assert all((other.state_dict()[name] == value).all() for name, value in layer.state_dict().items())
    shown = eval(repr(layer), {name: getattr(lw, name) for name in ("Scale", "Impute", "EmbedColumns", "Sort")})
    assert repr(shown) == repr(layer)


# ---- What looks into networks.


def test_traces_and_explanations_of_networks_with_these_layers():
    network = prepared()
    x = table_of_inputs(9, 3, 20)
    trace = network.trace(x)
    np.testing.assert_array_equal(trace.output, network(x)[0])
    (value, age), (h_0, c_0) = trace.start
    np.testing.assert_array_equal(value, np.broadcast_to([0.25, 2.0, 0.0], (1, 3, 3)))
    assert not age.any()
    assert not h_0.any()
    assert not c_0.any()
    assert trace["3.l0"].cell.shape == (9, 3, 5)
    gates = network.record(x).backward(np.ones((9, 3, 4)), gates=True).gates
    assert gates["3.l0"].forget_gate.shape == (9, 3, 5)
    memory = lw.explain.memory(trace, 8, row=1)
    np.testing.assert_allclose(memory.terms.sum(axis=0) + memory.start, memory.cell, atol=1e-12)

    found = lw.explain.saliency(network, x, output=0)
    assert np.isfinite(found.times_input).all()
    assert not found.gradient[np.isnan(x)].any()
    with pytest.raises(ValueError, match="^module: expected one without EmbedColumns"):
        lw.explain.integrated_gradients(network, x, output=0)

    other = table_of_inputs(9, 3, 21)
    swapped = lw.explain.swap(network, x, other, [0, 1], 4)
    np.testing.assert_array_equal(swapped.output, network(x)[0][4:])
    state = network(x[:4])[1]
    of_other = network(other[:4])[1]
    for part, values in zip(state[1], of_other[1], strict=True):
        part[..., :2] = values[..., :2]
    np.testing.assert_array_equal(swapped.swapped, network(x[4:], state)[0])


def test_integrated_gradients_of_inputs_with_gaps_add_up():
    scale, impute = lw.Scale([1.0, 2.0], [2.0, 0.5]), lw.Impute(2, indicators=[0, 1])
    network = lw.Network(
        [scale, impute, lw.LSTM(6, 4, dtype="float64", seed=0), lw.Last(), lw.Linear(4, 1, dtype="float64")]
    )
    x = with_gaps((10, 3, 2), 22)
    found = lw.explain.integrated_gradients(network, x)
    assert not found.attributions[np.isnan(x)].any()
    difference = found.output - found.baseline_output
    np.testing.assert_allclose(found.attributions.sum(axis=(0, 2)), difference, atol=1e-9)
    np.testing.assert_allclose(found.output, network(x)[0][:, 0], atol=1e-12)
