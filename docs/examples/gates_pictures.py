"""The pictures of docs/gates.md; `gates.py` draws them, which see."""

import matplotlib
import numpy as np
from gender_corpus import PRONOUNS, TOKENS
from latchwork import plot
from matplotlib.figure import Figure

PARTS = ("forget", "input", "update")  # of the step at a name; the output is shown where it matters, before the pronoun
SIGNALS = ("forget_gate", "input_gate", "candidate", "cell", "output_gate")
# White behind everything, so that pages may be light or dark; the same bytes each time.
STYLE = {"svg.fonttype": "path", "svg.hashsalt": "latchwork", "figure.facecolor": "white", "font.size": 9}


def draw(found, start, end, name, before, folder, layer):
    """Draw all pictures of one network.

    Parameters
    ----------
    found : gates.Study
        The network and what was found out about it.
    start, end : int
        From which to which word of the text the gates are shown.
    name, before : int
        Where the name stands whose step is drawn, and the last word before its pronoun.
    folder : pathlib.Path
        Where the pictures go.
    layer : str
        The name of the layer in the trace.

    Returns
    -------
    list of str
        The names of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = found.clauses.text.words
    with matplotlib.rc_context(STYLE):
        figures = {f"cell-{part}.svg": cell(found, name, part, layer) for part in PARTS}
        figures["cell-output.svg"] = cell(found, before, "output", layer)
        figures["gender.svg"] = courses(found, start, end, words, layer)
        for file, figure in figures.items():
            figure.savefig(folder / file, metadata={"Date": None})
    return list(figures)


def cell(found, step, part, layer):
    """Draw one step of the unit, one part of it strongly."""
    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    plot.cell(
        found.clauses.trace, step, found.unit, layer=layer, label=found.clauses.text.words[step], highlight=part,
        ax=figure.add_subplot(),
    )  # fmt: skip
    return figure


def courses(found, start, end, words, layer):
    """Draw the unit's gates and cell over some clauses, and below what the model says where a pronoun comes."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    *maps, bars = figure.subplots(len(SIGNALS) + 1, 1, height_ratios=[1] * len(SIGNALS) + [2])
    return figure
