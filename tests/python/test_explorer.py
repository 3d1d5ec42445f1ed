"""explain.explorer, as far as Python sees it: what the file holds, and what is refused."""

import base64
import hashlib
import os
import re

import latchwork as lw
import numpy as np
import pytest
from explorer_pages import SIGNALS, Page
from latchwork.explain.page import explorer
from layers import normal, random_lstm
from tensors import Tensor

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--", "<img src=x onerror=alert(1)>", '"', "'", "\\", "&amp;", "\x00", "\n",
    "\ud800", "\udfff", "\u202e", "\u2028", "\U0001f600", "\u05e9\u05dc\u05d5\u05dd", "]]>", "", " ",
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gates.html"


def show(path, network, x, *arguments, **keywords):
    explorer(network, x, *arguments, path=path, **keywords)
    return Page(path)


def assert_stored(stored, values, share):
    """Three digits: 0.03 % of v and, of a share, of 1 - v; what is next to nothing beside the largest may be 0."""
    values = np.asarray(values, np.float64)
    if share:
        np.testing.assert_allclose(stored, values, rtol=3e-4, atol=5e-8)
        np.testing.assert_allclose(1 - stored, 1 - values, rtol=3e-4, atol=5e-8)
    else:
        atol = 2e-7 * abs(values).max(initial=0, where=np.isfinite(values))
        np.testing.assert_allclose(stored, values, rtol=3e-4, atol=atol)


def check_signals(page, trace, select=lambda array: array, sequence=0):
    for number, layer in enumerate(page.facts["layers"]):
        stored = page.layer(sequence, number)
        for name in SIGNALS:
            values = select(getattr(trace[layer["name"]], name))
            if name == "hidden":  # which may be derived from two stored values
                np.testing.assert_allclose(stored[name], values, rtol=1e-3, atol=1e-6)
            else:
                assert_stored(stored[name], values, values.min(initial=0) >= 0 and values.max(initial=0) <= 1)


def test_labels_from_tensors_and_tables(path):
    x = normal(0, (4, 2))
    missing = ["he", float("nan"), np.datetime64("NaT"), None]
    page = show(path, lw.LSTM(2, 3, seed=0), x, tokens=Tensor([4, 5, 6, 7]), tracks={"who": missing})
    assert page.facts["sequences"][0]["tokens"] == ["4", "5", "6", "7"]
    assert page.facts["sequences"][0]["tracks"] == [{"name": "who", "labels": ["he"], "steps": [0, -1, -1, -1]}]


