"""The wires, boxes and numbers of one step of one cell: what `latchwork.plot.cell` puts where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from latchwork.plot.figures import foreground
from latchwork.plot.scaled_drawing import Canvas

if TYPE_CHECKING:
    from latchwork.plot.layer_view import CellStep
    from latchwork.plot.scaled_drawing import Point

PALE = 0.2  # how strongly what is not highlighted is drawn

# Light enough for black letters, and different in lightness too.
_GATE, _TANH, _OPERATION, _OTHER = "#F2C14E", "#9BD1E5", "#FFFFFF", "#D8D8D8"

# y of the cell, of the two products, of the gates and of h_prev; then x of the columns.
_CELL, _PRODUCT, _GATES, _HIDDEN = 6.3, 4.35, 3.0, 1.7
_FORGET, _INPUT, _CANDIDATE, _OUTPUT, _SHOWN = 3.2, 5.15, 7.1, 9.05, 11.55
_LEFT, _RIGHT = -0.4, 15.3
_TEXT, _SIGN, _BOX, _RADIUS = 0.29, 0.36, (1.15, 0.64), 0.27


def draw_cell(ax: Any, step: CellStep, highlight: str | None) -> None:
    """Draw one step of one unit."""
    extent = (_LEFT - 0.2, _RIGHT + 0.2, -1.4, 7.3)
    _Diagram(Canvas(ax, extent, foreground(ax), ax.get_facecolor()), step, highlight).draw()


def number(value: float) -> str:
    """Write a number as the diagram does: three decimals, or two digits where three decimals say too little."""
    plain = value == 0 or (math.isfinite(value) and 0.0005 <= abs(value) < 1000)
    return (f"{value:.3f}" if plain else f"{value:.2g}").replace("-", "\u2212")


class _Diagram:
    def __init__(self, canvas: Canvas, step: CellStep, highlight: str | None) -> None:
        self._canvas = canvas
        self._step = step
        self._highlight = highlight
        self._forget_gate = step.options["forget_gate"]  # "own", "coupled" or "none"

    def draw(self) -> None:
        self._canvas.frame((1.7, 0.75), (11.9, 6.2))
        self._inputs()
        if self._forget_gate == "own":
            self._gate("forget", "forget", _FORGET, "forget gate", f"$f$ = {number(self._step.forget_gate)}")
        self._gate("input", "input", _INPUT, "input gate", f"$i$ = {number(self._step.input_gate)}")
        self._gate("input", "candidate", _CANDIDATE, "candidate", f"$g$ = {number(self._step.candidate)}")
        self._gate("output", "output", _OUTPUT, "output gate", f"$o$ = {number(self._step.output_gate)}")
        self._cell_line()
        self._written()
        if self._forget_gate != "none":
            self._forgotten()
        self._shown()
        if self._step.options["peephole"]:
            self._peepholes()
        self._canvas.lines((_LEFT + _RIGHT) / 2, 0.15, equations(self._step, self._highlight), _TEXT)

    def _alpha(self, *parts: str) -> float:
        """Say how strongly something is drawn that belongs to these parts."""
        return 1.0 if self._highlight is None or self._highlight in parts else PALE

    def _inputs(self) -> None:
        alpha = self._alpha("forget", "input", "output")
        self._canvas.wire([(_LEFT, _HIDDEN), (_OUTPUT, _HIDDEN)], 0.045, alpha)
        self._canvas.wire([(2.2, 0.45), (2.2, _HIDDEN)], 0.045, alpha)
        self._canvas.dot((2.2, _HIDDEN), alpha)
        own = self._step.h_prev
        text = r"$h_\mathrm{prev}$" + ("" if own is None else f" = {number(own)}")
        self._canvas.text((_LEFT, _HIDDEN + 0.3), text, _TEXT, alpha, ha="left")
        self._canvas.text((2.05, 0.45), "$x_t$", _TEXT, alpha, ha="right")
        self._canvas.text((2.4, 0.45), self._step.label, _TEXT, alpha, ha="left")

    def _gate(self, part: str, activation: str, x: float, name: str, value: str) -> None:
        alpha = self._alpha(part)
        self._canvas.wire([(x, _HIDDEN), (x, _GATES - _BOX[1] / 2)], 0.035, alpha, arrow=True)
        color = _TANH if activation == "candidate" else _GATE
        self._box((x, _GATES), _BOX, activation, color, alpha)
        self._canvas.text((x, _HIDDEN - 0.35), name, 0.9 * _TEXT, alpha)
        used = self._alpha(part) if part == "output" else self._alpha(part, "update")
        self._canvas.text((x + 0.1, _GATES + 0.58), value, _TEXT, used, ha="left")

    def _cell_line(self) -> None:
        alpha = self._alpha("update")
        options = self._step.options
        self._canvas.wire([(_LEFT, _CELL), (_RIGHT, _CELL)], 0.07, alpha, arrow=True)
        before = rf"$c_\mathrm{{prev}}$ = {number(self._step.c_prev)}"
        self._canvas.text((_LEFT, _CELL + 0.33), before, _TEXT, alpha, ha="left")
        self._canvas.text((_RIGHT, _CELL + 0.33), f"$c_t$ = {number(self._step.cell)}", _TEXT, alpha, ha="right")
        if options["cell_clip"] is not None:
            self._canvas.box((8.8, _CELL), (0.9, 0.5), "clip", _OTHER, alpha, _TEXT)
        if options["zoneout_cell"]:
            self._canvas.box((12.85, _CELL), (1.5, 0.5), "zoneout", _OTHER, alpha, _TEXT)

    def _written(self) -> None:
        used, alpha = self._alpha("input", "update"), self._alpha("update")
        top = _GATES + _BOX[1] / 2
        path = [(_INPUT, top), (_INPUT, _PRODUCT), (_CANDIDATE - _RADIUS, _PRODUCT)]
        self._canvas.wire(path, 0.035, used, arrow=True)
        self._canvas.wire([(_CANDIDATE, top), (_CANDIDATE, _PRODUCT - _RADIUS)], 0.035, used, arrow=True)
        self._canvas.wire([(_CANDIDATE, _PRODUCT + _RADIUS), (_CANDIDATE, _CELL - _RADIUS)], 0.035, alpha, arrow=True)
        self._canvas.circle((_CANDIDATE, _PRODUCT), "\u00d7", _OPERATION, alpha, _RADIUS, _SIGN)
        self._canvas.circle((_CANDIDATE, _CELL), "+", _OPERATION, alpha, _RADIUS, _SIGN)
        written = number(self._step.input_gate * self._step.candidate)
        self._canvas.text((_CANDIDATE + 0.12, 5.3), rf"$i \cdot g$ = {written}", _TEXT, alpha, ha="left")

    def _forgotten(self) -> None:
        used, alpha = self._alpha("forget", "update"), self._alpha("update")
        if self._forget_gate == "coupled":
            place = _FORGET, _PRODUCT + 0.6
            self._canvas.dot((_INPUT, _PRODUCT), used)
            path = [(_INPUT, _PRODUCT), (_FORGET, _PRODUCT), (_FORGET, place[1] - 0.32)]
            self._canvas.wire(path, 0.035, used, arrow=True)
            self._canvas.wire([(_FORGET, place[1] + 0.32), (_FORGET, _CELL - _RADIUS)], 0.035, used, arrow=True)
            self._canvas.circle(place, "1\u2212", _OPERATION, used, 0.32, _TEXT)
            text = f"$f$ = {number(self._step.forget_gate)}"
            self._canvas.text((_FORGET + 0.12, place[1] + 0.57), text, _TEXT, used, ha="left")
        else:
            path = [(_FORGET, _GATES + _BOX[1] / 2), (_FORGET, _CELL - _RADIUS)]
            self._canvas.wire(path, 0.035, used, arrow=True)
        self._canvas.circle((_FORGET, _CELL), "\u00d7", _OPERATION, alpha, _RADIUS, _SIGN)
        kept = rf"$f \cdot c_\mathrm{{prev}}$ = {number(self._step.forget_gate * self._step.c_prev)}"
        self._canvas.text((_FORGET + 0.3, _CELL + 0.33), kept, _TEXT, alpha, ha="left")

    def _shown(self) -> None:
        alpha = self._alpha("output")
        step, options, canvas = self._step, self._step.options, self._canvas
        gate = [(_OUTPUT, _GATES + _BOX[1] / 2), (_OUTPUT, _PRODUCT - 0.4), (_SHOWN - _RADIUS, _PRODUCT - 0.4)]
        product = _SHOWN, _PRODUCT - 0.4
        canvas.wire(gate, 0.035, alpha, arrow=True)
        canvas.dot((_SHOWN, _CELL), alpha)
        canvas.wire([(_SHOWN, _CELL), (_SHOWN, product[1] + _RADIUS)], 0.035, alpha, arrow=True)
        if options["layer_norm"]:
            canvas.box((_SHOWN, 5.65), (1.1, 0.5), "norm", _OTHER, alpha, _TEXT)
        self._box((_SHOWN, 4.95), (1.1, 0.5), "cell", _TANH, alpha)
        if step.shown is not None:
            canvas.text((_SHOWN + 0.12, 4.45), number(step.shown), _TEXT, alpha, ha="left")
        canvas.wire([(_SHOWN, product[1] - _RADIUS), (_SHOWN, _HIDDEN), (_RIGHT, _HIDDEN)], 0.045, alpha, arrow=True)
        canvas.circle(product, "\u00d7", _OPERATION, alpha, _RADIUS, _SIGN)
        if options["proj_size"]:
            canvas.box((_SHOWN, 2.7), (1.4, 0.5), "project", _OTHER, alpha, _TEXT)
        if options["zoneout_hidden"]:
            canvas.box((12.85, _HIDDEN), (1.5, 0.5), "zoneout", _OTHER, alpha, _TEXT)
        text = f"$h_t$: {options['proj_size']} features" if step.hidden is None else f"$h_t$ = {number(step.hidden)}"
        canvas.text((_RIGHT, _HIDDEN + 0.42), text, _TEXT, alpha, ha="right")

    def _peepholes(self) -> None:
        columns = [("input", _INPUT)]
        if self._forget_gate == "own":
            columns.insert(0, ("forget", _FORGET))
        bottom, low = _GATES - _BOX[1] / 2, 2.2
        for part, x in columns:
            alpha = self._alpha(part)
            path = [(1.95, _CELL), (1.95, low), (x - 0.3, low), (x - 0.3, bottom)]
            self._canvas.wire(path, 0.028, alpha, arrow=True, dashed=True)
            self._canvas.dot((1.95, _CELL), alpha)
        alpha = self._alpha("output")
        path = [(10.72, _CELL), (10.72, low), (_OUTPUT + 0.3, low), (_OUTPUT + 0.3, bottom)]
        self._canvas.wire(path, 0.028, alpha, arrow=True, dashed=True)
        self._canvas.dot((10.72, _CELL), alpha)

    def _box(self, centre: Point, size: Point, activation: str, color: str, alpha: float) -> None:
        """Draw the box of an activation, whose name is written as large as it can be."""
        name = self._step.activations[activation]
        name = name if isinstance(name, str) else name[0]
        lines = ["\u03c3"] if name == "sigmoid" else name.split("_")
        # A letter is about 0.65 of its height wide.
        height = min(_TEXT, size[0] / (0.65 * max(map(len, lines))), 0.75 * size[1] / len(lines))
        self._canvas.box(centre, size, "\n".join(lines), color, alpha, height)


def equations(step: CellStep, highlight: str | None) -> list[str]:
    """Write what the highlighted part computes, or without one how cell and output come about, with the numbers."""
    raw = number(step.forget_gate * step.c_prev + step.input_gate * step.candidate)
    kept = rf"{number(step.forget_gate)} $\cdot$ {_signed(step.c_prev)}"
    new = rf"{number(step.input_gate)} $\cdot$ {_signed(step.candidate)}"
    if step.options["forget_gate"] == "none":
        update = rf"$c_t = c_\mathrm{{prev}} + i \cdot g$ = {number(step.c_prev)} + {new} = {raw}"
    else:
        update = rf"$c_t = f \cdot c_\mathrm{{prev}} + i \cdot g$ = {kept} + {new} = {raw}"
    activated = f"{_word(step, 'cell')}({'N(c_t)' if step.options['layer_norm'] else 'c_t'})"
    shown = "" if step.shown is None else rf" = {number(step.output_gate)} $\cdot$ {_signed(step.shown)}"
    product = "" if step.shown is None else f" = {number(step.output_gate * step.shown)}"
    output = rf"$h_t = o \cdot {activated}${shown}{product}"
    if highlight == "forget":
        return _forget_equations(step)
    if highlight == "input":
        pairs = (("i", "input", step.input_gate), ("g", "candidate", step.candidate))
        return [_gate_equation(step, *pair) for pair in pairs]
    if highlight == "output":
        return [_gate_equation(step, "o", "output", step.output_gate), output, *_after_output(step)]
    after = _after_update(step)
    return [update, *after] if highlight == "update" else [update, output]


def _forget_equations(step: CellStep) -> list[str]:
    if step.options["forget_gate"] == "none":
        return ["$f$ = 1: this cell has no forget gate and keeps everything"]
    if step.options["forget_gate"] == "coupled":
        return [f"$f = 1 - i$ = {number(step.forget_gate)}: what is added replaces what is forgotten"]
    return [_gate_equation(step, "f", "forget", step.forget_gate), "how much of the old cell to keep: 0 nothing, 1 all"]


def _gate_equation(step: CellStep, letter: str, activation: str, value: float) -> str:
    own = f"_{letter}"
    parts = [f"W{own} x_t", rf"R{own} h_\mathrm{{prev}}"]
    if step.options["layer_norm"]:
        parts = [f"N({part})" for part in parts]
    if step.options["bias"]:
        parts.append(f"b{own}")
    if step.options["peephole"] and letter != "g":
        parts.append(f"p{own} c_t" if letter == "o" else rf"p{own} c_\mathrm{{prev}}")
    summed = " + ".join(parts)
    if step.options["clip"] is not None:
        summed = rf"\mathrm{{clip}}({summed})"
    return rf"${letter} = {_word(step, activation)}({summed})$ = {number(value)}"


def _after_update(step: CellStep) -> list[str]:
    lines = []
    if step.options["cell_clip"] is not None:
        limit = number(step.options["cell_clip"])
        lines.append(f"cut off at \u00b1{limit}: {number(step.fresh)}")
    share = step.options["zoneout_cell"]
    if share:
        mixed = f"{_mix(share, step.c_prev, step.fresh)} = {number(step.cell)}"
        lines.append(rf"zoneout mixes $c_\mathrm{{prev}}$ in: {mixed}")
    return lines


def _after_output(step: CellStep) -> list[str]:
    if step.hidden is None:
        return [f"the outputs of all units are projected to {step.options['proj_size']} features"]
    share = step.options["zoneout_hidden"]
    if not share or step.h_prev is None or step.shown is None:
        return []
    mixed = f"{_mix(share, step.h_prev, step.output_gate * step.shown)} = {number(step.hidden)}"
    return [rf"zoneout mixes $h_\mathrm{{prev}}$ in: {mixed}"]


def _mix(share: float, old: float, new: float) -> str:
    return rf"{share:g} $\cdot$ {_signed(old)} + {1 - share:g} $\cdot$ {_signed(new)}"


def _word(step: CellStep, activation: str) -> str:
    name = step.activations[activation]
    name = name if isinstance(name, str) else name[0]
    return r"\sigma" if name == "sigmoid" else rf"\mathrm{{{name}}}".replace("_", r"\_")


def _signed(value: float) -> str:
    """Write a number that follows a sign of multiplication."""
    return f"({number(value)})" if value < 0 else number(value)
