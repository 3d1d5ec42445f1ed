"""Writing over what is there: its mode stays, nobody sees more meanwhile, and what is no regular file is refused."""

import contextlib
import os
import socket
import stat

import latchwork as lw
import pytest
from latchwork import _writing
from latchwork.cli import main

TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 20

BENCH = ["--peers", "", "--cases", "step-20", "--kinds", "step", "--threads", "1", "--rounds", "1"]


def language_model():
    return lw.LSTMLanguageModel(4, 3, batch_size=2, window=8, max_epochs=1, random_state=0).fit("ab" * 20)


def train(path):
    text = os.path.join(os.path.dirname(path), "text")
    with open(text, "w") as file:
        file.write(TEXT)
    assert main(["train", text, "-o", os.fspath(path), "--seconds", "0", "--hidden-size", "4"]) == 0
    os.unlink(text)


def bench(path):
    assert main(["bench", "--json", os.fspath(path), *BENCH]) == 0


WRITERS = {
    "layer": lambda path: lw.LSTM(2, 3).save(path),
    "network": lambda path: lw.Network([lw.LSTM(2, 3), lw.Last()]).save(path),
    "estimator": lambda path: language_model().save(path),
    "train": train,
    "bench": bench,
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@pytest.fixture
def umask_022():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.usefixtures("umask_022")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_the_mode_of_the_file_that_was_there_is_kept(tmp_path, write, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert path.read_bytes() != b"old"
    assert mode_of(path) == mode
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path, write, umask, mode):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "file") == mode


