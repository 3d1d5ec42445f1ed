"""The programs in docs/examples that repeat the experiments of papers; test_examples.py has the adding problem."""

import importlib
import random
import re
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

# Reber's grammar as a regular expression.
REBER = "B(?:TS*X(?:XT*VP)*(?:S|XT*VV)|PT*V(?:V|P(?:XT*VP)*(?:S|XT*VV)))E"
EMBEDDED = re.compile(f"B(?:T{REBER}T|P{REBER}P)E")


@pytest.fixture(autouse=True)
def path_of_examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def reber():
    return importlib.import_module("reber")


@pytest.fixture
def memory_blocks():
    return importlib.import_module("memory_blocks")


@pytest.fixture
def embedded_reber():
    return importlib.import_module("embedded_reber_1997")


@pytest.fixture
def temporal_order():
    return importlib.import_module("temporal_order_1997")


@pytest.fixture
def continual_reber():
    return importlib.import_module("continual_reber_2000")


def text(reber, symbols):
    return "".join(reber.SYMBOLS[symbol] for symbol in symbols)


def as_on_the_page():
    """Whether results are to be those of the pages, which CPUs without fused multiply-adds do not give.

    After a change of bits that was meant, run the commands of the pages again, and change the pages and these tests.
    """
    return lw.cpu_info()["isa"] != "baseline"


def shared_weights(network, member):
    """The weights of one member, each once: copies are equal, and the second bias is zero."""
    values = np.concatenate([value.ravel() for value in network.member(member).parameters.values()])
    return np.unique(values[values != 0])


class TestReber:
    def test_strings_are_of_the_grammar(self, reber):
        rng = random.Random(0)
        strings = [reber.string(rng) for _ in range(3000)]
        assert all(EMBEDDED.fullmatch(text(reber, symbols)) for symbols, _ in strings)
        assert len({symbols for symbols, _ in strings}) > 300
        assert min(len(symbols) for symbols, _ in strings) == 9

    def test_it_knows_what_may_come(self, reber):
        rng = random.Random(1)
        following, possible = {}, {}
        for _ in range(5000):
            symbols, states = reber.string(rng)
            for length, state in enumerate(states[:-1], start=1):
                following.setdefault(symbols[:length], []).append(symbols[length])
                possible[symbols[:length]] = reber.POSSIBLE[state]
        often = {prefix: symbols for prefix, symbols in following.items() if len(symbols) >= 100}
        assert len(often) > 50
        for prefix, symbols in often.items():
            count = np.bincount(symbols, minlength=7)
            np.testing.assert_array_equal(possible[prefix], count > 0)
            # Tosses of a fair coin: five standard deviations.
            chances = count[count > 0]
            assert len(chances) == 1 or abs(chances[0] - chances[1]) < 5 * len(symbols) ** 0.5

    def test_streams_are_strings_one_after_another(self, reber):
        streams = reber.Streams([random.Random(2), random.Random(3)], 4)
        parts = [streams.read(steps) for steps in (1, 60, 0, 7)]
        symbols, possible, following, first = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        assert symbols.shape == following.shape == first.shape == (2, 68, 4)
        assert_same_bits(following[:, :-1], symbols[:, 1:])
        assert (np.take_along_axis(possible, following[..., np.newaxis], axis=-1) == 1).all()
        seen = set()
        for member in range(2):
            for row in range(4):
                stream = text(reber, symbols[member, :, row])
                seen.add(stream)
                starts = np.flatnonzero(first[member, :, row])
                assert starts[0] == 0
                for start, end in zip(starts[:-1], starts[1:], strict=True):
                    assert EMBEDDED.fullmatch(stream[start:end])
        assert len(seen) == 8

    def test_a_stream_that_restarts(self, reber):
        streams = reber.Streams([random.Random(4), random.Random(5)], 3)
        *_, last, _ = streams.read(5)
        streams.restart(np.array([[True, False, False], [False, False, True]]))
        symbols, _, _, first = streams.read(2)
        begun = np.array([[True, False, False], [False, False, True]])
        assert first[:, 0][begun].all()
        assert_same_bits(symbols[:, 0][~begun], last[:, -1][~begun])

    def test_a_members_stream_is_its_generators(self, reber):
        together = reber.Streams([random.Random(6), random.Random(7)], 3).read(50)
        alone = reber.Streams([random.Random(7)], 3).read(50)
        for both, one in zip(together, alone, strict=True):
            assert_same_bits(both[1:], one)

    def test_a_prediction_is_right_if_what_may_come_is_above_the_rest(self, reber):
        possible = np.array([1, 0, 0, 1, 0, 0, 0], np.float32)
        output = np.array([0.3, 0.1, -1, 0.2, 0, 0, 0.19], np.float32)
        assert reber.right(output, possible)
        for wrong in (0.2, 0.25, 5, np.nan):
            assert not reber.right(np.where(np.arange(7) == 6, np.float32(wrong), output), possible)
        both = reber.right(np.stack([output, -output]), np.stack([possible, possible]))
        assert both.tolist() == [True, False]


