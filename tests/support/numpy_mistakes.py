"""Mistakes that students make, to be planted into the right files of numpy_student, with the expected hints."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STUDENT = Path(__file__).with_name("numpy_student")


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        function: the function with the mistake.
        file: the file that defines it.
        old: text that occurs exactly once in the file; empty to append `new` to the file.
        new: text that replaces it.
        hint: expected parts of the checker's hint or remarks.
        share: expected share of the function's points; None if it depends on the seed.
    """

    function: str
    file: str
    old: str
    new: str
    hint: tuple[str, ...]
    share: float | None = 0.0

    def __str__(self) -> str:
        return f"{self.function}: {self.hint[0]}"


def plant(folder: Path, mistakes: Iterable[Mistake], files: Iterable[str] = ()) -> Path:
    """Writes the files with mistakes, and unchanged copies of `files`, into `folder`."""
    folder.mkdir(exist_ok=True)
    texts = {file: (STUDENT / file).read_text() for file in files}
    for mistake in mistakes:
        text = texts.get(mistake.file) or (STUDENT / mistake.file).read_text()
        if mistake.old:
            assert text.count(mistake.old) == 1, f"{mistake.old!r} stands {text.count(mistake.old)} times in the file"
            texts[mistake.file] = text.replace(mistake.old, mistake.new)
        else:
            texts[mistake.file] = f"{text}\n\n{mistake.new}\n"
    for file, text in texts.items():
        (folder / file).write_text(text)
    return folder


def rounds(mistakes: Sequence[Mistake]) -> Iterator[list[Mistake]]:
    """Groups of mistakes in different functions: the first of each function, the second of each, and so on."""
    left = list(mistakes)
    while left:
        first = {mistake.function: mistake for mistake in reversed(left)}
        yield list(first.values())
        left = [mistake for mistake in left if mistake not in first.values()]


def _layer(function: str, old: str, new: str, *hint: str, share: float | None = 0.0) -> Mistake:
    return Mistake(function, "layers.py", old, new, hint, share)


def _rnn(function: str, old: str, new: str, *hint: str, share: float | None = 0.0) -> Mistake:
    return Mistake(function, "rnn_layers.py", old, new, hint, share)


_EXP = "p = np.exp(x - x.max(axis=1, keepdims=True))"
_DB = "db = np.sum(dout, axis=0)"
_DX_CONV = "dx[n, :, i : i + HH, j : j + WW] += w[f] * dout[n, f, i, j]"
_DW_CONV = "dw[f] += x[n, :, i : i + HH, j : j + WW] * dout[n, f, i, j]"
_CONV_LOOPS = (
    "for i in range(dout.shape[2]):\n                for j in range(dout.shape[3]):\n                    dx[n, :, i : i"
)
_CONV_ZEROS = "out = np.zeros((N, F, H - HH + 1, W - WW + 1), dtype=x.dtype)"
_PATCH = "patch = x[:, :, i : i + HH, j : j + WW]"
_WINDOW = "x[:, :, i * stride : i * stride + ph, j * stride : j * stride + pw].max(axis=(2, 3))"
_POOL_ZEROS = "(W - pw) // stride + 1), dtype=x.dtype)"
_DX_POOL = "dx[n, c, i * stride + a, j * stride + b] += dout[n, c, i, j]"
_DX_POOL_TIES = "dx[n, c, i * stride : i * stride + ph, j * stride : j * stride + pw] "
_LOSS = "loss = -np.log(p[np.arange(N), y]).sum() / N"

