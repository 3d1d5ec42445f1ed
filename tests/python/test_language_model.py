import copy
import json
import math
import pickle
import sys
import time

import latchwork as lw
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from latchwork.estimators import language_model
from latchwork.estimators.baselines import CharacterModel
from latchwork.estimators.estimator import NotFittedError
from latchwork.estimators.language_model import LSTMLanguageModel
from latchwork.estimators.text import text_windows

SENTENCES = "the quick brown fox jumps over the lazy dog; a stitch in time saves nine.\n"
TEXT = SENTENCES * 60
SMALL = {"hidden_size": 24, "embedding_size": 8, "batch_size": 8, "window": 32, "lr": 0.02}


@pytest.fixture(scope="module")
def model():
    return LSTMLanguageModel(**SMALL, max_epochs=20, random_state=0).fit(TEXT)


def parameters_of(model):
    return {name: np.array(value) for name, value in model.network_.parameters.items()}


def assert_equal_parameters(a, b):
    a, b = parameters_of(a), parameters_of(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def bits_step_by_step(model, text):
    """The definition, read one character after another by a stream: probabilities over every code point."""
    stream = model.network_.stream()
    unknown = len(model.vocabulary_)
    scores = stream.step(unknown)
    bits = 0.0
    for character in text:
        exponentials = np.exp(scores.astype(np.float64))
        token = model.vocabulary_.find(character)
        if token < 0:
            token = unknown
            bits += math.log2(0x110000 - unknown)
        bits -= math.log2(exponentials[token] / exponentials.sum())
        scores = stream.step(token)
    return bits / len(text)


class TestFit:
    def test_learns(self, model):
        uniform = math.log2(len(model.vocabulary_) + 1)
        assert model.vocabulary_ == "".join(sorted(set(TEXT)))
        assert model.history_[0]["bits_per_character"] < uniform
        assert model.history_[-1]["bits_per_character"] < 0.5
        assert model.bits_per_character(SENTENCES) < 0.5
        assert not model.interrupted_

    def test_history(self, model):
        assert [record["epoch"] for record in model.history_] == list(range(1, 21))
        assert model.history_[-1]["characters"] >= 20 * len(TEXT)
        seconds = [record["seconds"] for record in model.history_]
        assert seconds == sorted(seconds)

    def test_equal_seeds_give_equal_models(self, model):
        again = LSTMLanguageModel(**SMALL, max_epochs=20, random_state=0)
        assert again.fit(TEXT) is again
        assert_equal_parameters(model, again)
        other = LSTMLanguageModel(**SMALL, max_epochs=1, random_state=1).fit(TEXT)
        assert not np.array_equal(parameters_of(model)["2.bias"], parameters_of(other)["2.bias"])

    def test_no_dependence_on_threads(self, model):
        lw.set_num_threads(3)
        assert_equal_parameters(model, LSTMLanguageModel(**SMALL, max_epochs=20, random_state=0).fit(TEXT))

    def test_layers_and_dropout(self):
        model = LSTMLanguageModel(**SMALL, num_layers=2, dropout=0.2, max_epochs=2, random_state=0).fit(TEXT)
        assert model.history_[-1]["bits_per_character"] < model.history_[0]["bits_per_character"]

    def test_seconds_end_the_training(self):
        started = time.perf_counter()
        model = LSTMLanguageModel(**SMALL, max_epochs=10**6, max_seconds=0.3).fit(TEXT)
        assert 0.3 <= time.perf_counter() - started < 3.0
        assert model.history_[-1]["seconds"] < 3.0

    def test_no_seconds_at_all(self):
        model = LSTMLanguageModel(**SMALL, max_seconds=0).fit(TEXT)
        assert model.history_ == []
        assert model.bits_per_character(TEXT) == pytest.approx(math.log2(len(model.vocabulary_) + 1), abs=0.5)

    def test_two_characters_can_be_learned_and_one_measured(self):
        model = LSTMLanguageModel(**SMALL, max_epochs=1, random_state=0).fit("ab")
        assert model.history_[-1]["characters"] == 2
        for text in ("a", "b", "c"):
            assert model.bits_per_character(text) == pytest.approx(bits_step_by_step(model, text), rel=1e-4)

    def test_short_texts(self):
        for text in ("ab", "aaa", TEXT[:33], TEXT[:100]):
            model = LSTMLanguageModel(**SMALL, max_epochs=2, random_state=0).fit(text)
            assert math.isfinite(model.bits_per_character(text))
            assert set(model.generate(length=20, random_state=0)) <= set(text)

    def test_the_learning_rate_falls_along_half_a_cosine(self, monkeypatch):
        rates = []
        step = lw.Trainer.step

        def watched(self, *arguments, **keywords):
            rates.append(self.lr)
            return step(self, *arguments, **keywords)

        monkeypatch.setattr(lw.Trainer, "step", watched)
        # 100 characters in windows of at most 32: 4 steps in each of 3 epochs.
        LSTMLanguageModel(**SMALL, max_epochs=3, random_state=0).fit(TEXT[:100])
        assert rates[0] == SMALL["lr"]
        # (1 + cos a) / 2 is the square of cos(a / 2).
        assert rates == pytest.approx([SMALL["lr"] * math.cos(math.pi / 2 * k / 12) ** 2 for k in range(12)], rel=1e-14)

    def test_every_character_is_read_and_every_one_predicted(self, monkeypatch):
        monkeypatch.setattr(text_windows, "UNKNOWN_SHARE", 0.0)
        tokens = np.concatenate([[1003], np.arange(1003)])
        windows = text_windows.TextWindows(tokens, 1003, 8, 4, seed=0)
        batches = list(windows.batches(0))
        inputs, targets = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("x", "y"))
        assert inputs.shape == targets.shape == (126, 8)
        assert set(targets.ravel().tolist()) == set(range(1003))
        np.testing.assert_array_equal(inputs[0], 1003)
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        np.testing.assert_array_equal(targets[1:], targets[:-1] + 1)

    def test_a_new_fit_replaces_the_old_one(self):
        model = LSTMLanguageModel(**SMALL, max_epochs=1).fit(TEXT).fit("xyz" * 100)
        assert model.vocabulary_ == "xyz"

    def test_ctrl_c_keeps_the_model(self, monkeypatch):
        steps = []
        step = lw.Trainer.step

        def interrupted_step(self, *arguments, **keywords):
            if len(steps) == 30:
                raise KeyboardInterrupt
            steps.append(1)
            return step(self, *arguments, **keywords)

        monkeypatch.setattr(lw.Trainer, "step", interrupted_step)
        model = LSTMLanguageModel(**SMALL, max_epochs=20, random_state=0).fit(TEXT)
        assert model.interrupted_
        assert model.history_[-1]["epoch"] == 2
        assert model.bits_per_character(SENTENCES) < math.log2(len(model.vocabulary_))
        assert len(model.generate(length=10)) == 10


