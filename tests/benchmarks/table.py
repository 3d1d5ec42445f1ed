"""Print the JSON file of a run of ``latchwork bench`` as a table in Markdown."""

import argparse
import json
from pathlib import Path
from typing import Any


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    arguments = parser.parse_args()
    print("\n".join(table(json.loads(arguments.result.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
