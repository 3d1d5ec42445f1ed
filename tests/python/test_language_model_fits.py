"""Fits of the language model beyond the default one: tokenizers, validation, fine-tuning, members, files, resuming."""

import copy
import json
import math
import pickle

import latchwork as lw
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from latchwork.estimators.runs.checkpoints import Checkpoints
from latchwork.estimators.runs.verification import verify
from latchwork.estimators.text.tokenizers import NAMES

TEXT = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n" * 40
OTHER = "a lazy stitch jumps over the time; the brown dog saves nine.\n" * 20
SMALL = {"hidden_size": 16, "embedding_size": 8, "batch_size": 8, "window": 32, "lr": 0.02, "random_state": 0}


def ords(text):
    return [ord(character) for character in text]


def text_of(numbers):
    return "".join(map(chr, numbers))


def weights_of(model):
    return {name: np.array(value) for name, value in model.network_.state_dict().items()}


def assert_equal_weights(a, b):
    a, b = weights_of(a), weights_of(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def bits_of(model, text):
    """The definition, step by step: bits that name each token, and those that say what an unknown one is."""
    tokenizer = model._tokenizer
    stream = model.network_.stream()
    token = tokenizer.unknown
    bits = 0.0
    for following in tokenizer.encode(text).tolist():
        scores = np.atleast_2d(np.asarray(stream.step(token), float))
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)
        bits -= math.log2(probabilities[following])
        if following == tokenizer.unknown:
            bits += tokenizer.unknown_bits
        token = following
    return bits


@pytest.fixture(scope="module", params=[*NAMES, (ords, text_of)], ids=[*NAMES, "callables"])
def model(request):
    return lw.LSTMLanguageModel(**SMALL, max_epochs=8, tokenizer=request.param).fit(TEXT)


@pytest.fixture(scope="module")
def fitted():
    return lw.LSTMLanguageModel(**SMALL, max_epochs=6).fit(TEXT)


