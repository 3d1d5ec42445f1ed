"""Truncated backpropagation: long sequences are read whole, each step once, with the state carried between windows."""

import gc
import itertools

import latchwork as lw
import numpy as np
import pytest
from latchwork.estimators.data.sources import ArraySource, PieceSource, array_source, mappings
from latchwork.estimators.data.windows import PieceWindows, Windows, real_targets, window_bounds
from latchwork.estimators.runs.fit_loop import FitLoop, Run

LENGTHS = [[400], [1], [7, 300, 0, 31, 17], [64, 64, 64], [0, 5], [33] * 40]


def numbered(lengths, features=2, targets=1):
    """Sequences whose steps have different numbers."""
    total = sum(lengths)
    steps = np.arange(1, total + 1, dtype=np.float64)
    x = np.stack([steps + feature / 8 for feature in range(features)], axis=1)
    y = np.stack([-steps - target / 8 for target in range(targets)], axis=1)
    cuts = np.cumsum(lengths)[:-1]
    return np.split(x, cuts), np.split(y, cuts)


def random_sequences(lengths, features=2, targets=1, seed=0):
    random = np.random.RandomState(seed)
    return [random.standard_normal((length, features)) for length in lengths], [
        random.standard_normal((length, targets)) for length in lengths
    ]


def windows_of(x, y, weights=None, **options):
    options = {"window": 5, "batch_size": 4, "encode": real_targets("float64"), "dtype": "float64"} | options
    return Windows(array_source(x, y, weights), **options)


def network_of(features=2, targets=1, **options):
    return lw.Network(
        [lw.LSTM(features, 6, seed=1, dtype="float64", **options), lw.Linear(6, targets, seed=2, dtype="float64")]
    )


def steps_of(batch):
    """Which steps of the batch count: (T, N)."""
    steps, rows = batch.x.shape[:2]
    lengths = np.full(rows, steps) if batch.lengths is None else batch.lengths
    return np.arange(steps)[:, np.newaxis] < lengths


