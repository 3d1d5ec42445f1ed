"""Pictures by matplotlib, the extra ``latchwork[plot]``. Each function takes ``ax=None`` and returns the axes."""

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
