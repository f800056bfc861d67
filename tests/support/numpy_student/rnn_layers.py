"""What a good student hands in: the functions of a step are called by those of a sequence. There is no LSTM."""

import numpy as np


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    dx = da.dot(Wx.T)
    dprev_h = da.dot(Wh.T)
    dWx = x.T.dot(da)
    dWh = prev_h.T.dot(da)
    db = da.sum(axis=0)
    return dx, dprev_h, dWx, dWh, db


def rnn_forward(x, h0, Wx, Wh, b):
    h, caches, prev_h = [], [], h0
    for t in range(x.shape[0]):
        prev_h, cache = rnn_step_forward(x[t], prev_h, Wx, Wh, b)
        h.append(prev_h)
        caches.append(cache)
    return np.array(h), caches


def rnn_backward(dh, cache):
    T, N, H = dh.shape
    dprev_h, dx, dWx, dWh, db = np.zeros_like(dh[0]), [], 0, 0, 0
    for t in reversed(range(T)):
        dxt, dprev_h, dWxt, dWht, dbt = rnn_step_backward(dh[t] + dprev_h, cache[t])
        dx.insert(0, dxt)
        dWx += dWxt
        dWh += dWht
        db += dbt
    return np.array(dx), dprev_h, dWx, dWh, db


def word_embedding_forward(x, W):
    return W[x], (x, W)


def word_embedding_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    for n in range(x.shape[0]):
        for t in range(x.shape[1]):
            dW[x[n, t]] += dout[n, t]
    return dW


def temporal_fc_forward(x, w, b):
    N, T, D = x.shape
    out = x.reshape(N * T, D).dot(w).reshape(N, T, -1) + b
    return out, (x, w, b)


def temporal_fc_backward(dout, cache):
    x, w, b = cache
    N, T, D = x.shape
    flat = dout.reshape(N * T, -1)
    dx = flat.dot(w.T).reshape(N, T, D)
    dw = x.reshape(N * T, D).T.dot(flat)
    db = flat.sum(axis=0)
    return dx, dw, db


def temporal_softmax_loss(x, y, mask):
    N, T, V = x.shape
    flat, words, counts = x.reshape(N * T, V), y.reshape(-1), mask.reshape(-1)
    p = np.exp(flat - flat.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.sum(counts * np.log(p[np.arange(N * T), words])) / N
    dx = p.copy()
    dx[np.arange(N * T), words] -= 1
    dx /= N
    dx *= counts[:, None]
    return loss, dx.reshape(N, T, V)
