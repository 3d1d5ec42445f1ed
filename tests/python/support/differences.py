"""Gradients compared with finite differences."""

import numpy as np
from comparison import assert_close
from layers import normal, random_lstm

STEP = 2e-5


def parts_of(state):
    """The arrays of a state: of one LSTM's pair, or of several pairs."""
    return [part for pair in state for part in pair] if isinstance(state[0], tuple) else list(state)


class Objective:
    """A weighted sum of everything a module returns, and its gradients by backward and by finite differences.

    Nothing is dropped unless the options say so. If no start state is given, the gradient with respect to it is not
    checked. Tokens have no gradient.
    """

    def __init__(self, module, x, start=None, **options):
        self.module, self.x, self.start, self.options = module, x, start, {"training": False} | options
        tape = module.record(x, start, **self.options)
        self.d_output = normal(101, tape.output.shape, "float64")
        d_parts = [normal(102 + place, part.shape, "float64") for place, part in enumerate(parts_of(tape.state))]
        self.weights = [self.d_output, *d_parts]
        pairs = list(zip(d_parts[::2], d_parts[1::2], strict=True))
        self.gradients = tape.backward(self.d_output, pairs if len(pairs) > 1 else pairs[0])

    def __call__(self):
        tape = self.module.record(self.x, self.start, **self.options)
        parts = zip((tape.output, *parts_of(tape.state)), self.weights, strict=True)
        return sum(float((value * weight).sum()) for value, weight in parts)

    def differences(self, array, write=lambda: None):
        """Central finite differences with respect to each element of an array that the objective reads.

        ``write`` is called after each change of an element. The differences are of fourth order, because those of
        second order are not accurate enough for norms of a few units.
        """
        result = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            kept = array[place]
            for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
                array[place] = kept + steps * STEP
                write()
                result[place] += weight * self()
            array[place] = kept
        write()
        return result / (12 * STEP)

    def check(self):
        if self.gradients.x is not None:
            assert_close(self.gradients.x, self.differences(self.x), 1e-7, "x")
        if self.start is not None:
            starts = zip(parts_of(self.gradients.state), parts_of(self.start), strict=True)
            for place, (actual, part) in enumerate(starts):
                assert_close(actual, self.differences(part), 1e-7, f"part {place} of the start state")
        for name in self.module.parameters:
            value = np.array(self.module.parameters[name])

            def write(name=name, value=value):
                self.module.parameters[name] = value

            assert_close(self.gradients.parameters[name], self.differences(value, write), 1e-7, name)


def objective(options, steps=5, rows=3, batched=True, seed=0, start=True, **call):
    lstm = random_lstm(seed=seed, dtype="float64", **options)
    states = lstm.num_layers * (2 if lstm.bidirectional else 1)
    x = normal(seed + 1, (steps, rows, lstm.input_size) if batched else (steps, lstm.input_size), "float64")
    if batched and lstm.batch_first:
        x = np.ascontiguousarray(np.swapaxes(x, 0, 1))
    if not start:
        return Objective(lstm, x, **call)
    sizes = (lstm.proj_size or lstm.hidden_size, lstm.hidden_size)
    shapes = [(states, rows, size) if batched else (states, size) for size in sizes]
    parts = tuple(normal(seed + 2 + place, shape, "float64") for place, shape in enumerate(shapes))
    return Objective(lstm, x, parts, **call)
