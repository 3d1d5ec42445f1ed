"""Types of command-line arguments, and the help that says their defaults."""

import argparse
import math
from collections.abc import Callable, Collection

MAX_SEED = 2**32 - 1


class HelpFormatter(argparse.HelpFormatter):
    """Says the defaults of options as a person would, and nothing of those that have none to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if not action.option_strings or isinstance(default, bool) or default in (None, "", argparse.SUPPRESS):
            return action.help
        return f"{action.help}; by default {f'{default:g}' if isinstance(default, float) else '%(default)s'}"


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


def integers(lowest: int, highest: int) -> Callable[[str], list[int]]:
    """Check that an argument is a list of integers in a range, with commas between them."""
    parse_one = integer(lowest, highest)
    return lambda text: [parse_one(part) for part in text.split(",")]


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """Check that an argument is a list of known names, with commas between them; an empty one is none."""

    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return parse
