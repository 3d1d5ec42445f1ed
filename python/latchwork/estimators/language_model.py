"""Character-level language model."""

import itertools
import math
import os
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latchwork import files
from latchwork._arrays import integer, real_number
from latchwork._progress import ProgressBar
from latchwork.estimators.characters import CODE_POINTS, Vocabulary
from latchwork.estimators.estimator import Estimator
from latchwork.layers import Embedding, Linear
from latchwork.lstm import LSTM
from latchwork.network import Network
from latchwork.optim import AdamW
from latchwork.training import Trainer

Tokens = NDArray[np.int64]

# The share of characters that training reads as unknown, so that the model learns to read on after one and to expect a
# few. It costs about 0.001 bits per character.
UNKNOWN_SHARE = 0.0005

# Fewer would leave a short text with few steps in each epoch.
SHORTEST_STREAM_WINDOWS = 16

# Steps that bits_per_character reads in one call, which bounds the memory that their outputs take.
STEPS_PER_CALL = 4096


class LSTMLanguageModel(Estimator):
    """Character-level language model with scikit-learn's habits: an embedding, an LSTM stack and a linear layer.

    Training cuts the text into ``batch_size`` streams that are read side by side, window by window; the state is
    carried from window to window (truncated backpropagation through time). AdamW; the learning rate falls to zero along
    half a cosine while the epochs or seconds run out.

    Parameters
    ----------
    hidden_size, embedding_size, num_layers : int
        Size of the network.
    dropout : float
        Dropout between LSTM layers while training, with ``num_layers`` above 1.
    batch_size, window : int
        How many streams, and how many characters of each one step of training reads. A text too short for streams of
        16 windows is cut into fewer streams.
    lr : float
        Learning rate at the start.
    weight_decay : float
        Decoupled weight decay: what keeps a small text from being learned by heart.
    max_epochs : int
        How many times to read the text at most.
    max_seconds : float, optional
        Training ends after this time at the latest. What is learned then depends on how fast the machine is.
    clip_norm : float
        Gradients are scaled down to this norm; 0: never.
    random_state : int, optional
        Seed of the initial weights and of everything random in training. Equal seeds give equal models, unless
        ``max_seconds`` ends the training. None: a different one each time.
    verbose : bool
        Show a progress bar if standard error is a terminal.

    Attributes
    ----------
    vocabulary_ : str
        The characters of the training text, sorted.
    network_ : Network
        What was trained. Its tokens are places in ``vocabulary_``; one more token stands for every other character, and
        for whatever came before the first character of a text.
    history_ : list of dict
        One for each epoch: ``epoch``, ``seconds`` since the start, ``characters`` read in all, and the mean
        ``bits_per_character`` in training.
    interrupted_ : bool
        Whether Ctrl-C ended the training. It ends between two steps, and what was learned until then is kept.

    Notes
    -----
    A character that the training text lacks may come anywhere: in a text to be measured and in a prompt. The model
    reads all such characters as one, and has learned to, because a few characters of the training text are read so. Its
    probability for this one is shared equally by all Unicode code points that the training text lacks. It never
    generates one.

    Examples
    --------
    >>> model = LSTMLanguageModel(hidden_size=32, max_epochs=3, random_state=0).fit("to be or not to be " * 100)
    >>> len(model.generate("to", length=20, random_state=0))
    20
    """

    def __init__(
        self,
        hidden_size: int = 256,
        embedding_size: int = 64,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        batch_size: int = 16,
        window: int = 64,
        lr: float = 8e-3,
        weight_decay: float = 0.2,
        max_epochs: int = 15,
        max_seconds: float | None = None,
        clip_norm: float = 1.0,
        random_state: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.embedding_size = embedding_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.batch_size = batch_size
        self.window = window
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.clip_norm = clip_norm
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, text: str) -> Self:
        """Train on ``text``, from new weights.

        Parameters
        ----------
        text : str
            At least two characters.
        """
        started = time.perf_counter()
        self._check_parameters()
        _check_text("text", text, shortest=2)
        vocabulary = Vocabulary(text)
        generator = np.random.default_rng(self.random_state)
        network = self._new_network(vocabulary, generator)
        training = _Training(self, network, vocabulary.encode(text), vocabulary.unknown, generator, started)
        interrupted = False
        with ProgressBar(self.verbose) as bar:
            try:
                training.run(bar)
            except KeyboardInterrupt:
                interrupted = True
        self._keep(vocabulary, network, training.history, interrupted)
        return self

    def bits_per_character(self, text: str) -> float:
        """Mean -log2 of the probability that the model gives each character of ``text`` after those before it.

        The text is read once, from its begin to its end, its first character after the start of a text.

        Parameters
        ----------
        text : str
            At least one character. See the class for characters that the training text lacks.
        """
        self._check_fitted()
        _check_text("text", text, shortest=1)
        tokens = self._vocabulary.encode(text)
        inputs = _from_the_start(tokens, self._vocabulary.unknown)
        bits = np.count_nonzero(tokens == self._vocabulary.unknown) * self._vocabulary.unknown_bits
        state = None
        with ProgressBar(self.verbose) as bar:
            for begin in range(0, len(tokens), STEPS_PER_CALL):
                end = min(begin + STEPS_PER_CALL, len(tokens))
                scores, state = self.network_(inputs[begin:end, np.newaxis], state)
                bits += float(_bits(scores[:, 0], tokens[begin:end]).sum())
                bar.update(end / len(tokens), f"measuring {len(tokens):,} characters")
        return bits / len(tokens)

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | None = None,
    ) -> str:
        """Continue ``prompt`` with ``length`` characters drawn one after another from the model.

        Parameters
        ----------
        prompt : str
            What the text begins with. It may hold characters that the training text lacks.
        length : int
            How many characters to generate.
        temperature : float
            Scores are divided by it: below 1 likely characters become likelier. 0: always the likeliest one.
        random_state : int or numpy.random.Generator, optional
            Equal seeds give equal texts.

        Returns
        -------
        str
            The new characters, without the prompt.
        """
        self._check_fitted()
        _check_text("prompt", prompt, shortest=0)
        length = integer("length", length, 0)
        temperature = real_number("temperature", temperature)
        generator = np.random.default_rng(random_state)
        return "".join(itertools.islice(self._characters(prompt, temperature, generator), length))

    def _characters(self, prompt: str, temperature: float, generator: np.random.Generator) -> Iterator[str]:
        """Yield what follows the prompt, without end."""
        unknown = self._vocabulary.unknown
        stream = self.network_.stream()
        scores = stream.step(unknown)
        for token in self._vocabulary.encode(prompt).tolist():
            scores = stream.step(token)
        while True:
            token = _draw(scores[:unknown], temperature, generator)
            yield self.vocabulary_[token]
            scores = stream.step(token)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.safetensors`` file that `latchwork.load` reads.

        Parameters
        ----------
        path : str or os.PathLike
            The file. One of that name is replaced once the new one is complete.
        """
        self._check_fitted()
        files.save(self, path)

    def _to_file(self) -> files.Content:
        network = self.network_._to_file()
        parameters = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in self.get_params().items()
        }
        # Code points, because JSON joins a high and a low surrogate to one character.
        config = {**network.config, "vocabulary": [ord(character) for character in self.vocabulary_]}
        python = {
            "network": network.python,
            "parameters": parameters,
            "history": self.history_,
            "interrupted": self.interrupted_,
        }
        return files.Content("language_model", config, python, network.tensors)

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        *network_values, code_points = files.named("config", content.config, (*files.CONFIG, "vocabulary"))
        network_python, parameters, history, interrupted = files.named(
            "python", content.python, ("network", "parameters", "history", "interrupted")
        )
        model = cls(**parameters)
        model._check_parameters()
        vocabulary = Vocabulary("".join(chr(integer("vocabulary", each, 0, CODE_POINTS - 1)) for each in code_points))
        if [ord(character) for character in vocabulary.characters] != code_points:
            raise ValueError("vocabulary: expected different characters in order")
        network_config = dict(zip(files.CONFIG, network_values, strict=True))
        network = Network._from_file(files.Content("network", network_config, network_python, content.tensors))
        if (
            not network._core.takes_tokens
            or network._core.output_size != vocabulary.size
            or network._members is not None
        ):
            raise ValueError(f"network: expected one that reads and predicts {vocabulary.size} tokens")
        model._keep(vocabulary, network, list(history), bool(interrupted))
        return model

    def _keep(
        self, vocabulary: Vocabulary, network: Network, history: list[dict[str, float]], interrupted: bool
    ) -> None:
        """Become the model that was trained or read."""
        self._vocabulary = vocabulary
        self.vocabulary_ = vocabulary.characters
        self.network_ = network
        self.history_ = history
        self.interrupted_ = interrupted

    def _new_network(self, vocabulary: Vocabulary, generator: np.random.Generator) -> Network:
        seeds = generator.integers(2**63, size=3).tolist()
        return Network(
            [
                Embedding(vocabulary.size, self.embedding_size, seed=seeds[0]),
                LSTM(
                    self.embedding_size,
                    self.hidden_size,
                    self.num_layers,
                    dropout=self.dropout,
                    seed=seeds[1],
                ),
                Linear(self.hidden_size, vocabulary.size, seed=seeds[2]),
            ]
        )

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise RuntimeError("this LSTMLanguageModel has learned nothing yet: call fit(text) first")

    def _check_parameters(self) -> None:
        for name in ("hidden_size", "embedding_size", "num_layers", "batch_size", "window", "max_epochs"):
            integer(name, getattr(self, name), 1)
        for name in ("dropout", "lr", "weight_decay", "clip_norm"):
            real_number(name, getattr(self, name))
        if self.max_seconds is not None:
            real_number("max_seconds", self.max_seconds)
        if self.random_state is not None:
            integer("random_state", self.random_state, 0)


class _Training:
    """One run over the epochs, and what is known of it at any moment."""

    def __init__(
        self,
        model: LSTMLanguageModel,
        network: Network,
        tokens: Tokens,
        unknown: int,
        generator: np.random.Generator,
        started: float,
    ) -> None:
        self.history: list[dict[str, float]] = []
        self._model = model
        self._tokens = tokens
        self._unknown = unknown
        self._generator = generator
        self._started = started
        self._characters = 0
        self._trainer = Trainer(
            network,
            loss="cross_entropy",
            optimizer=AdamW(lr=model.lr, weight_decay=model.weight_decay),
            clip_norm=model.clip_norm,
            seed=int(generator.integers(2**63)),
        )
        rows = min(max(len(tokens) // (model.window * SHORTEST_STREAM_WINDOWS), 1), model.batch_size)
        steps = -(-len(tokens) // rows)
        # Neighbouring streams overlap a little where the text does not divide evenly.
        self._starts = (len(tokens) - steps) * np.arange(rows) // max(rows - 1, 1)
        # Windows of nearly equal length, because each is one step of the optimiser.
        windows = -(-steps // model.window)
        self._bounds = steps * np.arange(windows + 1) // windows

    def run(self, bar: ProgressBar) -> None:
        """Train until the epochs or the seconds are over."""
        for epoch in range(self._model.max_epochs):
            tokens = self._epoch_tokens()
            state = None
            bits = 0.0
            characters = 0
            for window, (begin, end) in enumerate(zip(self._bounds[:-1], self._bounds[1:], strict=True)):
                done = self._done(epoch, window)
                if done >= 1:
                    return
                self._trainer.lr = learning_rate(self._model.lr, done)
                inputs, targets = self._window(tokens, begin, end)
                loss, state = self._trainer.step(inputs, targets, state)
                bits += loss / math.log(2) * inputs.size
                characters += inputs.size
                self._characters += inputs.size
                if window == 0:
                    self.history.append({"epoch": epoch + 1})
                seconds = time.perf_counter() - self._started
                mean = bits / characters
                self.history[-1].update(seconds=seconds, characters=self._characters, bits_per_character=mean)
                rate = self._characters / seconds
                bar.update(done, f"epoch {epoch + 1}  {mean:.3f} bits/character  {rate:,.0f} characters/s")

    def _done(self, epoch: int, window: int) -> float:
        windows = len(self._bounds) - 1
        done = (epoch * windows + window) / (self._model.max_epochs * windows)
        limit = self._model.max_seconds
        if limit is None:
            return done
        seconds = time.perf_counter() - self._started
        return max(done, seconds / limit) if limit > 0 else 1.0

    def _epoch_tokens(self) -> Tokens:
        """Return the text as this epoch reads it: the token before the first one, then every token."""
        tokens = _from_the_start(self._tokens, self._unknown)
        share = self._generator.binomial(len(tokens), UNKNOWN_SHARE)
        tokens[self._generator.integers(len(tokens), size=share)] = self._unknown
        return tokens

    def _window(self, tokens: Tokens, begin: int, end: int) -> tuple[Tokens, Tokens]:
        """Return what every stream reads at each step, and what comes next: (steps, rows)."""
        places = self._starts + np.arange(begin, end)[:, np.newaxis]
        inputs = tokens[places]
        if begin == 0:
            inputs[0] = self._unknown
        return inputs, tokens[places + 1]


def learning_rate(start: float, done: float) -> float:
    """Learning rate after the share ``done`` of the training: half a cosine from ``start`` to zero."""
    return start * 0.5 * (1.0 + math.cos(math.pi * done))


def _from_the_start(tokens: Tokens, unknown: int) -> Tokens:
    """Put in front what the model reads before it predicts the first token."""
    return np.concatenate([[unknown], tokens])


def _bits(scores: NDArray[np.float32], tokens: Tokens) -> NDArray[np.float64]:
    """-log2 of the softmax of each row of scores at its token."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[:, np.newaxis], axis=1)[:, 0]
    bits: NDArray[np.float64] = (np.log(np.exp(shifted).sum(axis=1)) - chosen) / math.log(2)
    return bits


def _draw(scores: NDArray[np.float32], temperature: float, generator: np.random.Generator) -> int:
    if temperature == 0:
        return int(scores.argmax())
    shifted = scores.astype(np.float64)
    shifted -= shifted.max()
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, of probability 0
        cumulated = np.cumsum(np.exp(shifted / temperature))
    drawn = np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right")
    return min(int(drawn), len(cumulated) - 1)  # the product may round up to the whole sum


def _check_text(name: str, text: Any, shortest: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, got {type(text).__name__}")
    if len(text) < shortest:
        raise ValueError(f"{name}: expected at least {shortest} character(s), got {len(text)}")