class TestMemoryBlocks:
    @pytest.mark.parametrize("forget_gate", [False, True])
    def test_shared_gates_have_the_sum_of_their_gradients(self, memory_blocks, forget_gate):
        blocks = memory_blocks.Blocks(3, 2, forget_gate)
        network = lw.Network([lw.LSTM(2, 6, forget_gate=forget_gate), lw.Linear(6, 1)], members=2)
        rng = np.random.default_rng(0)
        tape = network.record(rng.normal(size=(5, 4, 2)))
        d_output = rng.normal(size=tape.output.shape)
        before, after = tape.backward(d_output).parameters, tape.backward(d_output).parameters
        blocks.tie(after)
        order = ["input", "forget", "candidate", "output"] if forget_gate else ["input", "candidate", "output"]
        for name in ("0.weight_ih_l0", "0.weight_hh_l0", "0.bias_ih_l0"):
            for place, gate in enumerate(order):
                rows = slice(6 * place, 6 * place + 6)
                old, new = before[name][:, rows], after[name][:, rows]
                if gate == "candidate":
                    assert_same_bits(new, old)
                else:
                    assert abs(old[:, 0::2] - old[:, 1::2]).min() > 0
                    for copy in (0, 1):
                        assert_same_bits(new[:, copy::2], old[:, 0::2] + old[:, 1::2])
        assert not after["0.bias_hh_l0"].any()
        for name in ("1.weight", "1.bias"):
            assert_same_bits(after[name], before[name])

    def test_blocks_of_one_cell_share_nothing(self, memory_blocks):
        network = lw.Network([lw.LSTM(2, 4, forget_gate=False)], members=2)
        tape = network.record(np.ones((3, 1, 2)))
        before, after = (tape.backward(np.ones(tape.output.shape)).parameters for _ in range(2))
        memory_blocks.Blocks(4, 1).tie(after)
        for name in ("0.weight_ih_l0", "0.weight_hh_l0", "0.bias_ih_l0"):
            assert_same_bits(after[name], before[name])

    def test_initial_weights(self, memory_blocks):
        def network_of(seeds):
            network = lw.Network([lw.LSTM(2, 6), lw.Linear(6, 1)], members=len(seeds))
            blocks.initialize(network, seeds, 0.25, input=[-1, -2, -3], forget=[1, 2, 3])
            return network

        blocks = memory_blocks.Blocks(3, 2, forget_gates=True)
        network = network_of((5, 9))
        bias = network.parameters["0.bias_ih_l0"]
        for member in range(2):
            assert bias[member, :12].tolist() == [-1, -1, -2, -2, -3, -3, 1, 1, 2, 2, 3, 3]
        assert not network.parameters["0.bias_hh_l0"].any()
        for name in ("0.weight_ih_l0", "0.weight_hh_l0"):
            gates = blocks.gates(name, network.parameters[name])
            for gate, view in gates.items():
                assert (abs(view[:, 0] - view[:, 1]).max() > 0) == (gate == "candidate")
        drawn = network.parameters["0.weight_ih_l0"]
        assert 0.2 < abs(drawn).max() <= 0.25
        assert abs(drawn[0] - drawn[1]).min() > 0
        # A member's weights follow from its own seed.
        other = network_of((7, 8, 9))
        assert_same_bits(other.member(2).state_dict(), network.member(1).state_dict())

    @pytest.mark.parametrize(("count", "size"), [(3, 2), (4, 1)])
    def test_names(self, memory_blocks, count, size):
        blocks = memory_blocks.Blocks(count, size)
        assert str(blocks) == f"{count} blocks of {size}"
        assert blocks.cells == count * size