LAYERS = (
    _layer("fc_forward", "x.dot(w) + b", "x.dot(w)", "the bias b is not added"),
    _layer("fc_forward", "x.dot(w) + b", "x.dot(w) - b", "the bias b is subtracted"),
    _layer("fc_forward", "x.dot(w) + b", "(x.dot(w) + b).squeeze()", "wrong only with one sample", share=0.75),
    _layer("fc_backward", "dx = dout.dot(w.T)", "dx = dout.dot(w)", "ValueError", "dx: w is used where its transpose"),
    _layer("fc_backward", _DB, "db = np.sum(dout, axis=1)", "db: summed over the outputs", share=2 / 3),
    _layer("fc_backward", "dw = x.T.dot(dout)", "dw = x.T.dot(dout) / len(x)", "dw: is too small by the batch size N",
           share=2 / 3),
    _layer("fc_backward", _DB, "db = dout", "db: has shape", "not summed over axis 0", share=2 / 3),
    _layer("fc_backward", "dw = x.T.dot(dout)", "dw = dout.T.dot(x)", "dw: dw and its transpose", share=2 / 3),
    _layer("fc_backward", "return dx, dw, db", "return dx, dw", "returns 2 values, expected dx, dw, db"),
    _layer("relu_forward", "np.maximum(0, x)", "np.abs(x)", "absolute value"),
    _layer("relu_forward", "np.maximum(0, x)", "np.where(x > 0, x, 0.01 * x)", "leaky ReLU of slope 0.01"),
    _layer("relu_forward", "np.maximum(0, x)", "np.maximum(0, x, out=x)", "x in place", share=0.9),
    _layer("relu_backward", "(x >= 0)", "(dout >= 0)", "the sign of dout decides"),
    _layer("relu_backward", "dout * (x >= 0)", "dout", "the mask of x > 0 is missing"),
    _layer("relu_backward", "dout * (x >= 0)", "dout * x * (x >= 0)", "multiplied by x"),
    _layer("conv_forward", "dot(w.reshape(F, -1).T)", "dot(w[:, :, ::-1, ::-1].reshape(F, -1).T)", "kernel is flipped"),
    _layer("conv_forward", "return out, (x, w)", "return out.transpose(1, 0, 2, 3).reshape(out.shape), (x, w)",
           "channels mixed: reshape used where transpose was meant"),
    _layer("conv_forward", _CONV_ZEROS, "out = np.zeros((N, F, H, W), dtype=x.dtype)",
           "raises ValueError", "layers.py, line"),
    _layer("conv_forward", f"{_PATCH}.reshape(N, -1)", f"{_PATCH}.reshape(N, -1) * (j % 2 == 0)",
           "is zero at some positions"),
    _layer("conv_backward", _DX_CONV, _DX_CONV.replace("+=", "="), "dx: = where += was meant", share=0.5),
    _layer("conv_backward", _DX_CONV, _DX_CONV.replace("w[f]", "w[f][:, ::-1, ::-1]"), "dx: the kernel is flipped, ",
           share=0.5),
    _layer("conv_backward", _DW_CONV, _DW_CONV.replace("+=", "="), "dw: only the last output pixel's part", share=0.5),
    _layer("conv_backward", _DW_CONV, f"{_DW_CONV} / N", "dw: is too small by the batch size N", share=0.5),
    _layer("softmax_loss", _EXP, "p = np.exp(x)", "only with large scores", "is subtracted first", share=0.75),
    _layer("softmax_loss", _LOSS, _LOSS.replace(" / N", ""), "loss: is too large by the batch size N", "factor 1/N",
           share=0.5),
    _layer("softmax_loss", "    dx /= N\n", "", "dx: is too large by the batch size N", share=0.5),
    _layer("softmax_loss", _EXP, "x -= x.max(axis=1, keepdims=True)\n    p = np.exp(x)", "x in place", share=0.9),
    _layer("softmax_loss", "    dx[np.arange(N), y] -= 1\n", "", "dx: 1 is not subtracted at the right class",
           share=0.5),
    _layer("softmax_loss", "p.sum(axis=1, keepdims=True)", "p.sum(axis=0)", "loss, dx: softmax over the wrong axis"),
    _layer("softmax_loss", "p /= p.sum(axis=1, keepdims=True)", "p /= p.sum()", "loss, dx: softmax over all samples"),
    _layer("softmax_loss", "-np.log", "np.log", "loss: has the wrong sign", share=0.5),
    _layer("fc_forward", "out = x.dot(w) + b", "out = np.maximum(x.dot(w) + b, 0)", "negative numbers are set to 0"),
    _layer("fc_backward", "dw = x.T.dot(dout)", "dw = x.T.dot(dout) + 0.01 * w", "dw: is off by a multiple of w",
           share=2 / 3),
    _layer("conv_backward", _CONV_LOOPS, _CONV_LOOPS.replace("])", "] - 1)"),
           "dx, dw: the last row and column of dout are left out"),
    _layer("max_pool_forward", _WINDOW, _WINDOW.replace("+ ph", "+ pw * 1").replace("+ pw]", "+ ph]"),
           "height and width of the windows are swapped", share=0.5),
    _layer("softmax_loss", "dx[np.arange(N), y] -= 1", "dx[:, y] -= 1", "in the columns y of all samples", share=0.5),
    _layer("max_pool_forward", _WINDOW, _WINDOW.replace("max", "mean"), "the average of a window"),
    _layer("max_pool_forward", _WINDOW, f"np.maximum(0, {_WINDOW})", "never below zero"),
    _layer("max_pool_forward", _WINDOW, _WINDOW.replace("* stride", "* ph"), "raises ValueError", share=0.5),
    _layer("max_pool_backward", _DX_POOL, _DX_POOL.replace("+=", "="), "= where += was meant", "overlap", share=0.75),
    _layer("max_pool_backward", _DX_POOL, f"{_DX_POOL_TIES} += dout[n, c, i, j] * (window == window.max())",
           "every one of several equal maxima", share=0.9),
    _layer("relu_forward", "np.maximum(0, x)", "np.clip(x, 0, 6)", "wrong only with large numbers", share=0.75),
    _layer("fc_backward", "return dx, dw, db", "return np.clip(dx, -50, 50), dw, db", "dx: ", "large numbers",
           share=11 / 12),
    _layer("fc_backward", "return dx, dw, db", "return dw, dx, db", "dx: holds dw: the results are returned in another",
           "dw: holds dx", share=1 / 3),
    _layer("conv_forward", "return out, (x, w)", "return out.squeeze(), (x, w)",
           "wrong only with one image, one filter, "
           "one output pixel", share=0.5),
    _layer("conv_forward", _CONV_ZEROS, f"x = np.pad(x, ((0, 0), (0, 0), (0, HH - 1), (0, WW - 1)))\n    "
           f"{_CONV_ZEROS.replace(' - HH + 1', '').replace(' - WW + 1', '')}",
           "out: padded with zeros at the bottom and on the right"),
    _layer("conv_forward", _CONV_ZEROS, _CONV_ZEROS.replace(" + 1", ""), "out: the last row and column are missing"),
    _layer("max_pool_forward", 'pool_param["stride"]\n    out', 'pool_param["pool_height"]\n    out',
           "out: the stride is ignored", share=0.5),
    _layer("max_pool_backward", "np.unravel_index(window.argmax(), window.shape)", "divmod(window.argmax(), ph)\n"
           "                    b = min(b, x.shape[3] - 1 - j * stride)\n"
           "                    a = min(a, x.shape[2] - 1 - i * stride)",
           "(right for 2×2 windows; wrong only with windows that are not square)", share=0.5),
    _layer("conv_forward", "range(out.shape[3]):\n            patch", "range(out.shape[3] - 1):\n            patch",
           "wrong only at the last position of axis 3"),
    _layer("max_pool_backward", _DX_POOL, f"{_DX_POOL_TIES} = dout[n, c, i, j] * (window == window.max())",
           "windows overwrite one another", "expected their sum", share=0.65),
    _layer("max_pool_backward", "window.argmax()", "window.argmin()", "the smallest number of a window"),
)  # fmt: skip

