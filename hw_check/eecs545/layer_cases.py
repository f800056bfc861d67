"""Test cases for the functions of layers.py (eecs545-w20-hw4 Q1, Q2a and Q3a)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.eecs545.cases import COMMON, Layer, Special, smallest_probability
from hw_numpy import layers


def _fc(rng: Generator, N: int, D: int, M: int) -> tuple[Any, ...]:
    return rng.normal(size=(N, D)), rng.normal(size=(D, M)), rng.normal(size=M)


def _away_from_zero(rng: Generator, shape: tuple[int, ...]) -> ndarray:
    return rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)


def _relu(rng: Generator, N: int, D: int) -> tuple[Any, ...]:
    return (_away_from_zero(rng, (N, D)),)


def _relu_with_zeros(rng: Generator, N: int, D: int) -> tuple[Any, ...]:
    return (_away_from_zero(rng, (N, D)) * rng.choice([0.0, 1.0], (N, D)),)


def _relu_of_images(rng: Generator, N: int, D: int) -> tuple[Any, ...]:
    return (_away_from_zero(rng, (N, D, 2, 3)),)


def _either_gradient_at_zero(x: ndarray, dout: ndarray) -> list[Mapping[str, ndarray]]:
    return [{"dx": dout * (x >= 0)}, {"dx": dout * (x > 0) + 0.5 * dout * (x == 0)}]


def _conv(rng: Generator, N: int, C: int, F: int, H: int, W: int, h: int, w: int) -> tuple[Any, ...]:
    return rng.normal(size=(N, C, H, W)), rng.normal(size=(F, C, h, w))


def _pool(rng: Generator, N: int, C: int, H: int, W: int, h: int, w: int, s: int) -> tuple[Any, ...]:
    """Draws numbers that differ by at least 0.1, so that a centred difference cannot move a window's maximum."""
    x = rng.permutation(N * C * H * W).reshape(N, C, H, W) / 10 - N * C * H * W / 20 + 0.05
    return x, {"pool_height": h, "pool_width": w, "stride": s}


def _pool_negative(rng: Generator, **sizes: int) -> tuple[Any, ...]:
    x, pool_param = _pool(rng, **sizes)
    return x - x.max() - 1, pool_param


def _pool_ties(rng: Generator, **sizes: int) -> tuple[Any, ...]:
    x, pool_param = _pool(rng, **sizes)
    return rng.integers(0, 2, x.shape).astype(float), pool_param


def windows(x: ndarray, pool_param: Mapping[str, int]) -> list[tuple[int, int, tuple[slice, ...]]]:
    """Row and column of every output pixel, with the slices of x that its window covers."""
    h, w, s = (pool_param[name] for name in ("pool_height", "pool_width", "stride"))
    rows, columns = (x.shape[2] - h) // s + 1, (x.shape[3] - w) // s + 1
    everything = slice(None)
    return [
        (i, j, (everything, everything, slice(i * s, i * s + h), slice(j * s, j * s + w)))
        for i in range(rows)
        for j in range(columns)
    ]


def spread_over_ties(x: ndarray, pool_param: Mapping[str, int], dout: ndarray, share: str) -> ndarray:
    """Gradient of max-pooling; `share` chooses which of a window's equally large pixels get it.

    Args:
        x: (N, C, H, W) images.
        pool_param: window and stride, as for `max_pool_forward`.
        dout: (N, C, H'', W'') gradient of the output.
        share: "first" or "last" of these pixels, "equal" (each gets the same share) or "all" (each gets everything,
            which is wrong).
    """
    dx = np.zeros_like(x)
    for i, j, window in windows(x, pool_param):
        ties = (x[window] == x[window].max(axis=(2, 3), keepdims=True)).astype(float)
        flat = ties.reshape(*ties.shape[:2], -1)
        if share == "equal":
            flat /= flat.sum(axis=2, keepdims=True)
        elif share == "first":
            flat[...] = (np.cumsum(flat, axis=2) == 1) & (flat > 0)
        elif share == "last":
            flat[...] = (np.cumsum(flat[..., ::-1], axis=2)[..., ::-1] == 1) & (flat > 0)
        dx[window] += flat.reshape(ties.shape) * dout[:, :, i, j][:, :, None, None]
    return dx


def _any_share(x: ndarray, pool_param: Mapping[str, int], dout: ndarray) -> list[Mapping[str, ndarray]]:
    return [{"dx": spread_over_ties(x, pool_param, dout, share)} for share in ("last", "equal")]


def _all_ties(x: ndarray, pool_param: Mapping[str, int], dout: ndarray) -> list[Mapping[str, ndarray]]:
    return [{"dx": spread_over_ties(x, pool_param, dout, "all")}]


def _softmax(rng: Generator, N: int, C: int) -> tuple[Any, ...]:
    return rng.normal(size=(N, C)), rng.integers(0, C, N)


def _large_scores(rng: Generator, N: int, C: int) -> tuple[Any, ...]:
    x, y = _softmax(rng, N, C)
    return x + rng.choice([-2000.0, 2000.0], (N, 1)), y


