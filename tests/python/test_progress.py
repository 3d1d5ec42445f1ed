"""The share that progress bars show: it rises from 0 to 1."""

import latchwork as lw
import pytest
from latchwork._progress import ProgressBar
from latchwork.benchmark import measuring
from latchwork.benchmark.cases import Case
from latchwork.estimators import language_model


@pytest.fixture
def shares(monkeypatch):
    """What the bars of a language model are told."""
    told = []
    monkeypatch.setattr(ProgressBar, "update", lambda self, fraction, message: told.append(fraction))
    monkeypatch.setattr(language_model, "STEPS_PER_CALL", 10)
    return told


def test_of_a_fit_and_of_a_measurement(shares):
    text = "shares " * 20
    model = lw.LSTMLanguageModel(2, 2, batch_size=1, window=28, max_epochs=2, random_state=0).fit(text)
    assert shares == [pytest.approx(step / 10) for step in range(10)]
    shares.clear()
    model.bits_per_character(text)
    assert shares == [pytest.approx((call + 1) / 14) for call in range(14)]


class FakeWorker:
    alive = True

    def prepare(self, case, kind):
        return {}

    def calibrate(self):
        return 1

    def sample(self):
        return 1.0, True


def test_of_a_benchmark(monkeypatch):
    monkeypatch.setattr(measuring, "largest_difference", lambda *_: 0.0)
    told = []
    workers = {"Latchwork": FakeWorker(), "PyTorch": FakeWorker()}
    planned = measuring.Planned(Case("tiny", 1, 1, 1, 1, 1, ("forward",)), "forward", 1)
    monkeypatch.setattr(measuring.Planned, "does", lambda self, workers: list(workers))
    measuring.measure(workers, planned, 4, lambda share, message: told.append(share))
    assert told == [0.0, 0.25, 0.5, 0.625, 0.75, 0.875]