class TestTokenizers:
    def test_learn(self, model):
        counted = {"characters": "characters", "bytes": "bytes"}.get(model._tokenizer.kind, "tokens")
        last = model.history_[-1]
        tokens = len(model._tokenizer.encode(TEXT))
        assert last[counted] >= 8 * tokens
        assert last["bits_per_character"] < 0.6 * model.history_[0]["bits_per_character"]
        # In bits per character of the text, whatever the tokens are: as measured when the learning rate is near zero.
        assert last["bits_per_character"] == pytest.approx(model.bits_per_character(TEXT), rel=0.2)
        assert set(last) == {"epoch", "seconds", counted, "bits_per_character", "lr", "gradient_norm"}
        assert model.n_iter_ == 8

    @pytest.mark.parametrize("text", ["t", OTHER[:60], "the \u2603 fox\U0001f600", "x" * 9])
    def test_bits_and_perplexity_are_their_definition(self, model, text):
        bits, tokens = bits_of(model, text), len(model._tokenizer.encode(text))
        assert model.bits_per_character(text) == pytest.approx(bits / len(text), rel=1e-4)
        assert model.perplexity(text) == pytest.approx(2 ** (bits / tokens), rel=1e-3)
        assert type(model.bits_per_character(text)) is type(model.perplexity(text)) is float

    def test_a_file(self, model, tmp_path):
        model.save(tmp_path / "model")
        loaded = lw.load(tmp_path / "model")
        assert loaded.vocabulary_ == model.vocabulary_
        assert loaded.history_ == model.history_
        if isinstance(model.tokenizer, tuple):
            for use in (loaded.generate, lambda: loaded.perplexity("a"), lambda: loaded.bits_per_character("a")):
                with pytest.raises(ValueError, match=r"which no file can hold: model.tokenizer = \(encode, decode\)"):
                    use()
            loaded.tokenizer = model.tokenizer
        assert loaded.get_params() == model.get_params()
        assert loaded.generate("the", 20, random_state=1) == model.generate("the", 20, random_state=1)
        assert loaded.bits_per_character(OTHER) == model.bits_per_character(OTHER)
        assert_equal_weights(loaded, model)
        loaded.save(tmp_path / "again")
        metadata = [safetensors.safe_open(tmp_path / name, "np").metadata() for name in ("model", "again")]
        assert metadata[0] == metadata[1]

    def test_copies(self, model):
        for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert copied.generate("the", 20, random_state=1) == model.generate("the", 20, random_state=1)
            assert copied.get_params() == model.get_params()

    def test_a_text_larger_than_memory(self, model, tmp_path):
        if isinstance(model.tokenizer, tuple):
            with pytest.raises(TypeError, match="text: expected a str with a tokenizer of your own"):
                lw.LSTMLanguageModel(**SMALL, tokenizer=model.tokenizer).fit(iter([TEXT]))
            return
        (tmp_path / "text").write_text(TEXT, encoding="utf-8")
        for text in (tmp_path / "text", (TEXT[begin : begin + 99] for begin in range(0, len(TEXT), 99))):
            other = lw.LSTMLanguageModel(**SMALL, max_epochs=8, tokenizer=model.tokenizer).fit(text)
            assert_equal_weights(other, model)
            assert other.history_[-1]["bits_per_character"] == model.history_[-1]["bits_per_character"]

    def test_explorer_and_labels(self, model, tmp_path):
        lw.explain.explorer(model, "the fox", path=tmp_path / "page.html")
        assert "(start)" in (tmp_path / "page.html").read_text(encoding="utf-8")

    def test_the_package_tokenizers(self, tmp_path):
        package = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
        user = package.ByteLevelBPETokenizer()
        user.train_from_iterator([TEXT], vocab_size=320, show_progress=False)
        user.save(str(tmp_path / "user.json"))
        models = [
            lw.LSTMLanguageModel(**SMALL, max_epochs=2, tokenizer=each).fit(TEXT)
            for each in (user, tmp_path / "user.json", str(tmp_path / "user.json"))
        ]
        for place, model in enumerate(models):
            model.save(tmp_path / f"model{place}")
            (tmp_path / "user.json").unlink(missing_ok=True)  # the file has it
            loaded = lw.load(tmp_path / f"model{place}")
            assert loaded.tokenizer.to_str() == user.to_str()
            assert loaded.generate("the", 20, random_state=1) == models[0].generate("the", 20, random_state=1)
            assert_equal_weights(loaded.fit(TEXT), models[0])

    @pytest.mark.parametrize(
        ("tokenizer", "error"), [("letters", ValueError), (None, TypeError), ((ords,), TypeError), (3, TypeError)]
    )
    def test_what_is_refused(self, tokenizer, error):
        with pytest.raises(error, match="tokenizer: expected"):
            lw.LSTMLanguageModel(tokenizer=tokenizer).fit(TEXT)

    def test_too_few_tokens(self):
        stripping = (lambda text: ords(text.strip()), text_of)
        with pytest.raises(ValueError, match="text: expected at least 2 tokens, got 1"):
            lw.LSTMLanguageModel(tokenizer=stripping).fit(" a ")
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=1, tokenizer=stripping).fit(TEXT)
        assert model.bits_per_character("  ") == 0.0
        with pytest.raises(ValueError, match=r"text: expected at least 1 token, got none of 2 character\(s\)"):
            model.perplexity("  ")

    @pytest.mark.parametrize(
        "damage",
        [
            {"config": {"tokenizer": {"kind": "bytes"}}},
            {"config": {"tokenizer": 3}},
            {"config": {"vocabulary": [97]}},
            {"python": {"parameters": {"tokenizer": {"optimizer": 3}}}},
            {"python": {"parameters": {"optimizer": {"optimizer": {"options": {"kind": "trust"}, "schedule": None}}}}},
            {"python": {"parameters": {"lr_schedule": {"schedule": {"kind": "trust"}}}}},
            {"python": {"parameters": {"zoneout": {"trust": 1}}}},
            {"python": {"parameters": {"validation_fraction": 2}}},
        ],
        ids=str,
    )
    def test_damaged_files(self, tmp_path, damage):
        path = tmp_path / "model"
        lw.LSTMLanguageModel(**SMALL, max_epochs=1, tokenizer="words").fit(TEXT).save(path)
        with safetensors.safe_open(path, "np") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata |= {key: json.dumps(json.loads(metadata[key]) | changes) for key, changes in damage.items()}
        safetensors.numpy.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="model: "):
            lw.load(path)


