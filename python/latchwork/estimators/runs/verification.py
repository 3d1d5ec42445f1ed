"""Whether a model is what its certificate says: random parts of the run are repeated, and every bit is compared."""

import copy
import dataclasses
import json
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from latchwork._arrays import MAX_SEED, integer
from latchwork._writing import path_text
from latchwork.estimators.runs.certificate import (
    FORMAT_VERSION,
    first_link,
    kept_weights,
    next_link,
    segment_file,
    state_digest,
    weights_digest,
)
from latchwork.estimators.runs.checkpoints import Snapshot, read_snapshot, trainer_snapshot
from latchwork.estimators.runs.fingerprints import data_digest, described_trainer, differences, machine, options_of_run
from latchwork.estimators.runs.fit_loop import FitLoop
from latchwork.estimators.runs.runs import Run
from latchwork.estimators.runs.stopping import DivergenceError
from latchwork.files import named

# They decide which of the epochs' weights are kept, but not what an epoch does to them.
_NOT_COMPARED = ("validation_data",)


class Verification(NamedTuple):
    """What `verify` found.

    It says nothing of who made the model: anybody who has the data can make a certificate.
    """

    equal: int  # segments that came out bit for bit as certified
    replayed: int  # segments that were repeated
    segments: int  # segments that the run has: its epochs, the last of which may be a part of one
    findings: list[str]  # what differs, in words

    @property
    def passed(self) -> bool:
        """Whether nothing was found and all that was repeated is equal."""
        return not self.findings and self.equal == self.replayed

    def __str__(self) -> str:
        """Say it in one line, and one more for each finding."""
        repeated = f"{self.equal} of {self.replayed} segments equal" if self.replayed else "no segment was repeated"
        return "\n".join([repeated, *self.findings])


def verify(
    model: Any, certificate: Any, *data: Any, segments: int | str = 3, random_state: Any = None, **keywords: Any
) -> Verification:
    """Check a fitted model against the certificate of its training, and repeat random parts of it.

    The data and the options must be those that the certificate's hashes were made from, the model's weights those that
    the run kept, and the chain of hashes whole. Then random segments, which are epochs, are trained again from the
    state before them, and must end in the state after them, bit for bit. That works on any machine and any number of
    threads, as long as both machines have fused multiply-adds or neither has.

    Parameters
    ----------
    model : estimator
        A fitted one, say from `latchwork.load`.
    certificate : str, bytes or os.PathLike
        The file that ``fit(certificate=...)`` wrote. The folder of states must be beside it.
    *data
        What was passed to ``fit``: X and y, or a text.
    segments : int or "all", default 3
        How many segments are repeated; at most as many as there are.
    random_state : int, optional
        Seed of the choice. None: one that nobody can foresee.
    **keywords
        What was passed to ``fit`` by name and decides what is learned, such as ``sample_weight``.

    Returns
    -------
    Verification
        ``equal``, ``replayed``, ``segments``, ``findings`` and ``passed``; as a str "3 of 3 segments equal".

    Raises
    ------
    ValueError
        If the file is no certificate, or of a newer Latchwork, or the machine cannot give the same bits.
    OSError
        If a file cannot be read.
    """
    path = path_text(certificate)
    content = read_certificate(path)
    count = None if segments == "all" else integer("segments", segments, 0)
    run = _new_run(model, content, *data, **keywords)
    findings = _found_in_chain(content)
    if findings:  # nobody vouches for what else is there
        return Verification(0, 0, len(content["segments"]), findings)
    options, findings = _found_in_options(content, run), _found_in_data(content, run)
    trainer = [
        f"other options: {each}" for each in differences(content["basis"]["trainer"], described_trainer(run.trainer))
    ]
    if options or trainer:  # a trainer that is built from other options, or fitted to other data, tells no more
        return Verification(0, 0, len(content["segments"]), options + findings or trainer)
    findings += _found_in_start(content, run) + _found_in_end(path, content, model, run)
    loop = FitLoop(_bare(run))
    chosen = _chosen(len(content["segments"]), count, random_state)
    unequal = [each for each in (_found_in_segment(loop, path, content, number) for number in chosen) if each]
    if unequal and content["basis"]["machine"]["version"] != machine()["version"]:
        unequal.append(f"the certificate is of version {content['basis']['machine']['version']}, other bits may be its")
    equal = len(chosen) - sum(each.startswith("segment") for each in unequal)
    return Verification(equal, len(chosen), len(content["segments"]), findings + unequal)


