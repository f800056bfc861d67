"""Gradients by centred differences, to check the hand-written ones against (eecs545-w20-hw4). Imports NumPy alone."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray


def eval_numerical_gradient(
    f: Callable[[ndarray], float], x: ndarray, verbose: bool = False, h: float = 1e-5
) -> ndarray:
    """Gradient of a number with respect to x: (f(x + h) − f(x − h)) / 2h, element by element.

    Args:
        f: takes x. It may also read x itself, as a network's loss reads its parameters: x is changed while f runs, and
            has its own bits again afterwards.
        x: floating-point array of any shape; float64, or h is lost in rounding.
        verbose: whether to print every partial derivative.
        h: the step.

    Returns:
        The gradient, shaped like x.

    Raises:
        TypeError: x does not hold floating-point numbers.
    """
    gradient = eval_numerical_gradient_array(f, x, 1.0, h)
    if verbose:
        for index, slope in np.ndenumerate(gradient):
            print(index, slope)
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[ndarray], ndarray], x: ndarray, df: ndarray | float, h: float = 1e-5
) -> ndarray:
    """Gradient of Σ f(x) · df with respect to x: what a layer's backward pass makes of dout = df.

    Args:
        f: takes x and returns an array; as in `eval_numerical_gradient` it may read x itself.
        x: floating-point array of any shape.
        df: shaped like f(x).
        h: the step.

    Returns:
        The gradient, shaped like x.

    Raises:
        TypeError: x does not hold floating-point numbers.
    """
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"x holds {x.dtype}, expected floating-point numbers")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        before = x[index]
        try:
            x[index] = before + h
            above = np.array(f(x))  # a copy: f may return a view of x
            x[index] = before - h
            below = np.array(f(x))
        finally:
            x[index] = before
        gradient[index] = np.sum((above - below) * df) / (2 * h)
    return gradient