def assert_same(batch, other):
    for name in batch.__dataclass_fields__:
        np.testing.assert_equal(getattr(batch, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_every_step_is_read_once_in_each_epoch_and_nothing_idles(lengths, batch_size, shuffle):
    x, y = numbered(lengths)
    total = sum(lengths)
    for window in (1, 3, 1000):
        data = windows_of(x, y, window=window, batch_size=batch_size, shuffle=shuffle, seed=3)
        for epoch in range(2):
            batches = list(data.batches(epoch))
            assert len(batches) == data.steps()
            read = np.concatenate([batch.x[steps_of(batch)] for batch in batches])
            targets = np.concatenate([batch.y[steps_of(batch)] for batch in batches])
            np.testing.assert_array_equal(read[:, 0], -targets[:, 0])
            np.testing.assert_array_equal(np.sort(read[:, 0]), np.arange(1, total + 1))
            np.testing.assert_array_equal(read[:, 1], read[:, 0] + 1 / 8)
            assert sum(batch.count for batch in batches) == total
            assert [batch.continues for batch in batches] == [number > 0 for number in range(len(batches))]
            assert all(len(batch.x) <= window for batch in batches)
            rows = batches[0].x.shape[1]
            assert rows == min(batch_size, max(total // (window * 16), 1))
            assert sum(batch.x.shape[0] * rows for batch in batches) - total < rows


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_state_restarts_where_a_sequence_begins_and_nowhere_else(lengths, shuffle):
    x, y = numbered(lengths)
    firsts = {float(each[0, 0]) for each in x if len(each)}
    for window in (1, 3, 8):
        batches = list(windows_of(x, y, window=window, shuffle=shuffle, seed=5).batches(1))
        lanes = np.concatenate([np.where(steps_of(batch), batch.x[..., 0], 0) for batch in batches])
        reset = np.concatenate(
            [np.zeros(batch.x.shape[:2], bool) if batch.reset is None else batch.reset for batch in batches]
        )
        for lane, restarts in zip(lanes.T, reset.T, strict=True):
            assert not restarts[0]  # that of the first step is no carried state at all
            for step in range(1, len(lane)):
                assert restarts[step] == (lane[step] in firsts)
                assert restarts[step] or lane[step] in (0, lane[step - 1] + 1)


def test_samples_are_the_sequences_that_a_batch_reads():
    lengths = [7, 300, 0, 31, 17]
    x, y = numbered(lengths)
    ends = np.cumsum(lengths)
    for batch in windows_of(x, y, window=1, batch_size=3, shuffle=True).batches(0):
        read = np.unique(np.searchsorted(ends, batch.x[0, steps_of(batch)[0], 0], side="left"))
        assert batch.samples == read.tolist()


@pytest.mark.parametrize("learn_start_state", [False, True])
def test_windows_give_what_whole_sequences_give(learn_start_state):
    """With a learning rate of 0 the losses of the windows are those of each lane's sequences, run one by one."""
    lengths = [40, 7, 1, 77, 0, 13]
    x, y = random_sequences(lengths)
    network = network_of(learn_start_state=learn_start_state)
    if learn_start_state:
        with network.edit() as parameters:
            for name in ("0.h_0_l0", "0.c_0_l0"):
                parameters[name][...] = 0.3
    trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.0))
    data = windows_of(x, y, window=4, batch_size=2)
    total, count, state = 0.0, 0, None
    for batch in data.batches(0):
        loss, state = trainer.step(
            batch.x, batch.y, state if batch.continues else None, batch.lengths, batch.reset, batch.weights
        )
        total += loss * batch.count
        count += batch.count
    # The two lanes are cut at half of all steps, which is within the sequence of 77.
    half = sum(lengths) // 2
    cut = half - 48
    pieces = [*itertools.chain(x[:3], [x[3][:cut], x[3][cut:]], x[4:])]
    targets = [*itertools.chain(y[:3], [y[3][:cut], y[3][cut:]], y[4:])]
    expected = [
        ((network(each)[0] - target) ** 2).sum() for each, target in zip(pieces, targets, strict=True) if len(each)
    ]
    np.testing.assert_allclose(total / count, sum(expected) / sum(lengths), rtol=1e-12)
    end = network(x[5])[1]
    for part, own in zip(state, end, strict=True):
        np.testing.assert_array_equal(part[:, 1], own)


def test_a_window_over_everything_has_the_gradient_of_the_whole_sequence():
    x, y = random_sequences([57])
    whole, cut, short = network_of(), network_of(), network_of()
    trainers = [lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.1)) for network in (whole, cut, short)]
    trainers[0].step(x[0][:, np.newaxis], y[0][:, np.newaxis])
    for trainer, window in zip(trainers[1:], (57, 19), strict=True):
        FitLoop(Run(trainer=trainer, data=windows_of(x, y, window=window), max_epochs=1, lr_schedule="constant")).run()
    for name, value in whole.parameters.items():
        np.testing.assert_array_equal(cut.parameters[name], value)
    assert not np.array_equal(short.parameters["1.weight"], whole.parameters["1.weight"])


def test_a_fit_is_the_plain_loop_over_windows():
    x, y = random_sequences([501, 33, 208])
    network, expected = network_of(), network_of()
    data = windows_of(x, y, window=4, shuffle=True, seed=9)
    loop = FitLoop(
        Run(
            trainer=lw.Trainer(network, "squared_error", lw.optim.AdamW(lr=0.01)),
            data=data,
            max_epochs=3,
            lr_schedule="constant",
        )
    )
    loop.run()
    trainer = lw.Trainer(expected, "squared_error", lw.optim.AdamW(lr=0.01))
    for epoch in range(3):
        state = None
        for batch in data.batches(epoch):
            _, state = trainer.step(batch.x, batch.y, state, batch.lengths, batch.reset, batch.weights)
    for name, value in expected.parameters.items():
        np.testing.assert_array_equal(network.parameters[name], value)
    assert [row["steps"] for row in loop.history] == [742, 1484, 2226]