class TestBitsPerCharacter:
    def test_is_the_definition_on_a_short_text(self, model):
        for text in ("t", SENTENCES, "the quick\u2603brown fox"):
            assert model.bits_per_character(text) == pytest.approx(bits_step_by_step(model, text), rel=1e-4)

    def test_is_the_definition_over_several_calls(self, model, monkeypatch):
        monkeypatch.setattr(language_model, "STEPS_PER_CALL", 100)
        for length in (99, 100, 101, 350):
            text = TEXT[5 : 5 + length]
            assert model.bits_per_character(text) == pytest.approx(bits_step_by_step(model, text), rel=1e-4)

    def test_a_character_never_seen_costs_about_what_naming_it_does(self, model):
        text = SENTENCES * 4
        with_snowman = text.replace("lazy", "la\u2603y")
        excess = (model.bits_per_character(with_snowman) - model.bits_per_character(text)) * len(text) / 4
        assert math.log2(0x110000) < excess < 70

    def test_any_str_has_bits(self, model):
        assert math.isfinite(model.bits_per_character("\x00\U0010ffff\ud800 the"))


class TestGenerate:
    def test_equal_seeds_give_equal_texts(self, model):
        texts = [model.generate("the ", 50, temperature=3.0, random_state=seed) for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]
        assert [len(text) for text in texts] == [50] * 3
        assert set("".join(texts)) <= set(TEXT)

    def test_temperature_0_is_the_likeliest_each_time(self, model):
        text = model.generate("the quick ", 40, temperature=0.0)
        assert text == model.generate("the quick ", 40, temperature=0.0)
        assert (SENTENCES * 3).find("the quick " + text) >= 0
        assert text == model.generate("the quick ", 40, temperature=1e-300, random_state=3)

    def test_temperature_flattens(self, model):
        texts = [model.generate("", 400, temperature, 0) for temperature in (0.1, 1.0, 100.0)]
        assert set(texts[2]) == set(TEXT)
        bits = [model.bits_per_character(text) for text in texts]
        assert bits[0] < bits[1] < bits[2]

    def test_frequencies_are_the_model_s_probabilities(self, model):
        scores = model.network_.stream().step(len(model.vocabulary_))[:-1].astype(np.float64)
        expected = np.exp(scores / 2.0) / np.exp(scores / 2.0).sum()
        generator = np.random.default_rng(0)
        drawn = [model.generate("", 1, 2.0, generator) for _ in range(2000)]
        frequencies = np.array([drawn.count(character) for character in model.vocabulary_]) / len(drawn)
        assert np.abs(frequencies - expected).max() < 0.05

    def test_a_character_never_seen_in_the_prompt(self, model):
        assert len(model.generate("the \u2603 \ud800 fox", 30, random_state=0)) == 30

    def test_no_length(self, model):
        assert model.generate("the", 0) == ""


