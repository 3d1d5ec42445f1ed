"""What the estimators are compared with: the same training in PyTorch, and the nearest neighbour by time warping."""

import time
from typing import Any

import latchwork as lw
import numpy as np
from latchwork.estimators.runs.learning_rates import LearningRates
from numpy.typing import NDArray
from sets import Part, Split


def fit_in_pytorch(model: Any, X: Any, y: Any) -> Any:
    """Fit an estimator by a plain loop in PyTorch instead of its own; it predicts as usual then.

    Initial weights, scaling, batches, their order, optimiser, clipping, learning rates and epochs are those of the
    estimator's own ``fit``. `torch.nn.LSTM` has no dropout within the recurrence, so the loop has none.
    """
    import torch

    fitting = model._new_fitting(X, y, None, None, model.random_state, time.perf_counter())
    run = fitting.run
    network = run.trainer.network
    scale, lstm, last, linear = network
    if lstm.num_layers != 1 or not isinstance(last, lw.Last):
        raise ValueError(f"model: expected one layer and the head Last, got {network!r}")
    module = torch.nn.ModuleDict(
        {
            "1": torch.nn.LSTM(lstm.input_size, lstm.hidden_size, bidirectional=lstm.bidirectional),
            "3": torch.nn.Linear(linear.in_features, linear.out_features),
        }
    )
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in network.state_dict().items()})
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, model.lr, weight_decay=model.weight_decay, fused=True)
    loss_of = torch.nn.CrossEntropyLoss() if isinstance(model, lw.LSTMClassifier) else torch.nn.MSELoss()

    steps = run.max_epochs * run.data.steps()
    rates = LearningRates(run.trainer, run.lr_schedule, steps)
    step = 0
    for epoch in range(run.max_epochs):
        for batch in run.data.batches(epoch):
            rates.before_step(step, step / steps)
            optimizer.param_groups[0]["lr"] = run.trainer.lr
            x = torch.from_numpy(scale(batch.x))
            if batch.lengths is not None:
                x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(batch.lengths), enforce_sorted=False)
            _, (h, _) = module["1"](x)
            output = module["3"](torch.cat(list(h), dim=1))
            loss = loss_of(output, torch.from_numpy(np.ascontiguousarray(batch.y)))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, model.clip_norm)
            optimizer.step()
            step += 1
    network.load_state_dict({name: value.detach().numpy() for name, value in module.state_dict().items()})
    model._keep(fitting.learned, network, [], False)
    return model


def neighbour_accuracy(split: Split) -> float:
    """Measure the accuracy of the nearest neighbour by dynamic time warping.

    All features are warped together, as they are, by the squared Euclidean distance and without a band: aeon's
    ``KNeighborsTimeSeriesClassifier(n_neighbors=1, distance="dtw")``.
    """
    lengths = np.array([len(x) for x in split.training.X])
    order = np.argsort(lengths, kind="stable")
    training = Part([split.training.X[case] for case in order], split.training.y[order])
    predicted = [training.y[np.argmin(distances(training.X, x))] for x in split.test.X]
    return float(np.mean(np.array(predicted) == split.test.y))


def distances(X: list[NDArray[np.float64]], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the dynamic-time-warping distance of x to each of X, whose lengths ascend.

    The cell (i, j) of a table of distances is the cost of step i of a sequence beside step j of x, plus the least of
    the cells (i - 1, j), (i, j - 1) and (i - 1, j - 1). All tables are filled together, one diagonal after another.
    """
    lengths = np.array([len(each) for each in X])
    firsts = np.searchsorted(lengths, np.arange(lengths[-1]), side="right")  # the first sequence that has this step
    padded = np.zeros((lengths[-1], x.shape[1], len(X)))
    for case, each in enumerate(X):
        padded[: len(each), :, case] = each
    result = np.empty(len(X))
    before = np.full((lengths[-1] + 1, len(X)), np.inf)  # row i + 1 holds the cell of step i; row 0 stays infinite
    last = before.copy()
    for diagonal in range(lengths[-1] + len(x) - 1):
        low, high = max(0, diagonal - len(x) + 1), min(diagonal, lengths[-1] - 1)
        rows = slice(low + 1, high + 2)
        cases = slice(firsts[low], None)  # shorter sequences are complete
        pieces = padded[low : high + 1, :, cases] - x[diagonal - high : diagonal - low + 1][::-1, :, np.newaxis]
        cost = (pieces * pieces).sum(axis=1)
        if diagonal:
            least = np.minimum(last[low : high + 1, cases], last[rows, cases])
            cost += np.minimum(least, before[low : high + 1, cases])
        before[rows, cases] = cost
        before, last = last, before
        last[: low + 1] = np.inf
        last[high + 2 :] = np.inf
        complete = np.flatnonzero(lengths + len(x) - 2 == diagonal)
        result[complete] = last[lengths[complete], complete]
    return result
