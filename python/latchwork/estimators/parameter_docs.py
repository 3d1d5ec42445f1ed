"""What the docstrings of `LSTMRegressor` and `LSTMClassifier` say in common."""

from __future__ import annotations

import inspect
from typing import TypeVar

C = TypeVar("C", bound=type)

NETWORK = """
hidden_size : int, default 64
    Units of each layer and direction.
num_layers : int, default 1
    How many LSTM layers there are.
bidirectional : bool, optional
    Whether a second direction reads each sequence from its end. Such a model has no `stream`. None: yes, unless there
    is a ``window``.
head : {"last", "mean", "max", "sequence"}, default "last"
    What of the LSTM's output is read: that of the last step (of a reverse direction the first), the mean or the
    largest value over a sequence's steps; or each step's, for targets of each step.
dropout : float, default 0.0
    From 0 to 1: the share of the output of each LSTM layer that is dropped in training.
"""

CELL = """
recurrent_dropout_on, weight_dropout, zoneout, forget_gate, peephole, layer_norm, activations, clip, cell_clip, \
residual, learn_start_state, proj_size, forget_bias, t_max
    The options of the cell, with the defaults and the meaning that they have for `latchwork.LSTM`.
init : {"torch", "keras", "orthogonal", "chrono"}, optional
    Initial parameters, as for `latchwork.LSTM`; a ``t_max`` of None is the length of the longest sequence in training,
    or the ``window``. None: "chrono", but "torch" where that is at most 50 steps, for a cell without forget gate, and
    with a ``forget_bias``.
dtype : {"float32", "float64"}, default "float32"
    In what the network computes.
"""

INPUT = """
scale : {"standard", "robust"} or None, default "standard"
    How inputs are scaled inside the model, each feature by itself, by numbers of the training data alone: to mean 0 and
    standard deviation 1, or by median and interquartile range. None: they are not.
missing : {"forward", "mean", "zero", "refuse"}, optional
    What is done about NaN in X. "forward": the last value that was seen takes its place, moving towards the
    feature's mean from step to step as fast as training data say, and for each feature with NaN in training two inputs
    say whether it is seen at this step and how long ago it was. "mean", "zero": this number
    takes its place, and an input says whether the feature is seen. "refuse": NaN is a ValueError. None: "forward" if
    there is NaN in training, and "refuse" if there is none.
categorical : sequence of int or str, optional
    The columns that hold categories, by number or name: each category becomes a vector that is trained.
sequence, time : str, optional
    Names of two columns of a data frame in long form: which sequence a row belongs to, and when it was.
"""

TRAINING = """
optimizer : "adamw" or one of `latchwork.optim`, default "adamw"
    "adamw" is AdamW with ``lr`` and ``weight_decay``; another one, without a target, brings its own.
lr_schedule : {"warmup_cosine", "cosine", "constant"} or Schedule, default "warmup_cosine"
    How the learning rate changes: a tenth of the training it rises, and then falls to zero along half a cosine; falls
    along half a cosine from the start; stays. Or one of `latchwork.optim.schedules`.
weight_decay : float, default 0.01
    Decoupled weight decay.
clip_norm : float, optional, default 1.0
    Gradients are scaled down to this Euclidean norm. None: never.
max_epochs : int, optional
    How often the data is read at most. None: 60 times, and so often that there are 600 steps of training; an iterator
    once.
max_seconds : float, optional
    No step begins after this time. What is learned then depends on how fast the machine is.
batch_size : int, optional
    Sequences in a step of training. None: a tenth of all, but at least 8 and at most 32. With a ``window`` the number
    of rows at most that all sequences are cut into, 32 for None.
shuffle : bool, default True
    Whether the order of the sequences is another one in each epoch.
early_stopping : bool, default False
    Whether training ends when the validation loss has not fallen by ``tol`` for ``n_iter_no_change`` epochs. The
    weights of the best epoch are kept. Without ``validation_data`` part of the data is held out for it.
validation_fraction : float, default 0.1
    The share of the sequences that is held out if ``early_stopping`` asks for validation and there is no
    ``validation_data``. Which ones follows from ``random_state`` alone.
validation_data : tuple, optional
    (X, y), (X, y, sample_weight) or (X, y, sample_weight, static): measured after each epoch.
n_iter_no_change : int, default 10
    See ``early_stopping``.
tol : float, default 1e-4
    See ``early_stopping``.
warm_start : bool, default False
    Whether a second ``fit`` starts from the weights, the scaling and the categories of the first.
n_members : int, default 1
    How many networks are trained in one call and joined: each starts from a seed of its own, all read the same batches.
window : int, optional
    With ``head="sequence"``, for long sequences and for X that is larger than memory: all sequences, one after another,
    are cut into ``batch_size`` rows of equal length (fewer if they would be shorter than 16 windows), which are read
    side by side, window by window of so many steps; the state is carried from one window to the next, and no gradient
    is (truncated backpropagation through time). None: backpropagation through whole sequences.
checkpoint : int, optional
    Keep the state before every ``checkpoint``-th step alone and compute the others again, for exact gradients of long
    sequences in little memory.
checkpoint_dir : path, optional
    A folder from which a training that was stopped goes on: ``fit(..., resume=True)``. Without ``resume`` a training
    begins anew, and its checkpoints take the place of those of a training that came to its end; one that was stopped
    is not replaced.
checkpoint_every : int or float, default 1
    How often a checkpoint is written: an int, after so many epochs; a float, after so many seconds.
random_state : int, numpy.random.Generator or numpy.random.RandomState, optional
    The seed of all that is random. Equal seeds give equal bits, with any number of threads. None: another one each
    time.
verbose : int, default 0
    1: a progress bar, if standard error is a terminal. 2: a row for each epoch.
callbacks : sequence, optional
    Objects or functions that are told of each epoch.
"""

LEARNED = """
network_ : Network
    What was trained: raw inputs in, predictions out, scaling included.
history_ : list of dict
    One for each epoch: ``epoch``, ``seconds``, ``samples``, ``loss``, ``lr``, ``gradient_norm`` and, if there is
    validation, ``validation_loss`` and ``validation_score``.
n_iter_ : int
    Epochs.
interrupted_ : bool
    Whether Ctrl-C ended the training. It ends between two steps, and what was learned until then is kept.
missing_ : {"forward", "mean", "zero", "refuse"}
    What is done about NaN.
n_features_in_ : int
    Features of a step.
feature_names_in_ : numpy.ndarray of str
    Their names, if X had names.
"""

_SHARED = {"network": NETWORK, "cell": CELL, "input": INPUT, "training": TRAINING, "learned": LEARNED}


def with_shared_docs(cls: C) -> C:
    """Fill in what the class's docstring names in braces on lines of their own."""
    if cls.__doc__ is not None:  # python -OO takes docstrings away
        text = inspect.cleandoc(cls.__doc__)
        for name, shared in _SHARED.items():
            text = text.replace(f"{{{name}}}", shared.strip())
        cls.__doc__ = text
    return cls
