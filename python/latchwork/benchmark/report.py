"""What was measured, as a table and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import geometric_mean
from typing import Any

from latchwork.benchmark.cases import KINDS, Case
from latchwork.benchmark.peers import OURS
from latchwork.benchmark.timing import Summary

LEGEND = """
us: median over rounds of one call; every round visits every peer once, in rotating order, each in its own process.
ratio: the peer's time divided by Latchwork's; above 1 Latchwork is faster. spread: widest distance between quartiles,
over the median. difference: Latchwork's largest difference from the reference, over max(1, largest magnitude).
GF/s: arithmetic of the matrix products over Latchwork's time. A backward pass is counted as two forward passes, as if
the gradient with respect to the input were computed too, which no peer is asked for. Padding is not counted.
training: gradients with respect to the parameters. Latchwork also computes those with respect to h_0 and c_0.
"""


@dataclass(frozen=True)
class PeerResult:
    """One peer in one measurement. ``difference`` is that from the reference; ``note`` says why there is no time."""

    summary: Summary | None = None
    iterations: int = 0
    difference: float | None = None
    settled: bool = True
    note: str = ""


@dataclass(frozen=True)
class Measurement:
    """One case, kind and thread count, with every peer that does this kind."""

    case: Case
    kind: str
    threads: int
    reference: str | None
    peers: Mapping[str, PeerResult]

    def ratio(self, peer: str) -> float | None:
        """Divide the peer's time by Latchwork's; None if either was not timed."""
        summaries = [self.peers[name].summary if name in self.peers else None for name in (peer, OURS)]
        theirs, ours = summaries
        return None if theirs is None or ours is None else theirs.median / ours.median

    def best_peer(self) -> str | None:
        """Name the fastest of the others."""
        times = {name: result.summary.median for name, result in self.peers.items() if result.summary and name != OURS}
        return min(times, key=times.__getitem__) if times else None

    def gigaflops(self) -> float | None:
        """Count Latchwork's floating-point operations a second, in units of 10^9."""
        ours = self.peers[OURS].summary
        return self.case.floating_point_operations(self.kind) / ours.median / 1e9 if ours else None


@dataclass
class Run:
    """What a run has measured so far, and on what; ``missing`` says why a peer is not among the descriptions."""

    isa: str | None
    dtype: str
    load_average: float
    descriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)

    @property
    def others(self) -> list[str]:
        """The peers beside Latchwork."""
        return [name for name in self.descriptions if name != OURS]

    def as_json(self) -> dict[str, Any]:
        """Turn all of it into what JSON keeps, with times in microseconds."""
        return {
            "format_version": 1,
            "machine": self.descriptions[OURS]["machine"],
            "isa_limit": self.isa,
            "dtype": self.dtype,
            "load_average_at_start": self.load_average,
            "versions": {name: description["version"] for name, description in self.descriptions.items()},
            "missing": self.missing,
            "measurements": [as_json(measurement) for measurement in self.measurements],
            "geometric_means": geometric_means(self.measurements),
            "least_ratios": least_ratios(self.measurements),
            "round_ratios": round_ratios(self.measurements),
        }


def header(names: Sequence[str]) -> str:
    """Make the table's first line, for the peers beside Latchwork."""
    columns = [f"{'case':<19} {'T x N: in, H, layers':<28} {'kind':<8} {'th':>2} {OURS + ' us':>14} {'GF/s':>6}"]
    columns += [f"{name + ' us':>14} {'ratio':>6}" for name in names]
    columns += [f"{'best peer':<20} {'spread':>6} {'difference':>10}"]
    return " ".join(columns)


def row(measurement: Measurement, names: Sequence[str]) -> str:
    """Make one line of the table."""
    case = measurement.case
    columns = [f"{case.name:<19} {shape_text(case):<28} {measurement.kind:<8} {measurement.threads:>2}"]
    columns += [f"{_microseconds(measurement, OURS):>14} {_number(measurement.gigaflops(), '.1f'):>6}"]
    for name in names:
        columns += [f"{_microseconds(measurement, name):>14} {_number(measurement.ratio(name), '.2f'):>6}"]
    best = measurement.best_peer()
    columns += [f"{best + ' ' + _number(measurement.ratio(best), '.2f') if best else '-':<20}"]
    summaries = [result.summary for result in measurement.peers.values() if result.summary]
    spread = max(((s.upper_quartile - s.lower_quartile) / s.median for s in summaries), default=None)
    ours = measurement.peers[OURS].difference
    columns += [f"{_number(spread, '.0%'):>6} {_number(ours, '.1e'):>10}"]
    return " ".join(columns)


def shape_text(case: Case) -> str:
    """Write the shape as the table shows it."""
    marks = f"{' bi' if case.directions == 2 else ''}{' ragged' if case.ragged else ''}"
    return f"{case.steps} x {case.rows}: {case.input_size}, {case.hidden_size}, {case.layers}{marks}"