class TestValidation:
    def test_is_measured_after_each_epoch(self):
        measured = []

        def measure(run, row):
            model = lw.LSTMLanguageModel(**SMALL)
            model._keep(tokenizer, run.network, [], False)
            measured.append(model.bits_per_character(OTHER))

        tokenizer = lw.LSTMLanguageModel(**SMALL, max_epochs=1).fit(TEXT)._tokenizer
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=3, validation_data=OTHER, callbacks=[measure]).fit(TEXT)
        assert [row["validation_loss"] for row in model.history_] == measured
        assert len(measured) == 3
        assert_equal_weights(model, lw.LSTMLanguageModel(**SMALL, max_epochs=3).fit(TEXT))

    def test_early_stopping_holds_the_end_of_the_text_out(self):
        text = TEXT + "\u2603" * (len(TEXT) // 4)  # a fifth of the text, as bad as can be
        model = lw.LSTMLanguageModel(
            **SMALL, max_epochs=50, early_stopping=True, validation_fraction=0.2, n_iter_no_change=2, tol=0.0
        ).fit(text)
        assert "\u2603" not in model.vocabulary_
        losses = [row["validation_loss"] for row in model.history_]
        best = losses.index(min(losses))
        assert len(losses) == best + 3 < 50
        assert model.bits_per_character("\u2603" * (len(TEXT) // 4)) == min(losses)

    def test_a_short_text(self):
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=1, early_stopping=True).fit("abc")
        assert model.vocabulary_ == "ab"
        with pytest.raises(ValueError, match="text: expected at least 3"):
            model.fit("ab")

    def test_of_a_text_larger_than_memory(self):
        with pytest.raises(ValueError, match="validation_data: expected a str beside a text that is a file"):
            lw.LSTMLanguageModel(**SMALL, early_stopping=True).fit(iter([TEXT]))
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=2, early_stopping=True, validation_data=OTHER)
        assert "validation_loss" in model.fit(iter([TEXT])).history_[0]


class TestWarmStart:
    def tuned(self, fitted, text=OTHER, **parameters):
        model = copy.deepcopy(fitted)
        return model.set_params(**{"warm_start": True, "max_epochs": 2, "lr": 0.005} | parameters).fit(text)

    def test_goes_on_from_the_weights(self, fitted):
        tuned = self.tuned(fitted)
        new = lw.LSTMLanguageModel(**SMALL | {"lr": 0.005}, max_epochs=2).fit(OTHER)
        assert tuned.bits_per_character(OTHER) < min(fitted.bits_per_character(OTHER), new.bits_per_character(OTHER))
        assert [row["epoch"] for row in tuned.history_] == [1, 2]
        assert_equal_weights(self.tuned(fitted, lr=0.0), fitted)

    def test_the_first_fit_is_one_from_new_weights(self, fitted):
        assert_equal_weights(lw.LSTMLanguageModel(**SMALL, max_epochs=6, warm_start=True).fit(TEXT), fitted)

    def test_characters_stay_and_new_ones_are_unknown(self, fitted):
        text = OTHER.replace("lazy", "\u2603\u2603")
        tuned = self.tuned(fitted, text, max_epochs=8, lr=0.02)
        assert tuned.vocabulary_ == fitted.vocabulary_
        unknown = math.log2(0x110000) * text.count("\u2603") / len(text)
        assert unknown < tuned.bits_per_character(text) < fitted.bits_per_character(text)

    def test_dropout_may_change_and_sizes_may_not(self, fitted):
        tuned = self.tuned(fitted, dropout=0.5, lr=0.0)
        assert [type(layer) for layer in tuned.network_] == [lw.Embedding, lw.LSTM, lw.Dropout, lw.Linear]
        assert tuned.bits_per_character(OTHER) == fitted.bits_per_character(OTHER)
        before = weights_of(tuned)
        for changed in ({"hidden_size": 17}, {"num_layers": 2}, {"peephole": True}, {"n_members": 2}):
            with pytest.raises(ValueError, match="warm_start: expected the options of the network that was fitted: "):
                copy.copy(tuned).set_params(**changed).fit(OTHER)
        assert all((value == before[name]).all() for name, value in weights_of(tuned).items())

    def test_goes_on_from_a_file(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        assert_equal_weights(self.tuned(lw.load(tmp_path / "model")), self.tuned(fitted))


class TestNetworks:
    def test_members_are_joined(self):
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=4, n_members=3).fit(TEXT)
        assert model.network_.members == 3
        text = OTHER[:80]
        assert model.bits_per_character(text) == pytest.approx(bits_of(model, text) / 80, rel=1e-4)
        alone = []
        for member in range(3):
            network = lw.Network([copy.deepcopy(layer) for layer in self.member(model, member)])
            single = lw.LSTMLanguageModel(**SMALL)
            single._keep(model._tokenizer, network, [], False)
            alone.append(single.bits_per_character(OTHER))
        assert model.bits_per_character(OTHER) < sum(alone) / 3

    def member(self, model, number):
        tokens = model._tokenizer.size
        layers = [lw.Embedding(tokens, 8), lw.LSTM(8, 16, forget_gate="coupled"), lw.Linear(16, tokens)]
        network = lw.Network(layers)
        network.load_state_dict({name: value[number] for name, value in weights_of(model).items()})
        return layers_of(network)

    def test_members_of_a_file(self, tmp_path):
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=1, n_members=2).fit(TEXT)
        model.save(tmp_path / "model")
        assert lw.load(tmp_path / "model").bits_per_character(OTHER) == model.bits_per_character(OTHER)

    def test_every_option_of_the_cell_reaches_it(self):
        options = {
            "recurrent_dropout": 0.125, "recurrent_dropout_on": "candidate", "weight_dropout": 0.25,
            "zoneout": (0.125, 0.25), "forget_gate": False, "peephole": True, "layer_norm": True,
            "activations": {"cell": ("leaky_relu", 0.125)}, "clip": 2.0, "cell_clip": 3.0, "residual": True,
            "learn_start_state": True, "init": "orthogonal", "dtype": "float64",
        }  # fmt: skip
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=1, num_layers=2, dropout=0.1, proj_size=8, **options).fit(TEXT)
        lstm = model.network_[1]
        for name, value in options.items():
            assert getattr(lstm, name) == value, name
        assert (lstm.dropout, lstm.num_layers, lstm.proj_size) == (0.1, 2, 8)
        assert isinstance(model.network_[2], lw.Dropout)
        forgetful = lw.LSTMLanguageModel(**SMALL, max_epochs=1, max_seconds=0, forget_gate=True, forget_bias=3.0).fit(
            TEXT
        )
        bias = forgetful.network_.state_dict()
        assert (bias["1.bias_ih_l0"][16:32] + bias["1.bias_hh_l0"][16:32] == 3.0).all()

    def test_a_file_holds_every_parameter(self, tmp_path):
        schedule = lw.optim.schedules.Warmup(lw.optim.schedules.Cosine(0.01, 9), 3)
        model = lw.LSTMLanguageModel(
            **SMALL | {"random_state": np.random.default_rng(0)}, max_epochs=1, activations={"cell": ("elu", 0.5)},
            zoneout=(0.125, 0.25), dtype=np.dtype("float32"), optimizer=lw.optim.SGD(lr=0.1, momentum=0.5),
            lr_schedule=schedule, callbacks=[lambda run, row: None], validation_data=OTHER, clip_norm=None,
        ).fit(TEXT)  # fmt: skip
        model.save(tmp_path / "model")
        loaded = lw.load(tmp_path / "model").get_params()
        expected = model.get_params()
        assert repr(loaded.pop("optimizer")) == repr(expected.pop("optimizer"))
        for name in ("callbacks", "validation_data", "random_state"):
            assert loaded[name] is None
            expected[name] = None
        expected["dtype"] = "float32"
        assert loaded == expected