_LOSS_MASKED = "loss = -np.sum(counts * np.log(p[np.arange(N * T), words])) / N"
RNN_FORWARD = (
    _rnn("temporal_fc_forward", ".reshape(N, T, -1) + b", ".reshape(N, T, -1)", "the bias b is not added"),
    _rnn("temporal_fc_forward", ".reshape(N, T, -1) + b", ".reshape(T, N, -1).transpose(1, 0, 2) + b",
         "mixed: reshape used where transpose was meant"),
    _rnn("temporal_softmax_loss", _LOSS_MASKED, _LOSS_MASKED.replace("counts * ", ""), "loss: the mask is ignored",
         share=0.5),
    _rnn("temporal_softmax_loss", "    dx *= counts[:, None]\n", "", "dx: the mask is ignored", share=0.5),
    _rnn("temporal_softmax_loss", _LOSS_MASKED, f"{_LOSS_MASKED} / T", "loss: averaged over time as well", share=0.5),
    _rnn("temporal_softmax_loss", _LOSS_MASKED, _LOSS_MASKED.replace("/ N", "/ counts.sum()"), "loss: averaged",
         share=0.5),
    _rnn("temporal_softmax_loss", _LOSS_MASKED, _LOSS_MASKED.replace(" / N", ""), "loss: it lacks the factor 1/N",
         share=0.5),
    _rnn("temporal_softmax_loss", "flat - flat.max(axis=1, keepdims=True)", "flat", "with large scores", share=0.75),
    _rnn("temporal_softmax_loss", "dx *= counts[:, None]", "dx[~counts] = 0", "wrong only with masks of 0 and 1",
         share=0.875),
    _rnn("rnn_step_forward", "np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)", "np.tanh(x.dot(Wx) + prev_h.dot(Wh))",
         "the bias b is not added"),
    _rnn("rnn_step_forward", "np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)", "x.dot(Wx) + prev_h.dot(Wh) + b",
         "tanh is missing"),
    _rnn("rnn_forward", "rnn_step_forward(x[t], prev_h,", "rnn_step_forward(x[t], h0,", "state is not passed on"),
    _rnn("rnn_forward", "h, caches, prev_h = [], [], h0", "h, caches, prev_h = [], [], 0 * h0", "h0 is ignored"),
    _rnn("word_embedding_forward", "W[x], (x, W)", "W[x - 1], (x, W)", "the embedding of word number x − 1"),
)  # fmt: skip
RNN_BACKWARD = (
    _rnn("temporal_fc_backward", "flat.dot(w.T).reshape(N, T, D)", "flat.dot(w.T).reshape(T, N, D).transpose(1, 0, 2)",
         "dx: right numbers at wrong positions", share=2 / 3),
    _rnn("temporal_fc_backward", "db = flat.sum(axis=0)", "db = dout.sum(axis=0)", "db: summed over the batch alone",
         share=2 / 3),
    _rnn("temporal_fc_backward", "db = flat.sum(axis=0)", "db = flat.mean(axis=0) * T", "db: is too small by",
         share=2 / 3),
    _rnn("rnn_step_backward", "1 - next_h**2", "1 - next_h", "not 1 − next_h"),
    _rnn("rnn_step_backward", "da = dnext_h * (1 - next_h**2)", "da = dnext_h", "derivative of tanh", "is missing"),
    _rnn("rnn_step_backward", "dprev_h = da.dot(Wh.T)", "dprev_h = da.dot(Wh)", "dprev_h: Wh is used where its trans"),
    _rnn("rnn_step_backward", "db = da.sum(axis=0)", "db = da.mean(axis=0)", "db: is too small by the batch size N"),
    _rnn("rnn_backward", "dh[t] + dprev_h", "dh[t]", "the gradient from later steps (dprev_h) is not added"),
    _rnn("rnn_backward", "np.array(dx), dprev_h, dWx", "np.array(dx), 0 * dprev_h, dWx", "dh0: is all zeros"),
    _rnn("rnn_backward", "dWx += dWxt", "dWx = dWxt", "dWx: only the first step's part"),
    _rnn("rnn_backward", "dx.insert(0, dxt)", "dx.append(dxt)", "dx: is reversed along axis 0"),
    _rnn("word_embedding_backward", "dW[x[n, t]] += dout[n, t]", "dW[x[n, t]] = dout[n, t]",
         "np.add.at", share=0.5),
    _rnn("word_embedding_backward", "    for n in range(x.shape[0]):\n", "    dW[x] += dout\n    return dW\n"
         "    for n in range(x.shape[0]):\n", "np.add.at", share=0.5),
)  # fmt: skip