def test_labels_that_are_a_table(path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame({name: ["x"] for name in "abcd"})
    with pytest.raises(TypeError, match="tokens: expected a sequence of labels, got DataFrame"):
        show(path, lw.LSTM(2, 3, seed=0), normal(0, (4, 2)), tokens=table)
    column = pandas.Series(["he", None, pandas.NA, "she"], dtype="object")
    page = show(path, lw.LSTM(2, 3, seed=0), normal(0, (4, 2)), tracks={"who": column})
    assert page.facts["sequences"][0]["tracks"][0]["steps"] == [0, -1, -1, 1]


class TestTheFile:
    def test_is_alone_and_loads_nothing(self, path):
        page = show(path, lw.LSTM(2, 3, seed=0), normal(0, (5, 2)), tokens=HOSTILE[:5])
        elements = page.elements.elements
        assert not {tag for tag, _ in elements} & {"link", "img", "iframe", "object", "embed", "base", "source"}
        assert not [attributes for _, attributes in elements if {"src", "href", "action"} & {*attributes}]
        assert "http:" not in page.html.replace("http-equiv", "")
        assert "https:" not in page.html
        # A browser that fills in old choices when the page is loaded again would make them differ from what is shown.
        for tag, name in (("form", "toolbar"), ("select", "threshold")):
            (attributes,) = [each for each_tag, each in elements if each_tag == tag and each.get("id") == name]
            assert attributes["autocomplete"] == "off"
        scripts = [attributes for tag, attributes in elements if tag == "script"]
        assert [attributes for attributes in scripts if attributes.get("type") != "text/plain"] == [{}]
        policy = next(a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for name in ("script", "style"):
            digest = hashlib.sha256(page.elements.contents[name].encode()).digest()
            assert f"{name}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy

    def test_texts_come_back_and_are_nowhere_as_they_are(self, path):
        x = normal(0, (len(HOSTILE), 2))
        tracks = {"</style>": HOSTILE, "b": [None, *HOSTILE[1:]]}
        page = show(path, lw.LSTM(2, 3, seed=0), x, tokens=HOSTILE, tracks=tracks, corpus=x, corpus_tokens=HOSTILE)
        sequence = page.facts["sequences"][0]
        assert sequence["tokens"] == HOSTILE
        assert page.corpus()[0] == HOSTILE
        track, other = sequence["tracks"]
        assert track["name"] == "</style>"
        assert [track["labels"][place] if place >= 0 else "" for place in track["steps"]] == HOSTILE
        assert other["steps"][0] == -1
        assert "alert(1)" not in page.html
        assert page.html.count("</script>") == sum(tag == "script" for tag, _ in page.elements.elements)

    def test_long_labels_are_cut(self, path):
        page = show(path, lw.LSTM(2, 3, seed=0), normal(0, (2, 2)), tokens=["x" * 100, "x" * 101])
        assert page.facts["sequences"][0]["tokens"] == ["x" * 100, "x" * 100 + "\u2026"]

    def test_replaces_a_file_whole_and_keeps_its_mode(self, path):
        path.write_text("before")
        os.chmod(path, 0o640)
        explorer(lw.LSTM(2, 3, seed=0), normal(0, (4, 2)), path=os.fsencode(path))
        assert path.stat().st_mode & 0o777 == 0o640
        assert [each.name for each in path.parent.iterdir()] == ["gates.html"]
        assert Page(path).facts["layers"][0]["units"] == 3

    def test_the_same_input_gives_the_same_file(self, path):
        contents = []
        for _ in range(2):
            explorer(lw.LSTM(2, 3, seed=0), normal(0, (4, 2)), path=path)
            contents.append(path.read_bytes())
        assert contents[0] == contents[1]

    @pytest.mark.slow
    def test_2000_steps_of_512_units_stay_below_16_mb(self, path):
        # Noise that no compression helps with: the worst case.
        lstm = random_lstm(input_size=64, hidden_size=512)
        x, corpus = normal(1, (2000, 64)), normal(2, (8192, 64))
        explorer(lstm, x, tokens=[f"word {step}" for step in range(2000)], corpus=corpus, path=path)
        assert path.stat().st_size < 16_000_000


class TestValues:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"dtype": "float64"},
            {"num_layers": 2, "bidirectional": True},
            {"reverse": True},
            {"proj_size": 2},
            {"forget_gate": False},
            {"forget_gate": "coupled"},
            {"peephole": True, "layer_norm": True},
            {"zoneout": (0.2, 0.3), "cell_clip": 0.4},
            {"activations": {"input": "relu", "candidate": "softsign", "cell": "softplus", "output": "hard_sigmoid"}},
            {"num_layers": 2, "residual": True, "clip": 0.5},
        ],
    )
    def test_are_those_of_the_trace(self, options, path):
        lstm = random_lstm(**({"input_size": 3, "hidden_size": 7} | options))
        x = normal(1, (17, 3))
        page = show(path, lstm, x)
        check_signals(page, lstm.trace(x))
        facts = page.facts["layers"][0]
        assert facts["projects"] == bool(lstm.proj_size)
        assert facts["cellClip"] == lstm.cell_clip
        assert (facts["zoneoutHidden"], facts["zoneoutCell"]) == lstm.zoneout
        assert [layer["reverse"] for layer in page.facts["layers"]] == [
            name.endswith("_reverse") for name in lstm.trace(x)
        ]

    def test_each_direction_has_its_own_activations(self, path):
        lstm = lw.LSTM(2, 3, bidirectional=True, activations=({}, {"cell": "softsign"}), seed=0)
        page = show(path, lstm, normal(0, (4, 2)))
        assert [layer["activations"]["cell"] for layer in page.facts["layers"]] == ["tanh", "softsign"]
        check_signals(page, lstm.trace(normal(0, (4, 2))))

    def test_extreme_ones(self, path):
        lstm = random_lstm(input_size=1, hidden_size=4, forget_gate=False, activations={"candidate": "affine"})
        x = np.array([[0.0], [1e4], [-1e4], [1e30], [np.inf], [np.nan], [1.0]])
        page, trace = show(path, lstm, x), lstm.trace(x)
        stored = page.layer()
        assert np.isnan(trace.cell[-1]).all()
        assert np.isinf(trace.candidate[4]).any()
        for name in SIGNALS[:5]:
            np.testing.assert_allclose(stored[name], getattr(trace, name), rtol=3e-4, atol=1e-7 * 1e30)
            np.testing.assert_array_equal(np.isnan(stored[name]), np.isnan(getattr(trace, name)))
        for name in ("input_gate", "output_gate"):
            assert_stored(stored[name], getattr(trace, name), True)
            assert {0.0, 1.0} & {*stored[name].ravel().tolist()}

    def test_a_small_unit_beside_a_large_one_keeps_its_digits(self, path):
        lstm = lw.LSTM(1, 2, seed=0, activations={"candidate": "affine"})
        with lstm.edit() as parameters:
            parameters["weight_ih_l0"][4:6, 0] = 1e6, 1e-6
            parameters["weight_hh_l0"][4:6] = 0
            parameters["bias_ih_l0"][4:6] = parameters["bias_hh_l0"][4:6] = 0
        x = normal(3, (9, 1))
        stored, cell = show(path, lstm, x).layer()["cell"], lstm.trace(x).cell
        assert abs(cell[:, 1]).max() < 1e-9 * abs(cell[:, 0]).max()
        np.testing.assert_allclose(stored, cell, rtol=3e-4)

    @pytest.mark.parametrize("batch_first", [False, True])
    def test_rows_lengths_and_order_of_axes(self, path, batch_first):
        lstm = random_lstm(input_size=3, hidden_size=5, batch_first=batch_first)
        x, lengths = normal(1, (6, 3, 3)), [6, 2, 4]
        x = x.swapaxes(0, 1) if batch_first else x
        trace = lstm.trace(x, lengths=lengths)
        labels = [[f"{row}.{step}" for step in range(lengths[row])] for row in range(3)]
        page = show(path, lstm, x, lengths=lengths, row=[2, 0, -2], tokens=labels)
        assert [(each["row"], each["steps"]) for each in page.facts["sequences"]] == [(2, 4), (0, 6), (1, 2)]
        for place, row in enumerate((2, 0, 1)):
            assert page.facts["sequences"][place]["tokens"] == labels[row]
            axis = 0 if batch_first else 1
            check_signals(page, trace, lambda array, r=row, a=axis: array.take(r, a)[: lengths[r]], place)

    def test_members(self, path):
        network = lw.Network([lw.LSTM(3, 4, seed=0, learn_start_state=True), lw.Linear(4, 2, seed=0)], members=3)
        with network.edit() as parameters:
            parameters["0.c_0_l0"][:] = normal(5, (3, 4))
        x = normal(1, (3, 5, 2, 3))
        trace = network.trace(x)
        page = show(path, network, x, member=[1, 2], row=1)
        assert [(each["member"], each["row"]) for each in page.facts["sequences"]] == [(1, 1), (2, 1)]
        for place, member in enumerate((1, 2)):
            check_signals(page, trace, lambda array, m=member: array[m, :, 1], place)
            start = page.facts["sequences"][place]["layers"][0]["start"]
            np.testing.assert_array_equal(start, network.parameters["0.c_0_l0"][member])
        assert len(show(path, network, x).facts["sequences"]) == 6
        only = show(path, network, x[0, :, 0], member=2, corpus=x[0, :, 1])
        levels = only.corpus()[2][0]
        hidden = network.trace(x[0, :, 1])["0.l0"].hidden[2]
        np.testing.assert_array_equal(levels, expected_levels(hidden, 1.0))

    def test_start_state_resets_and_skips(self, path):
        lstm = random_lstm(input_size=2, hidden_size=3, num_layers=2, bidirectional=True, learn_start_state=True)
        x, state = normal(1, (7, 2, 2)), (normal(2, (4, 2, 3)), normal(3, (4, 2, 3)))
        reset, skip = np.zeros((7, 2), bool), np.zeros((7, 2), bool)
        reset[3, 1] = reset[0, 0] = skip[2, 1] = skip[6, 1] = True
        page = show(path, lstm, x, state, [7, 6], reset, skip=skip)
        first, second = page.facts["sequences"]
        assert (first["resets"], first["skips"], second["resets"], second["skips"]) == ([0], [], [3], [2])
        for number, name in enumerate(lstm.trace(x)):
            for row, sequence in enumerate((first, second)):
                np.testing.assert_array_equal(sequence["layers"][number]["start"], state[1][number, row].astype("f4"))
                own = lstm.parameters[f"c_0_{name}"]
                np.testing.assert_array_equal(sequence["layers"][number]["restart"], own)
        trace = lstm.trace(x, state, [7, 6], reset, skip=skip)
        check_signals(page, trace, lambda array: array[:6, 1], 1)

    def test_similar_units_are_neighbours(self, path):
        lstm = random_lstm(input_size=2, hidden_size=6)
        with lstm.edit() as parameters:
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                gates = parameters[name].reshape(4, 6, -1)
                gates[:, 4] = gates[:, 1]  # unit 4 does what unit 1 does
        page = show(path, lstm, normal(1, (40, 2)))
        order = page.facts["sequences"][0]["layers"][0]["similar"]
        assert sorted(order) == [0, 1, 2, 3, 4, 5]
        assert abs(order.index(1) - order.index(4)) == 1