def has_data(model: Any, certificate: Any, *data: Any, **keywords: Any) -> bool:
    """Say whether a certificate is of a run on these data; parameters and errors are those of `verify`."""
    content = read_certificate(path_text(certificate))
    return not _found_in_data(content, _new_run(model, content, *data, **keywords))


def _new_run(model: Any, content: Mapping[str, Any], *data: Any, **keywords: Any) -> Run:
    """Make the run that the certified ``fit`` made."""
    model = copy.copy(model)
    if not content["given_start"]:  # that fit found no fitted model to go on from
        vars(model).pop("network_", None)
    stops_early = getattr(model, "early_stopping", False)
    if content["basis"]["options"].get("validation_data") is not None and model.validation_data is None:
        # No file holds data for validation. Without them, a part of the others would be held out.
        model.early_stopping = False
    run: Run = model._new_run(*data, seed=content["basis"]["seed"], **keywords)
    if stops_early:
        run = dataclasses.replace(run, early_stopping=True, fingerprint={**run.fingerprint, "early_stopping": True})
    return run


def read_certificate(path: str) -> dict[str, Any]:
    """Read a certificate. OSError, or ValueError if it is none or this machine cannot repeat its run."""
    with open(path, "rb") as file:
        text = file.read()
    try:
        content = json.loads(text)
        if content["kind"] != "certificate":
            raise ValueError
        version = content["format_version"]
        if version == FORMAT_VERSION:
            _check_structure(content)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{path}: expected a certificate that Latchwork wrote, got another file") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format_version {FORMAT_VERSION}, got {version}; a newer Latchwork may read it"
        )
    basis = content["basis"]
    fused = basis["machine"]["fused_multiply_adds"]
    if fused != machine()["fused_multiply_adds"]:
        with_or_without = "with" if fused else "without"
        raise ValueError(
            f"{path}: expected a machine {with_or_without} fused multiply-adds, as the run's was, got another, "
            "whose last bits differ"
        )
    result: dict[str, Any] = content
    return result


def _check_structure(content: Any) -> None:
    """Raise ValueError, TypeError or KeyError if a certificate, which may be hostile, lacks something."""
    basis = content["basis"]
    named(
        "certificate", content, ("kind", "format_version", "basis", "given_start", "start", "link", "segments", "end")
    )
    named("basis", basis, ("options", "trainer", "seed", "data", "machine"))
    named("machine", basis["machine"], ("version", "fused_multiply_adds"))
    integer("seed", basis["seed"], 0, MAX_SEED)
    if not isinstance(basis["options"], dict):
        raise TypeError
    for segment in content["segments"]:
        named("segment", segment, ("epoch", "steps", "order", "state", "link"))
        integer("epoch", segment["epoch"], 1)
        integer("steps", segment["steps"], 1)
    if content["end"] is not None:
        named("end", content["end"], ("weights", "kept_segment", "ended_by", "link"))
        integer("kept_segment", content["end"]["kept_segment"], 0)
    entries = [*content["segments"], *([content["end"]] if content["end"] else [])]
    for link in (content["link"], *(entry["link"] for entry in entries)):
        bytes.fromhex(link)


def _bare(run: Run) -> Run:
    """Give the run without all that only watches it or keeps something of it."""
    return dataclasses.replace(
        run,
        validate=None,
        early_stopping=False,
        max_seconds=None,
        callbacks=None,
        verbose=0,
        checkpoint_dir=None,
        resume=False,
        certificate=None,
    )


