"""Guesses at the mistake that explains wrong numbers (see hints.py), for the functions of layers.py."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy import ndarray

from hw_check.eecs545.hints import Guess, known
from hw_check.eecs545.layer_cases import spread_over_ties, windows
from hw_numpy import layers

NO_BIAS = "the bias b is not added"


def fc_forward(x: ndarray, w: ndarray, b: ndarray) -> Iterator[Guess]:
    """Guesses for the fully connected layer, for x (N, D) or (N, T, D)."""
    yield "out", NO_BIAS, lambda: x @ w
    yield "out", "the bias b is subtracted", lambda: x @ w - b


def _fc_backward(x: ndarray, w: ndarray, b: ndarray, dout: ndarray) -> Iterator[Guess]:
    yield "dx", "w is used where its transpose was meant", lambda: dout @ w
    yield "dw", "x is used where its transpose was meant", lambda: x @ dout
    yield "dw", "dw and its transpose are mixed up: expected xᵀ dout", lambda: dout.T @ x
    yield "db", "summed over the outputs, expected over the batch", lambda: dout.sum(axis=1)
    yield "db", "only the first sample's gradient: expected the sum over the batch", lambda: dout[0]


def _relu_forward(x: ndarray) -> Iterator[Guess]:
    yield "out", "it is the absolute value", lambda: np.abs(x)
    yield "out", "min instead of max", lambda: np.minimum(x, 0)
    yield "out", "negative numbers are not set to 0", lambda: x
    for slope in (0.01, 0.1, 0.2):
        yield "out", f"it is a leaky ReLU of slope {slope}", known(np.where(x > 0, x, slope * x))
    yield "out", "it is tanh", lambda: np.tanh(x)
    yield "out", "clipped at 1", lambda: np.clip(x, 0, 1)


def _relu_backward(x: ndarray, dout: ndarray) -> Iterator[Guess]:
    yield "dx", "the mask of x > 0 is missing: dout passes everywhere", lambda: dout
    yield "dx", "the sign of dout decides, expected that of x", lambda: dout * (dout > 0)
    yield "dx", "the sign of dout decides as well, expected that of x alone", lambda: dout * (dout > 0) * (x > 0)
    yield "dx", "dout passes where x is negative: the mask is inverted", lambda: dout * (x < 0)
    yield "dx", "multiplied by x: expected 1 where x is positive", lambda: dout * np.maximum(x, 0)
    yield "dx", "dout is not used", lambda: (x > 0).astype(float)


def _conv_forward(x: ndarray, w: ndarray) -> Iterator[Guess]:
    forward = layers.conv_forward
    text = "the kernel is flipped (true convolution): the sheet's layer does not flip it"
    yield "out", text, lambda: forward(x, w[:, :, ::-1, ::-1])[0]
    yield "out", "the kernel is flipped upside down", lambda: forward(x, w[:, :, ::-1])[0]
    yield "out", "the kernel is flipped left to right", lambda: forward(x, w[..., ::-1])[0]
    yield "out", "only the first channel counts: expected the sum over channels", lambda: forward(x[:, :1], w[:, :1])[0]
    yield "out", "only the last channel counts: = where += was meant", lambda: forward(x[:, -1:], w[:, -1:])[0]
    yield "out", "averaged over channels: expected the sum", lambda: forward(x, w)[0] / x.shape[1]
    (height, width), none = (side - 1 for side in w.shape[2:]), (0, 0)
    for text, rows, columns in (
        ("at the bottom and on the right", (0, height), (0, width)),
        ("at the top and on the left", (height, 0), (width, 0)),
        ("on all sides", (height // 2, height - height // 2), (width // 2, width - width // 2)),
    ):
        padded = np.pad(x, (none, none, rows, columns))
        yield "out", f"padded with zeros {text}: the sheet's layer has no padding", known(forward(padded, w)[0])
    yield from _wrong_sides(forward(x, w)[0])


def _wrong_sides(out: ndarray) -> Iterator[Guess]:
    """Guesses for an output of a wrong height or width."""
    yield "out", "the last row and column are missing: the output's sides lack + 1", known(out[:, :, :-1, :-1])
    for text, part in (
        ("the output is as wide as high: its width is computed from the height", out[:, :, :, : out.shape[2]]),
        ("the output is as high as wide: its height is computed from the width", out[:, :, : out.shape[3]]),
    ):
        if out.shape[2] != out.shape[3]:
            yield "out", text, known(part)


def _conv_backward(x: ndarray, w: ndarray, dout: ndarray) -> Iterator[Guess]:
    cache = layers.conv_forward(x, w)[1]
    flipped = layers.conv_forward(x, w[:, :, ::-1, ::-1])[1]
    text = "the kernel is flipped, or not flipped, by mistake: dx is the full convolution of dout with the kernel"
    yield "dx", text, lambda: layers.conv_backward(dout, flipped)[0]
    overwritten = "= where += was meant: expected the sum over all filters and output pixels"
    yield "dx", overwritten, lambda: _last_patch(x, w, dout)
    yield "dx", overwritten, lambda: _last_patch(x, w[-1:], dout[:, -1:])
    text = "only one filter's part: expected the sum over filters"
    yield "dx", text, lambda: layers.conv_backward(dout[:, -1:], (x, w[-1:]))[0]
    shortened = dout.copy()
    shortened[:, :, -1] = shortened[..., -1] = 0
    text = "the last row and column of dout are left out: do the loops end too early?"
    yield "dx", text, lambda: layers.conv_backward(shortened, cache)[0]
    yield "dw", text, lambda: layers.conv_backward(shortened, cache)[1]
    yield "dw", "flipped: dw is x filtered with dout", lambda: layers.conv_backward(dout, cache)[1][:, :, ::-1, ::-1]
    text = "only the last sample's part: expected the sum over the batch"
    yield "dw", text, lambda: layers.conv_backward(dout[-1:], (x[-1:], w))[1]
    text = "only the first sample's part: expected the sum over the batch"
    yield "dw", text, lambda: layers.conv_backward(dout[:1], (x[:1], w))[1]
    text = "only the last output pixel's part: = where += was meant"
    last_patch = x[:, :, -w.shape[2] :, -w.shape[3] :]
    for samples in (slice(None), slice(-1, None)):
        yield "dw", text, known(np.einsum("nchw,nf->fchw", last_patch[samples], dout[samples, :, -1, -1]))


def _last_patch(x: ndarray, w: ndarray, dout: ndarray) -> ndarray:
    """The gradient of a convolution's input if each patch overwrites the earlier ones instead of being added."""
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            patch = np.einsum("nf,fchw->nchw", dout[:, :, i, j], w)
            dx[:, :, i : i + w.shape[2], j : j + w.shape[3]] = patch
    return dx


