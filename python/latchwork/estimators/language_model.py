"""Language model: the next character, byte, word or token of a text from all before it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from latchwork import _core, files
from latchwork._arrays import integer, real_dtype
from latchwork._progress import ProgressBar
from latchwork._random import Random, seed_of
from latchwork.estimators import language_network
from latchwork.estimators.estimator import not_fitted_error
from latchwork.estimators.language_parameters import LanguageParameters, check_text
from latchwork.estimators.runs.checkpoints import run_seed
from latchwork.estimators.runs.fingerprints import options_of
from latchwork.estimators.runs.fit_loop import FitLoop, Run
from latchwork.estimators.runs.stopping import DivergenceError
from latchwork.estimators.stored_parameters import restored, stored
from latchwork.estimators.text import tokenizers
from latchwork.estimators.text.generation import written
from latchwork.estimators.text.sampling import Draws, Sampling, StopStrings, continued, joined
from latchwork.estimators.text.text_sources import Source, is_large, of_file, of_str
from latchwork.estimators.text.text_windows import TextWindows
from latchwork.estimators.text.tokenizers import Tokenizer, UserTokens
from latchwork.network import Network
from latchwork.training import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike
    from typing import Self

    from numpy.typing import NDArray

    from latchwork._writing import FilePath
    from latchwork.estimators.text.characters import Tokens

# Steps that are read in one call, which bounds the memory that their outputs take; fewer if there are many tokens.
STEPS_PER_CALL = 4096
_SCORES_PER_CALL = 2**20

# Parameters that belong to one machine or one run.
_NOT_IN_FILES = ("callbacks", "validation_data", "checkpoint_dir")

# What parameters were that files lack because there was no choice when they were written, and that differ from today's.
_AS_IT_WAS = {"forget_gate": True}


class _Prepared(NamedTuple):
    """What a fit trains, before its first step."""

    tokenizer: Tokenizer
    network: Network
    run: Run


class LSTMLanguageModel(LanguageParameters):
    """Language model with scikit-learn's habits: an embedding, an LSTM stack and a linear layer.

    It predicts the next token of a text: a character by default, or a byte, a word, or a token of a tokenizer of your
    own. Training cuts the text into ``batch_size`` streams that are read side by side, window by window; the state is
    carried from window to window (truncated backpropagation through time).

    Parameters
    ----------
    hidden_size, embedding_size, num_layers : int
        Size of the network.
    tokenizer : str, pair of callables, tokenizers.Tokenizer or path, default "characters"
        What the tokens are.

        - "characters": those of the training text.
        - "bytes": the text in UTF-8. What is generated and is no UTF-8 is written as U+FFFD.
        - "words": the ``vocabulary_size`` most frequent words that the training text has at least twice, with the space
          before them; other words are spelled, character by character.
        - A pair ``(encode, decode)``: ``encode(text)`` gives integers from 0 to 2**32 - 1, ``decode(list)`` the text.
        - A tokenizer of the package ``tokenizers``, or the path of its JSON file, a str that ends in ".json" or an
          os.PathLike. Special tokens are not added, and nothing is cut.
    vocabulary_size : int
        The most words that "words" has tokens for; it does not matter else.
    dropout : float
        From 0 to 1: the share of the output of each LSTM layer that is dropped while training.
    forget_gate : "coupled", True or False
        "coupled": f = 1 - i, what is added replaces what is forgotten; it learns faster and takes less time than a
        forget gate of its own (True).
    recurrent_dropout, recurrent_dropout_on, weight_dropout, zoneout, peephole, layer_norm, activations, clip, \
