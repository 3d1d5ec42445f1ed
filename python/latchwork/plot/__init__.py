"""Pictures by matplotlib, the extra ``latchwork[plot]``: gates, memory, one step of a cell, the course of a training.

`gates` draws heat maps of all units over a sequence, `memory` which steps wrote what a cell holds, `cell` the diagram
of one step of one unit with its numbers, and `training` losses epoch by epoch. Each draws on the axes that it is given
as ``ax=`` or, if it has several panels, ``axes=``, or else in a figure of its own, and returns the axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latchwork._lazy import lazy_names

if TYPE_CHECKING:
    from latchwork.plot.cell_diagram import cell as cell
    from latchwork.plot.gate_maps import gates as gates
    from latchwork.plot.memory_areas import memory as memory
    from latchwork.plot.training_curves import training as training

__all__ = ["cell", "gates", "memory", "training"]

__getattr__ = lazy_names(
    __name__, {"cell": "cell_diagram", "gates": "gate_maps", "memory": "memory_areas", "training": "training_curves"}
)


def __dir__() -> list[str]:
    return sorted(__all__)
