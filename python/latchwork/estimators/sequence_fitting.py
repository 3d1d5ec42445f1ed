"""From data and parameters to a training that is about to begin."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from latchwork._arrays import integer
from latchwork._random import Random
from latchwork.estimators.data.examples import Examples, check_no_gaps
from latchwork.estimators.data.input_numbers import InputNumbers, input_numbers, joined_numbers
from latchwork.estimators.data.inputs import read, read_fit
from latchwork.estimators.data.long_data import LongData, is_long, is_mapped, is_path, sequences_of_files
from latchwork.estimators.data.preparation import gaps_of
from latchwork.estimators.data.targets import target_columns
from latchwork.estimators.data.training_data import OneEpoch, training_data
from latchwork.estimators.holdout import held_out
from latchwork.estimators.language_network import check_optimizer, new_optimizer
from latchwork.estimators.runs.fingerprints import options_of
from latchwork.estimators.runs.runs import Run
from latchwork.estimators.sequence_network import NetworkSeeds, OutputNumbers, new_network, training_network
from latchwork.estimators.sequence_parameters import SequenceParameters
from latchwork.estimators.validation import Validation
from latchwork.network import Network
from latchwork.schedules import Schedule
from latchwork.training import Trainer

if TYPE_CHECKING:
    from latchwork._arrays import Array
    from latchwork.estimators.data.layout import Layout
    from latchwork.estimators.data.schema import Schema
    from latchwork.estimators.data.sequences import Sequences
    from latchwork.estimators.data.targets import Targets
    from latchwork.estimators.data.windows import Encode
    from latchwork.estimators.runs.runs import TrainingData


@dataclasses.dataclass(frozen=True)
class Learned:
    """What fit learned beside the weights."""

    schema: Schema
    outputs: OutputNumbers
    missing: str
    answers: Any  # what targets look like: a regressor's `Answers`, a classifier's classes


@dataclasses.dataclass(frozen=True)
class Going:
    """Where ``partial_fit`` goes on."""

    seed: int
    epochs: int  # that are over
    trainer: Trainer[Any] | None  # None: a new one
    classes: Array | None = None  # all labels there may be, if they are known before any data


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A training that is about to begin."""

    learned: Learned
    run: Run


class FittingSeeds(NamedTuple):
    """The seeds of all parts of a training."""

    network: NetworkSeeds
    trainer: int
    order: int
    split: int

    @classmethod
    def drawn(cls, random: Random) -> FittingSeeds:
        """Draw all of them, whatever is needed, so that no option changes the seeds of another."""
        return cls(NetworkSeeds.drawn(random), random.seed(), random.seed(), random.seed())


