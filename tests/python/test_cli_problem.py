"""What a table is as a problem: sequences, targets, inputs, and what is held out."""

import numpy as np
import pytest
from latchwork.cli.errors import CommandError
from latchwork.cli.table_problem import MOST_CATEGORIES, Wanted, read_problem, target_of_past
from latchwork.cli.table_sequences import gaps_in_time, sequences_of
from latchwork.cli.table_target import MOST_CLASSES
from latchwork.cli.tables import read_columns


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(names, rows):
        lines = [names, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / "d.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return "d.csv"

    return write


def series(count, seed=0):
    return np.random.default_rng(seed).normal(size=count).round(3).tolist()


class TestSequences:
    def test_grouped_and_ordered(self, write):
        rows = [("b", 3, 0), ("a", 2, 1), ("b", 1, 2), ("a", 1, 3), ("b", 2, 4)]
        table = read_columns(write("id,t,x", rows), {"id": "text", "t": "time"})
        sequences = sequences_of(table, "id", "t")
        assert sequences.table["id"].tolist() == ["b", "b", "b", "a", "a"]
        assert sequences.table["x"].tolist() == [2, 4, 0, 3, 1]
        assert sequences.table.places.tolist() == [4, 6, 2, 5, 3]
        assert sequences.offsets.tolist() == [0, 3, 5]
        assert sequences_of(table, "id", None).table["x"].tolist() == [0, 2, 4, 1, 3]
        assert sequences_of(table, None, None).table["x"].tolist() == [0, 1, 2, 3, 4]
        taken = sequences.take([1])
        assert (taken.table["x"].tolist(), taken.offsets.tolist()) == ([3, 1], [0, 2])
        assert sequences.between(0, 1).table["x"].tolist() == [2, 4, 0]

    def test_many_orders_beside_a_sort(self, write):
        random = np.random.default_rng(0)
        for seed in range(5):
            rows = [(f"s{id}", t, n) for n, (id, t) in enumerate((id, t) for id in range(7) for t in range(seed + 1))]
            rows = [rows[place] for place in random.permutation(len(rows))]
            first = {}
            for place, (id, _, _) in enumerate(rows):
                first.setdefault(id, place)
            expected = [n for _, _, n in sorted(rows, key=lambda row: (first[row[0]], row[1]))]
            table = read_columns(write("id,t,x", rows), {"id": "text", "t": "time"})
            assert sequences_of(table, "id", "t").table["x"].tolist() == expected

    @pytest.mark.parametrize(
        ("names", "rows", "sequence", "message"),
        [
            ("id,t", [("a", 1), ("b", 1), ("a", 2), ("a", 1)], "id", "d.csv: line 5, column 't': expected different "
             "times within sequence 'a', got 1 as in line 2"),
            ("x,t", [(1, "2024-01-01"), (1, "2024-01-01")], None, "d.csv: line 3, column 't': expected different "
             "times, got 2024-01-01 as in line 2; --sequence names the column"),
            ("id,t", [("a", 1), ("", 2)], "id", "d.csv: line 3, column 'id': expected the name of a sequence, got"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, write, names, rows, sequence, message):
        kinds = {"t": "time"} | ({} if sequence is None else {sequence: "text"})
        with pytest.raises(CommandError) as error:
            sequences_of(read_columns(write(names, rows), kinds), sequence, "t")
        assert str(error.value).startswith(message)

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            ([1, 2, 3, 6, 7, 8, 11], "line 5, column 't': 3 after the row before it, where most rows are 1 apart; 2"),
            (["2024-01-01", "2024-01-02", "2024-01-05", "2024-01-06"], "line 4, column 't': 3 days after the row"),
            (["2024-01-01T00:00", "2024-01-01T00:30", "2024-01-01T01:00", "2024-01-01T02:30"], "1.5 hours after the"),
            ([f"2024-{month:02}-01" for month in range(1, 13)], None),
            ([1, 2, 4, 8, 16], None),
            ([0.1 * n for n in range(50)], None),
            ([5], None),
        ],
    )  # fmt: skip
    def test_gaps_in_time(self, write, times, message):
        table = read_columns(write("t,x", [(time, 0) for time in times]), {"t": "time"})
        told = gaps_in_time(sequences_of(table, None, "t"), "t")
        assert told is None if message is None else message in told

    def test_time_between_sequences_is_no_gap(self, write):
        rows = [(id, 100 * id + t) for id in range(4) for t in range(5)]
        table = read_columns(write("id,t", rows), {"id": "text", "t": "time"})
        assert gaps_in_time(sequences_of(table, "id", "t"), "t") is None


class TestTarget:
    def read(self, write, targets, **wanted):
        rows = [(n, target) for n, target in enumerate(targets)]
        return read_problem(write("x,y", rows), Wanted("y", **wanted)).target

    def test_words(self, write):
        target = self.read(write, ["up", "down", "up", "", *["down"] * 10])
        assert (target.task, target.classes) == ("classification", ["down", "up"])
        assert "2 different words" in target.task_reason
        assert target.values.tolist() == [1, 0, 1, -1, *[0] * 10]

    def test_few_integers(self, write):
        target = self.read(write, [*[3, -1, "", 7] * 5])
        assert (target.task, target.classes) == ("classification", [-1, 3, 7])
        assert target.values.tolist() == [1, 0, -1, 2] * 5
        assert "3 different whole numbers; --task regression" in target.task_reason

    @pytest.mark.parametrize("targets", [series(30), list(range(60)), [*range(MOST_CLASSES + 1)] * 9, [0, 1, 2.5] * 9])
    def test_numbers(self, write, targets):
        target = self.read(write, targets)
        assert (target.task, target.classes) == ("regression", [])

    def test_bounds_of_few(self, write):
        assert self.read(write, [*range(MOST_CLASSES)] * 3).task == "classification"
        assert self.read(write, [*[*range(MOST_CLASSES)] * 3][:-1]).task == "regression"

    def test_the_user_decides(self, write):
        target = self.read(write, [0, 1] * 9, task="regression")
        assert (target.task, target.task_reason) == ("regression", "--task says so")
        assert self.read(write, [*range(30)], task="classification").classes == [*range(30)]

    def test_of_sequences_and_of_rows(self, write):
        rows = [(id, t, id % 2) for id in range(8) for t in range(3)]
        target = read_problem(write("id,x,y", rows), Wanted("y", sequence="id")).target
        assert (target.per_step, target.values.tolist()) == (False, [0, 1] * 4)
        rows[4] = (1, 1, 0)
        target = read_problem(write("id,x,y", rows), Wanted("y", sequence="id")).target
        assert target.per_step
        assert "differ within a sequence (line 6 is the first that does)" in target.per_step_reason
        assert len(target.values) == 24

    def test_of_sequences_in_which_rows_lack_it(self, write):
        rows = [(id, t, id % 2 if t == 1 else "") for id in range(8) for t in range(3)]
        target = read_problem(write("id,x,y", rows), Wanted("y", sequence="id")).target
        assert (target.per_step, target.values.tolist()) == (False, [0, 1] * 4)

    def test_sequences_without_one_are_left_out(self, write):
        rows = [(id, t, "" if id == 3 else id / 7) for id in range(8) for t in range(3)]
        problem = read_problem(write("id,x,y", rows), Wanted("y", sequence="id"))
        assert len(problem.sequences) == 7
        assert "3" not in problem.sequences.table["id"].tolist()
        assert problem.notes == [
            "1 sequence without a value in column 'y', the first in line 11: left out of training and score"
        ]

    @pytest.mark.parametrize(
        ("targets", "task", "message"),
        [
            (["2024-01-01"] * 20, None, "column 'y': expected numbers or words as targets, got dates"),
            (["a"] * 20, None, "column 'y': expected at least two different targets to learn from, got 1"),
            ([1.5] * 20, None, "expected at least two different targets"),
            (["", "a", "b"] * 20, "regression", "line 3, column 'y': expected a number, as --task regression needs"),
            ([1, 2, 2.5] * 20, "classification", "line 4, column 'y': expected words or whole numbers, which"),
            ([*["a", "b"] * 10, "", ""], None, "expected a target in what is held out"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, write, targets, task, message):
        with pytest.raises(CommandError) as error:
            self.read(write, targets, task=task)
        assert message in str(error.value)


class TestInputs:
    def test_each_kind(self, write):
        rows = [(n, "ab"[n % 2], f"2024-01-{n + 1:02}", f"text {n % 3}", n / 3) for n in range(20)]
        problem = read_problem(write("x,c,day,text,y", rows), Wanted("y", time="day", own_past=False))
        assert problem.inputs == ("x", "c", "text")
        assert problem.categorical == ["c", "text"]

    def test_dates_and_many_texts_are_left_out(self, write):
        rows = [(n, f"2024-01-01T00:00:{n % 60:02}", f"t{n % 101}", n / 3) for n in range(3 * MOST_CATEGORIES)]
        path = write("x,day,text,y", rows)
        problem = read_problem(path, Wanted("y", own_past=False))
        assert problem.inputs == ("x",)
        assert problem.notes == [
            "column 'day' is left out: it holds dates, which are no inputs",
            "column 'text' is left out: it holds 101 different texts; --categorical makes an input of it",
        ]
        assert read_problem(path, Wanted("y", own_past=False, categorical=("text",))).inputs == ("x", "text")

    def test_numbers_as_categories(self, write):
        problem = read_problem(write("x,c,y", [(n, n % 3, n / 7) for n in range(20)]), Wanted("y", categorical=("c",)))
        assert problem.categorical == ["c"]

    def test_missing(self, write):
        path = write("x,c,y", [("" if n in (4, 6) else n, "" if n == 5 else "a", n / 7) for n in range(20)])
        problem = read_problem(path, Wanted("y", own_past=False))
        assert problem.notes == ["3 values are missing in 2 columns, the first in line 6: a number is carried forward"]
        assert problem.has_gaps
        with pytest.raises(CommandError, match="line 6, column 'x': expected a value, got nothing; --missing"):
            read_problem(path, Wanted("y", own_past=False, missing="refuse"))

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            (Wanted("z"), "d.csv: expected a column 'z', got 'id', 'x', 'y'"),
            (Wanted("Y"), "perhaps 'y'"),
            (Wanted("y", sequence="s"), "d.csv: expected a column 's', got"),
            (Wanted("y", time="t"), "d.csv: expected a column 't', got"),
            (Wanted("y", categorical=("c",)), "d.csv: expected a column 'c', got"),
            (Wanted("y", sequence="y"), "--sequence: expected another column than that of --target, got 'y'"),
            (
                Wanted("y", sequence="id", time="id"),
                "--time: expected another column than that of --sequence, got 'id'",
            ),
            (Wanted("y", time="x", categorical=("x",)), "--categorical: expected inputs or the target, got 'x'"),
            (Wanted("y", sequence="id", own_past=True), "--own-past: expected targets that differ within a sequence"),
            (Wanted("x", own_past=True, bidirectional=True), "--own-past: a model that reads backward too would read"),
        ],
    )
    def test_what_is_refused(self, write, wanted, message):
        path = write("id,x,y", [(n // 4, n, n // 4) for n in range(40)])
        with pytest.raises(CommandError) as error:
            read_problem(path, wanted)
        assert message in str(error.value)

    def test_no_inputs(self, write):
        path = write("id,y", [(n // 4, n // 4) for n in range(40)])
        with pytest.raises(CommandError, match="d.csv: expected a column of inputs beside 'y', got none"):
            read_problem(path, Wanted("y", sequence="id"))
        path = write("y", [(n / 7,) for n in range(40)])
        with pytest.raises(CommandError, match="expected a column of inputs beside 'y'"):
            read_problem(path, Wanted("y", bidirectional=True))


class TestOwnPast:
    """The target of the row before as an input."""

    def test_where_it_is_one(self, write):
        numbers = write("x,y", [(n, n / 7) for n in range(20)])
        assert read_problem(numbers, Wanted("y")).own_past
        assert not read_problem(numbers, Wanted("y", own_past=False)).own_past
        assert not read_problem(numbers, Wanted("y", bidirectional=True)).own_past
        words = write("x,y", [(n, "ab"[n % 2]) for n in range(20)])
        assert not read_problem(words, Wanted("y")).own_past
        assert read_problem(words, Wanted("y", own_past=True)).own_past
        assert read_problem(write("y", [("ab"[n % 2],) for n in range(20)]), Wanted("y")).own_past
        panel = write("id,x,y", [(n // 5, n, n / 7) for n in range(20)])
        assert not read_problem(panel, Wanted("y", sequence="id")).own_past

    def test_no_input_knows_its_target(self, write):
        """Each row reads the target of the row before in its sequence, never one of its own or another sequence."""
        targets = series(24)
        rows = [(n % 4, n // 4, y) for n, y in enumerate(targets)]
        problem = read_problem(write("id,t,y", rows), Wanted("y", sequence="id", time="t"))
        assert problem.inputs == ("y (row before)",)
        assert target_of_past(problem.inputs[0]) == "y"
        table = problem.sequences.table
        assert problem.sequences.lengths.tolist() == [5] * 4
        before = {(id, t): y for id, t, y in rows}
        for row in range(len(table)):
            id, t = int(table["id"][row]), int(table["t"][row])
            assert problem.target.values[row] == before[id, t]
            assert table["y (row before)"][row] == before[id, t - 1]

    def test_words(self, write):
        problem = read_problem(write("y", [("abc"[n % 3],) for n in range(20)]), Wanted("y"))
        assert problem.categorical == ["y (row before)"]
        assert problem.sequences.table["y (row before)"].tolist() == ["abc"[n % 3] for n in range(19)]

    def test_sequences_of_one_row_go(self, write):
        rows = [(id, y) for id in range(6) for y in series(1 if id == 2 else 4, id)]
        problem = read_problem(write("id,y", rows), Wanted("y", sequence="id"))
        assert problem.sequences.lengths.tolist() == [3] * 5
        assert len(problem.target.values) == 15

    def test_a_missing_one_names_its_row(self, write):
        path = write("x,y", [(n, "" if n == 7 else n / 7) for n in range(20)])
        with pytest.raises(CommandError, match=r"line 10, column 'y \(row before\)': expected a value, got nothing"):
            read_problem(path, Wanted("y", missing="refuse"))


class TestHeldOut:
    def test_one_series(self, write):
        problem = read_problem(write("x,y", [(n, n / 7) for n in range(47)]), Wanted("y", own_past=False))
        assert problem.training.tolist() == [*range(43)]
        assert problem.held_out.tolist() == [*range(43, 47)]
        part = problem.training_part()
        assert [len(frame) for frame in part.X] == [43]
        assert part.y[0].tolist() == [n / 7 for n in range(43)]

    def test_sequences(self, write):
        rows = [(id, t, id / 7) for id in range(25) for t in range(id % 3 + 1)]
        problem = read_problem(write("id,x,y", rows), Wanted("y", sequence="id"))
        assert problem.held_out.tolist() == [23, 24]
        part = problem.training_part()
        assert part.y.tolist() == [id / 7 for id in range(23)]
        assert part.X.columns == ["id", "x"]
        assert part.X["id"].tolist() == [str(id) for id, _, _ in rows if id < 23]

    def test_rows_of_sequences(self, write):
        rows = [(id, t, id + t / 7) for id in range(5) for t in range(3)]
        problem = read_problem(write("id,x,y", rows), Wanted("y", sequence="id"))
        assert problem.held_out.tolist() == [4]
        assert problem.places(problem.held_out).tolist() == [12, 13, 14]
        assert problem.training_part().y.tolist() == [y for id, _, y in rows if id < 4]

    def test_each_class(self, write):
        """A file that is sorted by class has the last of each class held out."""
        classes = ["a"] * 25 + ["b"] * 8 + ["c"]
        rows = [(id, 0, label) for id, label in enumerate(classes)]
        problem = read_problem(write("id,x,y", rows), Wanted("y", sequence="id"))
        assert problem.held_out.tolist() == [23, 24, 32]
        assert problem.training_part().y.tolist() == ["a"] * 23 + ["b"] * 7 + ["c"]

    def test_missing_labels(self, write):
        problem = read_problem(write("x,y", [(n, "" if n == 3 else "ab"[n % 2]) for n in range(20)]), Wanted("y"))
        assert problem.training_part().y[0].tolist()[:5] == ["a", "b", "a", None, "a"]

    def test_a_category_that_only_they_have(self, write):
        """The column is no input then, or an error if it was asked for."""
        path = write("c,d,x,y", [("ab"[n > 45], "pq"[n % 2], n, n / 7) for n in range(50)])
        problem = read_problem(path, Wanted("y"))
        assert problem.inputs == ("d", "x", "y (row before)")
        assert problem.notes == ["column 'c' is left out: 'b', in line 48, is only in what is held out"]
        with pytest.raises(CommandError, match="line 48, column 'c': expected a text that is not only in what is held"):
            read_problem(path, Wanted("y", categorical=("c",)))
        path = write("c,y", [("ab"[n > 45], n / 7) for n in range(50)])
        with pytest.raises(CommandError, match="expected a column of inputs beside 'y', got none"):
            read_problem(path, Wanted("y", own_past=False))

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([(0, n, n / 7) for n in range(9)], "expected at least 10 rows of one series, got 9"),
            ([(n % 2, n, n % 2 / 7) for n in range(20)], "expected at least 3 sequences, got 2"),
        ],
    )
    def test_too_few(self, write, rows, message):
        with pytest.raises(CommandError, match=message):
            read_problem(write("id,x,y", rows), Wanted("y", sequence="id", own_past=False))