class TestEmbeddedReber1997:
    def test_no_test_string_is_in_the_training_set(self, embedded_reber):
        strings = [symbols for symbols, _ in embedded_reber.draw(0)]
        assert len(strings) == 512
        assert not set(strings[:256]) & set(strings[256:])
        assert [symbols for symbols, _ in embedded_reber.draw(1)] != strings

    def test_arrays_hold_the_strings(self, embedded_reber, reber):
        sets = embedded_reber.sets_of((0, 9, 10))
        for values in sets:
            assert_same_bits(values[0], values[1])  # ten trials with each pair of sets
            assert (values[0] != values[2]).any()
        for row, (symbols, states) in enumerate(embedded_reber.draw(1)):
            length = sets.lengths[2, row]
            assert length == len(symbols) - 1
            assert text(reber, symbols[1:]) == text(reber, sets.following[2, :length, row])
            assert text(reber, symbols[:-1]) == text(reber, sets.x[2, :length, row].argmax(axis=-1))
            np.testing.assert_array_equal(sets.possible[2, :length, row], reber.POSSIBLE[list(states[:-1])])
            assert (sets.possible[2, length:, row] == 1).all()

    def test_networks(self, embedded_reber):
        for blocks, weights in zip(embedded_reber.PAPER, (210, 172), strict=True):
            network = embedded_reber.create(blocks, (0, 1))
            values = shared_weights(network, 1)
            assert len(values) == weights
            assert values[: blocks.count].tolist() == list(range(-blocks.count, 0))
            assert abs(values[blocks.count :]).max() <= 0.2

    def test_one_wrong_prediction_makes_a_string_wrong(self, embedded_reber, reber):
        sets = embedded_reber.sets_of((0, 10, 20))
        wanted = np.array([True, True, False])

        class Oracle:
            def __call__(self, x, lengths):
                assert_same_bits(x, sets.x)
                assert_same_bits(lengths[:2], sets.lengths[:2])
                assert not lengths[2].any()
                output = sets.possible.copy()
                output[1, sets.lengths[1, 7] - 1, 7] *= -1  # the last prediction of a string
                output[0, 0, 300] = reber.ONE_HOT[0]  # its first one
                return output, None

        correct = embedded_reber.correct(Oracle(), sets, wanted)
        assert np.argwhere(~correct[:2]).tolist() == [[0, 300], [1, 7]]
        assert not correct[2].any()

    @pytest.mark.slow
    def test_meets_the_papers_criterion(self, embedded_reber, capsys):
        results = embedded_reber.main((20, 28))
        needed = [list(counts.values()) for counts in results.values()]
        assert max(map(max, needed)) < 20_000
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split()[-2:] == ["1997,", "mean"]
        assert lines[2].split()[-1] == "8,440"
        assert lines[3].split()[-1] == "39,740"
        if as_on_the_page():
            assert needed == [[5400, 5100], [5900, 3000]]
            assert lines[2].split()[4:-1] == ["2", "of", "2", "5,250", "212", "5,100", "5,400"]


