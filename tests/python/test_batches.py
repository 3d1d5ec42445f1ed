"""Batches of whole sequences: each sample once an epoch, bucketed by length, in an order that can be replayed."""

import hashlib
import time

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_close, assert_same_bits
from latchwork.estimators.data.batches import IDLE_SHARE, SequenceBatches, epoch_seed, split_bounds
from latchwork.estimators.data.inputs import read_fit
from latchwork.estimators.data.targets import class_targets, regression_targets


def lengths_of(kind, count=1000, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return rng.integers(7, 30, count)
    if kind == "skewed":
        return np.minimum(rng.pareto(1.2, count) * 10 + 1, 3000).astype(int)
    if kind == "two":
        return rng.choice([5, 100], count)
    if kind == "short":
        return rng.integers(0, 3, count)
    return np.full(count, 6)


def batches_of(lengths, batch_size, seed=5, **options):
    X = [np.full((length, 1), sample, np.float32) for sample, length in enumerate(lengths)]
    sequences, _, layout = read_fit(X)
    return SequenceBatches(
        sequences, regression_targets(np.arange(len(X)), layout, per_step=False), batch_size, seed, **options
    )


def padded_steps(batches, epoch):
    return sum(batch.x.shape[0] * batch.x.shape[1] for batch in batches.batches(epoch))


KINDS = ["uniform", "skewed", "two", "short", "equal"]


class TestBuckets:
    @pytest.mark.parametrize("batch_size", [1, 7, 32, 999, 5000])
    @pytest.mark.parametrize("kind", KINDS)
    def test_at_most_a_tenth_is_padding(self, kind, batch_size):
        lengths = lengths_of(kind)
        batches = batches_of(lengths, batch_size)
        for epoch in (0, 1, 7):
            idle = 1 - lengths.sum() / padded_steps(batches, epoch)
            assert idle <= IDLE_SHARE

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_sample_comes_once_with_what_is_its_own(self, kind, shuffle):
        lengths = lengths_of(kind, 100)
        batches = batches_of(lengths, 7, shuffle=shuffle)
        seen = []
        made = list(batches.batches(3))
        for batch in made:
            steps, rows = batch.x.shape[:2]
            assert batch.count == rows == len(batch.samples) <= 7
            own = lengths[batch.samples]
            assert (batch.lengths is None) == (len(set(own.tolist())) == 1)
            assert steps == own.max()
            valid = np.arange(steps)[:, np.newaxis] < own
            assert_same_bits(batch.x[..., 0], np.where(valid, batch.samples, 0).astype(np.float32))
            assert_same_bits(batch.y, batch.samples[:, np.newaxis].astype(np.float32))
            assert (batch.weights, batch.continues) == (None, False)
            seen += batch.samples.tolist()
        assert len(made) == batches.steps()
        assert sorted(seen) == list(range(100))
        assert (seen == sorted(seen)) == (not shuffle)

    @pytest.mark.parametrize("kind", ["uniform", "equal"])
    def test_only_the_last_batch_is_short(self, kind):
        for epoch in range(3):
            sizes = [len(samples) for samples in batches_of(lengths_of(kind, 1003), 20).samples(epoch)]
            assert sizes == [20] * 50 + [3]

    def test_no_more_is_sorted_than_is_needed(self):
        batches = batches_of(lengths_of("uniform", 2000), 20)
        different = [len(set(batches.sequences.lengths[samples])) for samples in batches.samples(0)]
        assert np.mean(different) > 3  # sorting all samples would leave one or two lengths in each
        batches = batches_of([9, 10] * 100, 10)
        assert batches._group == 1
        for batch in batches.batches(0):
            assert len({*batch.samples.tolist()} & set(range(0, 200, 2))) not in (0, 10)  # both lengths in each

    def test_order_of_batches_does_not_follow_length(self):
        longest = [batch.x.shape[0] for batch in batches_of(lengths_of("uniform", 2000), 20).batches(0)]
        assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.5

    def test_batches_are_split_where_sorting_does_not_suffice(self):
        lengths = [1, 2, 4, 8, 16, 32, 64, 128]
        batches = batches_of(lengths, 8)
        assert batches.steps() == len(batches.samples(0)) == 5
        assert 1 - sum(lengths) / padded_steps(batches, 0) <= IDLE_SHARE
        assert sorted(map(len, batches.samples(0))) == [1, 1, 1, 1, 4]

    def test_splits_save_most(self):
        lengths = np.array([1, 1, 1, 10, 10, 10])
        assert split_bounds(lengths, np.array([0, 6]), 0.1).tolist() == [0, 3, 6]
        assert split_bounds(lengths, np.array([0, 6]), 0.9).tolist() == [0, 6]
        assert split_bounds(np.zeros(6, int), np.array([0, 6]), 0.0).tolist() == [0, 6]


class TestOrder:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_depends_on_seed_epoch_and_data_alone(self, kind):
        lengths = lengths_of(kind, 300)

        def order(epoch, seed=5, used=()):
            batches = batches_of(lengths, 20, seed)
            for each in used:
                list(batches.batches(each))
            return np.concatenate(batches.samples(epoch)).tolist()

        assert order(3) == order(3, used=(0, 1, 2, 9))
        assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in (5, 6)}) == 6

    @pytest.mark.parametrize("kind", KINDS)
    def test_any_part_of_an_epoch_can_be_replayed(self, kind):
        batches = batches_of(lengths_of(kind, 300), 20)
        whole = list(batches.batches(2))
        for first in (0, 1, len(whole) - 1, len(whole)):
            part = list(batches.batches(2, first))
            assert len(part) == len(whole) - first
            for one, other in zip(part, whole[first:], strict=True):
                assert_same_bits(one.x, other.x)
                assert_same_bits(one.samples, other.samples)

    def test_the_same_for_ever(self):
        ragged = np.concatenate(batches_of([1, 2, 3, 4, 5, 6, 7, 8] * 4, 4).samples(1))
        digest = hashlib.sha256(ragged.astype("<i8").tobytes()).hexdigest()
        assert digest == "a92d7bf7d48d77a3ad229080ddc238378fc68f42dbd94b0a361f5d1a1e67c0f6"
        assert np.concatenate(batches_of([3] * 8, 4).samples(1)).tolist() == [2, 6, 1, 0, 7, 4, 3, 5]
        assert epoch_seed(0, 0) == 4718526280363117549

    def test_all_orders_are_equally_likely(self):
        firsts = [batches_of([1] * 4, 4).samples(epoch)[0][0] for epoch in range(400)]
        counts = np.bincount(firsts)
        assert counts.min() > 70
        assert len(counts) == 4


