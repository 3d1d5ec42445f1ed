"""Tolerances as the project states them: largest difference over max(1, largest magnitude), per tensor."""

import numpy as np


def difference(actual, expected):
    """The largest difference over max(1, largest magnitude); infinite if shapes differ or a number is not finite."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return np.inf
    if expected.size == 0:
        return 0.0
    return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))


def assert_close(actual, expected, tolerance, name="result"):
    error = difference(actual, expected)
    assert error <= tolerance, (
        f"{name}: differs by {error:.3g}, allowed {tolerance:.3g}; shapes {np.shape(actual)} and {np.shape(expected)}"
    )


def _differing_bits(actual, expected):
    """Say where two arrays of one dtype and shape differ: -0.0 is not 0.0, and any NaN equals any other."""
    if actual.dtype.kind != "f":
        return actual != expected
    # Equal numbers other than zeros have equal bits.
    equal = (actual == expected) & (np.signbit(actual) == np.signbit(expected))
    return ~(equal | (np.isnan(actual) & np.isnan(expected)))


def same_bits(actual, expected):
    """Whether two arrays are equal in dtype, shape and every bit; which NaN it is does not matter."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    alike = actual.dtype == expected.dtype and actual.shape == expected.shape
    return alike and not _differing_bits(actual, expected).any()


def assert_same_bits(actual, expected, name="result"):
    """Equal in dtype, shape and every bit; which NaN it is does not matter. Elements of sequences and mappings too."""
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected), name
        for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same_bits(one, other, f"{name}[{place}]")
        return
    if hasattr(expected, "keys"):
        assert list(actual) == list(expected), name
        for key in expected:
            assert_same_bits(actual[key], expected[key], f"{name}[{key!r}]")
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype} and {expected.dtype}"
    assert actual.shape == expected.shape, f"{name}: {actual.shape} and {expected.shape}"
    differing = int(_differing_bits(actual, expected).sum())
    assert differing == 0, f"{name}: {differing} of {actual.size} elements differ"
