"""Recurrent layers and layers over time with hand-written gradients (eecs545-w20-hw4 Q4). Imports only NumPy.

Every `…_forward` returns its output and a cache; the `…_backward` of the same name takes the output's gradient and the
cache, and returns the arguments' gradients in their order. All gradients are derivatives of the loss. No argument is
changed in place. Shapes that do not fit raise a ValueError that names them.

Letters in shapes: N sequences in a batch, T steps, D input features per step, H hidden units, V words, M outputs.
As in the course's files, the recurrent layers have time first, (T, N, D), and the others the batch first, (N, T, D).
"""

import numpy as np
from numpy import ndarray


def rnn_step_forward(x: ndarray, prev_h: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray) -> tuple[ndarray, tuple]:
    """One step of a recurrent network: next_h = tanh(x Wx + prev_h Wh + b).

    Args:
        x: (N, D) input.
        prev_h: (N, H) hidden state before the step.
        Wx: (D, H) weights of the input.
        Wh: (H, H) weights of the hidden state.
        b: (H,) biases.

    Returns next_h (N, H), the hidden state after the step, and the cache.
    """
    _check_cell(x, 2, prev_h, Wx, Wh, b, gates=1)
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h: ndarray, cache: tuple) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Gradients of `rnn_step_forward` from `dnext_h` (N, H), the gradient of next_h.

    Returns dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H) and db (H,).
    """
    x, prev_h, Wx, Wh, next_h = cache
    _check_gradient(dnext_h, next_h.shape)
    da = dnext_h * (1 - next_h**2)  # tanh' = 1 - tanh²
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def rnn_forward(x: ndarray, h0: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray) -> tuple[ndarray, tuple]:
    """A recurrent network over whole sequences, which takes the step of `rnn_step_forward` T times.

    The arguments are x (T, N, D), the state h0 (N, H) before the first step, and the weights of `rnn_step_forward`.

    Returns h (T, N, H), the hidden states after every step, and the cache.
    """
    _check_cell(x, 3, h0, Wx, Wh, b, gates=1)
    from_input = _project(x, Wx, b)
    states = _states(x, h0)
    for t in range(len(x)):
        np.tanh(from_input[t] + states[t] @ Wh, out=states[t + 1])
    return states[1:], (x, Wx, Wh, states)


def rnn_backward(dh: ndarray, cache: tuple) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Gradients of `rnn_forward`: backpropagation through time.

    Args:
        dh: (T, N, H) gradient of each hidden state, without the part that comes through later states.
        cache: the cache from `rnn_forward`.

    Returns dx (T, N, D), dh0 (N, H), dWx (D, H), dWh (H, H) and db (H,).
    """
    x, Wx, Wh, states = cache
    h = states[1:]
    _check_gradient(dh, h.shape)
    da = np.empty_like(h)
    dh_later = np.zeros_like(states[0])
    for t in reversed(range(len(x))):
        da[t] = (dh[t] + dh_later) * (1 - h[t] ** 2)
        dh_later = da[t] @ Wh.T
    dx, dWx, dWh, db = _projection_gradients(da, x, states[:-1], Wx)
    return dx, dh_later, dWx, dWh, db


def lstm_step_forward(
    x: ndarray, prev_h: ndarray, prev_c: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray
) -> tuple[ndarray, ndarray, tuple]:
    """One step of a long short-term memory (Hochreiter and Schmidhuber 1997, with forget gate).

    With the input gate i, forget gate f, output gate o and candidate g: next_c = f prev_c + i g and
    next_h = o tanh(next_c). The arguments are those of `rnn_step_forward` and the cell state prev_c (N, H) before the
    step. Wx (D, 4H), Wh (H, 4H) and b (4H,) hold the weights of i, f, o and g in H columns each, in this order.

    Returns next_h (N, H) and next_c (N, H), the hidden and the cell state after the step, and the cache.
    """
    _check_cell(x, 2, prev_h, Wx, Wh, b, gates=4)
    if prev_c.shape != prev_h.shape:
        raise ValueError(f"prev_c has shape {prev_c.shape}, expected that of prev_h, {prev_h.shape}")
    next_h, next_c, gates = _lstm_cell(x @ Wx + prev_h @ Wh + b, prev_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, gates, next_c)