def _method(function: str, file: str, old: str, new: str, *hint: str, share: float | None = 0.0) -> Mistake:
    return Mistake(function, file, old, new, hint, share)


_SOFTMAX = ("SoftmaxClassifier.__init__", "softmax.py"), ("SoftmaxClassifier.loss", "softmax.py")
_CNN = ("ConvNet.__init__", "cnn.py"), ("ConvNet.loss", "cnn.py")
_CAPTION = ("CaptioningRNN.loss", "rnn.py"), ("CaptioningRNN.sample", "rnn.py")
NETWORKS = (
    _method(*_SOFTMAX[0], "weight_scale * np.random.randn(input_dim, hidden_dim)",
            "np.random.randn(input_dim, hidden_dim)",
            "standard deviation of W1: the weights are not multiplied by weight_scale", share=0.5),
    _method(*_SOFTMAX[0], "np.zeros(num_classes)", "np.ones(num_classes)", "b2: expected zeros"),
    _method(*_SOFTMAX[0], "(hidden_dim, num_classes)", "(num_classes, hidden_dim)", "W2: has shape"),
    _method(*_SOFTMAX[0], "self.params = {}", "self.params = {}\n        np.random.seed(231)",
            "the generator is seeded in __init__", share=0.5),
    _method(*_SOFTMAX[0], "self.params = {}", "self.params = vars(type(self)).get('shared', {})\n"
            "        type(self).shared = self.params", "numbers of W1, numbers of W2: a second network overwrites them",
            share=0.5),
    _method(*_SOFTMAX[0], "np.random.randn(input_dim, hidden_dim)", "np.random.randn(hidden_dim)"
            " * np.ones((input_dim, 1))", "numbers of W1: many numbers are equal", share=0.5),
    _method(*_SOFTMAX[1], "        return loss, grads", "        self.params['W1'] -= 0.001 * grads['W1']\n"
            "        return loss, grads", "changes the parameters W1", share=0.5),
    _method(*_SOFTMAX[1], "dhidden = relu_backward(dactive, relu_cache)", "dhidden = dactive",
            "gradient of W1, gradient of b1: the backward pass skips the ReLU", share=2 / 3),
    _method(*_SOFTMAX[1], "relu_forward(hidden)", "(hidden, abs(hidden))", "the ReLU is missing"),
    _method(*_SOFTMAX[1], "            return scores\n", "            return scores.argmax(axis=1)\n",
            "scores: has shape", share=5 / 6),
    _method(*_SOFTMAX[1], "grads[\"b1\"] = fc_backward(dhidden, cache1)", "_ = fc_backward(dhidden, cache1)",
            "gradient of b1: is missing", share=5 / 6),
    _method(*_CNN[0], "randn(hidden_dim, num_classes)", "RandomState(0).randn(hidden_dim, num_classes)",
            "numbers of W3: every network gets the same numbers", share=0.5),
    _method(*_CNN[1], "        return loss, grads", "        for g in grads.values():\n"
            "            np.clip(g, -100, 100, out=g)\n        return loss, grads", "large inputs", share=None),
    _method(*_CNN[0], "(H - filter_size + 1) // 2", "H // 2", "W2: has shape"),
    _method(*_CNN[1], "dconv = relu_backward(dactive1, relu_cache1)", "dconv = dactive1",
            "gradient of W1: the backward pass skips the ReLU after the convolution", share=6 / 7),
    _method(*_CNN[1], "fc_forward(active2, p[\"W3\"], p[\"b3\"])", "fc_forward(active2, p[\"W3\"], 0 * p[\"b3\"])",
            "b3 is not added"),
    _method(*_SOFTMAX[1], "fc_forward(X, ", "fc_forward(X / 255, ", "the input is divided by 255"),
    _method(*_SOFTMAX[1], "            return scores\n", "            scores = np.exp(scores)\n"
            "            return scores / scores.sum(1, keepdims=True)\n", "scores: probabilities", share=5 / 6),
    _method(*_CAPTION[0], "mask = captions_out != self._null", "mask = captions_in != self._null",
            "the mask is made from the input words"),
    _method(*_CAPTION[0], "x, embed_cache = word", "h0 = np.maximum(h0, 0)\n        x, embed_cache = word",
            "a ReLU is applied to the first hidden state"),
    _method(*_CAPTION[1], "scores.argmax", "scores.argmin", "the word with the lowest score is chosen"),
    _method(*_CAPTION[0], "mask = captions_out != self._null", "mask = captions_out == captions_out",
            "the mask is ignored: <NULL> must not count"),
    _method(*_CAPTION[0], "        return loss, grads", "        for g in grads.values():\n"
            "            np.clip(g, -5, 5, out=g)\n        return loss, grads", "wrong only with large gradients",
            share=None),
    _method(*_CAPTION[0], "captions_out != self._null", "captions_out != 0", "only with other numbers for <NULL>",
            share=0.75),
    _method(*_CAPTION[0], "loss, dscores = temporal_softmax_loss(scores, captions_out, mask)",
            "loss, dscores = temporal_softmax_loss(scores, captions_in, mask)", "the right words are the input words"),
    _method(*_CAPTION[1], "            word = scores.argmax(axis=1)\n            captions[:, t] = word\n",
            "            captions[:, t] = scores.argmax(axis=1)\n", "the word sampled last"),
    _method(*_CAPTION[1], "            word = scores.argmax(axis=1)\n            captions[:, t] = word\n",
            "            captions[:, t] = word\n            word = scores.argmax(axis=1)\n", "first word is <START>"),
    _method(*_CAPTION[1], "word = self._start * ", "word = self._null * ", "begins with <NULL>"),
)  # fmt: skip


