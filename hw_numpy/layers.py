"""Layers with hand-written gradients (eecs545-w20-hw4 Q1, Q2a and Q3a). Imports only NumPy.

Every `…_forward` returns its output and a cache; the `…_backward` of the same name takes the output's gradient and the
cache, and returns the arguments' gradients. All gradients are derivatives of the loss. No argument is changed in place,
and single precision stays single precision. H'' and W'' are the height and width of an output. As on the sheet, *filt
slides a kernel over an image without flipping it (valid cross-correlation), and *full is the full convolution.

Memory layout. NumPy is fast when its innermost loop runs along neighbouring elements. A row of a feature map has a
couple of dozen pixels, a batch has a hundred images; so `conv_forward` returns its (N, F, H'', W'') output as a view of
an array stored as (F, H'', W'', N). The element-wise layers keep this order. Flattening for `fc_forward` then needs no
copy, because the matrix product can read a transposed matrix. Other layouts give the same results more slowly.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

# Elements of each block of the matrix of patches: two megabytes of float32, which fit into the processor's cache. For a
# whole batch, the matrix would be about H'·W' times as large as the images, because the patches overlap.
_BLOCK_SIZE = 2**19


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def fc_forward(x: ndarray, w: ndarray, b: ndarray) -> tuple[ndarray, tuple]:
    """Fully connected layer, Y = XW + B, where every row of B is b (Q1a).

    Args:
        x: (N, D_in) input; samples with more axes, such as (N, C, H, W), are flattened.
        w: (D_in, D_out) weights.
        b: (D_out,) biases.

    Returns:
        The (N, D_out) output, and the cache (x, w, b).

    Raises:
        ValueError: the shapes do not fit.
    """
    _require(x.ndim >= 2, f"x has shape {x.shape}, expected (N, D_in)")
    samples = x.reshape(len(x), -1)
    _require(
        w.ndim == 2 and len(w) == samples.shape[1],
        f"x of shape {x.shape} needs w of shape ({samples.shape[1]}, D_out), got {w.shape}",
    )
    _require(b.shape == w.shape[1:], f"w of shape {w.shape} needs b of shape {w.shape[1:]}, got {b.shape}")
    return samples @ w + b, (x, w, b)


def fc_backward(dout: ndarray, cache: tuple) -> tuple[ndarray, ndarray, ndarray]:
    """Gradients of the fully connected layer: ∂L/∂X = ∂L/∂Y Wᵀ, ∂L/∂W = Xᵀ ∂L/∂Y, ∂L/∂b = Σₙ ∂L/∂Yₙ (Q1a).

    Yₙ is row n of Y, the output for sample n.

    Args:
        dout: (N, D_out) gradient of the output.
        cache: the cache from `fc_forward`.

    Returns:
        dx, dw and db, shaped like x, w and b.

    Raises:
        ValueError: dout does not have the shape of the output.
    """
    x, w, _ = cache
    _require_shape_of_output(dout, (len(x), w.shape[1]))
    dw = x.reshape(len(x), -1).T @ dout
    # Both products are ∂L/∂Y Wᵀ. If x is stored with the batch innermost, the first one stores dx in that order, too.
    batch_last = x.strides[0] == x.itemsize
    dx = (w @ dout.T).T if batch_last else dout @ w.T
    return dx.reshape(x.shape), dw, dout.sum(axis=0)


def relu_forward(x: ndarray) -> tuple[ndarray, ndarray]:
    """Rectifier, y = max(0, x) for every element (Q1b).

    Args:
        x: input of any shape.

    Returns:
        The output, shaped like x, and the cache, which is x.
    """
    return np.maximum(x, 0), x


def relu_backward(dout: ndarray, cache: ndarray) -> ndarray:
    """Gradient of the rectifier (Q1b): ∂L/∂x = ∂L/∂y where x > 0, else 0, also at x = 0, where it has no derivative.

    Args:
        dout: gradient of the output, shaped like x.
        cache: the cache from `relu_forward`.

    Returns:
        dx, shaped like x.

    Raises:
        ValueError: dout does not have the shape of x.
    """
    x = cache
    _require_shape_of_output(dout, x.shape)
    return dout * (x > 0)


def conv_forward(x: ndarray, w: ndarray) -> tuple[ndarray, tuple]:
    """Convolutional layer without padding and bias, Y_{n,f} = Σ_c X_{n,c} *filt W_{f,c} (Q1c).

    Args:
        x: (N, C, H, W) images.
        w: (F, C, H', W') kernels.

    Returns:
        The (N, F, H − H' + 1, W − W' + 1) output, and the cache (x, w).

    Raises:
        ValueError: the channels differ, or the kernel is larger than the image.
    """
    _require(x.ndim == 4, f"x has shape {x.shape}, expected (N, C, H, W)")
    _require(w.ndim == 4, f"w has shape {w.shape}, expected (F, C, H', W')")
    _require(x.shape[1] == w.shape[1], f"x of shape {x.shape} and w of shape {w.shape} differ in the channels, axis 1")
    height, width = _output_sides(x, w.shape[2:], 1, f"the kernel of w, shape {w.shape},")
    kernels = w.reshape(len(w), -1)
    out = np.empty((len(w), height, width, len(x)), np.result_type(x, w))
    for rows, patches in _patches(x, w.shape[2:], out.dtype):
        np.matmul(kernels, patches, out=out[:, rows].reshape(len(w), -1))
    return out.transpose(3, 0, 1, 2), (x, w)


def conv_backward(dout: ndarray, cache: tuple) -> tuple[ndarray, ndarray]:
    """Gradients of the convolutional layer (Q1c).

    Args:
        dout: (N, F, H − H' + 1, W − W' + 1) gradient of the output.
        cache: the cache from `conv_forward`.

    Returns:
        dx and dw, shaped like x and w.

    Raises:
        ValueError: dout does not have the shape of the output.
    """
    return conv_backward_x(dout, cache), conv_backward_w(dout, cache)


def conv_backward_w(dout: ndarray, cache: tuple) -> ndarray:
    """∂L/∂W_{f,c} = Σ_n X_{n,c} *filt ∂L/∂Y_{n,f} (Q1c), with the arguments and errors of `conv_backward`."""
    x, w = cache
    gradients = _batch_last_gradients(dout, cache)
    dw = np.zeros((w[0].size, len(w)), np.result_type(x, dout))
    for rows, patches in _patches(x, w.shape[2:], dw.dtype):
        dw += patches @ gradients[:, rows].reshape(len(w), -1).T
    return dw.T.reshape(w.shape)


def conv_backward_x(dout: ndarray, cache: tuple) -> ndarray:
    """∂L/∂X_{n,c} = Σ_f W_{f,c} *full ∂L/∂Y_{n,f} (Q1c), with the arguments and errors of `conv_backward`."""
    x, w = cache
    gradients = _batch_last_gradients(dout, cache)
    (count, channels, *sides), (kernel_height, kernel_width) = x.shape, w.shape[2:]
    width = dout.shape[3]
    kernels = w.reshape(len(w), -1)
    dx = np.zeros((channels, *sides, count), np.result_type(w, dout))
    for rows in _row_blocks(dout.shape[2], kernels.shape[1] * width * count):
        # Gradients of the patches under the output pixels; overlapping patches are added up.
        patches = kernels.T @ gradients[:, rows].reshape(len(w), -1)
        patches = patches.reshape(channels, kernel_height, kernel_width, -1, width, count)
        for i in range(kernel_height):
            for j in range(kernel_width):
                dx[:, rows.start + i : rows.stop + i, j : j + width] += patches[:, i, j]
    return dx.transpose(3, 0, 1, 2)


class _PoolCache(tuple):
    """The cache (x, pool_param) of max-pooling. It also holds the output, so that `max_pool_backward` need not pool."""

    out: ndarray


def max_pool_forward(x: ndarray, pool_param: Mapping[str, int]) -> tuple[ndarray, tuple]:
    """Max-pooling (Q3a). Windows may overlap or leave gaps; pixels right of or below the last whole window are unused.

    Args:
        x: (N, C, H, W) images.
        pool_param: `pool_height` and `pool_width` of a window, and `stride` from one window to the next, in pixels.

    Returns:
        The (N, C, 1 + (H − pool_height) // stride, 1 + (W − pool_width) // stride) output, and the cache
        (x, pool_param).

    Raises:
        ValueError: a window is larger than the image, or a value of pool_param is missing or not positive.
    """
    _require(x.ndim == 4, f"x has shape {x.shape}, expected (N, C, H, W)")
    for name in ("pool_height", "pool_width", "stride"):
        _require(pool_param.get(name, 0) >= 1, f"pool_param needs a positive {name}, got {dict(pool_param)}")
    cache = _PoolCache((x, dict(pool_param)))
    cache.out = _largest(x, pool_param)
    return cache.out, cache


def max_pool_backward(dout: ndarray, cache: tuple) -> ndarray:
    """Gradient of max-pooling: a window's gradient goes to its largest pixel (Q3a).

    A pixel that is the largest in several windows gets the sum of their gradients. If several pixels of a window are
    equally large, the first of them in reading order gets the whole gradient, as in PyTorch.

    Args:
        dout: (N, C, H'', W'') gradient of the output.
        cache: the cache from `max_pool_forward`.

    Returns:
        dx, shaped like x.

    Raises:
        ValueError: dout does not have the shape of the output.
    """
    x, pool_param = cache
    out = cache.out if isinstance(cache, _PoolCache) else _largest(x, pool_param)
    _require_shape_of_output(dout, out.shape)
    dx = np.zeros_like(x, dtype=dout.dtype)
    open_windows = np.ones_like(out, dtype=bool)  # windows whose maximum has not been reached yet
    for view, gradient in zip(_window_views(x, pool_param), _window_views(dx, pool_param), strict=True):
        maximum_here = (view == out) & open_windows
        open_windows ^= maximum_here
        gradient += dout * maximum_here
    return dx


def softmax_loss(x: ndarray, y: ndarray) -> tuple[float, ndarray]:
    """Softmax and cross-entropy, L = −(1/N) Σₙ log softmax(xₙ)[yₙ] (Q2a).

    The gradient is ∂L/∂xₙ = (softmax(xₙ) − e_yₙ)/N, where e_yₙ is 1 for the right class and 0 for the others.

    Args:
        x: (N, C) scores.
        y: (N,) integers: the right class of each sample, 0 ≤ y < C.

    Returns:
        The loss, and its gradient dx, shaped like x.

    Raises:
        ValueError: the shapes do not fit, or a label is not a class.
    """
    _require(x.ndim == 2, f"x has shape {x.shape}, expected (N, C)")
    _require(y.shape == x.shape[:1], f"x of shape {x.shape} needs y of shape {x.shape[:1]}, got {y.shape}")
    _require(np.issubdtype(y.dtype, np.integer), f"y holds {y.dtype}, expected integers")
    if y.size and not (0 <= y.min() and y.max() < x.shape[1]):
        raise ValueError(f"x of shape {x.shape} has classes 0 to {x.shape[1] - 1}, y holds {y.min()} to {y.max()}")
    shifted = x - x.max(axis=1, keepdims=True)  # cancels in the softmax; no exponent is above 0
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    samples = np.arange(len(x))
    loss = -log_probabilities[samples, y].mean()
    dx = np.exp(log_probabilities)  # the softmax
    dx[samples, y] -= 1
    dx /= len(x)
    return float(loss), dx


def _require_shape_of_output(dout: ndarray, expected: tuple[int, ...]) -> None:
    _require(dout.shape == expected, f"dout has shape {dout.shape}, the layer's output has {expected}")


def _output_sides(x: ndarray, window: tuple[int, int], stride: int, what: str) -> tuple[int, int]:
    """Height and width of the output when `window` slides over the images of x."""
    fits = window[0] <= x.shape[2] and window[1] <= x.shape[3]
    _require(fits, f"{what} does not fit into the images of x, shape {x.shape}")
    return 1 + (x.shape[2] - window[0]) // stride, 1 + (x.shape[3] - window[1]) // stride


def _window_views(x: ndarray, pool_param: Mapping[str, int]) -> Iterator[ndarray]:
    """For each position in a window, in reading order, yields a view (N, C, H'', W'') of this pixel in all windows."""
    window, stride = (pool_param["pool_height"], pool_param["pool_width"]), pool_param["stride"]
    height, width = _output_sides(x, window, stride, f"a pooling window of {window}")
    for i in range(window[0]):
        for j in range(window[1]):
            yield x[:, :, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]


def _largest(x: ndarray, pool_param: Mapping[str, int]) -> ndarray:
    """(N, C, H'', W'') largest pixel of every window."""
    views = _window_views(x, pool_param)
    largest = next(views).copy(order="K")
    for view in views:
        np.maximum(largest, view, out=largest)
    return largest


def _row_blocks(rows: int, elements_per_row: int) -> Iterator[slice]:
    """Cuts `rows` rows of output into blocks of about `_BLOCK_SIZE` elements, at least one row each."""
    size = max(1, _BLOCK_SIZE // max(1, elements_per_row))
    return (slice(begin, min(begin + size, rows)) for begin in range(0, rows, size))


def _patches(x: ndarray, kernel: tuple[int, int], dtype: np.dtype) -> Iterator[tuple[slice, ndarray]]:
    """Yields blocks of output rows, each with the matrix (C·H'·W', rows·W''·N) of the patches under its pixels."""
    planes = np.ascontiguousarray(x.transpose(1, 2, 3, 0), dtype=dtype)  # (C, H, W, N)
    # A view: windows[c, i, j, a, b, n] is pixel (a, b) of the patch under output pixel (i, j).
    windows = sliding_window_view(planes, kernel, axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    channels, height, width, *_, count = windows.shape
    patch = channels * kernel[0] * kernel[1]
    for rows in _row_blocks(height, patch * width * count):
        yield rows, windows[:, rows].transpose(0, 3, 4, 1, 2, 5).reshape(patch, -1)  # a copy


def _batch_last_gradients(dout: ndarray, cache: tuple) -> ndarray:
    """The gradient dout as a contiguous array (F, H'', W'', N); a copy only if its memory has another order."""
    x, w = cache
    sides = (x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1)
    _require_shape_of_output(dout, (len(x), len(w), *sides))
    return np.ascontiguousarray(dout.transpose(1, 2, 3, 0))