def _confident(rng: Generator, N: int, C: int) -> tuple[Any, ...]:
    """Scores that differ so much that the probabilities are nearly 0 and 1; the right class is the most probable."""
    x, y = _softmax(rng, N, C)
    x[np.arange(N), y] += rng.uniform(20, 30, N)
    return x, y


def _softmax_slack(x: ndarray, y: ndarray) -> Mapping[str, float]:
    loss, dx = smallest_probability(x, y, np.full(len(y), 1 / len(y)))
    return {"loss": loss, "dx": dx}


def _cache_forms(x: ndarray, w: ndarray, b: ndarray, out: ndarray) -> list[Any]:
    return [[x, w, b], [x, w], [x, w, b, out], {"x": x, "w": w, "b": b}]


_ONE_SAMPLE = Special("one sample", sizes={"N": 1})
FC = Layer(
    layers, "fc_forward", "fc_backward", ("x", "w", "b"), ("out",), ("dx", "dw", "db"), (("NDM", 2, 7),), _fc,
    (Special("equal sizes", equal=("NDM",)), _ONE_SAMPLE), caches=_cache_forms,
)  # fmt: skip
RELU = Layer(
    layers, "relu_forward", "relu_backward", ("x",), ("out",), ("dx",), (("ND", 3, 8),), _relu,
    (
        Special("four axes", _relu_of_images),
        Special("zeros in x", _relu_with_zeros, alternatives=_either_gradient_at_zero),
        _ONE_SAMPLE,
    ),
    caches=lambda x, out: [x, [x], {"x": x}],
)  # fmt: skip
_SQUARES = Special("square images and kernels", equal=("HW", "hw"), cost=None)
CONV = Layer(
    layers, "conv_forward", "conv_backward", ("x", "w"), ("out",), ("dx", "dw"),
    (("NCF", 2, 5), ("HW", 6, 9), ("hw", 2, 4)), _conv,
    (
        Special("images that are not square", equal=("hw",)),
        Special("other shapes", cost=0.5),
        Special("other shapes", cost=0.5),
        Special("one image", sizes={"N": 1}),
        Special("one channel", sizes={"C": 1}),
        Special("one filter", sizes={"F": 1}),
        Special("1×1 kernel", sizes={"h": 1, "w": 1}),
        Special("one output pixel", sizes={"H": 3, "W": 4, "h": 3, "w": 4}),
    ),
    random=(_SQUARES,) * 2,
    caches=lambda x, w, out: [[x, w], {"x": x, "w": w}],
)  # fmt: skip
_TWO_BY_TWO = {"h": 2, "w": 2, "s": 2}
POOL = Layer(
    layers, "max_pool_forward", "max_pool_backward", ("x", "pool_param"), ("out",), ("dx",),
    (("NC", 2, 4), ("HW", 6, 9), ("hw", 2, 3), ("s", 3, 4)), _pool,  # windows of random sizes never overlap
    (
        Special("images that are not square", sizes={"H": 6, "W": 8, **_TWO_BY_TWO}),
        Special("windows that are not square"),
        Special("windows that are not square"),
        Special("overlapping windows", sizes={"H": 7, "W": 9, "h": 3, "w": 3, "s": 2}),
        Special("overlapping windows", sizes={"H": 6, "W": 5, "h": 2, "w": 3, "s": 1}),
        Special("gaps between windows", sizes={"H": 8, "W": 5, "h": 2, "w": 2, "s": 3}),
        Special("image not a multiple of the stride", sizes={"H": 7, "W": 5, "h": 2, "w": 2, "s": 2}, cost=0.1),
        Special("negative numbers", _pool_negative, {"H": 6, "W": 8, **_TWO_BY_TWO}),
        Special("one image", sizes={"N": 1}),
        Special("one channel", sizes={"C": 1}),
        Special("one output pixel", sizes={"H": 3, "W": 2, "h": 3, "w": 2, "s": 2}),
        Special("ties", _pool_ties, {"H": 6, "W": 8, **_TWO_BY_TWO}, alternatives=_any_share, tolerated=_all_ties),
    ),
    random=(
        Special("2×2 windows", sizes={"H": 6, "W": 6, **_TWO_BY_TWO}, cost=None),
        Special("2×2 windows", sizes={"H": 8, "W": 8, **_TWO_BY_TWO}, cost=None),
        Special("3×3 windows", sizes={"H": 9, "W": 9, "h": 3, "w": 3, "s": 3}, cost=0.5),
    ),
    caches=lambda x, pool_param, out: [[x, pool_param], {"x": x, "pool_param": pool_param}],
)  # fmt: skip
SOFTMAX = Layer(
    layers, "softmax_loss", None, ("x", "y"), ("loss", "dx"), (), (("NC", 3, 8),), _softmax,
    (
        Special("large scores", _large_scores),
        Special("confident scores", _confident),
        _ONE_SAMPLE,
        Special("two classes", sizes={"C": 2}),
    ),
    common=COMMON[1:], slack=_softmax_slack,
)  # fmt: skip

LAYERS = (FC, RELU, CONV, SOFTMAX, POOL)
