"""Types of command-line arguments."""

import argparse
import math
from collections.abc import Callable

MAX_SEED = 2**32 - 1


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Check that an argument is an integer in a range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"expected an integer from {lowest} to {highest}, got {text!r}")
        return value

    return parse


def number(lowest: float) -> Callable[[str], float]:
    """Check that an argument is a finite number of at least ``lowest``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= lowest):
            raise argparse.ArgumentTypeError(f"expected a number of at least {lowest:g}, got {text!r}")
        return value

    return parse
