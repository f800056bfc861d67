"""Gradients by centred differences, to check hand-written gradients (eecs545-w20-hw4). Imports only NumPy."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray


def eval_numerical_gradient(
    f: Callable[[ndarray], float], x: ndarray, verbose: bool = False, h: float = 1e-5
) -> ndarray:
    """Gradient of f with respect to x: (f(x + h) − f(x − h)) / 2h, element by element.

    Args:
        f: function of x that returns a number. x is changed in place for each call of f, and restored bit for bit
            afterwards, so f may ignore its argument and read the array x itself, as a network's loss does.
        x: floating-point array of any shape; should be float64: in float32, rounding errors are too large.
        verbose: whether to print every partial derivative.
        h: step of the differences.

    Returns:
        The gradient, shaped like x.

    Raises:
        TypeError: x does not hold floating-point numbers.
    """
    gradient = eval_numerical_gradient_array(f, x, 1.0, h)
    if verbose:
        for index, derivative in np.ndenumerate(gradient):
            print(index, derivative)
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[ndarray], ndarray | float], x: ndarray, df: ndarray | float, h: float = 1e-5
) -> ndarray:
    """Gradient of Σ f(x) · df with respect to x, to check a layer's backward pass with dout = df.

    Args:
        f: function of x that returns an array; it may read the array x itself, as in `eval_numerical_gradient`.
        x: floating-point array of any shape.
        df: gradient of the output, shaped like f(x).
        h: step of the differences.

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
