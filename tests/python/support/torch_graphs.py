"""PyTorch's compiler with nothing left in it of what was compiled before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def fresh_compiler(**settings: Any) -> Iterator[None]:
    """Let what runs within meet a compiler that knows nothing, and leave such a one.

    A function that the compiler has passed over once, as it does with recurrent layers by its default, is passed over
    for the rest of the process. ``settings`` are those of ``torch._dynamo.config``.
    """
    torch._dynamo.reset()
    try:
        with torch._dynamo.config.patch(**settings):
            yield
    finally:
        torch._dynamo.reset()