def layers_of(network):
    return list(network)


class TestTraining:
    def test_an_optimizer_of_ones_own_is_copied(self):
        optimizer = lw.optim.AdamW(lr=SMALL["lr"], weight_decay=0.2)
        models = [lw.LSTMLanguageModel(**SMALL, max_epochs=2, optimizer=optimizer).fit(TEXT) for _ in range(2)]
        assert optimizer.targets == ()
        for model in models:
            assert_equal_weights(model, lw.LSTMLanguageModel(**SMALL, max_epochs=2).fit(TEXT))

    @pytest.mark.parametrize(
        ("optimizer", "error"), [("sgd", ValueError), (None, TypeError), (lw.optim.Adam(lw.LSTM(1, 1)), ValueError)]
    )
    def test_optimizers_that_are_refused(self, optimizer, error):
        with pytest.raises(error, match="optimizer: expected"):
            lw.LSTMLanguageModel(**SMALL, optimizer=optimizer).fit(TEXT)

    def test_schedules(self):
        def rates(**parameters):
            model = lw.LSTMLanguageModel(**SMALL, max_epochs=3, **parameters).fit(TEXT)
            return [row["lr"] for row in model.history_]

        assert rates(lr_schedule="constant") == [0.02] * 3
        assert rates(lr_schedule="cosine")[-1] < 0.002
        assert rates(lr_schedule="warmup_cosine")[0] < 0.02
        optimizer = lw.optim.Adam(lr=lw.optim.schedules.Step(0.01, 8, 0.5))
        falling = rates(optimizer=optimizer)
        assert falling[0] > falling[1] > falling[2]
        with pytest.raises(ValueError, match="lr_schedule: expected"):
            rates(lr_schedule="steps")

    def test_seeds_of_generators(self):
        a, b = (
            lw.LSTMLanguageModel(**SMALL | {"random_state": np.random.default_rng(3)}, max_epochs=1).fit(TEXT)
            for _ in range(2)
        )
        assert_equal_weights(a, b)

    @pytest.mark.parametrize("tokenizer", NAMES)
    def test_a_run_that_was_stopped_goes_on(self, tmp_path, tokenizer):
        def model(**parameters):
            return lw.LSTMLanguageModel(
                **SMALL, max_epochs=4, tokenizer=tokenizer, checkpoint_dir=tmp_path, validation_data=OTHER, **parameters
            )

        def stop(run, row):
            if row["epoch"] == 2:
                raise RuntimeError("stopped")

        whole = lw.LSTMLanguageModel(**SMALL, max_epochs=4, tokenizer=tokenizer, validation_data=OTHER).fit(TEXT)
        with pytest.raises(RuntimeError, match="stopped"):
            model(callbacks=[stop]).fit(TEXT)
        resumed = model().fit(TEXT, resume=True)
        assert_equal_weights(resumed, whole)
        assert [row["validation_loss"] for row in resumed.history_] == [
            row["validation_loss"] for row in whole.history_
        ]
        with pytest.raises(ValueError, match="expected"):
            model().fit(OTHER, resume=True)

    def test_divergence_keeps_the_model(self, monkeypatch):
        steps = []
        step = lw.Trainer.step

        def failing(self, *arguments):
            steps.append(1)
            if len(steps) == 20:
                raise RuntimeError("the loss is not finite; nothing was changed")
            return step(self, *arguments)

        monkeypatch.setattr(lw.Trainer, "step", failing)
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=9)
        with pytest.raises(RuntimeError, match="training ended in epoch"):
            model.fit(TEXT)
        assert math.isfinite(model.bits_per_character(OTHER))
        assert 1 <= len(model.history_) <= 2

    def test_a_folder_that_cannot_be_written(self, tmp_path, fitted):
        (tmp_path / "file").touch()
        model = copy.deepcopy(fitted).set_params(checkpoint_dir=tmp_path / "file" / "folder")
        with pytest.raises(OSError, match="file"):
            model.fit(OTHER)
        assert_equal_weights(model, fitted)  # nothing was trained

        written = []
        write = Checkpoints.write

        def full(self, *arguments):
            if written:
                raise OSError(28, "No space left on device")
            written.append(write(self, *arguments))
            return written[0]

        model.set_params(checkpoint_dir=tmp_path / "checkpoints", max_epochs=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "write", full)
            with pytest.raises(OSError, match="No space left"):
                model.fit(OTHER)
        assert model.vocabulary_ == "".join(sorted(set(OTHER)))
        assert len(model.history_) == 1

    @pytest.mark.parametrize("tokenizer", ["characters", "words"])
    def test_a_certificate(self, tmp_path, tokenizer):
        model = lw.LSTMLanguageModel(**SMALL, max_epochs=3, tokenizer=tokenizer, validation_data=OTHER)
        model.fit(TEXT, certificate=tmp_path / "run.json")
        model.save(tmp_path / "model")
        loaded = lw.load(tmp_path / "model").set_params(validation_data=OTHER)
        verification = verify(loaded, tmp_path / "run.json", TEXT, segments="all")
        assert verification.passed
        assert str(verification) == "3 of 3 segments equal"
        assert not verify(loaded, tmp_path / "run.json", TEXT.replace("lazy", "laxy", 1)).passed
        assert not verify(loaded.set_params(lr=0.03), tmp_path / "run.json", TEXT).passed

    def test_a_certificate_of_fine_tuning(self, tmp_path, fitted):
        tuned = copy.deepcopy(fitted).set_params(warm_start=True, max_epochs=2)
        tuned.fit(OTHER, certificate=tmp_path / "run.json")
        assert verify(tuned, tmp_path / "run.json", OTHER, segments="all").passed
        with tuned.network_.edit() as parameters:
            parameters["2.bias"][0] += 1e-3
        assert not verify(tuned, tmp_path / "run.json", OTHER).passed


def test_the_name_of_a_file_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-text.txt").write_text("to be or not to be " * 20)
    with pytest.raises(ValueError, match=r"^text: expected a text, got the name of a file; pathlib.Path\('my-text"):
        lw.LSTMLanguageModel(4, 4, max_epochs=1).fit("my-text.txt")
    lw.LSTMLanguageModel(4, 4, max_epochs=1).fit("a text with \0 in it, which names no file, and \ud800 " * 5)