cell_clip, residual, learn_start_state, proj_size, forget_bias, init, t_max
        The other options of the cell, with the defaults and the meaning that they have for `latchwork.LSTM`.
    dtype : {"float32", "float64"}
        In what the network computes.
    batch_size, window : int
        How many streams, and how many tokens of each one step of training reads. A text too short for streams of 16
        windows is cut into fewer streams.
    optimizer : "adamw" or one of `latchwork.optim`
        "adamw" is AdamW with ``lr`` and ``weight_decay``. Another one, without a target, brings its own; it is copied.
    lr : float
        Learning rate at the start.
    lr_schedule : {"cosine", "warmup_cosine", "constant"} or Schedule
        "cosine": the learning rate falls to zero along half a cosine while the epochs or seconds run out;
        "warmup_cosine": it rises over the first tenth before; "constant": it stays. Or one of
        `latchwork.optim.schedules`. An optimizer that has a schedule keeps that one.
    weight_decay : float
        Decoupled weight decay: what keeps a small text from being learned by heart.
    clip_norm : float, optional
        Gradients are scaled down to this norm; None or 0: never.
    max_epochs : int
        How many times to read the text at most.
    max_seconds : float, optional
        Training ends after this time at the latest. What is learned then depends on how fast the machine is.
    early_stopping : bool
        Whether training ends when the validation loss has not fallen by ``tol`` for ``n_iter_no_change`` epochs. The
        weights of the best epoch are kept. Without ``validation_data`` the end of the text is held out for it.
    validation_fraction : float
        The share of the text, its end, that is held out if ``early_stopping`` asks for validation and there is no
        ``validation_data``.
    validation_data : str, optional
        A text that is measured after each epoch.
    n_iter_no_change, tol : int and float
        See ``early_stopping``.
    warm_start : bool
        Whether a second ``fit`` goes on from the weights of the first, with its tokenizer: fine-tuning on another text.
        Characters and tokens that the first text lacked are read as unknown ones then. ``history_`` begins anew.
    n_members : int
        How many networks are trained in one call; all read the same batches, and the model's probabilities are the
        means of theirs.
    random_state : int, numpy.random.Generator or numpy.random.RandomState, optional
        Seed of the initial weights and of everything random in training. Equal seeds give equal models, unless
        ``max_seconds`` ends the training. None: a different one each time.
    verbose : bool or int
        True or 1: a progress bar if standard error is a terminal. 2: a row for each epoch too.
    callbacks : sequence, optional
        Callbacks, or functions of (run, row), that are told of each epoch.
    checkpoint_dir : path, optional
        A folder from which a training that was stopped goes on: ``fit(text, resume=True)``.
    checkpoint_every : int or float, default 1
        How often a checkpoint is written: an int, epochs; a float, seconds.

    Attributes
    ----------
    vocabulary_ : str, bytes, list of str or list of int
        What the tokens stand for, in their order: for characters a str of them, sorted; for bytes all bytes; for words
        characters and then words; for a tokenizer of your own its numbers in the training text.
    network_ : Network
        What was trained. Its tokens are places in ``vocabulary_``; one more token stands for everything else, and for
        whatever came before the start of a text.
    history_ : list of dict
        One for each epoch: ``epoch``, ``seconds`` since the start, ``characters`` (or ``bytes``, ``tokens``) read in
        all, the mean ``bits_per_character`` in training, ``lr``, ``gradient_norm`` and, if there is validation,
        ``validation_loss``, in bits per character too.
    n_iter_ : int
        Epochs, the last one of which may have been ended early.
    interrupted_ : bool
        Whether Ctrl-C ended the training. It ends between two steps, and what was learned until then is kept.

    Notes
    -----
    A character that the training text lacks may come anywhere: in a text to be measured and in a prompt. The model
    reads all such characters as one, and has learned to, because a few characters of the training text are read so. Its
    probability for this one is shared equally by all Unicode code points that the training text lacks. It never
    generates one. The same holds of the numbers of a tokenizer of your own: those that the training text lacks are one
    token, whose probability all other numbers share.

    Before ``fit``, what needs a fitted model raises scikit-learn's ``NotFittedError`` or, where scikit-learn is not
    installed, ``latchwork.estimators.estimator.NotFittedError``. Both are ValueError and AttributeError too.

    Examples
    --------
    >>> from latchwork.estimators.language_model import LSTMLanguageModel
    >>> model = LSTMLanguageModel(hidden_size=32, max_epochs=3, random_state=0).fit("to be or not to be " * 100)
    >>> len(model.generate("to", length=20, random_state=0))
    20
    """

    def fit(
        self,
        text: str | PathLike[str] | Iterator[str],
        *,
        resume: bool = False,
        certificate: FilePath | None = None,
    ) -> Self:
        """Train on ``text``, from new weights unless ``warm_start`` says otherwise.

        Beside the text and the network, this takes one to four bytes of memory for each token.

        Parameters
        ----------
        text : str, os.PathLike or iterator of str
            At least two tokens. A path is that of a text in UTF-8, an iterator gives the text in pieces: both may be
            larger than memory, with characters, bytes or words as tokens.
        resume : bool, default False
            Whether to go on from the newest checkpoint in ``checkpoint_dir``, if there is one. The weights at the end
            are those of a run that was never stopped, bit for bit.
        certificate : str, bytes or os.PathLike, optional
            Where to record the run, so that others can verify it.

        Returns
        -------
        LSTMLanguageModel
            The model itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the text is not as expected; nothing has changed then.
        DivergenceError
            If the loss becomes infinite, NaN or enormous. The model has the best weights until then.
        OSError
            If the text cannot be read, or a checkpoint cannot be written. If that is so after the first step, the model
            has the weights of that moment.
        """
        started = time.perf_counter()
        self._check_parameters()
        seed = run_seed(self.random_state, self.checkpoint_dir, resume)
        prepared = self._prepare(text, seed=seed, started=started, resume=resume, certificate=certificate)
        loop = FitLoop(prepared.run)
        try:
            loop.run()
        except (DivergenceError, OSError):
            if loop.trainer.steps:
                self._keep(prepared.tokenizer, prepared.network, loop.history, loop.interrupted)
            raise
        self._keep(prepared.tokenizer, prepared.network, loop.history, loop.interrupted)
        return self

    def bits_per_character(self, text: str) -> float:
        """Mean -log2 of the probability that the model gives each token of ``text``, per character of the text.

        The text is read once, from its start to its end, its first token after the start of a text. The number can be
        compared between all tokenizers: so many bits for each character suffice to write the text down. Of a tokenizer
        of your own this is so if ``decode`` gives back the whole text that ``encode`` took.

        Parameters
        ----------
        text : str
            At least one character. See the class for characters that the training text lacks.

        Returns
        -------
        float
            Fewer are better.

        Raises
        ------
        ValueError
            If the text is empty.
        TypeError
            If it is no str.
        NotFittedError
            If the model has not been fitted.
        """
        tokenizer = self._fitted_tokenizer
        check_text("text", text, shortest=1)
        return self._bits(self.network_, tokenizer, tokenizer.encode_after_start(text), self.verbose) / len(text)

    def perplexity(self, text: str) -> float:
        """2 to the mean -log2 of the probability that the model gives each token of ``text``.

        Among so many equally likely tokens it would be as uncertain of the next one. It depends on what the tokens are,
        so compare it between models of one tokenizer only. For what the training text lacks it counts the same bits as
        `bits_per_character`; for characters it is 2 to that number.

        Parameters
        ----------
        text : str
            At least one token.

        Returns
        -------
        float
            At least 1; fewer are better.

        Raises
        ------
        ValueError
            If the text is empty, or has no token.
        TypeError
            If it is no str.
        NotFittedError
            If the model has not been fitted.
        """
        tokenizer = self._fitted_tokenizer
        check_text("text", text, shortest=1)
        tokens = tokenizer.encode_after_start(text)
        if len(tokens) == 1:
            raise ValueError(f"text: expected at least 1 token, got none of {len(text)} character(s)")
        bits = self._bits(self.network_, tokenizer, tokens, self.verbose) / (len(tokens) - 1)
        return float(_core.exp(np.array(bits * math.log(2))))

    @overload
    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        n_samples: None = None,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        n_samples: int,
    ) -> list[str]: ...

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        n_samples: int | None = None,
    ) -> str | list[str]:
        """Continue ``prompt`` with ``length`` tokens drawn one after another from the model.

        Parameters
        ----------
        prompt : str, default ""
            The start of the text. It may hold characters that the training text lacks.
        length : int, default 200
            How many tokens to generate at most: characters, unless ``tokenizer`` says otherwise.
        temperature : float, default 1.0
            Scores are divided by it: below 1 likely tokens become likelier. 0: always the likeliest one.
        random_state : int, numpy.random.Generator or numpy.random.RandomState, optional
            Equal seeds give equal texts, on every CPU with fused multiply-adds. None: another text each time.
        top_k : int, optional
            Draw from the ``top_k`` likeliest tokens only.
        top_p : float, optional
            Above 0, at most 1: draw from the likeliest tokens only whose probabilities just add up to it, after
            ``top_k``. Holtzman, Buys, Du, Forbes and Choi, "The curious case of neural text degeneration", ICLR 2020.
        stop : str or sequence of str, optional
            The text ends before the first of these strings, wherever the borders of its tokens are. What is in the
            prompt does not count.
        n_samples : int, optional
            How many texts to write at once, which takes less time than one after another. Sample i is the text of the
            seed ``random_state + i``, whatever ``n_samples`` is. None: one, as a str rather than a list.

        Returns
        -------
        str or list of str
            The new text, without the prompt; with ``n_samples`` a list of them.

        Raises
        ------
        ValueError
            If a number is out of range, or a stop string is empty.
        TypeError
            If an argument is of another type.
        NotFittedError
            If the model has not been fitted.
        """
        grown = self._grown(prompt, length, temperature, random_state, top_k, top_p, stop, n_samples)
        texts = ["".join(pieces) for pieces in zip(*grown, strict=True)] or [""] * (n_samples or 1)
        return texts[0] if n_samples is None else texts

    def generate_stream(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        random_state: int | np.random.Generator | np.random.RandomState | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        n_samples: int | None = None,
    ) -> Iterator[Any]:
        """Do what `generate` does, and give the text piece by piece while it is written.

        Parameters
        ----------
        prompt, length, temperature, random_state, top_k, top_p, stop, n_samples
            As for `generate`.

        Yields
        ------
        str or list of str
            What the text grows by, never an empty str; joined, the pieces are what `generate` returns. With
            ``n_samples`` a list: what each of the texts grows by, an empty str for those that do not. The end of a text
            that may become a stop string waits until it is known whether it does, and bytes or tokens that are part of
            a character wait for the rest of it.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As for `generate`, at the call and not at the first piece.
        """
        grown = self._grown(prompt, length, temperature, random_state, top_k, top_p, stop, n_samples)
        return grown if n_samples is not None else (pieces[0] for pieces in grown)

    def _grown(
        self,
        prompt: Any,
        length: Any,
        temperature: Any,
        random_state: Any,
        top_k: Any,
        top_p: Any,
        stop: Any,
        n_samples: Any,
    ) -> Iterator[list[str]]:
        """Check the arguments; give an iterator of what each text grows by."""
        tokenizer = self._fitted_tokenizer
        check_text("prompt", prompt, shortest=0)
        length = integer("length", length, 0)
        sampling = Sampling.checked(temperature, top_k, top_p)
        stops = StopStrings.checked(stop)
        rows = 1 if n_samples is None else integer("n_samples", n_samples, 1)
        draws = Draws(seed_of(random_state), rows)
        tokens = self._continued(tokenizer, prompt, sampling, draws, rows)
        return written(tokens, [tokenizer.decoder(prompt) for _ in range(rows)], stops, length)

    def _continued(
        self, tokenizer: Tokenizer, prompt: str, sampling: Sampling, draws: Draws, rows: int
    ) -> Iterator[list[int]]:
        """Yield the next token of each text, without end. Nothing is read before the first one is asked for."""
        for _, scores, state in _outputs(self.network_, tokenizer.encode_after_start(prompt), tokenizer.size):  # noqa: B007
            pass
        stream = self.network_.stream(rows)
        stream.state = tuple(np.repeat(part, rows, axis=-2) for part in state)
        yield from continued(stream, np.repeat(scores[-1:], rows, axis=0), tokenizer.unknown, sampling, draws)

    def save(self, path: FilePath) -> None:
        """Write the model to a ``.safetensors`` file that `latchwork.load` reads.

        The tokenizer is in the file, unless it is a pair of callables, which no file can hold: keep them, and give them
        to the model that was read, ``model.tokenizer = (encode, decode)``. A loaded model whose tokenizer is one of the
        package ``tokenizers`` has it as its parameter ``tokenizer``. The parameters ``callbacks``, ``validation_data``
        and ``checkpoint_dir`` are not in the file, nor is a ``random_state`` that is no int.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file. One of that name is replaced once the new one is complete, which then has its mode. If the path is
            a link, it stays one, and the file that it leads to is replaced.

        Raises
        ------
        OSError
            If the file cannot be written, or if something is there that is no regular file: a folder, a FIFO, a device.
        ValueError, TypeError
            If `set_params` gave a parameter that no model can have.
        """
        self._check_fitted()
        self._check_parameters()  # else nobody could read the file
        files.save(self, path)

    def _to_file(self) -> files.Content:
        network, tokenizer = self.network_._to_file(), self._tokenizer
        parameters = self.get_params() | {"dtype": real_dtype(self.dtype).name}
        for name in _NOT_IN_FILES:
            del parameters[name]
        if self.tokenizer not in tokenizers.NAMES:
            del parameters["tokenizer"]  # the tokenizer that was fitted is in the file, as far as a file can hold it
        content = tokenizer.to_file()
        config = dict(network.config)
        if tokenizer.kind == "characters":
            config["vocabulary"] = content["characters"]  # as files of the time before there were others have it
        else:
            config["tokenizer"] = content
        python = {
            "network": network.python,
            "parameters": stored(parameters),
            "history": self.history_,
            "interrupted": self.interrupted_,
        }
        return files.Content("language_model", config, python, network.tensors)

    @classmethod
    def _from_file(cls, content: files.Content) -> Self:
        tokens_name = "tokenizer" if "tokenizer" in content.config else "vocabulary"
        *network_values, tokens = files.named("config", content.config, (*files.CONFIG, tokens_name))
        network_python, parameters, history, interrupted = files.named(
            "python", content.python, ("network", "parameters", "history", "interrupted")
        )
        model = cls(**_AS_IT_WAS | restored(parameters))
        if tokens_name == "vocabulary":
            tokenizer: Tokenizer = tokenizers.vocabulary_from_file(tokens)
        else:
            tokenizer = tokenizers.from_file(tokens)
        model._check_parameters()
        if isinstance(tokenizer, UserTokens):
            model.tokenizer = tokenizer.option()
        network_config = dict(zip(files.CONFIG, network_values, strict=True))
        network = Network._from_file(files.Content("network", network_config, network_python, content.tensors))
        if not network._core.takes_tokens or network._core.output_size != tokenizer.size:
            raise ValueError(f"network: expected one that reads and predicts {tokenizer.size} tokens")
        model._keep(tokenizer, network, list(history), bool(interrupted))
        return model

    def _keep(self, tokenizer: Tokenizer, network: Network, history: list[dict[str, float]], interrupted: bool) -> None:
        """Become the model that was trained or read."""
        self._tokenizer = tokenizer
        self.vocabulary_ = tokenizer.vocabulary
        self.network_ = network
        self.history_ = history
        self.n_iter_ = len(history)
        self.interrupted_ = interrupted

    def _new_run(self, text: Any, *, seed: int, **options: Any) -> Run:
        """Give what ``fit`` would run."""
        return self._prepare(text, seed=seed, **options).run

    def _prepare(self, text: Any, *, seed: int, **options: Any) -> _Prepared:
        """Check everything and make what ``fit`` runs; ``options`` are those of `Run` that are not parameters."""
        self._check_parameters()
        fitted = self._fitted_tokenizer if self.warm_start and hasattr(self, "network_") else None
        source, validation = self._read(text, fitted)
        tokenizer = source.tokenizer
        if len(source.tokens) < 3:
            raise ValueError(f"text: expected at least 2 tokens, got {len(source.tokens) - 1}")
        random = Random(seed)
        parameters = self.get_params()
        network = language_network.new_network(parameters, tokenizer.size, [random.seed() for _ in range(3)])
        if fitted is not None:
            language_network.take_weights(network, self.network_)
        optimizer = language_network.new_optimizer(parameters)
        run = Run(
            trainer=Trainer(network, "cross_entropy", optimizer, self.clip_norm, random.seed()),
            data=TextWindows(
                source.tokens,
                tokenizer.unknown,
                self.batch_size,
                self.window,
                random.seed(),
                counted=tokenizer.counted,
                characters=source.characters,
                has_unknown=tokenizer.has_unknown,
            ),
            max_epochs=self.max_epochs,
            max_seconds=self.max_seconds,
            validate=None if validation is None else self._validation(network, tokenizer, validation),
            lr_schedule=self.lr_schedule if optimizer.schedule is None else None,
            early_stopping=self.early_stopping,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            callbacks=self.callbacks,
            verbose=self.verbose,
            seed=seed,
            fingerprint=options_of(parameters),
            given_start=fitted is not None,
            checkpoint_dir=self.checkpoint_dir,
            checkpoint_every=self.checkpoint_every,
            **options,
        )
        return _Prepared(tokenizer, network, run)

    def _read(self, text: Any, fitted: Tokenizer | None) -> tuple[Source, str | None]:
        """Give what is trained on and what is validated on, if anything is."""
        if fitted is None:
            tokenizers.check_option(self.tokenizer)
        holds_out = self.early_stopping and self.validation_data is None
        if is_large(text):
            if holds_out:
                raise ValueError(
                    "validation_data: expected a str beside a text that is a file or an iterator, got None"
                )
            return of_file(text, self.tokenizer, self.vocabulary_size, fitted, self.batch_size), self.validation_data
        if not isinstance(text, str):
            kind = type(text).__name__
            raise TypeError(f"text: expected a str, got {kind}; a pathlib.Path and an iterator of str are read too")
        check_text("text", text, shortest=3 if holds_out else 2)
        training, validation = text, self.validation_data
        if holds_out:
            held_out = min(max(int(len(text) * self.validation_fraction + 0.5), 1), len(text) - 2)
            training, validation = text[:-held_out], text[-held_out:]
        return of_str(training, self.tokenizer, self.vocabulary_size, fitted), validation

    def _validation(self, network: Network, tokenizer: Tokenizer, text: str) -> Callable[[], dict[str, float]]:
        tokens = tokenizer.encode_after_start(text)
        return lambda: {"validation_loss": self._bits(network, tokenizer, tokens, False) / len(text)}

    def _bits(self, network: Network, tokenizer: Tokenizer, tokens: Tokens, verbose: bool | int) -> float:
        """Bits that write down the tokens after the first one."""
        bits = 0.0
        with ProgressBar(verbose > 0) as bar:
            for start, scores, _ in _outputs(network, tokens[:-1], tokenizer.size):
                read = tokens[start + 1 : start + 1 + len(scores)]
                bits += int(np.count_nonzero(read == tokenizer.unknown)) * tokenizer.unknown_bits
                bits += math.fsum(_bits_of(scores, read))
                bar.update(
                    (start + len(scores)) / (len(tokens) - 1), f"measuring {len(tokens) - 1:,} {tokenizer.counted}"
                )
        return bits

    @property
    def _fitted_tokenizer(self) -> Tokenizer:
        """The tokenizer, with the callables that a file could not hold."""
        self._check_fitted()
        if isinstance(self._tokenizer, UserTokens) and self._tokenizer.lacking:
            self._tokenizer = self._tokenizer.with_callables(self.tokenizer)
        return self._tokenizer

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise not_fitted_error("this LSTMLanguageModel has learned nothing yet: call fit(text) first")


def _outputs(network: Network, tokens: Tokens, size: int) -> Iterator[tuple[int, NDArray[Any], Any]]:
    """Yield, call by call, where it begins, the scores after each token (steps, size), and the state at the end."""
    steps = max(1, min(STEPS_PER_CALL, _SCORES_PER_CALL // size))
    state = None
    for start in range(0, len(tokens), steps):
        output, state = network(tokens[start : start + steps, np.newaxis], state)
        scores = joined(output) if output.ndim == 4 else output
        yield start, scores[:, 0], state


def _bits_of(scores: NDArray[Any], tokens: Tokens) -> NDArray[np.float64]:
    """-log2 of the softmax of each row of scores at its token."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[:, np.newaxis], axis=1)[:, 0]
    # Cumulated sums, because np.sum adds in another order on each CPU.
    sums = _core.exp(shifted)
    np.cumsum(sums, axis=1, out=sums)
    bits: NDArray[np.float64] = (_core.log(sums[:, -1].copy()) - chosen) / math.log(2)
    return bits