def test_order_depends_on_the_seed_and_the_epoch_alone():
    x, y = numbered([30 + length for length in range(20)])
    data = windows_of(x, y, window=3, shuffle=True, seed=1)
    again = windows_of([each.astype("f4") for each in x], y, window=3, shuffle=True, seed=1)
    list(data.batches(0))
    for batch, other in zip(data.batches(2), again.batches(2), strict=True):
        assert_same(batch, other)
    first = next(data.batches(2)).x
    assert not np.array_equal(first, next(data.batches(1)).x)
    other_seed = windows_of(x, y, window=3, shuffle=True, seed=2)
    assert not np.array_equal(first, next(other_seed.batches(2)).x)
    in_order = windows_of(x, y, window=3, seed=1)
    assert [next(in_order.batches(epoch)).x[0, 0, 0] for epoch in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("first", [0, 1, 5, 41])
def test_an_epoch_can_be_read_from_any_batch_on(first):
    x, y = numbered([30 + length for length in range(20)])
    data = windows_of(x, y, window=3, shuffle=True, seed=1)
    batches = list(data.batches(1))
    rest = list(data.batches(1, first))
    assert len(rest) == len(batches) - first > 0
    for batch, other in zip(batches[first:], rest, strict=True):
        assert_same(batch, other)


def test_gaps_and_weights_of_targets():
    x, y = random_sequences([50, 23], targets=2)
    weights = [np.random.RandomState(3).uniform(size=len(each)) for each in y]
    y[0][10:12, 1] = np.nan
    y[1][4] = np.nan
    batches = list(windows_of(x, y, weights, window=4, batch_size=1).batches(0))
    values = np.concatenate([batch.y[:, 0] for batch in batches])
    read = np.concatenate(
        [np.broadcast_to(batch.weights[:, 0].reshape(len(batch.x), -1), (len(batch.x), 2)) for batch in batches]
    )
    np.testing.assert_array_equal(values, np.concatenate(y))
    expected = np.concatenate(weights)[:, np.newaxis] * ~np.isnan(np.concatenate(y))
    np.testing.assert_array_equal(read, expected)
    unweighted = list(windows_of(x, y, window=4, batch_size=3).batches(0))
    assert any(batch.weights is None for batch in unweighted)
    known = np.concatenate([batch.weights[~np.isnan(batch.y)] for batch in unweighted if batch.weights is not None])
    assert (known == 1).all()
    assert all((batch.weights[np.isnan(batch.y)] == 0).all() for batch in unweighted if batch.weights is not None)


def test_labels():
    x, _ = random_sequences([20, 9])
    y = [np.arange(20) % 3, np.arange(9) % 3]
    data = windows_of(x, y, encode=lambda labels: (labels.astype(np.int64), None), window=4, batch_size=1)
    batches = list(data.batches(0))
    assert [batch.y.shape for batch in batches] == [batch.x.shape[:2] for batch in batches]
    np.testing.assert_array_equal(np.concatenate([batch.y[:, 0] for batch in batches]), np.concatenate(y))


def test_memory_mapped_files_are_read_part_by_part(tmp_path):
    steps = 100_000
    x = np.memmap(tmp_path / "x.bin", np.float32, "w+", shape=(1, steps, 3))
    y = np.memmap(tmp_path / "y.bin", np.float64, "w+", shape=(1, steps))
    x[...] = np.random.RandomState(0).standard_normal(x.shape)
    y[...] = x.sum(axis=2)
    plain = windows_of(np.array(x), np.array(y), window=50, batch_size=8)
    data = windows_of(x, y, window=50, batch_size=8)
    for batch, other in itertools.islice(zip(data.batches(0), plain.batches(0), strict=True), 20):
        assert_same(batch, other)
    np.testing.assert_array_equal(y[0], x[0].sum(axis=1))  # what was unmapped is read again


def test_maps_that_hold_changes_in_memory_alone_stay_mapped(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1, 1000, 2), np.float32))
    for mode, found in (("r", 1), ("r+", 1), ("c", 0)):
        x = np.load(path, mmap_mode=mode)
        assert len(mappings([x, x[0], np.asarray(x)[0, ::2], x.T])) == found
    x[0, 500] = 1  # in a copy of the page
    source = ArraySource([x[0]], [np.zeros(1000)])
    source.release()
    assert x[0, 500, 0] == 1
    assert mappings([np.zeros(3), np.zeros((2, 2))[0]]) == []
    del source, x
    gc.collect()


