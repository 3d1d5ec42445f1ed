"""Messages about an x whose first two axes are in the other order than batch_first says."""

import latchwork as lw
import numpy as np
import pytest
from layers import normal, random_lstm

BATCH, STEPS = 32, 30
HINT = "; it would fit if the axes T and N of x were swapped: x is (N, T, ...) for layers built with batch_first=True"


def call(method, **arguments):
    """The message of the ValueError that a call raises."""
    with pytest.raises(ValueError, match="expected") as raised:
        method(**arguments)
    return str(raised.value)


@pytest.fixture(params=[False, True])
def batch_first(request):
    return request.param


@pytest.fixture
def x(batch_first):
    """In the order that the layers do not take."""
    return normal(1, (STEPS, BATCH, 3) if batch_first else (BATCH, STEPS, 3))


@pytest.mark.parametrize("members", [1, 2])
class TestTraining:
    def test_values_after_last(self, x, batch_first, members):
        layers = [lw.LSTM(3, 4, batch_first=batch_first, seed=0), lw.Last(), lw.Linear(4, 1, seed=0)]
        trainer = lw.Trainer(lw.Network(layers, members), "squared_error", lw.optim.SGD(lr=0.1))
        message = call(trainer.step, x=x, y=np.zeros((BATCH, 1)))
        assert message.startswith(f"y: expected ({STEPS}, 1), got ({BATCH}, 1){HINT}")
        if members > 1:
            message = call(trainer.evaluate, x=x, y=np.zeros((members, BATCH, 1)))
            assert message.startswith(f"y: expected ({members}, {STEPS}, 1), got ({members}, {BATCH}, 1){HINT}")
        assert HINT not in call(trainer.step, x=x, y=np.zeros((BATCH + 1, 1)))
        assert HINT not in call(trainer.step, x=x, y=np.zeros((BATCH, 2)))
        assert HINT not in call(trainer.step, x=x[:, 0], y=np.zeros((BATCH, 1)))

    def test_labels_after_last(self, x, batch_first, members):
        layers = [lw.LSTM(3, 4, batch_first=batch_first, seed=0), lw.Last(), lw.Linear(4, 5, seed=0)]
        trainer = lw.Trainer(lw.Network(layers, members), "cross_entropy", lw.optim.SGD(lr=0.1))
        assert call(trainer.step, x=x, y=np.zeros(BATCH, int)).startswith(
            f"y: expected ({STEPS},), got ({BATCH},){HINT}"
        )

    def test_a_sequence_that_is_swapped_itself(self, x, batch_first, members):
        network = lw.Network([lw.LSTM(3, 4, batch_first=batch_first, seed=0)], members)
        trainer = lw.Trainer(network, "squared_error", lw.optim.SGD(lr=0.1))
        assert HINT not in call(trainer.step, x=x, y=np.zeros((*x.shape[1::-1], 4)))


@pytest.mark.parametrize("method", ["__call__", "record", "trace"])
class TestCalls:
    def test_lengths(self, x, batch_first, method):
        lstm = random_lstm(input_size=3, hidden_size=4, batch_first=batch_first)
        message = call(getattr(lstm, method), x=x, lengths=[5] * BATCH)
        assert message.startswith(f"lengths: expected (N,) with N = {STEPS}, got ({BATCH},){HINT}")
        assert HINT not in call(getattr(lstm, method), x=x, lengths=[5] * 7)

    def test_reset(self, x, batch_first, method):
        lstm = random_lstm(input_size=3, hidden_size=4, batch_first=batch_first)
        message = call(getattr(lstm, method), x=x, reset=np.zeros(x.shape[1::-1]))
        expected, got = x.shape[:2], x.shape[1::-1]
        assert message == f"reset: expected {expected}, got {got}; its axes come in the order of those of x"
        network = lw.Network([lw.LSTM(3, 4, batch_first=batch_first, seed=0)], 2)
        message = call(getattr(network, method), x=x, reset=np.zeros((2, *got)))
        assert message == f"reset: expected {(2, *expected)}, got {(2, *got)}; its axes come in the order of those of x"
        assert call(getattr(lstm, method), x=x, reset=np.zeros(BATCH)) == f"reset: expected {expected}, got ({BATCH},)"

    def test_states(self, x, batch_first, method):
        lstm = random_lstm(input_size=3, hidden_size=4, num_layers=2, batch_first=batch_first)
        call_it = getattr(lstm, method)
        message = call(call_it, x=x, state=(np.zeros((2, BATCH, 4)),) * 2)
        assert message.startswith(f"h_0: expected (2, {STEPS}, 4), got (2, {BATCH}, 4){HINT}")
        assert HINT not in call(call_it, x=x, state=(np.zeros((2, 7, 4)),) * 2)
        assert HINT not in call(call_it, x=x, state=(np.zeros((2, BATCH, 4)), np.zeros((2, BATCH, 5))))
        assert HINT not in call(call_it, x=x[:, 0], state=(np.zeros((2, x.shape[1], 4)),) * 2)

    def test_states_of_several_layers(self, x, batch_first, method):
        layers = [lw.LSTM(3, 4, batch_first=batch_first, seed=0), lw.LSTM(4, 2, batch_first=batch_first, seed=0)]
        states = tuple((np.zeros((1, BATCH, size)),) * 2 for size in (4, 2))
        message = call(getattr(lw.Network(layers), method), x=x, state=states)
        assert message.startswith(f"state[0] h_0: expected (1, {STEPS}, 4), got (1, {BATCH}, 4){HINT}")