class SequenceFitting(SequenceParameters):
    """Makes `Fitting` of data; the methods at the end are where a regressor and a classifier differ."""

    _labels: ClassVar[bool]  # whether y is labels rather than numbers

    network_: Network
    _learned: Learned

    def _new_run(self, X: Any, y: Any, sample_weight: Any = None, *, static: Any = None, seed: int) -> Run:
        """Make the run that ``fit`` makes with this seed, to replay it."""
        self._check_parameters()
        return self._new_fitting(X, y, sample_weight, static, seed, time.perf_counter()).run

    def _new_fitting(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        static: Any,
        seed: int,
        started: float,
        going: Going | None = None,
    ) -> Fitting:
        """Read the data and build all that is trained; nothing of this estimator changes."""
        seeds = FittingSeeds.drawn(Random(seed))
        goes_on = hasattr(self, "network_") and (self.warm_start or going is not None)
        before = self._learned if goes_on else None
        if is_long(X) and (self.window is not None or not is_mapped(X)):
            learned, trainer, data = self._read_long(X, y, sample_weight, static, seeds, before, going)
            validates = self.validation_data is not None and going is None
            validation = self._given_validation(learned) if validates else None
            epochs = 1 if isinstance(X, Iterator) else self._max_epochs(data.steps())
            run = self._run_of(trainer, data, epochs, validation, learned, seed, started, goes_on, going)
            return Fitting(learned, run)

        classes = None if going is None else going.classes
        examples, schema, answers, layout = self._read_examples(X, y, sample_weight, static, before, classes)
        training, validation = self._split(examples, seeds.split, validates=going is None)
        counted = Examples(training.sequences, self._weighted(training.targets)).counted()
        if before is None:
            gaps = gaps_of(counted.sequences)
            missing = self.missing or ("forward" if gaps.columns() else "refuse")
            outputs = self._new_outputs(counted.targets, answers)
            learned = Learned(schema, outputs, missing, answers)
            if gaps.columns() and self.missing is None and self.verbose:
                note_gaps(gaps.columns(), counted.sequences.names, int(self.verbose))
        else:
            learned = before
        if learned.missing == "refuse":
            check_no_gaps(examples.sequences, layout)
        if self.validation_data is not None and going is None:
            validation = self._given_validation(learned)
        inputs = None
        if before is None:
            inputs = input_numbers(counted.sequences, schema, self.scale, learned.missing, gaps.distinct_columns())
        longest = int(counted.sequences.lengths.max())
        trainer = self._trainer_of(learned, inputs, longest, seeds, going)
        targets = self._in_units_of_network(counted.targets, learned.outputs)
        data = training_data(
            counted._replace(targets=targets),
            self._batch_size(len(targets)),
            self.window,
            seed=seeds.order,
            shuffle=self.shuffle,
        )
        epochs = self._max_epochs(data.steps())
        run = self._run_of(trainer, data, epochs, validation, learned, seed, started, goes_on, going)
        return Fitting(learned, run)

    def _trainer_of(
        self, learned: Learned, inputs: InputNumbers | None, longest: int, seeds: FittingSeeds, going: Going | None
    ) -> Trainer[Any]:
        """Go on with a trainer, or make one: of a new network if there are ``inputs``, else of the one there is."""
        if going is not None and going.trainer is not None:
            return going.trainer
        if inputs is None:
            network = training_network(self.network_, learned.outputs)
        else:
            network = new_network(self, inputs, learned.outputs, seeds.network, longest)
        return self._new_trainer(network, learned, seeds.trainer)

    def _run_of(
        self,
        trainer: Trainer[Any],
        data: TrainingData,
        max_epochs: int,
        validation: Examples | None,
        learned: Learned,
        seed: int,
        started: float,
        goes_on: bool,
        going: Going | None,
    ) -> Run:
        run = Run(
            trainer=trainer,
            data=data,
            max_epochs=max_epochs,
            max_seconds=self.max_seconds,
            started=started,
            validate=None if validation is None else self._validation(trainer, validation, learned),
            lr_schedule=self._lr_schedule(),
            early_stopping=self.early_stopping,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            callbacks=self.callbacks,
            verbose=int(self.verbose),
            seed=seed,
            fingerprint=options_of(self.get_params()),
            given_start=goes_on,
            checkpoint_dir=self.checkpoint_dir,
            checkpoint_every=self.checkpoint_every,
        )
        if going is not None:
            one_epoch = OneEpoch(data, going.epochs)
            schedule = run.lr_schedule if isinstance(run.lr_schedule, Schedule) and going.trainer is None else None
            run = dataclasses.replace(
                run,
                data=one_epoch,
                max_epochs=1,
                max_seconds=None,
                early_stopping=False,
                lr_schedule=schedule,
                checkpoint_dir=None,
            )
        return run

    def _read_long(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        static: Any,
        seeds: FittingSeeds,
        before: Learned | None,
        going: Going | None,
    ) -> tuple[Learned, Trainer[Any], TrainingData]:
        """Read what is larger than memory or comes piece by piece, and build what is trained on it."""
        self._check_long(X, static, validates=going is None)
        long = LongData(
            X,
            y,
            sample_weight,
            dtype=self.dtype,
            labels=self._labels,
            sequence=self.sequence,
            time=self.time,
            before=None if before is None else before.schema,
            refuse_gaps=(self.missing if before is None else before.missing) == "refuse",
        )
        inputs = None
        if before is None:
            gaps = long.inputs.gaps
            missing = self.missing or ("forward" if gaps.columns() else "refuse")
            answers, outputs = self._long_answers(long)
            learned = Learned(long.schema, outputs, missing, answers)
            shift, factor = long.inputs.scale(self.scale)
            mean, _ = long.inputs.scale("standard")
            persistence = long.persistence.fitted(mean) if missing == "forward" else None
            inputs = joined_numbers(
                shift, factor, mean, long.schema, self.scale, missing, gaps.distinct_columns(), persistence
            )
        else:
            learned = before
        window = integer("window", self.window, 1)
        trainer = self._trainer_of(learned, inputs, window, seeds, going)
        data = long.windows(
            self._long_targets(long, learned),
            window=window,
            batch_size=self._batch_size(1),
            seed=seeds.order,
            shuffle=self.shuffle,
        )
        return learned, trainer, data

    def _check_long(self, X: Any, static: Any, *, validates: bool) -> None:
        """Refuse options that data read piece by piece cannot have."""
        if self.window is None:
            raise ValueError(
                "window: expected how many steps are read at once, because X comes piece by piece, got None"
            )
        if static is not None:
            raise TypeError(f"static: expected None, because X comes piece by piece, got {type(static).__name__}")
        if self.categorical is not None:
            raise ValueError(f"categorical: expected None, because X comes piece by piece, got {self.categorical!r}")
        if self.scale == "robust":
            raise ValueError('scale: expected "standard" or None, because X comes piece by piece, got "robust"')
        if validates and self.early_stopping and self.validation_data is None:
            raise ValueError(
                "validation_data: expected (X, y) for early_stopping, because X comes piece by piece, got None"
            )
        if validates and isinstance(X, Iterator) and self.max_epochs not in (None, 1):
            raise ValueError(
                f"max_epochs: expected 1 for an iterator, which can be read only once, got {self.max_epochs}; pass a "
                "function that returns a fresh iterator"
            )

    def _read_examples(
        self, X: Any, y: Any, sample_weight: Any, static: Any, before: Learned | None, classes: Array | None
    ) -> tuple[Examples, Schema, Any, Layout]:
        """Read the data, as an earlier fit learned to if this one goes on from it."""
        if before is None:
            sequences, schema, layout = read_fit(
                X,
                static=static,
                sequence=self.sequence,
                time=self.time,
                categorical=self.categorical,
                dtype=self.dtype,
                targets=target_columns(y, _column_names(X)),
            )
        else:
            schema = before.schema
            sequences, layout = self._read(X, schema, static)
        learned = None if before is None else before.answers
        targets, answers = self._read_targets(y, layout, sample_weight, learned, classes)
        return Examples(sequences, targets), schema, answers, layout

    def _read(self, X: Any, schema: Schema, static: Any) -> tuple[Sequences, Layout]:
        if is_long(X) and is_path(X):
            if static is not None:
                raise TypeError(f"static: expected None, because X is a file, got {type(static).__name__}")
            return sequences_of_files(X, schema)
        return read(X, schema, static=static, estimator=type(self).__name__)

    def _split(self, examples: Examples, seed: int, *, validates: bool) -> tuple[Examples, Examples | None]:
        """Hold sequences out of training if ``early_stopping`` needs some."""
        if not (validates and self.early_stopping and self.validation_data is None):
            return examples, None
        labels = self._strata(examples.targets)
        training, validation = held_out(len(examples.sequences), self.validation_fraction, Random(seed), labels)
        return examples.take(training), examples.take(validation)

    def _given_validation(self, learned: Learned) -> Examples:
        """Read ``validation_data``."""
        given = self.validation_data
        if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= 4:
            raise TypeError(
                "validation_data: expected (X, y), (X, y, sample_weight) or (X, y, sample_weight, static), got "
                f"{type(given).__name__}{f' of {len(given)}' if isinstance(given, (tuple, list)) else ''}"
            )
        X, y, sample_weight, static = (*given, None, None)[:4]
        sequences, layout = self._read(X, learned.schema, static)
        if learned.missing == "refuse":
            check_no_gaps(sequences, layout)
        targets, _ = self._read_targets(y, layout, sample_weight, learned.answers)
        return Examples(sequences, targets)

    def _validation(self, trainer: Trainer[Any], examples: Examples, learned: Learned) -> Validation:
        targets = self._in_units_of_network(examples.targets, learned.outputs)
        loss, options = self._loss(learned.answers)

        def score(output: Array) -> float:
            return self._score_of(output, targets, learned.answers)

        network = trainer.network
        assert isinstance(network, Network)
        return Validation(network, Examples(examples.sequences, targets), loss, options, score)

    def _new_trainer(self, network: Network, learned: Learned, seed: int) -> Trainer[Any]:
        loss, options = self._loss(learned.answers)
        check_optimizer(self.optimizer)
        optimizer = new_optimizer({"optimizer": self.optimizer, "lr": self.lr, "weight_decay": self.weight_decay})
        return Trainer(network, loss, optimizer, self.clip_norm, seed, checkpoint=self.checkpoint, **options)

    def _lr_schedule(self) -> str | Schedule | None:
        """Leave the learning rate to an optimiser that has a schedule of its own."""
        has_own = not isinstance(self.optimizer, str) and self.optimizer.schedule is not None
        return None if has_own else self.lr_schedule

    # Where a regressor and a classifier differ.

    def _read_targets(
        self, y: Any, layout: Layout, sample_weight: Any, answers: Any, classes: Array | None = None
    ) -> tuple[Targets, Any]:
        """Read y; give the targets, and what targets look like.

        ``answers`` is what fit learned of them, if it did; ``classes`` are all labels there may be, if they are known.
        """
        raise NotImplementedError

    def _long_answers(self, long: LongData) -> tuple[Any, OutputNumbers]:
        """Say what targets that come piece by piece look like, and what the last layers are made of."""
        raise NotImplementedError

    def _long_targets(self, long: LongData, learned: Learned) -> Encode:
        """Give what makes targets in the units of the network of pieces of y."""
        raise NotImplementedError

    def _strata(self, targets: Targets) -> Array | None:
        """Give what is to be held out in equal shares, one label for each sequence."""
        return None

    def _weighted(self, targets: Targets) -> Targets:
        """Give the targets that are trained on the weights of their classes."""
        return targets

    def _new_outputs(self, targets: Targets, answers: Any) -> OutputNumbers:
        """Find out what the last layers are made of."""
        raise NotImplementedError

    def _in_units_of_network(self, targets: Targets, outputs: OutputNumbers) -> Targets:
        """Give targets in the units of the network that is trained."""
        raise NotImplementedError

    def _loss(self, answers: Any) -> tuple[Any, dict[str, Any]]:
        """Give the loss and its options, as a trainer takes them."""
        raise NotImplementedError

    def _score_of(self, output: Array, targets: Targets, answers: Any) -> float:
        """Say how good an output (M, rows, features) is."""
        raise NotImplementedError


def note_gaps(gaps: list[int], names: Sequence[str] | None, verbose: int) -> None:
    """Say what becomes of NaN where nobody chose: with ``verbose`` 1 on a terminal, with 2 anywhere."""
    columns = ", ".join(str(gap if names is None else names[gap]) for gap in gaps[:10])
    note = f'NaN in {len(gaps)} features ({columns}{", ..." if len(gaps) > 10 else ""}): missing="forward"'
    if verbose > 1:
        print(note)
    elif sys.stderr is not None and sys.stderr.isatty():
        print(note, file=sys.stderr)


def _column_names(X: Any) -> Any:
    """Give the names of the columns of a data frame, or of the first of a list of them."""
    first = X[0] if isinstance(X, (list, tuple)) and len(X) else X
    if isinstance(first, (list, tuple)):
        return ()
    names = getattr(first, "columns", None)
    if names is None or hasattr(first, "schema") and hasattr(first.schema, "names") and not hasattr(first, "height"):
        names = getattr(getattr(first, "schema", None), "names", ())
    return names
