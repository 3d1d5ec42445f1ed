"""What a run depends on, as JSON can hold it, and in what two runs differ."""

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._optimizer import Optimizer
from latchwork.schedules import Schedule
from latchwork.training import Trainer

if TYPE_CHECKING:
    from latchwork.estimators.runs.runs import Run, TrainingData

# Parameters of estimators that change nothing of what a run learns.
_WITHOUT_EFFECT = ("callbacks", "checkpoint_dir", "checkpoint_every", "random_state", "verbose")


def options_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the parameters of an estimator, ``get_params()``, that decide what a run learns.

    ``random_state`` is left out because a run has a seed, which `Run` knows, and so is what only says how a run is
    shown or kept. Arrays are described by dtype, shape and SHA-256, functions and objects by their names.
    """
    return {name: described(value) for name, value in parameters.items() if name not in _WITHOUT_EFFECT}


def described(value: Any) -> Any:
    """Describe a value as JSON can hold it; equal values have equal descriptions."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    if isinstance(value, Schedule):
        return described(value.state_dict())
    if isinstance(value, Optimizer):
        return _described_optimizer(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        content = repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
        return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": hashlib.sha256(content).hexdigest()}
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def described_trainer(trainer: Trainer[Any]) -> dict[str, Any]:
    """Describe network, loss, optimisers and what else decides the steps of a trainer, but not how far it is."""
    return {
        "network": described(trainer.network._to_file().config),
        "loss": described(trainer._loss),
        "optimizers": [_described_optimizer(each) for each in trainer._optimizers],
        "clip_norm": described(trainer._clip_norm),
        "gradient_blocks": trainer._gradient_blocks or None,
        "seed": trainer._core.seed,
    }


def basis_of(run: "Run") -> dict[str, Any]:
    """Describe all that decides what a run learns."""
    return {
        "options": options_of_run(run),
        "trainer": described_trainer(run.trainer),
        "seed": run.seed,
        "data": data_digest(run.data),
        "machine": machine(),
    }


def options_of_run(run: "Run") -> dict[str, Any]:
    """Describe the options of a run: the estimator's, and those of the loop."""
    names = ("max_epochs", "max_seconds", "lr_schedule", "early_stopping", "n_iter_no_change", "tol")
    return {**dict(run.fingerprint), **{name: described(getattr(run, name)) for name in names}}


def check_resumable(expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Compare what a checkpoint's run depends on with that of the run that is to go on from it.

    ValueError if options, seed or data differ; a warning if version or instruction set do, which change bits at most.
    """
    found: list[str] = []
    for name in ("options", "seed", "trainer"):
        found += differences(expected[name], got[name], name)
        if found:  # what the options differ in, the trainer built from them differs in too
            break
    if expected["data"] != got["data"]:
        found.append("the data are others")
    if found:
        raise ValueError(f"resume: expected the options and the data of the checkpoint; {'; '.join(found)}")
    for difference in differences(expected["machine"], got["machine"]):
        warnings.warn(
            f"resume: the checkpoint comes from elsewhere, so the last bits may differ; {difference}", stacklevel=2
        )


def data_digest(data: "TrainingData") -> str:
    """Give the SHA-256 sum of all that a run reads."""
    digest = hashlib.sha256()
    data.feed(digest.update)
    return digest.hexdigest()


def machine() -> dict[str, Any]:
    """Say what decides the bits of a run beside its options and its data."""
    return {
        "version": _core.build_info()["version"],
        "fused_multiply_adds": _core.current_isa() != "baseline",
    }


def differences(expected: Any, got: Any, name: str = "") -> Iterator[str]:
    """Yield, for each place in which two descriptions differ, "name: expected ..., got ..."."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        for key in dict.fromkeys(itertools.chain(expected, got)):
            if key not in expected or key not in got:
                yield f"{key}: expected {_shown(expected.get(key))}, got {_shown(got.get(key))}"
            else:
                yield from differences(expected[key], got[key], key)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for before, now in zip(expected, got, strict=True):
            yield from differences(before, now, name)
    elif expected != got and not (expected != expected and got != got):  # NaN is NaN here
        yield f"{name}: expected {_shown(expected)}, got {_shown(got)}"


def _described_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    options = {name: value for name, value in optimizer._options.items() if name != "lr"}
    schedule = optimizer.schedule
    return {**described(options), "lr": optimizer.lr if schedule is None else described(schedule)}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
