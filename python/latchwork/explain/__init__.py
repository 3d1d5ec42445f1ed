"""Answers to what a model did: which step wrote what a cell holds, what each gate did, and which unit is the cause.

`memory`, `written_by` and `erased_by` say at which steps what a cell holds was written, or erased. `saliency` and
`integrated_gradients` say on which inputs an output depends. `probe` says from which units a label can be read, `swap`
and `responsible` which units an output comes from. `clamp` holds gates open or shut, and `ablate` does so with one unit
after the other. `explorer` writes a page of HTML to look around in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latchwork._lazy import lazy_names

if TYPE_CHECKING:
    from latchwork.explain.decomposition import erased_by as erased_by
    from latchwork.explain.decomposition import memory as memory
    from latchwork.explain.decomposition import written_by as written_by
    from latchwork.explain.input_gradients import integrated_gradients as integrated_gradients
    from latchwork.explain.input_gradients import saliency as saliency
    from latchwork.explain.interventions import ablate as ablate
    from latchwork.explain.interventions import clamp as clamp
    from latchwork.explain.page import explorer as explorer
    from latchwork.explain.probes import probe as probe
    from latchwork.explain.swaps import responsible as responsible
    from latchwork.explain.swaps import swap as swap

__all__ = [
    "ablate",
    "clamp",
    "erased_by",
    "explorer",
    "integrated_gradients",
    "memory",
    "probe",
    "responsible",
    "saliency",
    "swap",
    "written_by",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ablate": "interventions",
        "clamp": "interventions",
        "erased_by": "decomposition",
        "explorer": "page",
        "integrated_gradients": "input_gradients",
        "memory": "decomposition",
        "probe": "probes",
        "responsible": "swaps",
        "saliency": "input_gradients",
        "swap": "swaps",
        "written_by": "decomposition",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
