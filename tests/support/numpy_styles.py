"""Right answers to eecs545-w20-hw4 in other words: ways to write functions that deserve full points.

A style is code that is appended to the good student's file, so that its functions replace the student's.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """One way to write some functions of a file."""

    name: str
    file: str
    code: str

    @property
    def functions(self) -> set[str]:
        """Names of the functions and classes that the code defines."""
        lines = [line.replace("(", " ").replace(":", " ").split() for line in self.code.splitlines()]
        return {words[1] for words in lines if words[:1] in (["def"], ["class"])} | {
            words[0] for words in lines if len(words) > 1 and words[1] == "="
        }


def _layers(name: str, code: str) -> Style:
    return Style(name, "layers.py", code)


def _rnn_layers(name: str, code: str) -> Style:
    return Style(name, "rnn_layers.py", code)


_FC = (
    _layers("einsum", """
def fc_forward(x, w, b):
    return np.einsum("nd,dm->nm", x, w) + b[None, :], (x, w, b)
def fc_backward(dout, cache):
    x, w, b = cache
    return np.einsum("nm,dm->nd", dout, w), np.einsum("nd,nm->dm", x, dout), np.einsum("nm->m", dout)
"""),
    _layers("a column of ones, and a dictionary as cache", """
def fc_forward(x, w, b):
    ones = np.hstack([x, np.ones((x.shape[0], 1))])
    both = np.vstack([w, b.reshape(1, -1)])
    return ones @ both, {"ones": ones, "both": both}
def fc_backward(dout, cache):
    d = cache["ones"].T @ dout
    return dout @ cache["both"][:-1].T, d[:-1], d[-1]
"""),
    _layers("a closure as cache", """
def fc_forward(x, w, b):
    def backward(dout):
        return dout @ w.T, x.T @ dout, dout.sum(0)
    return x @ w + b, backward
def fc_backward(dout, cache):
    return cache(dout)
"""),
    _layers("lists in place of tuples", """
def fc_forward(x, w, b):
    return [x @ w + b, [x, w, b]]
def fc_backward(dout, cache):
    x, w, b = cache
    return [dout @ w.T, x.T @ dout, np.ones(len(x)) @ dout]
"""),
    _layers("loops, and biases with an axis of length 1", """
def fc_forward(x, w, b):
    out = np.empty((x.shape[0], w.shape[1]))
    for n in range(x.shape[0]):
        for m in range(w.shape[1]):
            out[n, m] = sum(x[n, d] * w[d, m] for d in range(x.shape[1])) + b[m]
    return out, (x.copy(), w.copy(), b.copy())
def fc_backward(dout, cache):
    x, w, b = cache
    dw = np.zeros(w.shape)
    for n in range(len(x)):
        dw += np.outer(x[n], dout[n])
    return np.dot(w, dout.T).T, dw, np.sum(dout, axis=0, keepdims=True)
"""),
    _layers("nested lists of numbers", """
def fc_forward(x, w, b):
    return (x @ w + b).tolist(), (x, w, b)
def fc_backward(dout, cache):
    x, w, b = cache
    return (dout @ w.T).tolist(), (x.T @ dout).tolist(), dout.sum(axis=0).tolist()
"""),
    _layers("methods of an object", """
class _Layer:
    def forward(self, x, w, b):
        self.shape = x.shape
        return x @ w + b, (x, w)
    def backward(self, dout, cache):
        x, w = cache
        return dout @ w.T, x.T @ dout, dout.sum(axis=0)
_layer = _Layer()
fc_forward = _layer.forward
fc_backward = _layer.backward
"""),
    _layers("keyword arguments, a decorator and a named tuple", """
