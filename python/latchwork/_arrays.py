"""Convert and check what users pass in. Every error names the argument, what was expected and what came."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from latchwork import _core
from latchwork._foreign import bfloat16_numbers, is_bfloat16, is_table, table_array, without_numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Extents = Sequence[int | str]  # a shape in which a name stands for any size

MAX_INDEX = 2**63 - 1
MAX_SEED = 2**64 - 1

# What is added to the message about a shape that would fit an input with its first two axes swapped.
SWAPPED = (
    "; it would fit if the axes T and N of x were swapped: x is (N, T, ...) for layers built with batch_first=True, "
    "else (T, N, ...)"
)

_RAGGED = (
    "{} sequences of different lengths; a ragged batch is one padded array and lengths, which latchwork.pad makes: "
    "x, lengths = latchwork.pad(sequences)"
)


def shape_text(extents: Extents) -> str:
    """Write a shape as error messages do: (T, N, 8)."""
    return f"({', '.join(map(str, extents))}{',' if len(extents) == 1 else ''})"


def check_shape(name: str, array: Array, extents: Extents) -> None:
    """Raise ValueError unless the array has this shape."""
    if array.shape == extents:
        return
    if len(extents) != array.ndim or any(
        not isinstance(extent, str) and extent != size for extent, size in zip(extents, array.shape, strict=True)
    ):
        raise ValueError(f"{name}: expected {shape_text(extents)}, got {shape_text(array.shape)}")


def as_array(name: str, value: Any) -> Array:
    """Read an array of any dtype."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name}: expected no masked elements, got some; fill them, or give lengths for padding")
    if is_table(value):
        return table_array(name, value)
    readable = without_numpy_dtype(value)
    if readable is not None:
        return as_array(name, readable)
    if isinstance(value, (list, tuple)) and value and (is_table(value[0]) or without_numpy_dtype(value[0]) is not None):
        value = [as_array(f"{name}[{place}]", each) for place, each in enumerate(value)]
    try:
        return np.asarray(value)
    except ValueError as error:
        if _is_ragged(value):
            raise ValueError(f"{name}: expected one array, got {_RAGGED.format(len(value))}") from error
        raise ValueError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error
    except Exception as error:  # whatever an object's own __array__ raises
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error


def real_array(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Read real numbers as this dtype with a contiguous last axis (features); an array that has both is not copied."""
    array = as_array(name, value)
    if array.dtype != dtype:
        array = real_numbers(name, array)
        # A number too small for this dtype becomes zero, and a NaN stays one, whatever np.seterr says.
        with np.errstate(under="ignore", invalid="ignore"):
            array = array.astype(dtype)
    flags = array.flags
    if flags.aligned and (flags.c_contiguous or _features_contiguous(array)):
        return array
    return array.copy(order="C")


def real_of_own_dtype(name: str, value: Any) -> Array:
    """Read real numbers as float64 if they are, else as float32."""
    array = as_array(name, value)
    return real_array(name, array, np.dtype(np.float64 if array.dtype.newbyteorder("=") == np.float64 else np.float32))


def real_numbers(name: str, array: Array) -> Array:
    """Give an array of real numbers in a dtype of NumPy's: bfloat16 becomes float32, all others stay. TypeError."""
    if array.dtype.kind in "biuf":
        return array
    if is_bfloat16(array):
        return bfloat16_numbers(array)
    if array.dtype.kind == "O" and array.ndim == 1 and _is_ragged(array.tolist()):
        raise TypeError(f"{name}: expected one array, got {_RAGGED.format(len(array))}")
    raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")


def contiguous_real_array(name: str, value: Any, dtype: np.dtype[Any], extents: Extents) -> Array:
    """Read real numbers as this dtype, C-contiguous, and check the shape."""
    array = real_array(name, value, dtype)
    check_shape(name, array, extents)
    return np.ascontiguousarray(array)


def integer_array(name: str, value: Any) -> Array:
    """Read integers as int64. An empty list passes, although NumPy reads it as float64."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu" and not (array.size == 0 and isinstance(value, (list, tuple))):
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        # No token, label or length is beyond int64. Its largest number stands for all that are: it is refused too.
        array = np.minimum(array, np.uint64(MAX_INDEX))
    array = array.astype(np.int64, copy=False)
    if array.flags.aligned and not any(stride % array.itemsize for stride in array.strides):
        return array
    return array.copy(order="C")


def lengths_array(value: Any, steps: int, rows: int, members: int | None = None) -> Array:
    """Read the lengths of a ragged batch: (N,), or one set for each member, (M, N); each from 0 to T."""
    lengths = integer_array("lengths", value)
    if lengths.shape != (rows,) and (members is None or lengths.shape != (members, rows)):
        expected = f"(N,) with N = {rows}" if members is None else f"({rows},) or ({members}, {rows})"
        hint = SWAPPED if lengths.shape == (steps,) else ""
        raise ValueError(f"lengths: expected {expected}, got {shape_text(lengths.shape)}{hint}")
    if rows:
        place = np.unravel_index(int(np.argmax(np.maximum(lengths - steps, -lengths))), lengths.shape)
        if not 0 <= lengths[place] <= steps:
            member = f" of member {place[0]}" if lengths.ndim == 2 else ""
            raise ValueError(f"lengths: expected 0 to {steps} (T), got {lengths[place]} in row {place[-1]}{member}")
    return np.ascontiguousarray(lengths)


def mask_numbers(name: str, value: Any) -> Array:
    """Read what is to be a mask: booleans or real numbers."""
    mask = as_array(name, value)
    if is_bfloat16(mask):
        mask = bfloat16_numbers(mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected bool, or numbers that are all 0 or 1, got dtype {mask.dtype}")
    return mask


def mask_array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Read a mask of steps, `reset` or `skip`: booleans, or real numbers that are all 0 or 1."""
    mask = mask_numbers(name, value)
    if mask.shape != shape:
        hint = "; its axes come in the order of those of x" if mask.shape == (*shape[:-2], *shape[:-3:-1]) else ""
        raise ValueError(f"{name}: expected {shape_text(shape)}, got {shape_text(mask.shape)}{hint}")
    if mask.dtype != np.bool_:
        wrong = np.argwhere((mask != 0) & (mask != 1))
        if wrong.size:
            place = tuple(wrong[0].tolist())
            raise ValueError(f"{name}: expected 0 or 1, got {mask[place]} at [{', '.join(map(str, place))}]")
    return mask.astype(np.bool_, copy=False)


def check_finite(name: str, array: Array, valid: Array | None, members: bool = False) -> None:
    """Raise ValueError if an element of (T, N, ...) outside padding is NaN or infinite.

    ``valid`` says which steps are no padding: (T, N), or (M, T, N) if that differs from member to member; None: all.
    ``members`` says whether the array has an axis of members before the others.
    """
    if not _all_finite(array):
        _check_none(name, "finite numbers", array, ~np.isfinite(array), valid, members)


def check_not_infinite(name: str, array: Array, valid: Array | None, members: bool = False) -> None:
    """Raise ValueError if an element of (T, N, ...) outside padding is infinite; NaN is allowed. See `check_finite`."""
    if not _all_finite(array):
        _check_none(name, "finite numbers or NaN", array, np.isinf(array), valid, members)


def _all_finite(array: Array) -> bool:
    """Say whether no element is NaN or infinite; False also if their sum overflows."""
    if array.flags.c_contiguous:
        return _core.all_finite(array)
    if array.ndim == 3 and (by_row := array.swapaxes(0, 1)).flags.c_contiguous:  # as a batch of whole sequences lies
        return _core.all_finite(by_row)
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()))  # needs no memory


