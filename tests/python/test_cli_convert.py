"""The commands convert and info, with models of every format; they tell formats by content."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest
from latchwork.cli import main
from latchwork.interop import formats
from safetensors.numpy import save_file

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="ONNX is not installed")


def network():
    return lw.Network([lw.LSTM(2, 5, 2, seed=0), lw.Linear(5, 1, seed=1)])


def tensors():
    return {f"{name[0]}.{name[2:]}": array for name, array in network().state_dict().items()}


def write_safetensors(path):
    save_file(tensors(), path)


def write_torch(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
    torch.save({name: torch.from_numpy(array) for name, array in tensors().items()}, path)


WRITERS = {
    "latchwork": lambda path: network().save(path),
    "safetensors": write_safetensors,
    "torch": pytest.param(write_torch, marks=needs_torch),
    "rtneural": lambda path: lw.to_rtneural(network(), path),
    "nam": lambda path: lw.to_nam(network(), path),
    "onnx": pytest.param(lambda path: lw.to_onnx(network(), path), marks=needs_onnx),
}
needs_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed")
CASES = [
    pytest.param(name, *(each.values if hasattr(each, "values") else [each]), marks=getattr(each, "marks", ()), id=name)
    for name, each in WRITERS.items()
]
X = np.random.default_rng(0).uniform(-1, 1, (7, 2)).astype(np.float32)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_formats_are_told_by_content(name, write, tmp_path):
    path = tmp_path / "file.bin"
    write(path)
    assert formats.format_of(path) == name


@pytest.mark.parametrize(("name", "write"), CASES)
@pytest.mark.parametrize(
    "ending", [".safetensors", ".json", pytest.param(".pt", marks=needs_torch), pytest.param(".onnx", marks=needs_onnx)]
)
def test_every_pair(name, write, ending, tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / f"target{ending}"
    write(source)
    prefix = ["--prefix", "0,1"] if name in ("safetensors", "torch") else []
    status = main(["convert", str(source), str(target), *prefix])
    printed = capsys.readouterr()
    if name == "nam" and ending == ".json":  # a start state is what it cannot hold
        assert status == 2
        assert "learn_start_state" in printed.err
        return
    assert status == 0, printed.err
    assert "model     Network([LSTM(2, 5, num_layers=2" in printed.out
    assert f"written   {target} ({target.stat().st_size:,} bytes)" in printed.out
    again = formats.read(target, prefix=["0", "1"]) if ending == ".pt" else formats.read(target)
    np.testing.assert_allclose(again(X)[0], network()(X)[0], rtol=0, atol=1e-6)


def test_to_nam_and_back(tmp_path):
    network().save(tmp_path / "a.safetensors")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.nam"), "--sample-rate", "48000"]) == 0
    assert json.loads((tmp_path / "b.nam").read_text())["sample_rate"] == 48000
    assert main(["convert", str(tmp_path / "b.nam"), str(tmp_path / "c.safetensors")]) == 0
    assert (lw.load(tmp_path / "c.safetensors")(X)[0] == network()(X)[0]).all()


def test_layers_without_tensors_stand_in_prefix(tmp_path):
    write_safetensors(tmp_path / "a")
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b.safetensors"), "--prefix", "0,@last,1"]) == 0
    layers = [type(layer).__name__ for layer in lw.load(tmp_path / "b.safetensors")]
    assert layers == ["LSTM", "Last", "Linear"]
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b.safetensors"), "--prefix", "0,@relu,1,@gelu"]) == 0
    layers = [repr(layer) for layer in lw.load(tmp_path / "b.safetensors")]
    assert layers == ["LSTM(2, 5, num_layers=2)", "Activation('relu')", "Linear(5, 1)", "Activation('gelu')"]
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b.safetensors"), "--prefix", "0"]) == 0
    assert isinstance(lw.load(tmp_path / "b.safetensors"), lw.LSTM)


def test_standard_input(tmp_path, monkeypatch, capsys):
    network().save(tmp_path / "a")
    with open(tmp_path / "a", "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert main(["convert", "-", str(tmp_path / "b.json")]) == 0
    assert formats.format_of(tmp_path / "b.json") == "rtneural"
    (tmp_path / "c").write_bytes(b'{"layers": 3}')
    with open(tmp_path / "c", "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert main(["convert", "-", str(tmp_path / "b.json")]) == 2
    assert capsys.readouterr().err == "latchwork: standard input: layers: expected a list of layers\n"


ERRORS = {
    "no ending": (["a", "b"], "DST: expected a name that ends in .safetensors, .onnx"),
    "Keras": (["a", "b.keras"], "DST: expected a name that ends in"),
    "missing": (["none", "b.json"], "cannot read none: No such file or directory"),
    "no model": (["text", "b.json"], "text: expected a model, got a text file"),
    "other JSON": (["other.json", "b.json"], "other.json: expected a model, got JSON of another kind"),
    "prefix of ours": (["a", "b.json", "--prefix", "x"], "prefix: expected none for a model of Latchwork's, got 'x'"),
    "node of tensors": (["t", "b.json", "--node", "x"], "got 'x'; prefix is the one for it"),
    "no prefix": (["t", "b.json"], "prefix='0' takes it out"),
    "unknown prefix": (["t", "b.json", "--prefix", "x"], "got 'x'; there are '0', '1'"),
    "unknown activation": (["t", "b.json", "--prefix", "0,@x"], "expected @last, @mean, @max or an activation, got @x"),
    "stateful": (["a", "b.json", "--stateful"], "stateful: expected False for .json"),
    "sample rate": (["a", "b.safetensors", "--sample-rate", "1"], "sample_rate: expected None for .safetensors"),
    "no folder": (["a", "none/b.json"], "cannot write none/b.json: No such file or directory"),
    "cannot hold": (["last", "b.json"], "last: expected layers that RTNeural has, got Last"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network().save("a")
    write_safetensors("t")
    Path("text").write_text("text")
    Path("other.json").write_text('{"a": 3}')
    lw.Network([lw.LSTM(2, 3), lw.Last()]).save("last")
    arguments, message = ERRORS[name]
    assert main(["convert", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not Path("b.json").exists()


def test_a_missing_library_names_its_extra(tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", "content")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'latchwork\[torch\]'"):
        lw.from_torch(tmp_path / "a.pt")
    with pytest.raises(ImportError, match=r"pip install 'latchwork\[torch\]'"):
        lw.to_torch(network())
    network().save(tmp_path / "b.safetensors")
    for arguments in (["convert", "a.pt", "c.onnx"], ["info", "a.pt"], ["convert", "b.safetensors", "c.pt"]):
        monkeypatch.chdir(tmp_path)
        assert main(arguments) == 1
        assert capsys.readouterr().err == "latchwork: PyTorch is needed for this: pip install 'latchwork[torch]'\n"


@needs_torch
def test_tensors_alone_cannot_hold_a_scale(tmp_path, capsys):
    lw.Network([lw.Scale([0, 1], [1, 2]), lw.LSTM(2, 3)]).save(tmp_path / "a")
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b.pt")]) == 2
    assert "layer 0: expected layers whose numbers are tensors, got a Scale" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "write"), CASES)
def test_info_lists_lstms(name, write, tmp_path, capsys):
    path = tmp_path / "file"
    write(path)
    assert main(["info", "--json", str(path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["bytes"], said["format"]) == (str(path), path.stat().st_size, name)
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    if name == "latchwork":
        assert said["tensors"]["1.weight"] == [1, 5]
        assert "  1.weight           (1, 5)" in printed
        return
    assert [each["hidden_size"] for each in said["lstms"]] == ([5, 5] if name == "onnx" else [5])
    assert said["lstms"][0]["input_size"] == 2
    assert said["lstms"][0]["direction"] == "forward"
    assert f"LSTMs                {len(said['lstms'])}\n  '" in printed


def test_info_says_what_stands_beside(tmp_path, capsys):
    write_safetensors(tmp_path / "file")
    assert main(["info", "--json", str(tmp_path / "file")]) == 0
    (lstm,) = json.loads(capsys.readouterr().out)["lstms"]
    assert lstm["path"] == "0"
    assert lstm["options"] == {"num_layers": 2}
    assert lstm["obstacles"] == ["'1' (Linear (1, 5)) beside it"]


def test_info_shows_what_a_file_says_of_itself(tmp_path, capsys):
    lw.to_nam(network(), tmp_path / "a.nam", sample_rate=44100, metadata={"name": "amp"})
    assert main(["info", str(tmp_path / "a.nam")]) == 0
    assert "sample_rate          44100.0\n" in capsys.readouterr().out
    assert main(["info", "--json", str(tmp_path / "a.nam")]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["metadata"] == {"name": "amp"}


def test_info_json_needs_a_model(capsys):
    assert main(["info", "--json"]) == 2
    assert "--json: expected a MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b'{"layers": []}', b'{"architecture": "WaveNet", "config": {}}', b"[1]", b'{"a": NaN}']
)
def test_info_of_json_that_is_no_model(content, tmp_path, capsys):
    (tmp_path / "a").write_bytes(content)
    assert main(["info", str(tmp_path / "a")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".json", ".nam", ".safetensors", pytest.param(".pt", marks=needs_torch)])
def test_a_file_of_10_mb_takes_less_than_two_seconds(ending, tmp_path):
    lstm = lw.LSTM(1, 340 if ending in (".json", ".nam") else 780, seed=0)
    large = lw.Network([lstm, lw.Linear(lstm.hidden_size, 1, seed=0)])
    source, target = tmp_path / f"a{ending}", tmp_path / "b.safetensors"
    formats.write(large, source)
    assert source.stat().st_size > 9.7e6
    code = "import sys, time{}; from latchwork.cli import main; start = time.process_time(); main(sys.argv[1:]); "
    code += "print(time.process_time() - start)"
    command = ["convert", str(source), str(target), *(["--prefix", "0,1"] if ending == ".pt" else [])]
    program = [sys.executable, "-c", code.format(", torch" if ending == ".pt" else "")]
    environment = os.environ | {"PYTHONPATH": str(Path(lw.__file__).parents[1])}
    done = subprocess.run([*program, *command], check=True, capture_output=True, env=environment, timeout=120)
    assert float(done.stdout.split()[-1]) < 2


KERAS = Path(__file__).parent / "golden" / "keras"


@needs_h5py
@pytest.mark.parametrize(
    ("name", "options", "made"),
    [
        ("both_concat.h5", [], "LSTM(7, 4, batch_first=True, bidirectional=True)"),
        ("stack.keras", ["--layer", "encoder"], "LSTM(7, 3, batch_first=True, recurrent_dropout=0.3"),
        ("last.weights.h5", ["--layer", "lstm_1", "--recurrent-activation", "hard_sigmoid"], "hard_sigmoid"),
    ],
)
def test_models_of_keras(name, options, made, tmp_path, capsys):
    shutil.copy(KERAS / name, tmp_path / "source")
    assert formats.format_of(tmp_path / "source") == "keras"
    assert main(["convert", str(tmp_path / "source"), str(tmp_path / "a.safetensors"), *options]) == 0
    assert made in capsys.readouterr().out
    lw.load(tmp_path / "a.safetensors")


@needs_h5py
def test_info_of_a_model_of_keras(tmp_path, capsys):
    shutil.copy(KERAS / "stack.keras", tmp_path / "source")
    assert main(["info", "--json", str(tmp_path / "source")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["format"] == "keras"
    assert [(each["path"], each["input_size"], each["hidden_size"]) for each in said["lstms"]] == [
        ("encoder", 7, 3), ("decoder", 3, 4),
    ]  # fmt: skip