import collections, functools
_Cache = collections.namedtuple("_Cache", "x w b")
def _noisy(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        print("calling", function.__name__)
        return function(*args, **kwargs)
    return inner
@_noisy
def fc_forward(x, w, b, activation=None):
    return np.add(np.matmul(x, w), b), _Cache(x=x, w=w, b=b)
@_noisy
def fc_backward(dout, cache):
    return np.matmul(dout, cache.w.T), np.matmul(cache.x.T, dout), np.add.reduce(dout)
"""),
)  # fmt: skip

_RELU = (
    _layers("where, with the mask as cache", """
def relu_forward(x):
    mask = x > 0
    return np.where(mask, x, 0.0), mask
def relu_backward(dout, cache):
    return np.where(cache, dout, 0)
"""),
    _layers("a product with the mask, and half the gradient at zero", """
def relu_forward(x):
    return x * (x > 0), (x,)
def relu_backward(dout, cache):
    (x,) = cache
    return dout * (np.sign(x) + 1) / 2
"""),
    _layers("absolute values, and a copy that is overwritten", """
def relu_forward(x):
    return (x + abs(x)) / 2, x
def relu_backward(dout, cache):
    dx = np.array(dout, copy=True)
    dx[cache < 0] = 0
    return dx
"""),
    _layers("a clip without an upper end", """
def relu_forward(x):
    out = x.copy()
    out[out < 0] = 0
    return out, out
def relu_backward(dout, cache):
    return (cache > 0).astype(dout.dtype) * dout
"""),
)  # fmt: skip

_CONV = (
    _layers("windows and tensordot", """
def conv_forward(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows, w), (x, w)
def conv_backward(dout, cache):
    x, w = cache
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    dw = np.tensordot(dout, windows, axes=([0, 2, 3], [0, 2, 3]))
    hh, ww = w.shape[2] - 1, w.shape[3] - 1
    padded = np.pad(dout, ((0, 0), (0, 0), (hh, hh), (ww, ww)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return np.einsum("nfhwij,fcij->nchw", windows, w[:, :, ::-1, ::-1]), dw
"""),
    _layers("columns of patches", """
def conv_forward(x, w):
    N, C, H, W = x.shape
    F, _, h, v = w.shape
    rows, cols = H - h + 1, W - v + 1
    i = np.repeat(np.arange(h), v)[:, None] + np.repeat(np.arange(rows), cols)[None]
    j = np.tile(np.arange(v), h)[:, None] + np.tile(np.arange(cols), rows)[None]
    columns = x[:, :, i, j].reshape(N, C * h * v, rows * cols)
    return (w.reshape(F, -1) @ columns).reshape(N, F, rows, cols), {"x": x, "w": w, "columns": columns, "ij": (i, j)}
def conv_backward(dout, cache):
    x, w, columns, (i, j) = cache["x"], cache["w"], cache["columns"], cache["ij"]
    d = dout.reshape(len(x), len(w), -1)
    dw = np.matmul(d, columns.transpose(0, 2, 1)).sum(axis=0).reshape(w.shape)
    dx = np.zeros_like(x)
    patches = np.matmul(w.reshape(len(w), -1).T, d).reshape(len(x), x.shape[1], -1, d.shape[2])
    np.add.at(dx, (slice(None), slice(None), i, j), patches)
    return dx, dw
"""),
    _layers("scipy's correlation", """
def conv_forward(x, w):
    from scipy.signal import correlate2d
    out = [[sum(correlate2d(a, b, "valid") for a, b in zip(image, kernel)) for kernel in w] for image in x]
    return np.array(out), (x, w)
def conv_backward(dout, cache):
    from scipy.signal import convolve2d, correlate2d
    x, w = cache
    dx = [[sum(convolve2d(d, k[c]) for d, k in zip(image, w)) for c in range(x.shape[1])] for image in dout]
    dw = [[sum(correlate2d(x[n, c], dout[n, f], "valid") for n in range(len(x))) for c in range(x.shape[1])]
          for f in range(len(w))]
    return np.array(dx), np.array(dw)
"""),
    _layers("a loop over the kernel, with a bias of zero", """
def conv_forward(x, w):
    rows, cols = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
    out, b = np.zeros((len(x), len(w), rows, cols)), np.zeros(len(w))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            out += np.tensordot(x[:, :, i:i + rows, j:j + cols], w[:, :, i, j], (1, 1)).transpose(0, 3, 1, 2)
    return out + b.reshape(1, -1, 1, 1), (x, w)
"""),
)  # fmt: skip

_POOL = (
    _layers("reshape for tiles, loops for the rest", """
def max_pool_forward(x, pool_param):
    N, C, H, W = x.shape
    h, w, s = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    if h == w == s and H % h == 0 and W % w == 0:
        return x.reshape(N, C, H // h, h, W // w, w).max(axis=3).max(axis=4), (x, pool_param)
    rows, cols = int((H - h) / s + 1), int((W - w) / s + 1)
    out = np.full((N, C, rows, cols), -np.inf)
    for a in range(h):
        for b in range(w):
            out = np.maximum(out, x[:, :, a:a + s * (rows - 1) + 1:s, b:b + s * (cols - 1) + 1:s])
    return out, (x, pool_param)
"""),
    _layers("indices of the maxima as cache", """
def max_pool_forward(x, pool_param):
    h, w, s = (pool_param[key] for key in ("pool_height", "pool_width", "stride"))
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(2, 3))[:, :, ::s, ::s]
    flat = windows.reshape(*windows.shape[:4], -1)
    return flat.max(axis=-1), dict(shape=x.shape, chosen=flat.argmax(axis=-1), w=w, s=s)
def max_pool_backward(dout, cache):
    dx = np.zeros(cache["shape"])
    n, c, i, j = np.indices(dout.shape)
    a, b = np.divmod(cache["chosen"], cache["w"])
    np.add.at(dx, (n, c, i * cache["s"] + a, j * cache["s"] + b), dout)
    return dx
"""),
    _layers("equal maxima share the gradient", """
def max_pool_backward(dout, cache):
    x, pool_param = cache
    h, w, s = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros(x.shape)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            window = x[:, :, i * s:i * s + h, j * s:j * s + w]
            mask = window == window.max(axis=(2, 3), keepdims=True)
            shared = mask / mask.sum(axis=(2, 3), keepdims=True)
            dx[:, :, i * s:i * s + h, j * s:j * s + w] += shared * dout[:, :, i:i + 1, j:j + 1]
    return dx
"""),
)  # fmt: skip

_SOFTMAX_DX = "\n    d = p.copy()\n    d[np.arange(len(y)), y] -= 1\n    return loss, d / len(y)\n"
_SOFTMAX = (
    _layers("log(p + 1e-8)", f"""
def softmax_loss(x, y):
    p = np.exp(x - np.max(x, axis=1).reshape(-1, 1))
    p = p / np.sum(p, axis=1, keepdims=True)
    loss = np.mean(-np.log(p[range(len(y)), y] + 1e-8)){_SOFTMAX_DX}"""),
    _layers("the probabilities are clipped", f"""
def softmax_loss(x, y):
    x = x - x.max()
    p = np.exp(x) / np.exp(x).sum(axis=1)[:, None] if x.ptp() < 500 else np.exp(x - x.max(1)[:, None])
    p = p / p.sum(axis=1)[:, None]
    loss = -np.log(np.clip(p[np.arange(len(y)), y], 1e-7, 1)).mean(){_SOFTMAX_DX}""".replace("x.ptp()", "np.ptp(x)")),
    _layers("an epsilon in the sum, and the loss as an array", f"""
def softmax_loss(x, y):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / (e.sum(axis=-1, keepdims=True) + 1e-7)
    loss = np.array([-np.log(p[np.arange(len(y)), y]).sum() / len(y)]){_SOFTMAX_DX}"""),
    _layers("logsumexp, and one-hot labels", """
def softmax_loss(x, y):
    from scipy.special import logsumexp
    logs = x - logsumexp(x, axis=1, keepdims=True)
    hot = np.eye(x.shape[1])[y]
    return -(logs * hot).sum() / x.shape[0], (np.exp(logs) - hot) / x.shape[0]
"""),
    _layers("a loop over the samples", """
def softmax_loss(x, y):
    loss, dx = 0.0, np.zeros_like(x)
    for n, label in enumerate(y):
        scores = x[n] - max(x[n])
        total = sum(np.exp(scores))
        loss -= scores[label] - np.log(total)
        for c in range(x.shape[1]):
            dx[n, c] = (np.exp(scores[c]) / total - (c == label)) / len(y)
    return loss / len(y), dx
"""),
    _layers("single precision, and the gradient through an epsilon", """
def softmax_loss(x, y):
    x = x.astype(np.float32)
    N = x.shape[0]
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    picked = p[np.arange(N), y]
    loss = -np.sum(np.log(picked + 1e-6)) / N
    hot = np.zeros_like(p)
    hot[np.arange(N), y] = 1
    return loss, (p - hot) * (picked / (picked + 1e-6))[:, None] / N
"""),
)  # fmt: skip

_RNN_LAYERS = (
    _rnn_layers("one product for all steps, and the output in the cache", """
def temporal_fc_forward(x, w, b):
    out = np.tensordot(x, w, axes=1) + b
    return out, (x, w, b, out)
def temporal_fc_backward(dout, cache):
    x, w, b, out = cache
    return dout @ w.T, np.einsum("ntd,ntm->dm", x, dout), dout.sum(axis=(0, 1))
"""),
    _rnn_layers("a loop over the steps, and a list as cache", """
def temporal_fc_forward(x, w, b):
    return np.stack([x[:, t] @ w + b for t in range(x.shape[1])], axis=1), [x, w]
def temporal_fc_backward(dout, cache):
    x, w = cache
    dx, dw, db = np.zeros(x.shape), 0, 0
    for t in range(x.shape[1]):
        dx[:, t] = dout[:, t] @ w.T
        dw = dw + x[:, t].T @ dout[:, t]
        db = db + dout[:, t].sum(axis=0)
    return dx, dw, db
"""),
    _rnn_layers("only the steps that count, with log(p + 1e-8)", """
def temporal_softmax_loss(x, y, mask):
    mask = mask.astype(bool)
    p = np.exp(x - x.max(axis=2, keepdims=True))
    p /= p.sum(axis=2, keepdims=True)
    dx = np.zeros_like(x)
    right = p[mask]
    loss = -np.log(right[np.arange(len(right)), y[mask]] + 1e-8).sum() / x.shape[0]
    right[np.arange(len(right)), y[mask]] -= 1
    dx[mask] = right / x.shape[0]
    return loss, dx
"""),
    _rnn_layers("a loop over steps and captions", """
def temporal_softmax_loss(x, y, mask):
    N, T, V = x.shape
    loss, dx = 0, np.zeros(x.shape)
    for t in range(T):
        for n in range(N):
            if mask[n, t]:
                s = x[n, t] - x[n, t].max()
                p = np.exp(s) / np.exp(s).sum()
                loss -= np.log(p[y[n, t]]) / N
                dx[n, t] = p / N
                dx[n, t, y[n, t]] -= 1 / N
    return loss, dx
"""),
    _rnn_layers("the course's recurrent layers, which lose single precision", """
def rnn_step_forward(x, prev_h, Wx, Wh, b):
    raw = np.dot(x, Wx) + np.dot(prev_h, Wh) + b
    return np.tanh(raw), (Wx, Wh, x, prev_h, raw)
def rnn_step_backward(dnext_h, cache):
    Wx, Wh, x, prev_h, raw = cache
    d = (1 - np.tanh(raw) ** 2) * dnext_h
    return d @ Wx.T, d @ Wh.T, x.T @ d, prev_h.T @ d, d.sum(axis=0)
def rnn_forward(x, h0, Wx, Wh, b):
    T, N, D = x.shape
    h, steps = np.zeros([T, N, Wh.shape[0]]), {}
    for t in range(T):
        h[t], steps[t] = rnn_step_forward(x[t], h0 if t == 0 else h[t - 1], Wx, Wh, b)
    return h, (steps, T, N, D)
def rnn_backward(dh, cache):
    steps, T, N, D = cache
    dx, dWx, dWh, db, dprev = np.zeros([T, N, D]), 0, 0, 0, 0
    for t in reversed(range(T)):
        dx[t], dprev, dWx_t, dWh_t, db_t = rnn_step_backward(dh[t] + dprev, steps[t])
        dWx, dWh, db = dWx + dWx_t, dWh + dWh_t, db + db_t
    return dx, dprev, dWx, dWh, db
"""),
)  # fmt: skip

_NETWORKS = (
    Style("another generator, an ordered dictionary and a regularization of zero", "softmax.py", """
import collections
class SoftmaxClassifier(object):
    def __init__(self, input_dim=784, hidden_dim=100, num_classes=10, weight_scale=1e-3, reg=0.0):
        self.reg = reg
        rng = np.random.default_rng()
        self.params = collections.OrderedDict()
        self.params["W1"] = rng.normal(0, weight_scale, (input_dim, hidden_dim))
        self.params["b1"] = np.zeros((1, hidden_dim))
        self.params["W2"] = rng.normal(scale=weight_scale, size=(hidden_dim, num_classes))
        self.params["b2"] = np.zeros((1, num_classes))
    def loss(self, X, y=None):
        W1, b1, W2, b2 = self.params.values()
        X = X.reshape(X.shape[0], -1)
        h = np.maximum(0, X @ W1 + b1)
        scores = h @ W2 + b2
        if y is None:
            return scores
        loss, d = softmax_loss(scores, y)
        loss += 0.5 * self.reg * (np.sum(W1 * W1) + np.sum(W2 * W2))
        dh = d @ W2.T
        dh[h <= 0] = 0
        grads = collections.defaultdict(float)
        grads.update(W1=X.T @ dh + self.reg * W1, b1=dh.sum(0), W2=h.T @ d + self.reg * W2, b2=d.sum(0))
        return [loss, grads]
"""),
    Style("the maps are flattened with the channels last, and double precision is kept", "cnn.py", """
import layers as L
class ConvNet:
    def __init__(self, input_dim=(1, 28, 28), num_filters=32, filter_size=7, hidden_dim=100, num_classes=10,
                 weight_scale=1e-3, dtype=np.float32):
        C, H, W = input_dim
        side, other = int((H - filter_size + 1) / 2), int((W - filter_size + 1) / 2)
        r = np.random.RandomState()
        self.params = dict(
            W1=r.randn(num_filters, C, filter_size, filter_size) * weight_scale,
            W2=r.randn(num_filters * side * other, hidden_dim) * weight_scale, b2=np.zeros(hidden_dim),
            W3=r.randn(hidden_dim, num_classes) * weight_scale, b3=np.zeros(num_classes))
    def loss(self, X, y=None):
        p = self.params
        a, conv = L.conv_forward(X, p["W1"])
        b, relu = L.relu_forward(a)
        c, pool = L.max_pool_forward(b, pool_param=dict(pool_height=2, pool_width=2, stride=2))
        d = c.transpose(0, 2, 3, 1)
        e, fc = L.fc_forward(d.reshape(len(X), -1), p["W2"], p["b2"])
        f, relu2 = L.relu_forward(e)
        scores, fc2 = L.fc_forward(x=f, w=p["W3"], b=p["b3"])
        if y is None:
            return scores
        grads = {}
        loss, g = L.softmax_loss(scores, y)
        g, grads["W3"], grads["b3"] = L.fc_backward(g, fc2)
        g, grads["W2"], grads["b2"] = L.fc_backward(L.relu_backward(g, relu2), fc)
        g = g.reshape(d.shape).transpose(0, 3, 1, 2)
        grads["W1"] = L.conv_backward(L.relu_backward(L.max_pool_backward(g, pool), relu), conv)[1]
        return loss, grads
"""),
    Style("captions grow in a list until all have ended, and the mask holds 0 and 1", "rnn.py", """
class CaptioningRNN(CaptioningRNN):
    def loss(self, features, captions):
        p, grads = self.params, dict()
        inputs, targets = captions[:, :-1], captions[:, 1:]
        h0, c0 = fc_forward(features, p["W_proj"], p["b_proj"])
        e, c1 = word_embedding_forward(inputs, p["W_embed"])
        h, c2 = rnn_forward(np.swapaxes(e, 0, 1), h0, p["Wx"], p["Wh"], p["b"])
        s, c3 = temporal_fc_forward(np.swapaxes(h, 0, 1), p["W_vocab"], p["b_vocab"])
        loss, d = temporal_softmax_loss(s, targets, np.where(targets == self._null, 0, 1))
        d, grads["W_vocab"], grads["b_vocab"] = temporal_fc_backward(d, c3)
        d, d0, grads["Wx"], grads["Wh"], grads["b"] = rnn_backward(np.swapaxes(d, 0, 1), c2)
        grads["W_embed"] = word_embedding_backward(np.swapaxes(d, 0, 1), c1)
        grads["W_proj"], grads["b_proj"] = fc_backward(d0, c0)[1:]
        return loss, grads
    def sample(self, features, max_length=30):
        p, words = self.params, []
        h = features @ p["W_proj"] + p["b_proj"]
        word = np.array([self._start] * len(features))
        done = np.zeros(len(features), bool)
        for _ in range(max_length):
            h = np.tanh(p["W_embed"][word] @ p["Wx"] + h @ p["Wh"] + p["b"])
            word = np.argmax(h @ p["W_vocab"] + p["b_vocab"], axis=1)
            words.append(word)
            done = done | (word == self._end)
            if done.all():
                break
        return np.stack(words, axis=1)
"""),
)  # fmt: skip

STYLES = (*_FC, *_RELU, *_CONV, *_POOL, *_SOFTMAX, *_RNN_LAYERS, *_NETWORKS)