def check_classes(name: str, kind: str, count: int, array: Array, valid: Array | None, members: bool = False) -> None:
    """Raise ValueError if an element of (T, N) outside padding is not from 0 to ``count - 1``; see `check_finite`."""
    if array.size and not (array.min() >= 0 and array.max() < count):
        _check_none(name, f"{kind} from 0 to {count - 1}", array, (array < 0) | (array >= count), valid, members)


def real_dtype(dtype: Any) -> np.dtype[Any]:
    """Read a dtype: float32 or float64."""
    try:
        chosen: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise TypeError(f'dtype: expected "float32" or "float64", got {dtype!r}') from error
    if dtype is None or chosen not in (np.float32, np.float64):
        raise ValueError(f'dtype: expected "float32" or "float64", got {dtype!r}')
    return chosen


def integer(name: str, value: Any, minimum: int, maximum: int = MAX_INDEX) -> int:
    """Read an int within bounds; NumPy's integers are ints, bool is not."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected int, got bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected int, got {type(value).__name__}") from None
    if number < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {number}")
    if number > maximum:
        raise ValueError(f"{name}: expected at most {maximum}, got {number}")
    return number


def boolean(name: str, value: Any) -> bool:
    """Read a bool, NumPy's included."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected bool, got {type(value).__name__}")
    return bool(value)


def real_number(name: str, value: Any, minimum: float = 0.0, maximum: float = float("inf")) -> float:
    """Read a finite float within bounds."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected float, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a finite number, got {value}") from None
    if not (minimum <= number <= maximum and np.isfinite(number)):
        bounds = f"{minimum:g} to {maximum:g}"
        if maximum == float("inf"):
            bounds = "a finite number" if minimum == float("-inf") else f"at least {minimum:g}"
        raise ValueError(f"{name}: expected {bounds}, got {value}")
    return number


def seed_number(name: str, seed: Any) -> int:
    """Read a 64-bit seed; None: a fresh one from the operating system."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    return integer(name, seed, 0, MAX_SEED)


def _is_ragged(value: Any) -> bool:
    """Say whether something is a list of sequences that differ in length."""
    if not isinstance(value, (list, tuple)) or not all(hasattr(each, "__len__") for each in value):
        return False
    return not any(isinstance(each, str) for each in value) and len({len(each) for each in value}) > 1


def _features_contiguous(array: Array) -> bool:
    item = array.itemsize
    return (array.ndim == 0 or array.shape[-1] < 2 or array.strides[-1] == item) and not any(
        stride % item for stride in array.strides
    )


def _check_none(name: str, expected: str, array: Array, wrong: Array, valid: Array | None, members: bool) -> None:
    if valid is not None:
        if valid.ndim == 3 and not members:
            valid = np.asarray(valid.any(axis=0))  # an element counts if any member reads it
        wrong[(slice(None),) * (members and valid.ndim == 2) + (~valid,)] = False
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        axes = ("member", "step", "row") if members else ("step", "row")
        where = ", ".join(f"{axis} {position}" for axis, position in zip(axes, place, strict=False))
        raise ValueError(f"{name}: expected {expected}, got {array[place]} at {where}")