PIECES = [[200], [7, 31, 1, 0, 17, 144], [1] * 30, [5, 5, 5], [64, 64]]


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("pieces", PIECES)
def test_pieces_are_joined_and_cut_to_windows(pieces, rows):
    total = sum(pieces)
    random = np.random.RandomState(0)
    lead = () if rows is None else (rows,)
    x, y = random.standard_normal((*lead, total, 2)), random.standard_normal((*lead, total))
    axis = len(lead)

    def make():
        cuts = np.cumsum(pieces)[:-1]
        return zip(np.split(x, cuts, axis), np.split(y, cuts, axis), strict=True)

    for source in (PieceSource(make), PieceSource(iter(make()))):
        data = PieceWindows(source, window=16, encode=real_targets("float64"), dtype="float64")
        batches = list(data.batches(0))
        assert [len(batch.x) for batch in batches] == [16] * (total // 16) + [total % 16] * (total % 16 > 0)
        assert [batch.continues for batch in batches] == [number > 0 for number in range(len(batches))]
        assert [batch.count for batch in batches] == [len(batch.x) * (rows or 1) for batch in batches]
        read = np.concatenate([batch.x for batch in batches])
        np.testing.assert_array_equal(read, x[:, np.newaxis] if rows is None else x.swapaxes(0, 1))
        targets = np.concatenate([batch.y for batch in batches])[..., 0]
        np.testing.assert_array_equal(targets, y[:, np.newaxis] if rows is None else y.swapaxes(0, 1))
    data = PieceWindows(PieceSource(make), window=16, encode=real_targets("float64"), dtype="float64", length=total)
    assert data.steps() == len(batches)
    for first in range(len(batches) + 1):
        rest = list(data.batches(3, first))
        assert len(rest) == len(batches) - first
        for batch, other in zip(rest, batches[first:], strict=True):
            assert_same(batch, other)


def test_pieces_train_as_one_whole_array_does():
    x, y = random_sequences([203])
    pieces = PieceSource(lambda: ((x[0][at : at + 29], y[0][at : at + 29]) for at in range(0, 203, 29)))
    network, expected = network_of(), network_of()
    data = PieceWindows(pieces, window=203, encode=real_targets("float64"), dtype="float64")
    assert data.steps() is None
    whole = windows_of(x, y, window=203)
    for each, source in ((network, data), (expected, whole)):
        trainer = lw.Trainer(each, "squared_error", lw.optim.SGD(lr=0.1))
        FitLoop(Run(trainer=trainer, data=source, max_epochs=4, lr_schedule="constant")).run()
    for name, value in expected.parameters.items():
        np.testing.assert_array_equal(network.parameters[name], value)


def test_pieces_of_labels_and_gaps():
    x = np.zeros((30, 1))
    labels = np.arange(30) % 4
    data = PieceWindows(
        PieceSource(lambda: [(x[:, 0], labels)]), window=7, encode=lambda y: (y.astype(np.int64), None), dtype="float32"
    )
    np.testing.assert_array_equal(np.concatenate([batch.y[:, 0] for batch in data.batches(0)]), labels)
    y = np.where(labels == 2, np.nan, labels)
    data = PieceWindows(PieceSource(lambda: [(x, y)]), window=15, encode=real_targets("float32"), dtype="float32")
    for batch in data.batches(0):
        np.testing.assert_array_equal(batch.weights, ~np.isnan(batch.y))
        assert batch.x.dtype == batch.weights.dtype == np.float32


def hashed(data):
    fed = []
    data.feed(lambda each: fed.append(bytes(each)))
    return b"".join(fed)


def test_a_hash_sees_every_value_dtype_and_length():
    x, y = random_sequences([30, 12])
    weights = [np.ones(30), np.ones(12)]
    reference = hashed(windows_of(x, y, weights))
    assert hashed(windows_of(x, y, weights, window=9, seed=4)) == reference
    changed_x, changed_y = [each.copy() for each in x], [each.copy() for each in y]
    changed_x[1][5, 1] += 1e-9
    changed_y[0][29] += 1e-9
    changed_weights = [np.ones(30), np.where(np.arange(12) == 3, 2.0, 1.0)]
    others = [
        windows_of(changed_x, y, weights),
        windows_of(x, changed_y, weights),
        windows_of(x, y, changed_weights),
        windows_of(x, y),
        windows_of([each.astype("f4") for each in x], y, weights),
        windows_of([np.concatenate(x)], [np.concatenate(y)], [np.ones(42)]),
    ]
    fed = [hashed(each) for each in others]
    assert reference not in fed
    assert len(set(fed)) == len(fed)


def test_a_hash_of_pieces():
    x, y = random_sequences([30])

    def data(change):
        return PieceWindows(
            PieceSource(lambda: [(x[0][:9], y[0][:9]), (x[0][9:] + change, y[0][9:])]),
            window=5, encode=real_targets("float64"), dtype="float64",
        )  # fmt: skip

    assert hashed(data(0.0)) == hashed(data(0.0)) != hashed(data(1e-9))
    once = PieceWindows(PieceSource(iter([])), window=5, encode=real_targets("float64"), dtype="float64")
    with pytest.raises(ValueError, match="X: expected something that can be read again, for a certificate"):
        hashed(once)


@pytest.mark.parametrize(
    ("x", "y", "weights", "error", "message"),
    [
        ([], [], None, ValueError, "X: expected at least one sequence, got none"),
        (np.zeros(3), np.zeros(3), None, ValueError, r"X: expected \(n, T\) or \(n, T, features\) or a list"),
        (np.zeros((0, 3, 1)), np.zeros((0, 3)), None, ValueError, "or a list, got"),
        ([np.zeros((3, 1, 1))], [np.zeros(3)], None, ValueError, r"X\[0\]: expected \(T,\) or \(T, features\), got"),
        ([["a", "b"]], [np.zeros(2)], None, TypeError, r"X\[0\]: expected real numbers, got dtype <U1"),
        ([np.zeros((3, 1)), np.zeros((3, 2))], [np.zeros(3)] * 2, None, ValueError, r"X\[1\]: expected 1 features"),
        ([np.zeros((3, 1))], [np.zeros(3)] * 2, None, ValueError, "y: expected 1 sequences, as X has, got 2"),
        ([np.zeros((3, 1))], [np.zeros(4)], None, ValueError, r"y\[0\]: expected 3 steps, as X\[0\] has, got 4"),
        ([np.zeros(3)], [np.zeros(3)], [np.zeros((3, 1))], ValueError, r"sample_weight\[0\]: expected \(T,\), got"),
        ([np.zeros(3)] * 2, [np.zeros(3), np.zeros((3, 2))], None, ValueError, r"y\[1\]: expected \(T,\), as"),
        ([np.zeros((0, 1))], [np.zeros(0)], None, ValueError, "X: expected at least one step, got none"),
        (np.zeros((9, 2)), np.zeros(9), None, ValueError, r"one long sequence of 9 steps, pass \[X\] and \[y\]"),
        (np.zeros((9, 2)), np.zeros((9, 1)), None, ValueError, r"one long sequence of 9 steps"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(x, y, weights, error, message):
    with pytest.raises(error, match=message):
        array_source(x, y, weights)


@pytest.mark.parametrize(
    ("pieces", "error", "message"),
    [
        ([np.zeros((3, 2))], TypeError, r"X: expected pieces \(x, y\), got ndarray as piece 0"),
        ([(np.zeros(3),)], TypeError, "got tuple as piece 0"),
        ([(np.zeros((1, 1, 1, 1)), np.zeros(1))], ValueError, r"X, piece 0: expected \(T, features\), \(T,\) or"),
        ([(["a"], [1.0])], TypeError, "X, piece 0: expected real numbers"),
        ([(np.zeros((3, 2)), np.zeros(4))], ValueError, r"y, piece 0: expected \(3,\) or \(3, targets\), got \(4,\)"),
        ([(np.zeros((3, 2)), np.zeros((3, 1, 1)))], ValueError, "y, piece 0: expected"),
        ([(np.zeros((2, 3, 2)), np.zeros((3, 2)))], ValueError, "y, piece 0: expected"),
        ([(np.zeros((3, 2)), np.zeros(3)), (np.zeros((3, 1)), np.zeros(3))], ValueError,
         r"X, piece 1: expected 1 row\(s\) and 2 feature\(s\), as the first piece has, got 1 and 1"),
        ([(np.zeros((3, 2)), np.zeros(3)), (np.zeros((4, 3, 2)), np.zeros((4, 3)))], ValueError, "got 4 and 2"),
        ([(np.zeros((3, 2)), np.zeros(3)), (np.zeros((3, 2)), np.zeros((3, 1)))], ValueError,
         "y, piece 1: expected the targets of the first piece"),
    ],
)  # fmt: skip
def test_pieces_that_do_not_fit_are_refused(pieces, error, message):
    data = PieceWindows(PieceSource(iter(pieces)), window=9, encode=real_targets("float64"), dtype="float64")
    with pytest.raises(error, match=message):
        list(data.batches(0))


def test_an_iterator_is_read_only_once():
    data = PieceWindows(
        PieceSource(iter([(np.zeros(9), np.zeros(9))])), window=4, encode=real_targets("float64"), dtype="float64"
    )
    assert len(list(data.batches(0))) == 3
    with pytest.raises(ValueError, match="pass a function that returns a fresh one"):
        list(data.batches(1))


def test_bounds_of_windows_differ_by_one_at_most():
    for steps in range(1, 40):
        for window in range(1, 45):
            sizes = np.diff(window_bounds(steps, window))
            assert sizes.sum() == steps
            assert sizes.max() <= window
            assert sizes.max() - sizes.min() <= 1
            assert len(sizes) == -(-steps // window)