def expected_levels(values, scale):
    """How many thresholds |v| reaches, by plain loops."""
    thresholds = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
    levels = np.zeros(values.shape, int)
    for place, value in np.ndenumerate(values):
        levels[place] = sum(abs(float(value)) >= scale * each for each in thresholds) * (1 if value > 0 else -1)
    return levels


class TestCorpus:
    def test_levels_of_each_layer(self, path):
        lstm = random_lstm(input_size=2, hidden_size=5, num_layers=2, bidirectional=True)
        first, second = normal(1, (7, 2)), normal(2, (4, 2))
        page = show(path, lstm, normal(0, (3, 2)), corpus=[first, second], corpus_tokens=["abcdefg", range(4)])
        tokens, ends, levels = page.corpus()
        assert tokens == [*"abcdefg", "0", "1", "2", "3"]
        assert ends == [7, 11]
        traces = [lstm.trace(first), lstm.trace(second)]
        for number, name in enumerate(traces[0]):
            hidden = np.concatenate([trace[name].hidden for trace in traces])
            np.testing.assert_array_equal(levels[number], expected_levels(hidden, 1.0))
        assert {*np.concatenate(levels).ravel()} >= {-2, 0, 2}

    def test_projected_layers_are_watched_by_their_cells(self, path):
        lstm = random_lstm(input_size=2, hidden_size=5, proj_size=2, forget_gate=False)
        x, corpus = normal(1, (30, 2)), normal(2, (9, 2))
        scale = abs(lstm.trace(x).cell).max()
        assert scale > 1
        page = show(path, lstm, x, corpus=corpus)
        assert page.facts["layers"][0]["scale"] == pytest.approx(float(scale))
        np.testing.assert_array_equal(page.corpus()[2][0], expected_levels(lstm.trace(corpus).cell, float(scale)))

    def test_a_value_at_a_threshold_reaches_it(self, path):
        affine = {"input": ("affine", 1.0, 1.0), "candidate": "affine"}
        lstm = lw.LSTM(1, 2, proj_size=1, forget_gate=False, activations=affine, seed=0)
        with lstm.edit() as parameters:
            for name in parameters:
                parameters[name][:] = 0
            parameters["bias_ih_l0"][2:4] = 0.5, -0.5  # so that the cells are multiples of 0.5
        x = np.zeros((4, 1))
        np.testing.assert_array_equal(lstm.trace(x).cell[:, 0], [0.5, 1.0, 1.5, 2.0])
        levels = show(path, lstm, x, corpus=x).corpus()[2][0]
        np.testing.assert_array_equal(levels, [[3, -3], [5, -5], [6, -6], [7, -7]])

    @pytest.mark.parametrize("as_list", [False, True])
    def test_one_sequence_or_several(self, path, as_list):
        network = lw.Network([lw.Embedding(5, 2, seed=0), lw.LSTM(2, 3, seed=0)])
        tokens = [0, 1, 2, 3, 4, 4]
        one = show(path, network, tokens, corpus=tokens if as_list else np.array(tokens))
        assert one.corpus()[:2] == (["0", "1", "2", "3", "4", "4"], [6])
        assert one.facts["sequences"][0]["tokens"] == ["0", "1", "2", "3", "4", "4"]
        two = show(path, network, tokens, corpus=[tokens, [3]] if as_list else [np.array(tokens), np.array([3])])
        assert two.corpus()[1] == [6, 7]

    def test_a_nested_list_of_numbers(self, path):
        lstm = lw.LSTM(2, 3, seed=0)
        rows = [[0.0, 1.0], [2.0, 3.0]]
        assert show(path, lstm, rows, corpus=rows).corpus()[1] == [2]
        assert show(path, lstm, rows, corpus=[rows, rows]).corpus()[1] == [2, 4]

    def test_its_size_is_bounded(self, path):
        lstm = lw.LSTM(1, 512, num_layers=2, seed=0)
        with pytest.raises(ValueError, match=r"corpus: expected 1 to 4,096 steps, .* got 4,097"):
            explorer(lstm, normal(0, (2, 1)), corpus=np.zeros((4097, 1)), path=path)
        with pytest.raises(ValueError, match=r"corpus: expected 1 to 262,144 steps, .* got 262,145"):
            explorer(lw.LSTM(1, 1, seed=0), normal(0, (2, 1)), corpus=np.zeros((262_145, 1)), path=path)