@pytest.mark.usefixtures("umask_022")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_no_one_may_read_the_new_content_meanwhile_who_may_not_afterwards(tmp_path, monkeypatch, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    seen = []

    def watch(function):
        def watched(*arguments, **keywords):
            seen.extend(mode_of(entry) for entry in tmp_path.glob(".latchwork-*"))
            result = function(*arguments, **keywords)
            seen.extend(mode_of(entry) for entry in tmp_path.glob(".latchwork-*"))
            return result

        return watched

    for name in ("open", "fchown", "fchmod", "fsync", "replace"):
        monkeypatch.setattr(os, name, watch(getattr(os, name)))
    lw.LSTM(2, 3).save(path)
    assert len(seen) >= 8
    assert all(each & ~mode == 0 for each in seen), [oct(each) for each in seen]
    assert mode_of(path) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_group_are_kept(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    lw.LSTM(2, 3).save(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (12345, 23456, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize(("mode", "expected"), [(0o640, 0o600), (0o664, 0o644), (0o666, 0o666)])
def test_another_group_may_do_no_more_than_everybody(tmp_path, monkeypatch, mode, expected):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, -1, 23456)
    path.chmod(mode)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)  # as it is for those who are not in that group
    lw.LSTM(2, 3).save(path)
    assert path.stat().st_gid != 23456
    assert mode_of(path) == expected


def test_a_file_system_without_modes_takes_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchmod", refuse)
    lw.LSTM(2, 3).save(path)
    assert isinstance(lw.load(path), lw.LSTM)


@contextlib.contextmanager
def special(kind, path):
    """Something that is no regular file."""
    with contextlib.ExitStack() as stack:
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a folder":
            path.mkdir()
        else:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(os.fspath(path))
        yield


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a socket"])
class TestWhatIsNoRegularFile:
    """It is refused before any work, and stays what it is."""

    @pytest.fixture
    def path(self, tmp_path, monkeypatch, kind, through_a_link):
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        path = tmp_path / "target"
        with special(kind, path.relative_to(tmp_path)):
            before = os.stat(path)
            given = path
            if through_a_link:
                given = tmp_path / "link"
                given.symlink_to(path)
            yield given
            after = os.stat(path)
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)

    @pytest.mark.parametrize("name", ["layer", "network", "estimator"])
    def test_save(self, path, kind, name, monkeypatch):
        model = {"layer": lambda: lw.LSTM(2, 3), "network": lambda: lw.Network([lw.LSTM(2, 3)])}
        model = model.get(name, language_model)()
        monkeypatch.setattr(type(model), "_to_file", lambda _: pytest.fail("worked"))
        with pytest.raises(OSError, match=f"expected a regular file or a new one, got {kind}"):
            model.save(path)

    def test_train(self, path, kind, tmp_path, monkeypatch, capsys):
        text = tmp_path / "text"
        text.write_text(TEXT)
        monkeypatch.setattr(lw.LSTMLanguageModel, "fit", lambda *_: pytest.fail("trained"))
        assert main(["train", str(text), "--output", str(path)]) == 2
        assert capsys.readouterr().err == (
            f"latchwork: cannot write {path}: expected a regular file or a new one, got {kind}\n"
        )

    def test_bench(self, path, kind, monkeypatch, capsys):
        monkeypatch.setattr("latchwork.benchmark.measuring.start", lambda *_: pytest.fail("measured"))
        assert main(["bench", "--json", str(path)]) == 2
        assert f"got {kind}\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "bench"])
def test_a_place_that_is_gone_at_the_end(tmp_path, monkeypatch, capsys, command):
    """It is said in one line, whatever happened to the folder meanwhile."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "text").write_text(TEXT)
    patched = "latchwork.files.write_atomically" if command == "train" else "latchwork.cli.bench.write_atomically"

    def write(path, content):
        folder.rmdir()
        _writing.write_atomically(path, content)

    monkeypatch.setattr(patched, write)
    if command == "train":
        arguments = [
            "train",
            str(tmp_path / "text"),
            "-o",
            str(folder / "file"),
            "--seconds",
            "0",
            "--hidden-size",
            "4",
        ]
    else:
        arguments = ["bench", "--json", str(folder / "file"), *BENCH]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"latchwork: cannot write {folder / 'file'}: No such file or directory\n"


@pytest.mark.usefixtures("umask_022")
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_stays_one(tmp_path, write, relative):
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "target"
    target.touch()
    target.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to("folder/target" if relative else target)
    write(link)
    assert link.is_symlink()
    assert target.stat().st_size > 0
    assert mode_of(target) == 0o640


def test_a_link_to_nothing_gets_its_file(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("target")
    lw.LSTM(2, 3).save(link)
    assert link.is_symlink()
    assert isinstance(lw.load(tmp_path / "target"), lw.LSTM)


def test_a_link_to_itself_is_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        lw.LSTM(2, 3).save(link)


@pytest.mark.parametrize("name", ["model", "mod\u00e8le", "\udcff"])
def test_paths_may_be_bytes(tmp_path, name):
    path = os.fsencode(tmp_path / name)
    lw.LSTM(2, 3, seed=0).save(path)
    assert os.listdir(tmp_path) == [name]
    for each in (path, tmp_path / name, os.fsdecode(path)):
        assert lw.load(each).hidden_size == 3
    language_model().save(path)
    assert isinstance(lw.load(path), lw.LSTMLanguageModel)


@pytest.mark.parametrize("path", [None, 3, ["model"]])
def test_a_path_is_text_or_bytes(path):
    for call in (lw.LSTM(2, 3).save, language_model().save, lw.load):
        with pytest.raises(TypeError, match="path: expected str, bytes or os.PathLike, got "):
            call(path)


def test_a_path_has_no_nul():
    for call in (lw.LSTM(2, 3).save, language_model().save, lw.load):
        with pytest.raises(ValueError, match="path: expected no NUL characters in it, got "):
            call(b"a\0b")


def test_an_empty_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (lw.LSTM(2, 3).save, lw.load):
        with pytest.raises(FileNotFoundError):
            call("")
    assert os.listdir(tmp_path) == []


def test_what_is_written_is_the_content(tmp_path):
    for content in (b"", b"\0" * 100_000):
        _writing.write_atomically(str(tmp_path / "file"), content)
        assert (tmp_path / "file").read_bytes() == content


def test_file_and_folder_reach_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    path, synced = tmp_path / "model.safetensors", []

    def fsync(descriptor):
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    lw.LSTM(1, 1).save(path)
    assert synced == [(False, False), (True, True)]