def _max_pool_forward(x: ndarray, pool_param: Mapping[str, int]) -> Iterator[Guess]:
    def pool(x: ndarray = x, **changes: int) -> ndarray:
        return layers.max_pool_forward(x, {**pool_param, **changes})[0]

    height, width = pool_param["pool_height"], pool_param["pool_width"]
    for stride in (height, width):
        yield "out", "the stride is ignored: windows move by their own size", known(pool(stride=stride))
    yield "out", "the stride is ignored: windows move by one pixel", lambda: pool(stride=1)
    yield "out", "the smallest number of a window, expected the largest", lambda: -pool(-x)
    yield "out", "the average of a window, expected the largest number", lambda: _average(x, pool_param)
    yield "out", "never below zero: the maximum must start from a pixel of the window", lambda: np.maximum(pool(), 0)
    yield "out", "the largest absolute value", lambda: pool(np.abs(x))
    yield "out", "height and width of the windows are swapped", lambda: _pooled(x, pool_param, width, height)
    text = "windows of 2×2 pixels with a stride of 2, whatever pool_param holds"
    yield "out", text, lambda: _pooled(x, pool_param, 2, 2, 2)
    text = "windows of 2×2 pixels, whatever pool_param holds"
    yield "out", text, lambda: _pooled(x, pool_param, 2, 2)
    yield from _wrong_sides(pool())


def _pooled(x: ndarray, pool_param: Mapping[str, int], height: int, width: int, stride: int = 0) -> ndarray:
    """Max-pooling with other windows, for an output of the right size. Raises ValueError if a window is empty."""
    out = layers.max_pool_forward(x, pool_param)[0]
    stride = stride or pool_param["stride"]
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = x[:, :, i * stride : i * stride + height, j * stride : j * stride + width]
            out[:, :, i, j] = window.max(axis=(2, 3))
    return out


def _average(x: ndarray, pool_param: Mapping[str, int]) -> ndarray:
    height, width, stride = (pool_param[name] for name in ("pool_height", "pool_width", "stride"))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), (2, 3))
    return windows[:, :, ::stride, ::stride].mean(axis=(4, 5))


