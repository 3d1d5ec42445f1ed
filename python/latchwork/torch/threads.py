"""PyTorch's own threads, which the core borrows for its calls.

After each of PyTorch's operations these threads spin for milliseconds, to be ready for the next. Threads of the core's
own would have to share the cores with them.
"""

from __future__ import annotations

import ctypes

import torch

from latchwork import _core


def team_function() -> int:
    """Give the address of GOMP_parallel in the OpenMP library that PyTorch was linked with; 0 if there is none.

    A program may have loaded several such libraries, each with threads of its own. A symbol that is asked of PyTorch's
    own module is looked for in that module and what it depends on, so it is the one that PyTorch calls.
    """
    if not torch.backends.openmp.is_available():
        return 0
    try:
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def share_threads() -> None:
    """Let calls on tensors run on PyTorch's threads."""
    _core.set_team_function(team_function())