TEXT = "to be or not to be, that is the question.\n"


@pytest.fixture(scope="module")
def model():
    return lw.LSTMLanguageModel(8, 4, max_epochs=1, batch_size=2, random_state=0).fit(TEXT * 20)


class TestLanguageModel:
    def test_text_and_corpus(self, model, path):
        page = show(path, model, "to be \u2603", corpus=["or not", TEXT])
        assert page.facts["sequences"][0]["tokens"] == ["(start)", *"to be \u2603"]
        assert page.corpus()[0] == ["(start)", *"or not", "(start)", *TEXT]
        read = [model._tokenizer.unknown, *model._tokenizer.encode("to be \u2603").tolist()]
        check_signals(page, model.network_.trace(read))
        assert show(path, model, "", corpus=TEXT).facts["sequences"][0]["tokens"] == ["(start)"]

    def test_what_it_refuses(self, model, path):
        for keywords, message in (
            ({"x": [1, 2]}, "x: expected a str for a language model, got list"),
            ({"tokens": "abc"}, "tokens: expected None for a language model"),
            ({"corpus": "a", "corpus_tokens": ["a"]}, "corpus_tokens: expected None for a language model"),
            ({"corpus": ["a", 1]}, r"corpus\[1\]: expected a str for a language model, got int"),
            ({"state": 1}, "state: expected None for a language model"),
            ({"skip": [1]}, "skip: expected None for a language model"),
        ):
            with pytest.raises((TypeError, ValueError), match=message):
                explorer(model, **({"x": "abc", "path": path} | keywords))
        with pytest.raises(ValueError, match="call fit"):
            explorer(lw.LSTMLanguageModel(), "abc", path=path)
        assert not path.exists()