def notes(measurement: Measurement) -> list[str]:
    """Say what the reader of a row must know besides its numbers."""
    label = f"{measurement.case.name} {measurement.kind} on {threads_text(measurement.threads)}"
    lines = [f"  {label}: {name}: {result.note}" for name, result in measurement.peers.items() if result.note]
    lines += [
        f"  {label}: {name} kept its threads busy after its samples, so its neighbours may look slow"
        for name, result in measurement.peers.items()
        if not result.settled
    ]
    return lines


def geometric_means(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Average the ratios of each peer, and of the best peer of each case, by kind and thread count."""
    means: list[dict[str, Any]] = []
    for kind in KINDS:
        for threads in sorted({m.threads for m in measurements}):
            chosen = [m for m in measurements if m.kind == kind and m.threads == threads]
            ratios: dict[str, list[float]] = {}
            for measurement in chosen:
                best = measurement.best_peer()
                labelled = [(name, name) for name in measurement.peers if name != OURS]
                for label, name in [*labelled, *([("best peer", best)] if best else [])]:
                    ratio = measurement.ratio(name)
                    if ratio is not None:
                        ratios.setdefault(label, []).append(ratio)
            means += [
                {"kind": kind, "threads": threads, "peer": label, "ratio": geometric_mean(values), "cases": len(values)}
                for label, values in ratios.items()
            ]
    return means


def least_ratios(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Find, for each thread count, the case in which the best peer comes nearest to Latchwork or is furthest ahead."""
    least = []
    for threads in sorted({m.threads for m in measurements}):
        ratios = [
            (ratio, m, best)
            for m in measurements
            if m.threads == threads and (best := m.best_peer()) and (ratio := m.ratio(best)) is not None
        ]
        if ratios:
            ratio, m, best = min(ratios, key=lambda entry: entry[0])
            least.append({"threads": threads, "ratio": ratio, "case": m.case.name, "kind": m.kind, "peer": best})
    return least


def round_ratios(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Divide Latchwork's time per operation by that in the nearest round case, if both were measured."""
    speeds: dict[tuple[str | None, str, int], float | None]
    speeds = {(m.case.name, m.kind, m.threads): m.gigaflops() for m in measurements}
    ratios: list[dict[str, Any]] = []
    for m in measurements:
        nearest = m.case.nearest_round
        speed, round_speed = m.gigaflops(), speeds.get((nearest, m.kind, m.threads))
        if speed and round_speed:
            one = {"case": m.case.name, "kind": m.kind, "threads": m.threads, "round": nearest}
            ratios.append({**one, "ratio": round_speed / speed})
    return ratios


def summary(measurements: Sequence[Measurement]) -> list[str]:
    """Summarise the ratios, line by line; no lines if there is nothing to compare with."""
    lines = []
    means = geometric_means(measurements)
    if means:
        lines.append("geometric means of the ratios; best peer: of the fastest other in each case")
    for mean in means:
        of = f"(of {mean['cases']})"
        lines.append(
            f"  {mean['kind']:<8} {threads_text(mean['threads']):<10} {mean['peer']:<12} {mean['ratio']:6.2f}  {of}"
        )
    for least in least_ratios(measurements):
        lines.append(
            f"least ratio on {threads_text(least['threads'])}: "
            f"{least['ratio']:.2f} ({least['case']} {least['kind']}, {least['peer']})"
        )
    ratios = round_ratios(measurements)
    if ratios:
        lines.append("Latchwork's time per operation over that in the nearest round case")
    for one in ratios:
        label = f"{one['case']:<19} {one['kind']:<8} {threads_text(one['threads']):<10}"
        lines.append(f"  {label} {one['ratio']:6.2f}  ({one['round']})")
    return lines


def threads_text(threads: int) -> str:
    """Put a thread count into words."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def as_json(measurement: Measurement) -> dict[str, Any]:
    """Turn a measurement into what JSON keeps, with times in microseconds."""
    peers = {}
    for name, result in measurement.peers.items():
        summary = result.summary
        peers[name] = {
            "microseconds": summary and summary.median * 1e6,
            "lower_quartile": summary and summary.lower_quartile * 1e6,
            "upper_quartile": summary and summary.upper_quartile * 1e6,
            "fastest": summary and summary.fastest * 1e6,
            "rounds": summary.rounds if summary else 0,
            "calls_per_sample": result.iterations,
            "difference": result.difference,
            "settled": result.settled,
            "note": result.note,
            "ratio": measurement.ratio(name),
        }
    without = ("name", "kinds", "dtype", "nearest_round")
    shape = {name: value for name, value in asdict(measurement.case).items() if name not in without}
    return {
        "case": measurement.case.name,
        "shape": shape,
        "kind": measurement.kind,
        "threads": measurement.threads,
        "reference": measurement.reference,
        "best_peer": measurement.best_peer(),
        "peers": peers,
    }


def _microseconds(measurement: Measurement, name: str) -> str:
    result = measurement.peers.get(name)
    if result is None:
        return "-"
    return f"{result.summary.median * 1e6:.2f}" if result.summary else "refused"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
