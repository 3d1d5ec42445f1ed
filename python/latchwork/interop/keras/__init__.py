"""Models of Keras 3 and 2, from objects and files.

`configs` reads what a model's configuration says into a tree of layers, `weights` and `objects` give each layer its
numbers, `order` says in which order layers follow each other, and `conversion` makes the parts of our chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from latchwork._lazy import lazy_names

if TYPE_CHECKING:
    from latchwork.interop.keras.reading import from_keras as from_keras
    from latchwork.interop.keras.reading import lstms as lstms

__all__ = ["from_keras", "lstms"]

# The process that reads HDF5 files imports this package too and needs none of these.
__getattr__ = lazy_names(__name__, {"from_keras": "reading", "lstms": "reading"})
