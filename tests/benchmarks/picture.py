"""Draw JSON files of runs of ``latchwork bench``: the best peer's time over Latchwork's in each case."""

import argparse
import sys
from pathlib import Path
from typing import Any

from table import documents

# One colour for each number of threads. They differ in lightness too.
COLOURS = ["#1f5fa8", "#e08a1e", "#3c8f5a", "#8a4fa0"]
SURFACE, INK, FAINT = "#ffffff", "#262626", "#d9d9d9"
WIDTH, ROW, MARGIN = 9.0, 0.21, 0.95  # inches; docs show 100 pixels to the inch


def rows(document: dict[str, Any]) -> list[tuple[str, dict[int, tuple[float, str]]]]:
    """List each case and kind with the ratio and peer for each number of threads; cases without a peer are left out."""
    found: dict[str, dict[int, tuple[float, str]]] = {}
    for one in document["measurements"]:
        best = one["best_peer"]
        if best and one["peers"][best]["ratio"]:
            found.setdefault(f"{one['case']}  {one['kind']}", {})[one["threads"]] = one["peers"][best]["ratio"], best
    return list(found.items())


def names_text(dots: dict[int, tuple[float, str]]) -> str:
    """List the ratios by number of threads, each after its peer's name if that differs from the previous one's."""
    parts, last = [], None
    for ratio, peer in (dots[threads] for threads in sorted(dots)):
        parts.append(f"{ratio:.2f}" if peer == last else f"{peer} {ratio:.2f}")
        last = peer
    return " / ".join(parts)


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the picture; equal documents give equal files."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        # Text is stored as text, which is small and appears in the reader's font.
        {"svg.hashsalt": "latchwork", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    )
    lines = rows(document)
    thread_counts = sorted({threads for _, dots in lines for threads in dots})
    height = MARGIN + ROW * len(lines)
    figure = Figure(figsize=(WIDTH, height), facecolor=SURFACE)
    axes = figure.add_axes((0.19, 0.5 / height, 0.76, ROW * len(lines) / height), facecolor=SURFACE)
    axes.set_xscale("log")
    ratios = [ratio for _, dots in lines for ratio, _ in dots.values()]
    left = min(0.8, min(ratios) * 0.8)
    right = max(ratios) * (max(ratios) / left) ** 0.5  # a third of the width for names
    axes.set_xlim(left, right)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvline(1, color=INK, linewidth=1.2)

    every = [sorted(ratio for ratio, _ in dots.values()) for _, dots in lines]
    ends = [max(1.0, placed[-1]) for placed in every]
    axes.hlines(
        range(len(lines)), [min(1.0, placed[0]) for placed in every], ends, color=FAINT, linewidth=1.2, zorder=1
    )
    for index, threads in enumerate(thread_counts):
        points = [(dots[threads][0], line) for line, (_, dots) in enumerate(lines) if threads in dots]
        axes.plot(
            *zip(*points, strict=True),
            "o",
            color=COLOURS[index % len(COLOURS)],
            markersize=6,
            markeredgecolor=SURFACE,
            zorder=3,
            label=f"{threads} thread{'s' if threads > 1 else ''}",
        )
    for line, (_, dots) in enumerate(lines):
        axes.annotate(
            names_text(dots),
            (ends[line], line),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )

    axes.set_yticks(range(len(lines)), [label for label, _ in lines], color=INK)
    ticks = (0.1, 0.2, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
    axes.set_xticks([tick for tick in ticks if left <= tick <= right])
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(
        "time of the fastest other library, divided by Latchwork's (more is better for Latchwork)", color=INK
    )
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(thread_counts), frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULT", help="a JSON file, or a folder of such files")
    parser.add_argument(
        "pictures",
        type=Path,
        metavar="PICTURE",
        help="an SVG file; of a folder, the folder for a picture of each file: that of NAME/inference.json is "
        "NAME-inference.svg",
    )
    arguments = parser.parse_args()
    found = documents(arguments.results)
    for file, document in found.items():
        if not rows(document):
            print(f"{file}: no peer was timed, so there is nothing to draw", file=sys.stderr)
            return 2
    for file, document in found.items():
        picture = arguments.pictures
        if arguments.results.is_dir():
            picture = picture / "-".join(file.relative_to(arguments.results).with_suffix(".svg").parts)
            picture.parent.mkdir(parents=True, exist_ok=True)
        try:
            draw(document, picture)
        except ImportError as error:
            print(f"the picture needs matplotlib (pip install matplotlib): {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