class TestTemporalOrder1997:
    @pytest.mark.parametrize("number", [0, 1])
    def test_sequences_are_the_papers(self, temporal_order, number):
        task, count = temporal_order.TASKS[number], 2000
        symbols, lengths, classes = temporal_order.draw(task, count, random.Random(0))
        assert symbols.shape == (110, count)
        assert set(lengths) == set(range(100, 111))
        assert set(classes) == set(range(task.classes))
        places = [set() for _ in task.places]
        others = set()
        for row in range(count):
            sequence = "".join(temporal_order.SYMBOLS[symbol] for symbol in symbols[: lengths[row], row])
            match = re.fullmatch("E([abcd]*[XY][abcdXY]*)B", sequence)
            assert match
            marks = [place for place, symbol in enumerate(sequence) if symbol in "XY"]
            assert len(marks) == len(task.places)
            for seen, place in zip(places, marks, strict=True):
                seen.add(place + 1)
            assert classes[row] == int("".join(str("XY".index(sequence[place])) for place in marks), 2)
            others |= set(sequence[1:-1]) - set("XY")
        first = {0: (10, 50), 1: (10, 33, 66)}[number]
        assert places == [set(range(place, place + 11)) for place in first]
        assert others == set("abcd")

    def test_networks(self, temporal_order):
        for task, weights in zip(temporal_order.TASKS, (124, 236), strict=True):
            network = temporal_order.create(task, (0, 1))
            values = shared_weights(network, 0)
            assert len(values) == weights
            marks = len(task.places)
            assert values[:marks].tolist() == [-2 * mark for mark in range(marks, 0, -1)]
            assert abs(values[marks:]).max() <= 0.1

    def test_errors_are_the_gradient_of_the_cross_entropy(self, temporal_order):
        task, rng = temporal_order.TASKS[0], np.random.default_rng(0)
        output, classes = rng.normal(scale=3, size=(2, 5, 4)), rng.integers(4, size=(2, 5))
        target = np.eye(4)[classes]
        answer = 1 / (1 + np.exp(-output))
        error = temporal_order.errors(task, output.astype(np.float32), classes)
        np.testing.assert_allclose(error, answer - target, atol=1e-6)

    def test_sums_are_exact_enough(self, temporal_order):
        values = np.random.default_rng(0).normal(size=(3, 2000))
        np.testing.assert_allclose(temporal_order.summed(values), values.sum(axis=1), rtol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("number", "expected"), [(0, {1: (7512, 0), 9: (6196, 0)}), (1, {2: (26_440, 5), 4: (23_616, 0)})]
    )
    def test_meets_the_papers_criterion(self, temporal_order, number, expected):
        task = temporal_order.TASKS[number]
        results = temporal_order.trials(task, tuple(expected))
        assert list(results) == list(expected)
        for sequences, wrong in results.values():
            assert sequences < task.paper_sequences
            assert wrong < 20
        if as_on_the_page():
            assert results == expected

    def test_it_says_when_no_network_met_the_criterion(self, temporal_order, monkeypatch, capsys):
        monkeypatch.setattr(temporal_order, "LIMIT", 16)
        results = temporal_order.main((0, 1))
        assert all(result == {0: None, 1: None} for result in results.values())
        lines = capsys.readouterr().out.splitlines()
        assert lines[2].split() == ["6a,", "4", "classes", "0", "of", "2", "31,390", "1"]
        assert lines[3].split() == ["6b,", "8", "classes", "0", "of", "2", "571,100", "2"]


