"""The adding problem in docs/examples, and the examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from comparison import assert_same_bits

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PACKAGE = Path(lw.__file__).parent
DOCUMENTED = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def test_there_are_docstring_examples():
    assert {PACKAGE / "lstm.py", PACKAGE / "network.py"} <= set(DOCUMENTED)


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_docstring_examples_run_as_they_stand(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path.is_relative_to(PACKAGE / "plot"):
        pytest.importorskip("matplotlib", reason="the example needs matplotlib, which is not installed")
    if path.is_relative_to(PACKAGE / "torch"):
        pytest.importorskip("torch", reason="the example needs PyTorch, which is not installed")
        if path.stem in {"sb3_contrib", "torchrl"}:
            pytest.importorskip(path.stem, reason=f"the example needs {path.stem}, which is not installed")
    documented = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    # Without the module's own names: what an example uses it must import, as its reader has to.
    failed, attempted = doctest.testmod(documented, globs={}, extraglobs={})
    assert attempted > 0
    assert failed == 0


@pytest.fixture
def adding_1997(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("adding_1997")


class TestAdding1997:
    def test_sequences_are_the_papers(self, adding_1997):
        count = 3000
        x, lengths, target = adding_1997.draw(count, np.random.default_rng(0))
        assert x.shape == (110, count, 2)
        assert target.shape == (count, 1)
        assert set(lengths) == set(range(100, 111))
        starts, seconds = set(), set()
        for row in range(count):
            values, markers = x[: lengths[row], row].T
            marked = np.flatnonzero(markers == 1)
            assert len(marked) == 2
            starts.add(marked[0])
            seconds.add(marked[1])
            assert abs(values).max() <= 1
            rest = np.delete(markers, marked)
            assert markers[0] in (1, -1)
            assert markers[-1] == -1
            assert not rest[1 if marked[0] > 0 else 0 : -1].any()
            assert marked[0] > 0 or values[0] == 0
            np.testing.assert_allclose(target[row], 0.5 + values[marked].sum() / 4, rtol=1e-6)
        # The first mark is among ten pairs, the second among 49 others of the first 50.
        assert starts == set(range(10))
        assert seconds == set(range(1, 50))

    def test_values_fill_their_range(self, adding_1997):
        x, _, target = adding_1997.draw(3000, np.random.default_rng(1))
        np.testing.assert_allclose([x[..., 0].min(), x[..., 0].max()], [-1, 1], atol=1e-3)
        assert 0 <= target.min() < 0.05
        assert 0.95 < target.max() <= 1

    def test_network_has_61_weights_that_start_as_the_papers(self, adding_1997):
        parameters = adding_1997.create(0).parameters
        values = np.concatenate([value.ravel() for value in parameters.values()])
        weights = np.unique(values[values != 0])  # shared weights are equal and so count once; bias_hh is zero
        assert len(weights) == 61
        assert weights[:2].tolist() == [-6, -3]
        assert abs(weights[2:]).max() <= 0.1
        np.testing.assert_array_equal(parameters["0.bias_ih_l0"][:4], [-3, -3, -6, -6])

    def test_shared_gates_have_the_sum_of_their_gradients(self, adding_1997):
        rng = np.random.default_rng(2)
        network = adding_1997.create(2)
        x, lengths, _ = adding_1997.draw(3, rng)
        tape = network.record(x, lengths=lengths)
        d_output = rng.normal(size=tape.output.shape)
        before, after = tape.backward(d_output).parameters, tape.backward(d_output).parameters
        adding_1997.BLOCKS.tie(after)
        for name in ("0.weight_ih_l0", "0.weight_hh_l0", "0.bias_ih_l0"):
            for gate in (0, 2):  # input and output gate; the candidate, 1, is each unit's own
                rows = slice(4 * gate, 4 * gate + 4)
                first, second = before[name][rows][0::2], before[name][rows][1::2]
                assert abs(first - second).max() > 0
                assert_same_bits(after[name][rows][0::2], first + second)
                assert_same_bits(after[name][rows][1::2], first + second)
            assert_same_bits(after[name][4:8], before[name][4:8])
        assert not after["0.bias_hh_l0"].any()
        for name in ("2.weight", "2.bias"):
            assert_same_bits(after[name], before[name])

    def test_shared_gates_stay_the_same_bits_in_training(self, adding_1997, monkeypatch):
        monkeypatch.setattr(adding_1997, "LIMIT", 1000)
        network = adding_1997.create(3)
        start = network.state_dict()
        with pytest.raises(RuntimeError, match="not met within 1,000"):
            adding_1997.train(network, np.random.default_rng(3), lambda message: None)
        for name in ("0.weight_ih_l0", "0.weight_hh_l0", "0.bias_ih_l0"):
            assert abs(network.parameters[name] - start[name]).min() > 0
            gates = adding_1997.BLOCKS.gates(name, network.parameters[name])
            for gate in ("input", "output"):
                assert_same_bits(gates[gate][:, 0], gates[gate][:, 1])
        assert not network.parameters["0.bias_hh_l0"].any()

    @pytest.mark.slow
    def test_meets_the_papers_criterion(self, adding_1997, capsys):
        results = adding_1997.main(range(10))
        assert [result.seed for result in results] == list(range(10))
        assert max(result.sequences for result in results) <= 74_000
        # 2,000 right answers in a row say little about one network's rare mistakes: the paper's bound is for the mean.
        assert np.mean([result.wrong for result in results]) <= 2
        assert np.mean([result.test_error for result in results]) < 0.01
        output = capsys.readouterr()
        assert output.err == ""
        assert output.out.splitlines()[-1].split()[2] == "74,000"