def lstm_step_backward(
    dnext_h: ndarray, dnext_c: ndarray, cache: tuple
) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Gradients of `lstm_step_forward`.

    Args:
        dnext_h: (N, H) gradient of next_h.
        dnext_c: (N, H) gradient of next_c, without the part that comes through next_h.
        cache: the cache from `lstm_step_forward`.

    Returns dx (N, D), dprev_h (N, H), dprev_c (N, H), dWx (D, 4H), dWh (H, 4H) and db (4H,).
    """
    x, prev_h, prev_c, Wx, Wh, gates, next_c = cache
    _check_gradient(dnext_h, next_c.shape)
    _check_gradient(dnext_c, next_c.shape)
    da, dprev_c = _lstm_cell_backward(dnext_h, dnext_c, prev_c, gates, next_c)
    return da @ Wx.T, da @ Wh.T, dprev_c, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def lstm_forward(x: ndarray, h0: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray) -> tuple[ndarray, tuple]:
    """A long short-term memory over whole sequences, with an initial cell state of zero.

    The arguments are those of `rnn_forward`, with 4H columns in Wx, Wh and b.

    Returns h (T, N, H), the hidden states after every step, and the cache.
    """
    _check_cell(x, 3, h0, Wx, Wh, b, gates=4)
    from_input = _project(x, Wx, b)
    states, cells, gates = _states(x, h0), _states(x, np.zeros_like(h0)), np.empty_like(from_input)
    for t in range(len(x)):
        states[t + 1], cells[t + 1], gates[t] = _lstm_cell(from_input[t] + states[t] @ Wh, cells[t])
    return states[1:], (x, Wx, Wh, states, cells, gates)


def lstm_backward(dh: ndarray, cache: tuple) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Gradients of `lstm_forward`; the arguments and results are those of `rnn_backward`, with 4H columns."""
    x, Wx, Wh, states, cells, gates = cache
    _check_gradient(dh, states[1:].shape)
    da = np.empty_like(gates)
    dh_later, dc_later = np.zeros_like(states[0]), np.zeros_like(cells[0])
    for t in reversed(range(len(x))):
        da[t], dc_later = _lstm_cell_backward(dh[t] + dh_later, dc_later, cells[t], gates[t], cells[t + 1])
        dh_later = da[t] @ Wh.T
    dx, dWx, dWh, db = _projection_gradients(da, x, states[:-1], Wx)
    return dx, dh_later, dWx, dWh, db


def word_embedding_forward(x: ndarray, W: ndarray) -> tuple[ndarray, tuple]:
    """Looks up the embedding of each word.

    Args:
        x: (N, T) word numbers from 0 to V - 1; any other shape is possible, too.
        W: (V, D) embedding of each word.

    Returns the embeddings (N, T, D), and the cache.

    Raises:
        ValueError: a word number is out of range (NumPy would take -1 for the last word).
    """
    _check_words("x", x, len(W))
    return W[x], (x, W)


def word_embedding_backward(dout: ndarray, cache: tuple) -> ndarray:
    """Gradient dW (V, D) of `word_embedding_forward` from `dout` (N, T, D), summed over the positions of each word."""
    x, W = cache
    _check_gradient(dout, (*x.shape, W.shape[1]))
    dW = np.zeros_like(W)
    np.add.at(dW, x, dout)  # dW[x] += dout would count a repeated word only once
    return dW


def temporal_fc_forward(x: ndarray, w: ndarray, b: ndarray) -> tuple[ndarray, tuple]:
    """The same fully connected layer at every step, y[n, t] = x[n, t] w + b (Q4a).

    All steps are computed together, as one fully connected layer with N · T rows.

    Args:
        x: (N, T, D) inputs.
        w: (D, M) weights.
        b: (M,) biases.

    Returns the (N, T, M) output, and the cache (x, w, b).
    """
    if x.ndim != 3 or w.shape != (x.shape[2], *b.shape) or b.ndim != 1:
        raise ValueError(
            f"x of shape {x.shape}, w of shape {w.shape} and b of shape {b.shape} do not fit: "
            "expected (N, T, D), (D, M) and (M,)"
        )
    return _project(x, w, b), (x, w, b)


def temporal_fc_backward(dout: ndarray, cache: tuple) -> tuple[ndarray, ndarray, ndarray]:
    """Gradients of `temporal_fc_forward` from `dout` (N, T, M): dx (N, T, D), dw (D, M), db (M,) (Q4a).

    All steps share w and b, so dw and db are sums over sequences and steps.
    """
    x, w, _ = cache
    _check_gradient(dout, (*x.shape[:2], w.shape[1]))
    rows, d = _rows(x), _rows(dout)
    return (d @ w.T).reshape(x.shape), rows.T @ d, d.sum(axis=0)


