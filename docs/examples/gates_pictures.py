"""The pictures of docs/gates.md, which `gates.py` draws."""

import matplotlib
import numpy as np
from latchwork import plot
from matplotlib.figure import Figure

SIGNALS = {
    "forget_gate": "forget gate: how much of the old cell is kept",
    "input_gate": "input gate: how much of the candidate is added",
    "candidate": "candidate: what could be added",
    "cell": "cell: below zero a woman, above zero a man",
    "output_gate": "output gate: how much of the cell is shown",
}
SHE_COLOUR, HE_COLOUR = "#0072B2", "#E69F00"
# White behind everything, so that pages may be light or dark, and the same bytes each time.
STYLE = {"svg.fonttype": "path", "svg.hashsalt": "latchwork", "figure.facecolor": "white", "font.size": 9}


def draw(found, clauses, says, folder):
    """Draw all pictures of one network.

    Parameters
    ----------
    found : gates.Study
        The network and what was found out about it.
    clauses : range
        Some consecutive clauses, whose second has the name and the pronoun of which steps are drawn.
    says : numpy.ndarray
        (words, 2): how probable "she" and "he" are to come next.
    folder : pathlib.Path
        Where the pictures go.

    Returns
    -------
    list of str
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, pronoun = found.clauses.names[clauses[1]], found.clauses.pronouns[0, clauses[1]]
    with matplotlib.rc_context(STYLE):
        figures = {f"cell-{part}.svg": cell(found, name, part) for part in ("forget", "input", "update")}
        figures["cell-output.svg"] = cell(found, pronoun - 1, "output")
        figures["gender.svg"] = courses(found, clauses, says)
        for file, figure in figures.items():
            figure.savefig(folder / file, metadata={"Date": None})
    return list(figures)


def cell(found, step, part):
    """Draw one step of the unit, one part of it strongly."""
    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    ax = figure.add_subplot()
    plot.cell(found.clauses.trace, step, found.unit, labels=found.clauses.text.words, highlight=part, ax=ax)
    return figure


def courses(found, clauses, says):
    """Draw the unit's gates and cell over some clauses, and below what the model says where a pronoun comes."""
    return Figure()
