"""The pictures of docs/gates.md, which `gates.py` draws."""

import io
import re

import matplotlib
import numpy as np
from latchwork import plot
from matplotlib.figure import Figure

SIGNALS = ("forget_gate", "input_gate", "candidate", "cell", "output_gate")
COLOURS = {"she": "#0072B2", "he": "#E69F00"}
# White behind everything, so that pages may be light or dark, and the same bytes each time.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "latchwork", "figure.facecolor": "white", "font.size": 9}


def draw(piece, unit, folder):
    """Draw all pictures of one unit.

    Parameters
    ----------
    piece : gates.Piece
        A few clauses; the steps drawn are those of the second one's name and of the word before its pronoun.
    unit : int
        Which unit.
    folder : pathlib.Path
        Where the pictures go.

    Returns
    -------
    list of str
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, pronoun = piece.names[1], piece.pronouns[1]
    with matplotlib.rc_context(STYLE):
        figures = {f"gates-{part}.svg": cell(piece, unit, name, part) for part in ("forget", "input", "update")}
        figures["gates-output.svg"] = cell(piece, unit, pronoun - 1, "output")
        figures["gates-gender.svg"] = courses(piece, unit)
        for file, figure in figures.items():
            (folder / file).write_text(svg(figure), encoding="utf-8")
    return list(figures)


def svg(figure):
    """Give a figure as SVG."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    # matplotlib gives a pale formula its opacity as a whole and each character once more, so that nobody could read it.
    return re.sub(r"(<tspan [^>]*); opacity: [\d.]+", r"\1", written.getvalue())


def cell(piece, unit, step, part):
    """Draw one step of the unit, one part of it strongly."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    plot.cell(piece.trace, step, unit, labels=piece.words, highlight=part, ax=figure.add_subplot())
    return figure


def courses(piece, unit):
    """Draw the unit's gates and cell over the clauses, and below what the model says where a pronoun comes next."""
    figure = Figure(figsize=(9.5, 7.2), layout="constrained")
    *maps, bars = figure.subplots(len(SIGNALS) + 1, 1, sharex=True, height_ratios=[1] * len(SIGNALS) + [1.5])
    plot.gates(piece.trace, units=unit, labels=piece.words, signals=SIGNALS, axes=maps)
    for ax in maps:
        ax.set(xlabel="", ylabel="", yticks=[])
        ax.tick_params(axis="x", labelbottom=False)
    cell = maps[SIGNALS.index("cell")]
    cell.set_title(cell.get_title(loc="left") + "; blue is a woman, red is a man", loc="left", fontsize="medium")
    before = piece.pronouns - 1
    for place, (word, colour) in enumerate(COLOURS.items()):
        bars.bar(before + 0.4 * place - 0.2, piece.probabilities[before, place], 0.4, color=colour, label=word)
    bars.set(ylim=(0, 1), yticks=[0, 1])
    bars.set_title("before a pronoun: how probable each is said to be", loc="left", fontsize="medium")
    bars.legend(loc="center left")
    bars.set_xticks(range(len(piece.words)), piece.words, rotation=90)
    for step in np.concatenate([piece.names, piece.pronouns]):
        bars.get_xticklabels()[step].set_fontweight("bold")
    return figure