X = np.zeros((4, 2, 3))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"network": lw.LSTMCell(3, 4)}, TypeError, "network: expected LSTM, .* or LSTMLanguageModel, got LSTMCell"),
        ({"network": None}, TypeError, "network: expected LSTM, Network or LSTMLanguageModel, got NoneType"),
        ({"network": lw.Network([lw.Linear(3, 2)])}, ValueError, "network: expected at least one LSTM"),
        ({"x": X[..., :2]}, ValueError, r"x: expected \(T, N, 3\)"),
        ({"x": X[:0]}, ValueError, "x: expected at least one step, got none"),
        ({"x": X[:, :0]}, ValueError, "x: expected at least one step, got none"),
        ({"x": np.zeros((2**20 + 1, 3))}, ValueError, r"at most 4,194,304 steps times units.* got 1,048,577 x 4;"),
        ({"lengths": [4, 0]}, ValueError, "row: expected rows of at least one step, got row 1"),
        ({"lengths": [5, 1]}, ValueError, "lengths: expected 0 to 4"),
        ({"row": 2}, IndexError, "row: expected -2 to 1, got 2"),
        ({"row": [0, -3]}, IndexError, r"row\[1\]: expected -2 to 1, got -3"),
        ({"row": 0.0}, TypeError, "row: expected int, a sequence of int or None, got float"),
        ({"row": True}, TypeError, "row: expected int, a sequence of int or None, got bool"),
        ({"row": "0"}, TypeError, "row: expected int, a sequence of int or None, got str"),
        ({"row": []}, ValueError, "row: expected at least one, got none"),
        ({"member": 1}, IndexError, "member: expected -1 to 0, got 1"),
        ({"tokens": ["abcd"]}, ValueError, "tokens: expected labels for each of 2 rows, got 1"),
        ({"tokens": ["abcd", "abc"]}, ValueError, r"tokens\[1\]: expected 4 labels, one for each step, got 3"),
        ({"tokens": ["abcd", "abc"], "lengths": [4, 2]}, ValueError, r"tokens\[1\]: expected 4 or 2 labels"),
        ({"tokens": 3}, TypeError, "tokens: expected a sequence of labels, got int"),
        ({"tokens": {"a": 1}}, TypeError, "tokens: expected a sequence of labels, got dict"),
        ({"tokens": [b"abcd", "abcd"]}, TypeError, r"tokens\[0\]: expected a sequence of labels, got bytes"),
        ({"tracks": ["abcd"]}, TypeError, "tracks: expected a mapping of names to labels, got list"),
        ({"tracks": {1: ["abcd", "abcd"]}}, TypeError, "tracks: expected names of type str, got int"),
        ({"tracks": {"a": ["abcd", "ab"]}}, ValueError, r"tracks\['a'\]\[1\]: expected 4 labels"),
        ({"corpus": X}, ValueError, "corpus: expected one sequence without the axis of rows, got a batch"),
        ({"corpus": [X[:, 0], X[:, 0, :2]]}, ValueError, r"corpus\[1\]: expected .* or \(T, 3\), got \(4, 2\)"),
        ({"corpus": [["a", "b", "c"]]}, TypeError, "corpus: expected real numbers"),
        ({"corpus": []}, ValueError, "corpus: expected 1 to 262,144 steps, which its index may hold, got 0"),
        ({"corpus": X[:, 0], "corpus_tokens": "abc"}, ValueError, "corpus_tokens: expected 4 labels"),
        ({"corpus": [X[:, 0]], "corpus_tokens": []}, ValueError, "corpus_tokens: .* each sequence, 1 in all, got 0"),
        ({"corpus_tokens": "abcd"}, ValueError, "corpus_tokens: expected None without a corpus"),
        ({"path": "a\0b"}, ValueError, r"path: expected no NUL characters in it, got 'a\\x00b'"),
        ({"path": 3}, TypeError, "path: expected str, bytes or os.PathLike, got int"),
    ],
)  # fmt: skip
def test_what_is_refused(keywords, error, message, path):
    with pytest.raises(error, match=message):
        explorer(**({"network": lw.LSTM(3, 4, seed=0), "x": X, "path": path} | keywords))
    assert not path.exists()