class TestTargets:
    def test_for_steps(self):
        X = [np.ones((length, 2)) for length in (3, 1, 2)]
        sequences, _, layout = read_fit(X)
        targets = class_targets([["a", "b", "a"], ["b"], ["a", "b"]], layout, per_step=True, class_weight={"b": 3})
        (batch,) = SequenceBatches(sequences, targets, 3, 0, shuffle=False).batches(0)
        assert batch.y.T.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
        assert batch.y.dtype == np.int64
        assert batch.weights.T.tolist() == [[1, 3, 1], [3, 0, 0], [1, 3, 0]]
        assert batch.lengths.tolist() == [3, 1, 2]

    def test_number(self):
        sequences, _, _ = read_fit(np.ones((3, 2)))
        targets = regression_targets([1, 2], read_fit(np.ones((2, 2)))[2], per_step=False)
        with pytest.raises(ValueError, match="targets: expected those of 3 samples, got 2"):
            SequenceBatches(sequences, targets, 2, 0)

    @pytest.mark.parametrize("ragged", [False, True])
    @pytest.mark.parametrize("per_step", [False, True])
    def test_a_trainer_takes_them(self, ragged, per_step):
        """The loss of an epoch is that of each sample alone, weighted."""
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, 9, 30) if ragged else np.full(30, 6)
        X = [rng.normal(size=(length, 3)) for length in lengths]
        y = [rng.normal(size=(length, 2)) if per_step else rng.normal(size=2) for length in lengths]
        (y[4][1:] if per_step else y[4])[...] = np.nan
        weights = rng.uniform(0.5, 2, 30)
        sequences, _, layout = read_fit(X, dtype="float64")
        targets = regression_targets(y, layout, per_step=per_step, dtype="float64", sample_weight=weights)
        head = [] if per_step else [lw.Last()]
        network = lw.Network([lw.LSTM(3, 4, dtype="float64", seed=1), *head, lw.Linear(4, 2, dtype="float64", seed=2)])
        trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.0))
        total = weight = 0.0
        for batch in SequenceBatches(sequences, targets, 8, 0).batches(0):
            share = batch.weights.sum()
            loss, _ = trainer.step(batch.x, batch.y, lengths=batch.lengths, weights=batch.weights)
            total += loss * share
            weight += share
        expected = counted = 0.0
        for each, target, own in zip(X, y, weights, strict=True):
            output, _ = network(each)
            error = (output - target) ** 2
            known = ~np.isnan(error)
            expected += own * error[known].sum() / 2
            counted += own * known.sum() / 2
        assert_close(total / weight, expected / counted, 1e-12)


def test_the_digest_is_that_of_the_data():
    def digest(batches):
        found = hashlib.sha256()
        batches.feed(found.update)
        return found.hexdigest()

    assert digest(batches_of([3, 4], 2)) == digest(batches_of([3, 4], 2, seed=9))
    assert digest(batches_of([3, 4], 2)) != digest(batches_of([4, 3], 2))


@pytest.mark.parametrize("ragged", [False, True])
def test_making_a_batch_costs_little(ragged):
    """Beside a copy of the same size: 256 sequences of 365 steps of 8 features."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(330, 366, 2000) if ragged else np.full(2000, 365)
    values = np.ones((365 * 2000, 8), np.float32)
    X = np.split(values[: lengths.sum()], np.cumsum(lengths)[:-1]) if ragged else values.reshape(2000, 365, 8)
    sequences, _, layout = read_fit(X)
    batches = SequenceBatches(sequences, regression_targets(np.zeros(2000), layout, per_step=False), 256, 0)
    samples = batches.samples(0)[0]
    seconds = {"batch": [], "copy": []}
    for _ in range(30):
        for name, call in (("batch", lambda: sequences.batch(samples)), ("copy", lambda: values[: 365 * 256].copy())):
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    assert min(seconds["batch"]) - min(seconds["copy"]) < 1e-3
