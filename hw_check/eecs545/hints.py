"""Explains wrong numbers by guesses at the mistake; this file holds the guesses that suit every function.

A guess is the wrong answer that a typical mistake gives, such as N times the right answer, or its transpose. If the
student's numbers equal a guess, its mistake is named. The guesses for single functions are in layer_hints.py,
rnn_hints.py and model_hints.py.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy import ndarray

Guess = tuple[str, str, Callable[[], ndarray]]
"""Name of an output, the mistake as text, and a function that computes the output with this mistake."""

TOLERANCE = {"float64": 1e-8, "float32": 2e-4}
FLOOR = {"float64": 1e-6, "float32": 1e-2}
"""A difference is divided by at least this number, so that rounding errors of a loss near zero do not cost points."""

_LETTERS = {
    "N": "the batch size N",
    "T": "the number of steps T",
    "C": "the number of classes or channels C",
    "D": "the number of inputs D",
    "M": "the number of outputs M",
    "V": "the number of words V",
    "H": "the size H",
}
ADVICE = {
    "large scores": "exp overflows unless each row's largest score is subtracted first",
    "non-contiguous arrays": "it relies on the memory layout of its arguments",
    "ties": "several pixels of a window are equally large",
}
"""Title of a special case → the most frequent cause if only this kind of case fails."""

_MIXED = "right numbers at wrong positions, samples or channels mixed: reshape used where transpose was meant"


def known(output: ndarray) -> Callable[[], ndarray]:
    """A function that returns `output`, for a guess whose output is computed already."""
    return lambda: output


def relative_error(a: ndarray, right: ndarray, floor: float = 0.0) -> float:
    """Largest difference between `a` and `right`, relative to the largest element of `right`.

    Args:
        a: the student's array.
        right: the right array.
        floor: smallest number that the difference is divided by.

    Returns:
        The error; infinite if the shapes differ or an element is not finite.
    """
    if a.shape != right.shape:
        return float("inf")
    if not a.size:
        return 0.0
    scale = max(np.abs(right).max(), floor) or 1.0
    difference = np.abs(a.astype(float) - right).max() / scale
    return float(difference) if np.isfinite(difference) else float("inf")


def equal(a: ndarray, b: ndarray, tolerance: float = 1e-6) -> bool:
    """Whether two arrays are equal up to rounding."""
    return relative_error(a, b) < tolerance


def general(a: ndarray, right: ndarray, sizes: Mapping[str, int]) -> Iterator[str]:
    """Yields the general mistakes that turn `right` into `a`.

    Args:
        a: the student's array.
        right: our array.
        sizes: value of each letter in the shapes.
    """
    if not np.isfinite(a).all():
        yield f"holds {'NaN' if np.isnan(a).any() else 'infinity'}"
    elif a.shape != right.shape:
        yield from _wrong_shape(a, right)
    elif right.any() and not a.any():
        yield "is all zeros"
    elif a.any() and not right.any():
        yield "expected zeros"
    else:
        yield from _scaled(a, right, sizes)
        yield from _moved(a, right)
        yield from _located(a, right)


def _wrong_shape(a: ndarray, right: ndarray) -> Iterator[str]:
    shapes = f"has shape {a.shape}, expected {right.shape}"
    for axes in itertools.permutations(range(right.ndim)):
        if right.ndim > 1 and equal(a, right.transpose(axes)):
            yield f"{shapes}: transposed"
    for axis in range(a.ndim):
        if equal(a.sum(axis=axis), right):
            yield f"{shapes}: not summed over axis {axis}"
        elif equal(a.sum(axis=axis) / a.shape[axis], right):
            yield f"{shapes}: not averaged over axis {axis}"
    if a.size == right.size and equal(a.reshape(right.shape), right):
        yield f"{shapes}: the numbers are right, the axes are not"
    yield shapes


def _scaled(a: ndarray, right: ndarray, sizes: Mapping[str, int]) -> Iterator[str]:
    if equal(a, -right):
        yield "has the wrong sign"
    if (right < 0).any() and equal(a, np.maximum(right, 0)):
        yield "negative numbers are set to 0, as by a ReLU"
    for letter, name in _LETTERS.items():
        size = sizes.get(letter, 1)
        if size > 1 and equal(a, right * size):
            yield f"is too large by {name}: it lacks the factor 1/{letter}"
        if size > 1 and equal(a, right / size):
            yield f"is too small by {name}: it is averaged where a sum was meant, or divided by {letter} twice"
    yield from _scaled_by_product(a, right, sizes)
    yield from _multiple(a, right)


def _scaled_by_product(a: ndarray, right: ndarray, sizes: Mapping[str, int]) -> Iterator[str]:
    for count in (2, 3):
        for letters in itertools.combinations(sorted(sizes), count):
            product = math.prod(sizes[letter] for letter in letters)
            if product > 1 and equal(a, right / product):
                yield f"is too small by the factor {'·'.join(letters)}: it is averaged where a sum was meant"
            if product > 1 and equal(a, right * product):
                yield f"is too large by the factor {'·'.join(letters)}: it is summed where an average was meant"


def _multiple(a: ndarray, right: ndarray) -> Iterator[str]:
    factors = right[right != 0]
    if factors.size:
        factor = float(a[right != 0].sum() / factors.sum()) if factors.sum() else 0.0
        if factor and equal(a, right * factor) and not equal(a, right):
            is_round = abs(factor - round(factor)) < 1e-6 or abs(1 / factor - round(1 / factor)) < 1e-6
            if right.ndim or is_round:
                yield f"is {factor:.4g} times the right answer"


def _moved(a: ndarray, right: ndarray) -> Iterator[str]:
    for axes in itertools.permutations(range(right.ndim)):
        if axes != tuple(range(right.ndim)):
            turned = right.transpose(axes)
            if equal(a, turned):
                yield "is transposed"
            if equal(a, np.ascontiguousarray(turned).reshape(right.shape)):
                yield _MIXED
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if equal(a, np.flip(right, axes)):
                yield f"is reversed along axis {', '.join(map(str, axes))}"
    if right.size > 3 and equal(np.sort(a, axis=None), np.sort(right, axis=None)):
        yield _MIXED


_AXES = {2: ("rows", "columns"), 4: ("samples or filters", "channels", "rows", "columns")}


def _located(a: ndarray, right: ndarray) -> Iterator[str]:
    """Describes which numbers are wrong if some are right, or that all are off by the same number."""
    difference = a.astype(float) - right
    wrong = np.abs(difference) > 1e-6 * np.abs(right).max()
    if right.ndim and wrong.all():
        if np.ptp(difference) < 1e-6 * max(np.abs(right).max(), np.abs(difference).max()):
            yield "is off by the same number everywhere"
    elif right.ndim:
        for name, where in (("negative", right < 0), ("positive", right > 0)):
            if np.array_equal(wrong, where):
                yield f"is wrong where the right answer is {name}"
        for axis in range(right.ndim):
            yield from _located_along(axis, wrong)
        if not a[wrong].any():
            yield "is zero at some positions where it should not be"


def _located_along(axis: int, wrong: ndarray) -> Iterator[str]:
    """Describes which positions along an axis are wrong if all wrong ones, or all right ones, are at one end."""
    side = wrong.shape[axis]
    positions = np.flatnonzero(wrong.any(axis=tuple(other for other in range(wrong.ndim) if other != axis))).tolist()
    label = f"axis {axis}" + (f" ({_AXES[wrong.ndim][axis]})" if wrong.ndim in _AXES else "")
    if side > 1 and positions in ([0], [side - 1]):
        yield f"is wrong only at the {'first' if positions == [0] else 'last'} position of {label}"
    elif side > 2 and positions in (list(range(side - 1)), list(range(1, side))):
        yield f"is right only at the {'last' if positions[0] == 0 else 'first'} position of {label}"
    elif positions and 0 < positions[0] and positions == list(range(positions[0], side)):
        yield f"is wrong only at the last positions of {label}"
