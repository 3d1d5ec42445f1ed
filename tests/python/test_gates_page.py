"""docs/gates.md and the programs that it comes from: gender_corpus.py, gender_model.py, gates.py, gates_pictures.py."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gates.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"\]\((images/gates-\w+\.svg)\)", PAGE)


@pytest.fixture
def example(monkeypatch):
    """Import a program of docs/examples, and forget it afterwards."""
    monkeypatch.syspath_prepend(DOCS / "examples")

    def load(name):
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


def size_of(picture):
    return re.search(r'<svg [^>]*width="([^"]+)" height="([^"]+)"', picture.read_text(encoding="utf-8")).groups()


class TestCorpus:
    @pytest.mark.parametrize("pronouns", [1, 2])
    def test_pronouns_agree_with_the_name_before_them(self, example, pronouns):
        corpus = example("gender_corpus")
        text = corpus.write(5000, seed=3, pronouns=pronouns)
        assert 5000 <= len(text.words) < 5020
        starts = [0, *(k + 1 for k, word in enumerate(text.words) if word == ".")][:-1]
        assert text.names == starts
        assert len(text.pronouns) == len(starts)
        between = set()
        for start, places in zip(starts, text.pronouns, strict=True):
            assert len(places) == pronouns
            wanted = "she" if text.words[start] in corpus.WOMEN else "he"
            clause = text.words[start : text.words.index(".", start)]
            assert text.words[start] in corpus.WOMEN + corpus.MEN
            assert [start + k for k, word in enumerate(clause) if word in corpus.PRONOUNS] == list(places)
            assert {text.words[place] for place in places} == {wanted}
            assert not set(clause[1:]) & set(corpus.WOMEN + corpus.MEN)
            between.add(places[0] - start - 1)
        assert between == set(range(4, 13))  # as the page says

    def test_every_word_occurs_and_the_seed_decides(self, example):
        corpus = example("gender_corpus")
        text = corpus.write(20_000, seed=0, pronouns=2)
        assert set(text.words) == set(corpus.VOCABULARY)
        assert len(set(corpus.VOCABULARY)) == len(corpus.VOCABULARY) == 51
        assert corpus.write(300, seed=0).words == corpus.write(300, seed=0).words
        assert corpus.write(300, seed=0).words != corpus.write(300, seed=1).words


@pytest.fixture
def briefly_trained(example, monkeypatch):
    """Train for a second: enough for a unit that matters, and quick."""
    model = example("gender_model")
    monkeypatch.setattr(model, "EPOCHS", 12)
    text = example("gender_corpus").write(4000, seed=7)
    network = model.train(example("gender_corpus").write(20_000, seed=1), 1)
    return model, network, model.read(network, text)


class TestModel:
    def test_the_other_run_differs_in_the_name_alone(self, example):
        model, corpus = example("gender_model"), example("gender_corpus")
        network = lw.Network([lw.Embedding(51, 4, seed=0), lw.LSTM(4, 5, seed=1), lw.Linear(5, 51, seed=2)])
        clauses = model.read(network, corpus.write(2000, seed=5, pronouns=2))
        words = np.array(corpus.VOCABULARY)
        trace = network.trace(clauses.tokens)
        for number in (0, 1):
            x, other_x, (h, c) = model.with_other_name(clauses, number)
            # h and c at each place of the text, found again by the words that come next.
            np.testing.assert_array_equal(network(x, (h, c))[0][-1], trace.output[clauses.pronouns[number] - 1])
            for row, (name, pronoun) in enumerate(zip(clauses.names, clauses.pronouns[number], strict=True)):
                first = pronoun - model.CONTEXT
                np.testing.assert_array_equal(words[x[:, row]], clauses.text.words[first:pronoun])
                differs = np.flatnonzero(x[:, row] != other_x[:, row])
                changed = [name, *clauses.pronouns[:number, row]]
                assert (differs + first).tolist() == changed
                for step in differs:
                    pair = {words[x[step, row]], words[other_x[step, row]]}
                    assert pair & {*corpus.WOMEN, "she"}
                    assert pair & {*corpus.MEN, "he"}

    def test_causes_are_those_of_runs_by_hand(self, briefly_trained):
        model, network, clauses = briefly_trained
        x, other_x, state = model.with_other_name(clauses, 0)
        early = clauses.names - (clauses.pronouns[0] - model.CONTEXT) + 1
        for found, steps in (
            (model.causes(network, clauses), np.full(x.shape[1], model.LAST)),
            (model.causes_after_name(network, clauses), early),
        ):
            own, other, turned = [], [], np.zeros((model.UNITS, x.shape[1]), bool)
            for row, step in enumerate(steps):
                start = tuple(part[:, row : row + 1] for part in state)
                columns = x[:, row : row + 1], other_x[:, row : row + 1]
                _, (h, c) = network(columns[0][:step], start)
                _, (other_h, other_c) = network(columns[1][:step], start)
                rest = columns[0][step:]

                def she(h, c, rest=rest):
                    output, _ = network(rest, (h, c))
                    return output[-1, 0, model.SHE] > output[-1, 0, model.HE]

                own.append(she(h, c))
                other.append(she(other_h, other_c))
                for unit in range(model.UNITS):
                    mixed_h, mixed_c = h.copy(), c.copy()
                    mixed_h[..., unit], mixed_c[..., unit] = other_h[..., unit], other_c[..., unit]
                    turned[unit, row] = she(mixed_h, mixed_c) != own[-1]
            differ = np.array(own) != np.array(other)
            assert differ.mean() > 0.3
            shares = turned[:, differ].mean(axis=1)
            np.testing.assert_allclose(found.shares, shares[found.units], atol=1e-12)
            assert shares.max() > 0.1

    def test_right_is_counted_pronoun_by_pronoun(self, example):
        model, corpus = example("gender_model"), example("gender_corpus")
        # Not trained, and with large weights: it says now this and now that.
        network = lw.Network([lw.Embedding(51, 4, seed=0), lw.LSTM(4, 5, seed=5), lw.Linear(5, 51, seed=2)])
        with network.edit() as parameters:
            for name in parameters:
                parameters[name] *= 4 if name.startswith("1.") else 1 - name.endswith("bias")
        clauses = model.read(network, corpus.write(2000, seed=5))
        output, _ = network(clauses.tokens)
        right = [
            (output[place - 1, model.SHE] > output[place - 1, model.HE]) == (clauses.text.words[place] == "she")
            for place in clauses.pronouns[0]
        ]
        np.testing.assert_array_equal(model.right(network, clauses), [right])
        assert 0.2 < np.mean(right == clauses.women) < 0.8


class TestPage:
    def test_its_python_runs_as_it_stands(self):
        names = {}
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)):
            exec(compile(block, f"docs/gates.md, example {number}", "exec"), names)
        assert names["held"].trace(names["x"])["1.l0"].forget_gate[..., 6].min() == 1

    def test_it_has_pictures_with_texts_for_those_who_cannot_see_them(self):
        assert len(PICTURES) == 5
        for picture in PICTURES:
            assert (DOCS / picture).stat().st_size < 150_000
        assert len(re.findall(r"!\[[^]]{40,}\]\(images/", PAGE)) == 5

    @pytest.mark.slow
    @pytest.mark.skipif(lw.cpu_info()["isa"] == "baseline", reason="a CPU without fused multiply-adds has its own bits")
    def test_its_numbers_and_pictures_are_the_programs(self, tmp_path):
        pytest.importorskip("matplotlib")
        program = DOCS / "examples" / "gates.py"
        done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        flat = " ".join(PAGE.split())
        printed = [line for line in done.stdout.splitlines() if line.startswith(("|", ">")) or line.endswith(".")]
        assert len(printed) > 100
        for line in printed:
            assert " ".join(line.split()) in flat
        # Every number with decimals and every share on the page stands in what the program printed.
        text = re.sub(r"```.*?```|`[^`]*`", "", PAGE, flags=re.DOTALL)
        numbers = set(re.findall(r"[+-]?\d+\.\d+(?: %)?|-?\d[\d,]*(?: %)", text))
        assert len(numbers) > 100
        for number in numbers - {"5 %", "95 %", "0.5"}:  # the bounds, and a score that is no finding
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", done.stdout), number
        assert {path.name for path in tmp_path.iterdir()} == {Path(picture).name for picture in PICTURES}
        for picture in PICTURES:
            assert size_of(tmp_path / Path(picture).name) == size_of(DOCS / picture)