def test_a_corpus_needs_one_member(path):
    network = lw.Network([lw.LSTM(3, 4, seed=0)], members=2)
    with pytest.raises(ValueError, match="corpus: expected one member to be shown, got 2; choose it with member="):
        explorer(network, X, corpus=X[:, 0], path=path)


def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    lstm = lw.LSTM(3, 4, seed=0)
    monkeypatch.setattr(lw.LSTM, "trace", lambda *_: pytest.fail("it ran"))
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "none" / "gates.html", FileNotFoundError)):
        with pytest.raises(error, match=re.escape(str(tmp_path))):
            explorer(lstm, X, path=path)


def test_labels_of_a_batch_of_one_row(path):
    lstm = lw.LSTM(3, 4, seed=0)
    for labels in ("abcd", ["a", "b", "c", "d"], ["abcd"], [["a", "b", "c", "d"]], np.array([*"abcd"])):
        page = show(path, lstm, X[:, :1], tokens=labels, tracks={"t": labels})
        assert page.facts["sequences"][0]["tokens"] == [*"abcd"]
        assert page.facts["sequences"][0]["tracks"][0]["steps"] == [0, 1, 2, 3]
    assert show(path, lstm, X[:1, :1], tokens=["abc"]).facts["sequences"][0]["tokens"] == ["abc"]