def _max_pool_backward(x: ndarray, pool_param: Mapping[str, int], dout: ndarray) -> Iterator[Guess]:
    for share in ("first", "all"):
        text = "windows overwrite one another (= where += was meant): expected their sum"
        yield "dx", text, known(_overwritten(x, pool_param, dout, share, whole_windows=True))
        text = "where windows overlap, only one counts (= where += was meant): expected their sum"
        yield "dx", text, known(_overwritten(x, pool_param, dout, share, whole_windows=False))
    text = "every one of several equal maxima gets the whole gradient: it must be shared or go to one"
    yield "dx", text, lambda: spread_over_ties(x, pool_param, dout, "all")
    text = "spread over the whole window, as in average pooling, without being divided"
    yield "dx", text, lambda: spread_over_ties(np.zeros_like(x), pool_param, dout, "all")
    text = "spread over the whole window, as in average pooling"
    yield "dx", text, lambda: spread_over_ties(np.zeros_like(x), pool_param, dout, "equal")
    text = "the smallest number of a window gets the gradient, expected the largest"
    yield "dx", text, lambda: spread_over_ties(-x, pool_param, dout, "first")
    yield "dx", "multiplied by x", lambda: spread_over_ties(x, pool_param, dout, "first") * x


def _overwritten(x: ndarray, pool_param: Mapping[str, int], dout: ndarray, share: str, whole_windows: bool) -> ndarray:
    """The gradient if each window overwrites the earlier ones, entirely (`whole_windows`) or at its largest pixel."""
    dx = np.zeros_like(x)
    for i, j, window in windows(x, pool_param):
        size = dict(zip(("pool_height", "pool_width", "stride"), (*x[window].shape[2:], 1), strict=True))
        largest = spread_over_ties(x[window], size, np.ones((*x.shape[:2], 1, 1)), share) > 0
        before = np.zeros_like(dx[window]) if whole_windows else dx[window]
        dx[window] = np.where(largest, dout[:, :, i, j][:, :, None, None], before)
    return dx


def softmax_guesses(x: ndarray, y: ndarray, weights: ndarray) -> Iterator[Guess]:
    """Guesses for softmax and cross entropy over the last axis.

    Args:
        x: (…, C) scores.
        y: (…) classes.
        weights: (…) weight of each sample in the loss.
    """
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    p = shifted / shifted.sum(axis=-1, keepdims=True)
    one_hot, w = np.eye(x.shape[-1])[y], weights[..., None]
    right = (p * one_hot).sum(axis=-1)
    logs = np.log(right)
    if x.ndim == 2:
        every = p.copy()
        every[:, y] -= 1
        text = "1 is subtracted in the columns y of all samples: d[np.arange(N), y] takes one number of each"
        yield "dx", text, known(every * w)
    yield "loss", "the logarithm is missing", lambda: (weights * right).sum()
    yield "loss", "has the wrong sign", lambda: (weights * logs).sum()
    yield "loss", "the logarithm of the sum of exponentials is missing", lambda: -(w * x * one_hot).sum()
    yield "dx", "1 is not subtracted at the right class", lambda: p * w
    yield "dx", "the probabilities are missing", lambda: -one_hot * w
    yield "dx", "1 is added at the right class, expected subtracted", lambda: (p + one_hot) * w
    for scores in (np.exp(x), shifted):
        for text, q in (
            ("softmax over the wrong axis: expected over each sample's scores", scores / scores.sum(0, keepdims=True)),
            ("softmax over all samples together: expected over each sample's scores", scores / scores.sum()),
        ):
            yield "loss", text, known(-(w * one_hot * np.log(q)).sum())
            yield "dx", text, known((q - one_hot) * w)


def _softmax_loss(x: ndarray, y: ndarray) -> Iterator[Guess]:
    yield from softmax_guesses(x, y, np.full(len(y), 1 / len(y)))


GUESSES: dict[str, Callable[..., Iterator[Guess]]] = {
    "fc_forward": fc_forward,
    "fc_backward": _fc_backward,
    "relu_forward": _relu_forward,
    "relu_backward": _relu_backward,
    "conv_forward": _conv_forward,
    "conv_backward": _conv_backward,
    "max_pool_forward": _max_pool_forward,
    "max_pool_backward": _max_pool_backward,
    "softmax_loss": _softmax_loss,
}
