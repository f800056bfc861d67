"""Guesses at what is wrong: hypotheses that hold for every function. A guess is a wrong answer made on purpose.

If the student's numbers equal the right ones after such a change (N times as large, transposed, …), the change is
named. The guesses for single functions are in layer_hints.py, rnn_hints.py and model_hints.py.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy import ndarray

Guess = tuple[str, str, Callable[[], ndarray]]
"""Name of an output, what is wrong with it, and how it then comes out."""

TOLERANCE = {"float64": 1e-8, "float32": 2e-4}
FLOOR = {"float64": 1e-6, "float32": 1e-2}
"""Errors are relative to this at least: the loss of a network that is sure is a small difference of large scores."""

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
    "views with gaps": "it relies on how the numbers lie in memory",
    "ties": "several pixels of a window are equally large",
}
"""What a failure with one special case alone most often comes from, by the case's title."""

_MIXED = "right numbers in wrong places, samples or channels mixed: reshape used where transpose was meant"


def error(a: ndarray, b: ndarray, floor: float = 0.0) -> float:
    """Largest difference of `a` from `b`, relative to the largest number in `b`; infinite where it cannot be told.

    Args:
        a: the student's numbers.
        b: the right ones.
        floor: what is divided by at least.
    """
    if a.shape != b.shape:
        return float("inf")
    if not a.size:
        return 0.0
    scale = max(np.abs(b).max(), floor) or 1.0
    difference = np.abs(a.astype(float) - b).max() / scale
    return float(difference) if np.isfinite(difference) else float("inf")


def same(a: ndarray, b: ndarray, tolerance: float = 1e-6) -> bool:
    """Whether two arrays are equal but for rounding."""
    return error(a, b) < tolerance


def general(a: ndarray, right: ndarray, sizes: Mapping[str, int]) -> Iterator[str]:
    """What, of all that can be wrong with any function, turns `right` into `a`.

    Args:
        a: the student's numbers.
        right: ours.
        sizes: what the letters in shapes stand for.
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


def _wrong_shape(a: ndarray, right: ndarray) -> Iterator[str]:
    shapes = f"has shape {a.shape}, expected {right.shape}"
    for axes in itertools.permutations(range(right.ndim)):
        if right.ndim > 1 and same(a, right.transpose(axes)):
            yield f"{shapes}: transposed"
    for axis in range(a.ndim):
        if same(a.sum(axis=axis), right):
            yield f"{shapes}: not summed over axis {axis}"
        elif same(a.sum(axis=axis) / a.shape[axis], right):
            yield f"{shapes}: not averaged over axis {axis}"
    if a.size == right.size and same(a.reshape(right.shape), right):
        yield f"{shapes}: the numbers are right, the axes are not"
    yield shapes


def _scaled(a: ndarray, right: ndarray, sizes: Mapping[str, int]) -> Iterator[str]:
    if same(a, -right):
        yield "has the wrong sign"
    for letter, name in _LETTERS.items():
        size = sizes.get(letter, 1)
        if size > 1 and same(a, right * size):
            yield f"is too large by {name}: it lacks the factor 1/{letter}"
        if size > 1 and same(a, right / size):
            yield f"is too small by {name}: it is averaged where a sum was meant, or divided by {letter} twice"
    factors = right[right != 0]
    if factors.size > 1:
        factor = float(a[right != 0].sum() / factors.sum()) if factors.sum() else 0.0
        if same(a, right * factor) and not same(a, right):
            yield f"is {factor:.4g} times the right answer"


def _moved(a: ndarray, right: ndarray) -> Iterator[str]:
    for axes in itertools.permutations(range(right.ndim)):
        if axes != tuple(range(right.ndim)):
            turned = right.transpose(axes)
            if same(a, turned):
                yield "is transposed"
            if same(a, np.ascontiguousarray(turned).reshape(right.shape)):
                yield _MIXED
    for count in range(1, right.ndim + 1):
        for axes in itertools.combinations(range(right.ndim), count):
            if same(a, np.flip(right, axes)):
                yield f"is reversed along axis {', '.join(map(str, axes))}"
    if right.size > 3 and same(np.sort(a, axis=None), np.sort(right, axis=None)):
        yield _MIXED