def _chosen(segments: int, count: int | None, random_state: Any) -> list[int]:
    """Choose segments, which are counted from 1."""
    numbers = range(1, segments + 1)
    if count is None or count >= segments:
        return list(numbers)
    chooser = random.SystemRandom() if random_state is None else random.Random(random_state)
    return sorted(chooser.sample(numbers, count))


def _found_in_options(content: Mapping[str, Any], run: Run) -> list[str]:
    expected, got = (
        {name: value for name, value in options.items() if name not in _NOT_COMPARED}
        for options in (content["basis"]["options"], options_of_run(run))
    )
    return [f"other options: {each}" for each in differences(expected, got)]


def _found_in_data(content: Mapping[str, Any], run: Run) -> list[str]:
    same = content["basis"]["data"] == data_digest(run.data)
    return [] if same else ["the data are others than those of the certificate"]


def _found_in_start(content: Mapping[str, Any], run: Run) -> list[str]:
    if content["given_start"] or content["start"] == state_digest(trainer_snapshot(run.trainer)):
        return []
    return ["the state at the start does not follow from the seed"]


def _found_in_chain(content: Mapping[str, Any]) -> list[str]:
    link = content["link"]
    if link != first_link(content):
        return ["the chain of hashes is broken at its start"]
    for number, entry in enumerate(content["segments"], 1):
        link = next_link(link, entry)
        if link != entry["link"]:
            return [f"the chain of hashes is broken at segment {number}"]
    end = content["end"]
    return [] if end is None or next_link(link, end) == end["link"] else ["the chain of hashes is broken at its end"]


def _found_in_end(path: str, content: Mapping[str, Any], model: Any, run: Run) -> list[str]:
    if content["end"] is None:
        return ["the certificate has no end: it is of a run that goes on, or was killed"]
    weights, of_model = run.trainer.network.state_dict(), model.network_.state_dict()
    certified = content["end"]["weights"]
    # What stands in the model after the trained network has no weights.
    if set(weights) != set(of_model) or weights_digest(of_model) != certified:
        return ["the model's weights are others than those of the certificate"]
    number = content["end"]["kept_segment"]
    if number > len(content["segments"]):
        return [f"the weights are said to be those after segment {number}, which is not there"]
    state, finding = _certified_state(path, content, number)
    if state is not None and weights_digest(kept_weights(state)) != certified:
        finding = f"the model's weights are others than those after segment {number}"
    return [finding] if finding else []


def _found_in_segment(loop: FitLoop, path: str, content: Mapping[str, Any], number: int) -> str:
    """Repeat a segment; give what is found, which is nothing if all is equal."""
    segment = content["segments"][number - 1]
    (before, finding), (after, other) = (_certified_state(path, content, each) for each in (number - 1, number))
    if before is None or after is None:
        return f"segment {number} cannot be repeated: {finding or other}"
    rates = after.tensors["rates"].tolist() if "rates" in after.tensors else None
    steps = [each["steps"] for each in content["segments"][: number - 1]]
    try:
        state, order = loop.replay(before, segment["epoch"] - 1, segment["steps"], steps, rates)
    except DivergenceError as error:
        return f"segment {number} ends otherwise: {error}"
    if order.hex() != segment["order"]:
        return f"segment {number} reads other samples, in another order or at another learning rate"
    return "" if state_digest(state) == segment["state"] else f"segment {number} ends in another state"


def _certified_state(path: str, content: Mapping[str, Any], number: int) -> tuple[Snapshot | None, str]:
    """Read the state after so many segments. None, and why, if it is not the certified one."""
    file = segment_file(path, number)
    try:
        state = read_snapshot(file)
    except ValueError as error:
        return None, f"{file}: {error}"
    digest = content["segments"][number - 1]["state"] if number else content["start"]
    return (
        (state, "") if state_digest(state) == digest else (None, f"{file}: expected the certified state, got another")
    )