class TestContinualReber2000:
    def test_networks(self, continual_reber):
        for setting in continual_reber.SETTINGS:
            network = continual_reber.create(setting, (0, 1))
            gates = 3 if setting.forget_gates else 2
            # 4 of each gate and 8 candidates see 7 symbols and 8 cells; 7 outputs see 8 cells; all have a bias. Forget
            # gates begin open, the others shut, and input and output gates alike: 4 biases stand for 8.
            weights = (4 * gates + 8) * (7 + 8) + 8 + 4 * (gates - 1) + 7 * 9
            values = shared_weights(network, 1)
            assert len(values) == weights
            assert values[:4].tolist() == [-2, -1.5, -1, -0.5]
            assert (values[-4:].tolist() == [0.5, 1, 1.5, 2]) == setting.forget_gates

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_a_test_counts_symbols_before_the_first_mistake(self, continual_reber, reber, monkeypatch, number):
        setting, seeds, steps = continual_reber.SETTINGS[number], (3, 4, 5), 450
        network = continual_reber.create(setting, seeds)
        output = np.empty((3, steps, 10, 7), np.float32)
        for member, seed in enumerate(seeds):
            symbols, _, _, first = reber.Streams([random.Random(f"this of {seed}")], 10).read(steps)
            stream = network.member(member).stream(10)
            for step, x in enumerate(reber.ONE_HOT[symbols[0]]):
                output[member, step] = stream.step(x, reset=first[0, step] if setting.external_reset else None)

        def looks_right(output, possible=None):
            """Take a rare pattern of bits for a mistake, because untrained networks make one at once."""
            return np.ascontiguousarray(output[..., 0]).view(np.uint32) % 300 != 0

        right = looks_right(output)
        expected = np.where(right.all(axis=1), steps, right.argmin(axis=1))
        assert (expected < 100).any()
        assert ((expected > 200) & (expected < steps)).any()
        assert (expected == steps).any()
        monkeypatch.setattr(reber, "right", looks_right)
        monkeypatch.setattr(continual_reber, "LONGEST", steps)
        correct = continual_reber.test(setting, network, seeds, np.array([True, False, True]), "this")
        assert correct[[0, 2]].tolist() == expected[[0, 2]].tolist()
        assert not correct[1].any()

    def test_a_test_goes_on_to_the_longest_stream(self, continual_reber, reber, monkeypatch):
        setting, seeds = continual_reber.SETTINGS[3], (0, 1)
        network = continual_reber.create(setting, seeds)
        mistakes = np.full((2, 10), -1)  # at which symbol; -1: never
        mistakes[0] = 0, 99, 100, 101, 250, 399, 400, 10_999, 11_000, 12_345
        mistakes[1, 3], mistakes[1, 4] = 19_999, 20_000
        read = 0

        def right(output, possible):
            nonlocal read
            steps = np.arange(read, read + output.shape[1])
            read += len(steps)
            return steps[:, np.newaxis] < np.where(mistakes < 0, np.inf, mistakes)[:, np.newaxis]

        monkeypatch.setattr(reber, "right", right)
        monkeypatch.setattr(continual_reber, "LONGEST", 20_000)
        correct = continual_reber.test(setting, network, seeds, np.ones(2, bool), "test")
        assert read == 20_000
        assert correct[0].tolist() == mistakes[0].tolist()
        assert correct[1].tolist() == [20_000] * 3 + [19_999] + [20_000] * 6

    def test_a_network_learns_the_same_in_any_company(self, continual_reber, monkeypatch):
        monkeypatch.setattr(continual_reber, "UPDATES", 300)
        monkeypatch.setattr(continual_reber, "CHECK", 150)
        for setting in continual_reber.SETTINGS[1::2]:
            first = continual_reber.train(setting, (0, 1))
            second = continual_reber.train(setting, (2, 1, 3))
            assert list(first) == [0, 1]
            assert first[1] == second[1]
            assert first[1].streams > 100
            assert len(set(second.values())) == 3

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "expected"), [(2, {3: 4494, 4: 1252}), (3, {4: 779, 7: 3500})])
    def test_forget_gates_make_perfect_networks(self, continual_reber, number, expected):
        results = continual_reber.train(continual_reber.SETTINGS[number], tuple(expected))
        assert all(result.perfect for result in results.values())
        if as_on_the_page():
            assert {seed: result.streams for seed, result in results.items()} == expected

    def test_it_says_what_networks_came_to(self, continual_reber, monkeypatch, capsys):
        results = iter([(20, 30), (20, 3000), (60_000, 50_000), (100_000, 100_000)])

        def train(setting, seeds, progress):
            return dict(zip(seeds, (continual_reber.Result(70, correct) for correct in next(results)), strict=True))

        monkeypatch.setattr(continual_reber, "train", train)
        continual_reber.main((0, 1))
        lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
        assert lines == [
            "no forget gates 0/2 - 0 25 0 %",
            "no forget gates, external reset 0/2 - 1 1,510 74 %",
            "forget gates 0/2 - 2 55,000 18 %, 29 %",
            "forget gates, decaying lr 2/2 70 (70 to 70) 0 - 62 %, 6 %",
        ]

    def test_what_is_perfect_and_good(self, continual_reber):
        kinds = [(1000, False, False), (1001, False, True), (99_999, False, True), (100_000, True, False)]
        for correct, perfect, good in kinds:
            result = continual_reber.Result(1, correct)
            assert (result.perfect, result.good) == (perfect, good)
