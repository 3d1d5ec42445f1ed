"""Small runs of the fitting loop, from test files and from processes that tests kill."""

import sys

import latchwork as lw
import numpy as np
from latchwork._random import Random
from latchwork.estimators.runs.fingerprints import options_of
from latchwork.estimators.runs.fit_loop import Batch, FitLoop, Run
from latchwork.estimators.runs.learning_rates import NAMES

STEPS, SAMPLES, FEATURES = 7, 31, 3


class Sums:
    """Sequences whose target is the sum of their first feature, in shuffled batches."""

    counted = "samples"
    loss_name = "loss"
    loss_label = "loss"
    loss_unit = 1.0

    def __init__(self, seed=0, batch_size=5, samples=SAMPLES):
        random = Random(100)
        self.x = (random.uniform(STEPS * samples * FEATURES) - 0.5).reshape(STEPS, samples, FEATURES)
        self.y = np.cumsum(self.x[:, :, 0], axis=0)[-1][:, np.newaxis].copy()
        self.seed = seed
        self.batch_size = batch_size

    def steps(self):
        return -(-self.x.shape[1] // self.batch_size)

    def batches(self, epoch, first=0):
        order = np.argsort(Random.of_epoch(self.seed, epoch).words(self.x.shape[1]), kind="stable")
        for batch in range(first, self.steps()):
            samples = order[batch * self.batch_size :][: self.batch_size]
            yield Batch(self.x[:, samples], self.y[samples], count=len(samples), samples=samples)

    def feed(self, update):
        update(self.x)
        update(self.y)


class UnknownLength(Sums):
    """The same where nobody knows how many batches there will be."""

    def steps(self):
        return None

    def batches(self, epoch, first=0):
        known = Sums.steps(self)
        order = np.argsort(Random.of_epoch(self.seed, epoch).words(self.x.shape[1]), kind="stable")
        for batch in range(first, known):
            samples = order[batch * self.batch_size :][: self.batch_size]
            yield Batch(self.x[:, samples], self.y[samples], count=len(samples), samples=samples)


class Stream(Sums):
    """Few long sequences in windows: each batch goes on where the one before ended, from epoch to epoch too."""

    def steps(self):
        return STEPS

    def batches(self, epoch, first=0):
        for window in range(first, STEPS):
            x = self.x[window : window + 1]
            yield Batch(x, np.ascontiguousarray(x[:, :, :1]), continues=epoch + window > 0, count=x.shape[1])


def network_of(data, seed=0, members=1, hidden=4):
    layers = [lw.LSTM(FEATURES, hidden, dropout=0.2, num_layers=2, seed=seed)]
    layers += [] if isinstance(data, Stream) else [lw.Last()]
    return lw.Network([*layers, lw.Linear(hidden, 1, seed=seed + 1)], members=members)


def new_run(data=None, *, seed=0, members=1, lr=0.02, loss="squared_error", optimizer=None, **options):
    """A run of a network with dropout by AdamW."""
    data = Sums() if data is None else data
    network = network_of(data, seed, members)
    trainer = lw.Trainer(network, loss, optimizer or lw.optim.AdamW(lr=lr), clip_norm=1.0, seed=seed + 2)
    return Run(**{"trainer": trainer, "data": data, "max_epochs": 6, "seed": seed, **options})


def validation_of(run, data=None):
    """A `validate` for a run: the loss over all of some data."""
    data = Sums() if data is None else data

    def validate():
        return {"validation_loss": run.trainer.evaluate(data.x, data.y)[0]}

    return validate


def fit(*arguments, **options):
    loop = FitLoop(new_run(*arguments, **options))
    loop.run()
    return loop


def weights_of(loop):
    return {name: np.array(value) for name, value in loop.network.parameters.items()}


def assert_equal_weights(a, b):
    a, b = (each if isinstance(each, dict) else weights_of(each) for each in (a, b))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


KILLED = {"max_epochs": 40, "lr_schedule": NAMES[0], "early_stopping": True, "n_iter_no_change": 30}


def killed_run(kind, **options):
    """The run that tests kill: data in shuffled batches, or in windows whose state is carried on."""
    data = {"samples": Sums, "windows": Stream}[kind]()
    run = new_run(data, **KILLED, fingerprint=options_of(KILLED), **options)
    run.validate = lambda: {"validation_loss": _validation_loss(run)}
    return run


def _validation_loss(run):
    x, y = (run.data.x, run.data.y) if type(run.data) is Sums else (run.data.x, run.data.x[:, :, :1])
    return run.trainer.evaluate(x, np.ascontiguousarray(y))[0]


def main(kind, folder, every, threads, output):
    """Train with checkpoints, from the newest one on, and write the weights."""
    lw.set_num_threads(int(threads))
    loop = FitLoop(killed_run(kind, checkpoint_dir=folder, checkpoint_every=eval(every), resume=True))
    loop.run()
    np.savez(output, **weights_of(loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