class TestBadInput:
    @pytest.mark.parametrize("text", [b"bytes", None, ["a", "b"], 3])
    def test_not_a_str(self, model, text):
        for method in (model.fit, model.bits_per_character, model.generate):
            with pytest.raises(TypeError, match=r"(text|prompt): expected a str, got"):
                method(text)
        with pytest.raises(TypeError, match="a pathlib.Path and an iterator of str are read too$"):
            model.fit(text)

    def test_too_short(self, model):
        for text in ("", "a"):
            with pytest.raises(ValueError, match="text: expected at least 2"):
                LSTMLanguageModel().fit(text)
        with pytest.raises(ValueError, match="text: expected at least 1"):
            model.bits_per_character("")

    @pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
    def test_temperature(self, model, temperature):
        with pytest.raises(ValueError, match="temperature: expected at least 0, got"):
            model.generate(temperature=temperature)

    @pytest.mark.parametrize(
        ("length", "error"), [(-1, ValueError), (2.5, TypeError), ("3", TypeError), (True, TypeError)]
    )
    def test_length(self, model, length, error):
        with pytest.raises(error, match="length: expected"):
            model.generate(length=length)

    @pytest.mark.parametrize(
        ("parameters", "error"),
        [
            ({"hidden_size": 0}, ValueError),
            ({"hidden_size": 2.0}, TypeError),
            ({"embedding_size": -1}, ValueError),
            ({"num_layers": 0}, ValueError),
            ({"batch_size": 0}, ValueError),
            ({"window": 0}, ValueError),
            ({"max_epochs": 0}, ValueError),
            ({"lr": math.nan}, ValueError),
            ({"lr": "fast"}, TypeError),
            ({"weight_decay": -0.1}, ValueError),
            ({"dropout": -0.5}, ValueError),
            ({"dropout": 1.5}, ValueError),
            ({"clip_norm": -1.0}, ValueError),
            ({"max_seconds": math.inf}, ValueError),
            ({"random_state": "seed"}, TypeError),
        ],
    )
    def test_parameters(self, parameters, error):
        with pytest.raises(error, match=f"{next(iter(parameters))}: expected"):
            LSTMLanguageModel(**parameters).fit(TEXT)

    def test_defaults_are_those_that_the_documented_results_were_measured_with(self):
        assert LSTMLanguageModel().get_params() == {
            "hidden_size": 256,
            "embedding_size": 64,
            "num_layers": 1,
            "tokenizer": "characters",
            "vocabulary_size": 10000,
            "dropout": 0.0,
            "recurrent_dropout": 0.0,
            "recurrent_dropout_on": "hidden",
            "weight_dropout": 0.0,
            "zoneout": (0.0, 0.0),
            "forget_gate": "coupled",
            "peephole": False,
            "layer_norm": False,
            "activations": None,
            "clip": None,
            "cell_clip": None,
            "residual": False,
            "learn_start_state": False,
            "proj_size": 0,
            "forget_bias": None,
            "init": "torch",
            "t_max": None,
            "dtype": "float32",
            "batch_size": 16,
            "window": 64,
            "optimizer": "adamw",
            "lr": 0.008,
            "lr_schedule": "cosine",
            "weight_decay": 0.2,
            "clip_norm": 1.0,
            "max_epochs": 15,
            "max_seconds": None,
            "early_stopping": False,
            "validation_fraction": 0.1,
            "validation_data": None,
            "n_iter_no_change": 10,
            "tol": 1e-4,
            "warm_start": False,
            "n_members": 1,
            "random_state": None,
            "verbose": False,
            "callbacks": None,
            "checkpoint_dir": None,
            "checkpoint_every": 1,
        }

    def test_a_failed_fit_changes_nothing(self):
        model = LSTMLanguageModel(**SMALL, max_epochs=1, random_state=0).fit(TEXT)
        before = parameters_of(model)
        with pytest.raises(TypeError):
            model.fit(None)
        assert model.vocabulary_ == "".join(sorted(set(TEXT)))
        np.testing.assert_array_equal(parameters_of(model)["2.bias"], before["2.bias"])

    @pytest.mark.parametrize("installed", [False, True])
    def test_not_fitted(self, tmp_path, monkeypatch, installed):
        if installed:
            exceptions = pytest.importorskip("sklearn.exceptions", reason="scikit-learn is not installed")
            expected = exceptions.NotFittedError
        else:
            monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)  # as if it were not
            expected = NotFittedError
        model = LSTMLanguageModel()
        for call in (
            lambda: model.generate(),
            lambda: model.bits_per_character("a"),
            lambda: model.save(tmp_path / "m"),
            lambda: CharacterModel(0).bits_per_character("a"),
        ):
            with pytest.raises(expected, match="call fit") as raised:
                call()
            assert type(raised.value) is expected
            assert isinstance(raised.value, ValueError)
            assert isinstance(raised.value, AttributeError)
        assert list(tmp_path.iterdir()) == []


