"""Masks of steps that are left out."""

import numpy as np

STEPS, ROWS = 9, 5
LENGTHS = np.array([9, 6, 0, 9, 4])


def masks(seed, share=0.4, steps=STEPS, rows=ROWS):
    """A mask with holes; the last row is left out altogether."""
    mask = np.random.RandomState(seed).random_sample((steps, rows)) < share
    mask[:, rows - 1 :] = True
    return mask


def spoilt(x, skip):
    """x with NaN, or tokens out of range, where it must not matter."""
    x = np.array(x)
    x[skip] = np.nan if x.dtype.kind == "f" else -7
    return x
