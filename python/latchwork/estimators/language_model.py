"""Character-level language model."""

import itertools
import math
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latchwork import _core, files
from latchwork._arrays import integer, real_number
from latchwork._progress import ProgressBar
from latchwork._random import Random
from latchwork._writing import FilePath
from latchwork.estimators.characters import CODE_POINTS, Tokens, Vocabulary
from latchwork.estimators.estimator import Estimator, not_fitted_error
from latchwork.estimators.fit_loop import FitLoop, Run
from latchwork.estimators.sampling import continue_tokens
from latchwork.estimators.stopping import DivergenceError
from latchwork.estimators.text_windows import TextWindows
from latchwork.layers import Embedding, Linear
from latchwork.lstm import LSTM
from latchwork.network import Network
from latchwork.optim import AdamW
from latchwork.training import Trainer

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

    Before ``fit``, what needs a fitted model raises scikit-learn's ``NotFittedError`` or, where scikit-learn is not
    installed, ``latchwork.estimators.estimator.NotFittedError``. Both are ValueError and AttributeError too.

    Examples
    --------
    >>> from latchwork.estimators.language_model import LSTMLanguageModel
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

        Beside the text and the network, this takes one to four bytes of memory for each character.

        Parameters
        ----------
        text : str
            At least two characters.
        """
        started = time.perf_counter()
        self._check_parameters()
        _check_text("text", text, shortest=2)
        vocabulary = Vocabulary(text)
        random = Random(self.random_state)
        network = self._new_network(vocabulary, random)
        loop = self._new_loop(network, vocabulary, text, random, started)
        try:
            loop.run()
        except DivergenceError:
            self._keep(vocabulary, network, loop.history, loop.interrupted)
            raise
        self._keep(vocabulary, network, loop.history, loop.interrupted)
        return self

    def bits_per_character(self, text: str) -> float:
        """Mean -log2 of the probability that the model gives each character of ``text`` after those before it.

        The text is read once, from its start to its end, its first character after the start of a text.

        Parameters
        ----------
        text : str
            At least one character. See the class for characters that the training text lacks.
        """
        self._check_fitted()
        _check_text("text", text, shortest=1)
        read = self._vocabulary.encode_after_start(text)
        inputs, tokens = read[:-1], read[1:]
        calls = range(0, len(tokens), STEPS_PER_CALL)
        unknown = self._vocabulary.unknown
        count = sum(np.count_nonzero(tokens[start : start + STEPS_PER_CALL] == unknown) for start in calls)
        bits = count * self._vocabulary.unknown_bits
        state = None
        with ProgressBar(self.verbose) as bar:
            for start in calls:
                end = min(start + STEPS_PER_CALL, len(tokens))
                scores, state = self.network_(inputs[start:end, np.newaxis], state)
                bits += math.fsum(_bits(scores[:, 0], tokens[start:end]))
                bar.update(end / len(tokens), f"measuring {len(tokens):,} characters")
        return bits / len(tokens)

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
    ) -> str:
        """Continue ``prompt`` with ``length`` characters drawn one after another from the model.

        Parameters
        ----------
        prompt : str
            The start of the text. It may hold characters that the training text lacks.
        length : int
            How many characters to generate.
        temperature : float
            Scores are divided by it: below 1 likely characters become likelier. 0: always the likeliest one.
        random_state : int, numpy.random.Generator or numpy.random.RandomState, optional
            Equal seeds give equal texts, on every CPU with fused multiply-adds.

        Returns
        -------
        str
            The new characters, without the prompt.
        """
        self._check_fitted()
        _check_text("prompt", prompt, shortest=0)
        length = integer("length", length, 0)
        temperature = real_number("temperature", temperature)
        random = Random(random_state)
        return "".join(itertools.islice(self._characters(prompt, temperature, random), length))

    def _characters(self, prompt: str, temperature: float, random: Random) -> Iterator[str]:
        """Yield what follows the prompt, without end."""
        unknown = self._vocabulary.unknown
        read = [unknown, *self._vocabulary.encode(prompt).tolist()]
        for token in continue_tokens(self.network_.stream(), read, unknown, temperature, random):
            yield self.vocabulary_[token]

    def save(self, path: FilePath) -> None:
        """Write the model to a ``.safetensors`` file that `latchwork.load` reads.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file. One of that name is replaced once the new one is complete, which then has its mode. If the path is
            a link, it stays one, and the file that it leads to is replaced.

        Raises
        ------
        OSError
            If the file cannot be written, or if something is there that is no regular file: a folder, a FIFO, a device.
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

    def _new_network(self, vocabulary: Vocabulary, random: Random) -> Network:
        seeds = [random.seed() for _ in range(3)]
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

    def _new_loop(self, network: Network, vocabulary: Vocabulary, text: str, random: Random, started: float) -> FitLoop:
        trainer = Trainer(
            network,
            loss="cross_entropy",
            optimizer=AdamW(lr=self.lr, weight_decay=self.weight_decay),
            clip_norm=self.clip_norm,
            seed=random.seed(),
        )
        tokens = vocabulary.encode_after_start(text)
        windows = TextWindows(tokens, vocabulary.unknown, self.batch_size, self.window, random.seed())
        return FitLoop(
            Run(
                trainer=trainer,
                data=windows,
                max_epochs=self.max_epochs,
                max_seconds=self.max_seconds,
                started=started,
                lr_schedule="cosine",
                verbose=self.verbose,
            )
        )

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise not_fitted_error("this LSTMLanguageModel has learned nothing yet: call fit(text) first")

    def _check_parameters(self) -> None:
        for name in ("hidden_size", "embedding_size", "num_layers", "batch_size", "window", "max_epochs"):
            integer(name, getattr(self, name), 1)
        for name in ("dropout", "lr", "weight_decay", "clip_norm"):
            real_number(name, getattr(self, name))
        if self.max_seconds is not None:
            real_number("max_seconds", self.max_seconds)
        if self.random_state is not None:
            integer("random_state", self.random_state, 0)


def _bits(scores: NDArray[np.float32], tokens: Tokens) -> NDArray[np.float64]:
    """-log2 of the softmax of each row of scores at its token."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[:, np.newaxis], axis=1)[:, 0]
    # Cumulated sums, because np.sum adds in another order on each CPU.
    sums = _core.exp(shifted)
    np.cumsum(sums, axis=1, out=sums)
    bits: NDArray[np.float64] = (_core.log(sums[:, -1].copy()) - chosen) / math.log(2)
    return bits


def _check_text(name: str, text: Any, shortest: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, got {type(text).__name__}")
    if len(text) < shortest:
        raise ValueError(f"{name}: expected at least {shortest} character(s), got {len(text)}")