def temporal_softmax_loss(x: ndarray, y: ndarray, mask: ndarray) -> tuple[float, ndarray]:
    """Softmax and cross-entropy at every step, summed over time and averaged over the batch (Q4b).

    Args:
        x: (N, T, V) scores of all words.
        y: (N, T) numbers of the right words, from 0 to V - 1; arbitrary where the mask is 0.
        mask: (N, T) True or 1 where a step counts, False or 0 where it is padding.

    Returns the loss, and its gradient dx (N, T, V).

    Raises:
        ValueError: the shapes do not fit, or a right word is out of range.
    """
    if x.ndim != 3 or y.shape != x.shape[:2] or mask.shape != x.shape[:2]:
        raise ValueError(
            f"x of shape {x.shape}, y of shape {y.shape} and mask of shape {mask.shape} do not fit: "
            "expected (N, T, V), (N, T) and (N, T)"
        )
    N, T, V = x.shape
    y = np.where(mask, y, 0)
    _check_words("y", y, V)
    weights = mask.astype(x.dtype) / x.dtype.type(N)
    right = np.arange(N)[:, None], np.arange(T), y  # index of the right words in (N, T, V)
    scores = x - x.max(axis=2, keepdims=True)  # this keeps the probabilities, and no exponential overflows
    dx = np.exp(scores)
    totals = dx.sum(axis=2, keepdims=True)
    loss = (weights * (np.log(totals[..., 0]) - scores[right])).sum()
    dx /= totals  # probabilities
    dx[right] -= 1
    dx *= weights[..., None]
    return float(loss), dx


def _lstm_cell(a: ndarray, prev_c: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Computes next_h (N, H), next_c (N, H) and the gates (N, 4H) from the sums `a` (N, 4H) before the activations."""
    sigmoids = 3 * prev_c.shape[1]
    gates = np.empty_like(a)
    gates[:, :sigmoids] = 0.5 + 0.5 * np.tanh(0.5 * a[:, :sigmoids])  # the logistic function, without exp's overflow
    gates[:, sigmoids:] = np.tanh(a[:, sigmoids:])
    i, f, o, g = np.split(gates, 4, axis=1)
    next_c = f * prev_c + i * g
    return o * np.tanh(next_c), next_c, gates


def _lstm_cell_backward(
    dnext_h: ndarray, dnext_c: ndarray, prev_c: ndarray, gates: ndarray, next_c: ndarray
) -> tuple[ndarray, ndarray]:
    """Gradients da (N, 4H) and dprev_c (N, H) of `_lstm_cell`."""
    i, f, o, g = np.split(gates, 4, axis=1)
    tanh_c = np.tanh(next_c)
    dc = dnext_c + dnext_h * o * (1 - tanh_c**2)  # the direct part, and the part through next_h
    da = np.concatenate(
        (dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dnext_h * tanh_c * o * (1 - o), dc * i * (1 - g**2)), axis=1
    )
    return da, dc * f


def _rows(x: ndarray) -> ndarray:
    """An array (…, D) as a matrix with a row per sequence and step, for one large product instead of T small ones."""
    return x.reshape(-1, x.shape[-1])


def _project(x: ndarray, w: ndarray, b: ndarray) -> ndarray:
    """The sum x w + b for an array x (…, D), at all steps at once.

    In the RNN and the LSTM, this is the part of each step that does not depend on the hidden state.
    """
    return (_rows(x) @ w + b).reshape(*x.shape[:-1], len(b))


def _states(x: ndarray, first: ndarray) -> ndarray:
    """An array (T + 1, N, H) for the states; only `first`, the state before the first step, is filled in."""
    states = np.empty((len(x) + 1, *first.shape), dtype=first.dtype)
    states[0] = first
    return states


def _projection_gradients(da: ndarray, x: ndarray, prev_h: ndarray, Wx: ndarray) -> tuple[ndarray, ...]:
    """Gradients dx, dWx, dWh and db from the gradient `da` of x Wx + prev_h Wh + b, for all steps at once."""
    d = _rows(da)
    return (d @ Wx.T).reshape(x.shape), _rows(x).T @ d, _rows(prev_h).T @ d, d.sum(axis=0)


def _check_cell(x: ndarray, axes: int, h: ndarray, Wx: ndarray, Wh: ndarray, b: ndarray, gates: int) -> None:
    if x.ndim != axes or h.ndim != 2:
        expected = "(N, D)" if axes == 2 else "(T, N, D)"
        raise ValueError(f"x has shape {x.shape} and h {h.shape}, expected {expected} and (N, H)")
    (N, D), H, columns = x.shape[-2:], h.shape[1], gates * h.shape[1]
    shapes = {"h": (N, H), "Wx": (D, columns), "Wh": (H, columns), "b": (columns,)}
    for (name, shape), array in zip(shapes.items(), (h, Wx, Wh, b), strict=True):
        if array.shape != shape:
            fits = f"x of shape {x.shape} and h of shape {h.shape}"
            raise ValueError(f"{name} has shape {array.shape}, expected {shape} to fit {fits}")


def _check_gradient(gradient: ndarray, shape: tuple[int, ...]) -> None:
    if gradient.shape != shape:
        raise ValueError(f"the gradient has shape {gradient.shape}, expected that of the output, {shape}")


def _check_words(name: str, words: ndarray, count: int) -> None:
    if words.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {words.dtype}, expected integers")
    for wrong in words[(words < 0) | (words >= count)][:1]:
        raise ValueError(f"word {wrong} in {name} is out of range, expected 0 to {count - 1}")
