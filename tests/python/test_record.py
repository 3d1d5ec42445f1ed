"""A recording acts as in training, and says which masks it drew."""

import copy
import pickle
import threading

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits
from layers import normal

X = normal(1, (6, 4, 3))


def dropping(seed=7):
    return lw.LSTM(3, 9, 2, dropout=0.5, recurrent_dropout=0.25, seed=seed)


def network_of(*seeds, members=1):
    return lw.Network([dropping(seeds[0]), lw.Last(), lw.Linear(9, 2, seed=seeds[1])], members)


def seeds_of(module, count=4):
    return [module.record(X).mask_seed for _ in range(count)]


def test_a_recording_drops_unless_it_is_told_not_to():
    lstm = dropping()
    called = lstm(X)[0]
    assert not np.array_equal(lstm.record(X).output, called)
    assert not np.array_equal(lstm.record(X, mask_seed=3).output, called)
    assert_same_bits(lstm.record(X, training=False).output, called)
    assert_same_bits(lstm.record(X, training=False, mask_seed=3).output, called)
    assert_same_bits(lstm.trace(X).output, called)


def test_zoneout_acts_at_random_in_a_recording():
    lstm = lw.LSTM(3, 9, zoneout=(0.5, 0.5), seed=1)
    assert not np.array_equal(lstm.record(X).output, lstm.record(X).output)
    assert_same_bits(lstm.record(X, training=False).output, lstm(X)[0])


def test_the_tape_says_which_masks_it_has():
    lstm = dropping()
    tape = lstm.record(X)
    assert isinstance(tape.mask_seed, int)
    assert_same_bits(lstm.record(X, mask_seed=tape.mask_seed).output, tape.output)
    assert lstm.record(X, mask_seed=5).mask_seed == 5
    assert lstm.record(X, training=False, mask_seed=5).mask_seed == 5
    assert lstm.record(X, training=False).mask_seed is None


def test_no_two_recordings_have_the_same_masks():
    seeds = seeds_of(dropping(), 100)
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) > 2**32


def test_recordings_that_draw_nothing_do_not_count():
    one, other = dropping(), dropping()
    one.record(X, training=False)
    one.record(X, mask_seed=3)
    one.trace(X)
    assert seeds_of(one) == seeds_of(other)


def test_a_seeded_loop_gives_the_same_again():
    def loop():
        network = network_of(3, 4)
        optimizer = lw.optim.Adam(network, lr=0.01)
        for _ in range(5):
            tape = network.record(X)
            optimizer.step(tape.backward(tape.output))
        return network.state_dict()

    assert_same_bits(loop(), loop())


def test_masks_follow_from_the_seed():
    assert seeds_of(dropping(7)) == seeds_of(dropping(7))
    assert seeds_of(dropping(7)) != seeds_of(dropping(8))
    assert seeds_of(dropping(None)) != seeds_of(dropping(None))
    assert seeds_of(network_of(1, 2)) == seeds_of(network_of(1, 2))
    assert len({tuple(seeds_of(network_of(*seeds))) for seeds in ((1, 2), (2, 1), (1, 3), (None, 2), (1, None))}) == 5
    assert seeds_of(network_of(1, None)) != seeds_of(network_of(1, None))
    assert seeds_of(network_of(1, 2, members=3)) == seeds_of(network_of(1, 2))


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("module", [dropping(), network_of(1, 2), network_of(1, 2, members=2)], ids=repr)
def test_copies_continue_the_count(module, clone):
    seeds_of(module, 3)
    other = clone(module)
    assert seeds_of(other) == seeds_of(module)
    member = network_of(1, 2, members=2).member(1)
    assert seeds_of(member) == seeds_of(network_of(1, 2))


def test_a_file_does_not_hold_the_count(tmp_path):
    lstm = dropping()
    lstm.save(tmp_path / "model.safetensors")
    loaded = [lw.load(tmp_path / "model.safetensors") for _ in range(2)]
    assert len({tuple(seeds_of(module)) for module in (lstm, *loaded)}) == 3


def test_a_layer_draws_from_its_network():
    network, other = network_of(1, 2), network_of(1, 2)
    expected = seeds_of(other, 2)
    assert [network.record(X).mask_seed, network[0].record(X).mask_seed] == expected


def test_joined_networks_continue_the_first_ones_count():
    network, other = network_of(1, 2), network_of(3, 4)
    seeds_of(network, 2)
    joined = lw.Network.stack([network, other])
    assert seeds_of(joined) == seeds_of(network)


def test_threads_draw_different_masks():
    lstm, drawn = dropping(), [[], [], []]
    threads = [threading.Thread(target=lambda own=own: own.extend(seeds_of(lstm, 200))) for own in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    seeds = [seed for own in drawn for seed in own]
    assert len(seeds) == 600
    assert sorted(seeds) == sorted(seeds_of(dropping(), 600))
