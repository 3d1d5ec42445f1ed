"""Print JSON files of runs of ``latchwork bench`` as tables in Markdown, each under the features of its machine."""

import argparse
import json
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from latchwork.machine import machine_text


def documents(path: Path) -> dict[Path, dict[str, Any]]:
    """Read a file, or all JSON files in a folder and the folders in it, in the order of their names."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    return {file: json.loads(file.read_text(encoding="utf-8")) for file in files}


def heading(document: dict[str, Any]) -> str:
    """Name a machine by what decides its speed."""
    machine = document["machine"]
    identity = f"{machine['maker']} family {machine['family']} model {machine['model']}".strip()
    parts = [
        f"{machine['cpu']} ({identity})",
        f"{machine['usable_cpus']} CPUs",
        document["isa_limit"] or machine["isa"],
    ]
    return ", ".join(
        [
            *parts,
            machine_text(machine["caches"]),
            *([f"under {machine['hypervisor']}"] if machine["hypervisor"] else []),
        ]
    )


def shape_text(shape: dict[str, int]) -> str:
    """Write a shape as T x N: in, H, layers."""
    layers = f"{shape['layers']}{' bi' if shape['directions'] == 2 else ''}{' ragged' if shape.get('ragged') else ''}"
    return f"{shape['steps']} x {shape['rows']}: {shape['input_size']}, {shape['hidden_size']}, {layers}"


def microseconds_text(peer: dict[str, Any] | None) -> str:
    """Write a peer's time with three digits or more; nothing if it has none."""
    if peer is None or peer["microseconds"] is None:
        return ""
    microseconds = peer["microseconds"]
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def table(document: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    names = list(document["versions"])
    versions = [f"{name} {version.partition('-')[0]}, us" for name, version in document["versions"].items()]
    columns = ["case", "T x N: in, H, layers", "kind", "threads", *versions, "best ratio"]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for one in document["measurements"]:
        peers, best = one["peers"], one["best_peer"]
        ratio = f"{peers[best]['ratio']:.2f} ({best})" if best and peers[best]["ratio"] else ""
        times = [microseconds_text(peers.get(name)) for name in names]
        cells = [one["case"], shape_text(one["shape"]), one["kind"], str(one["threads"]), *times, ratio]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(document: dict[str, Any]) -> list[str]:
    """Say for each number of threads how the best peers' ratios lie, over all cases and kinds of the run."""
    ratios: dict[int, list[tuple[float, str]]] = {}
    for one in document["measurements"]:
        ratio = one["best_peer"] and one["peers"][one["best_peer"]]["ratio"]
        if ratio:
            ratios.setdefault(one["threads"], []).append((ratio, f"{one['case']} {one['kind']}"))
    lines = []
    for threads, found in sorted(ratios.items()):
        mean, (least, name) = geometric_mean(ratio for ratio, _ in found), min(found)
        lines.append(
            f"{threads} thread{'s' if threads > 1 else ''}: geometric mean {mean:.2f}, least {least:.2f} ({name})"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULT", help="a JSON file, or a folder of such files")
    arguments = parser.parse_args()
    sections = []
    for file, document in documents(arguments.results).items():
        name = f"{file.relative_to(arguments.results)}: " if arguments.results.is_dir() else ""
        parts = [[name + heading(document)], table(document), summary(document)]
        sections.append("\n\n".join("\n".join(part) for part in parts if part))
    print("\n\n".join(sections))


if __name__ == "__main__":
    main()