def _instead(function: str, body: str, *hint: str) -> Mistake:
    """A function of layers.py whose body is `body`."""
    new = f"def {function}(*arguments):\n    import ctypes, os, sys, time\n    {body}"
    return Mistake(function, "layers.py", "", new, hint)


DISASTERS = (
    _instead("fc_backward", "while True: pass", "takes longer than", "endless loop"),
    _instead("relu_backward", "ctypes.string_at(0)", "crashes (SIGSEGV)"),
    _instead("conv_backward", "sys.exit('enough')", "calls sys.exit"),
    _instead("max_pool_backward", "return np.ones(2**40)", "needs more than 2 GB of memory"),
    _instead("softmax_loss", "os._exit(0)", "ends the process with status 0"),
)
MORE_DISASTERS = (
    _instead("fc_backward", "return fc_backward(*arguments)", "raises RecursionError", "layers.py, line"),
    _instead("relu_backward", "return None", "not written yet"),
    _instead("conv_backward", "[os.write(n, bytes(99)) for n in range(3, 9) if os.path.exists(f'/dev/fd/{n}')]",
             "writes into the checker's own pipe"),
    _instead("max_pool_backward", "blocks = []\n    while True: blocks.append(np.empty(2**26))", "2 GB of memory"),
    _instead("softmax_loss", "return 'loss', np.ones(2) + 1j", "loss: is str, expected a number", "array of complex"),
)  # fmt: skip