class TestScikitLearnHabits:
    def test_parameters(self):
        model = LSTMLanguageModel(128, lr=0.01)
        assert model.get_params()["hidden_size"] == 128
        assert LSTMLanguageModel(**model.get_params()).get_params() == model.get_params()
        assert model.set_params(window=32, lr=0.02) is model
        assert (model.window, model.lr) == (32, 0.02)
        assert repr(model) == "LSTMLanguageModel(hidden_size=128, window=32, lr=0.02)"

    def test_an_unknown_parameter_sets_none(self):
        model = LSTMLanguageModel()
        with pytest.raises(ValueError, match="has no parameter 'widow'"):
            model.set_params(window=3, widow=4)
        assert model.window == LSTMLanguageModel().window

    def test_clone(self):
        base = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
        model = LSTMLanguageModel(16, random_state=3)
        assert base.clone(model).get_params() == model.get_params()


class TestCopies:
    def assert_same(self, copied, model):
        assert type(copied) is LSTMLanguageModel
        assert copied.get_params() == model.get_params()
        assert copied.vocabulary_ == model.vocabulary_
        assert copied.history_ == model.history_
        assert copied.interrupted_ == model.interrupted_
        assert_equal_parameters(copied, model)
        assert copied.bits_per_character(TEXT) == model.bits_per_character(TEXT)
        assert copied.generate("the", 30, random_state=0) == model.generate("the", 30, random_state=0)

    def test_file(self, model, tmp_path):
        path = tmp_path / "model.safetensors"
        model.save(path)
        self.assert_same(lw.load(path), model)
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]

    def test_file_with_any_characters(self, tmp_path):
        model = LSTMLanguageModel(**SMALL, max_epochs=1).fit('\x00"\\\n\u00e4\u2603\ud800\U0001f600' * 20)
        model.save(tmp_path / "model.safetensors")
        assert lw.load(tmp_path / "model.safetensors").vocabulary_ == model.vocabulary_

    @pytest.mark.parametrize("high_first", [True, False])
    def test_file_with_a_high_and_a_low_surrogate(self, tmp_path, high_first):
        high, low = "\ud800", "\udc00"
        text = (high + low if high_first else low + high) * 20 + "\U00010000"
        model = LSTMLanguageModel(**SMALL, max_epochs=1, random_state=0).fit(text)
        assert model.vocabulary_ == high + low + "\U00010000"
        model.save(tmp_path / "model.safetensors")
        loaded = lw.load(tmp_path / "model.safetensors")
        assert loaded.vocabulary_ == model.vocabulary_
        assert loaded.bits_per_character(text) == model.bits_per_character(text)
        assert loaded.generate(text[:2], 30, random_state=0) == model.generate(text[:2], 30, random_state=0)

    def test_pickle(self, model):
        self.assert_same(pickle.loads(pickle.dumps(model)), model)

    def test_deepcopy(self, model):
        self.assert_same(copy.deepcopy(model), model)

    @pytest.mark.parametrize(
        "damage",
        [
            {"config": {"vocabulary": [97, 98, 99]}},
            {"config": {"vocabulary": [ord(character) for character in sorted(set(TEXT), reverse=True)]}},
            {"config": {"vocabulary": 3}},
            {"config": {"vocabulary": "abc"}},
            {"config": {"vocabulary": [0x110000]}},
            {"config": {"vocabulary": [0x110001]}},
            {"config": {"vocabulary": [True]}},
            {"config": {"modules": []}},
            {"config": {"trust": True}},
            {"python": {"parameters": {"hidden_size": -1}}},
            {"python": {"parameters": {"widow": 1}}},
            {"python": {"network": {}}},
            {"python": {"trust": True}},
        ],
        ids=str,
    )
    def test_damaged_file(self, model, tmp_path, damage):
        path = tmp_path / "model.safetensors"
        model.save(path)
        with safetensors.safe_open(path, "np") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata |= {key: json.dumps(json.loads(metadata[key]) | changes) for key, changes in damage.items()}
        safetensors.numpy.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="model.safetensors: "):
            lw.load(path)
