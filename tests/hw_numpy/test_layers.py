"""The NumPy layers against torch's in double precision, over random shapes, and memory layouts."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_numpy import layers, optim
from hw_numpy.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array

quick = settings(deadline=None, max_examples=40)
small = st.integers(1, 4)
margins = st.tuples(st.integers(0, 5), st.integers(0, 5))
seeds = st.integers(0, 2**16)
# How an array of some shape lies in memory.
LAYOUTS = {
    "rows first": np.ascontiguousarray,
    "columns first": np.asfortranarray,
    "every second of a larger one": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "batch last": lambda array: np.ascontiguousarray(np.moveaxis(array, 0, -1)).transpose(-1, *range(array.ndim - 1)),
}
layouts = st.sampled_from(sorted(LAYOUTS))
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def draw(seed, *shapes, layout="rows first", dtype=np.float64):
    generator = np.random.default_rng(seed)
    return [LAYOUTS[layout](generator.standard_normal(shape).astype(dtype)) for shape in shapes]


def assert_agrees(forward, backward, theirs, arguments, seed, layout="rows first"):
    """Forward within 1e-10 and backward within 1e-9 of torch's, nothing changed in place."""
    before = copy.deepcopy(arguments)
    out, cache = forward(*arguments)
    tensors = [torch.tensor(np.ascontiguousarray(array), requires_grad=True) for array in arguments]
    expected = theirs(*tensors)
    assert out.shape == tuple(expected.shape) and np.abs(out - expected.detach().numpy()).max() <= 1e-10
    [dout] = draw(seed + 1, out.shape, layout=layout)
    gradients = backward(dout.copy(order="K"), cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    expected.backward(torch.tensor(np.ascontiguousarray(dout)))
    for gradient, array, tensor in zip(gradients, arguments, tensors, strict=True):
        assert gradient.shape == array.shape and np.abs(gradient - tensor.grad.numpy()).max() <= 1e-9
    for array, original in zip(arguments, before, strict=True):
        assert np.array_equal(array, original)


# Against torch


@quick
@given(sizes=st.tuples(small, small, small), more=st.lists(st.integers(1, 3), max_size=2), layout=layouts, seed=seeds)
def test_fully_connected(sizes, more, layout, seed):
    count, inputs, outputs = sizes
    flat = inputs * int(np.prod(more))
    arguments = draw(seed, (count, inputs, *more), (flat, outputs), (outputs,), layout=layout)
    theirs = lambda x, w, b: x.flatten(1) @ w + b  # noqa: E731
    assert_agrees(layers.fc_forward, layers.fc_backward, theirs, arguments, seed, layout)


@quick
@given(shape=st.lists(small, min_size=1, max_size=4), layout=layouts, seed=seeds)
def test_rectifier(shape, layout, seed):
    [x] = draw(seed, shape, layout=layout)
    x[np.abs(x) < 0.3] = 0  # the corner, where torch's gradient is 0
    assert_agrees(layers.relu_forward, layers.relu_backward, torch.relu, [x], seed, layout)


@quick
@given(
    batch=small, channels=st.tuples(small, small), kernel=st.tuples(small, small), more=margins,
    block=st.sampled_from([1, 50, 2**19]), layout=layouts, seed=seeds,
)  # fmt: skip
def test_convolution(batch, channels, kernel, more, block, layout, seed):
    sides = [size + extra for size, extra in zip(kernel, more, strict=True)]
    arguments = draw(seed, (batch, channels[0], *sides), (channels[1], channels[0], *kernel), layout=layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "_BLOCK_SIZE", block)  # one row of output at a time, a few, all
        assert_agrees(layers.conv_forward, layers.conv_backward, F.conv2d, arguments, seed, layout)


@quick
@given(
    batch=small, channels=small, window=st.tuples(small, small), more=margins,
    stride=st.integers(1, 4), levels=st.sampled_from([1, 3, 1000]), layout=layouts, seed=seeds,
)  # fmt: skip
def test_max_pooling_with_overlaps_gaps_and_ties(batch, channels, window, more, stride, levels, layout, seed):
    sides = [size + extra for size, extra in zip(window, more, strict=True)]
    [x] = draw(seed, (batch, channels, *sides), layout=layout)
    x = np.round(x * levels) / levels  # few levels: many ties, which torch gives to the first in reading order
    param = {"pool_height": window[0], "pool_width": window[1], "stride": stride}
    forward = lambda x: layers.max_pool_forward(x, param)  # noqa: E731
    theirs = lambda x: F.max_pool2d(x, window, stride)  # noqa: E731
    assert_agrees(forward, layers.max_pool_backward, theirs, [x], seed, layout)


@quick
@given(count=small, classes=small, scale=st.sampled_from([1, 100, 1e6]), layout=layouts, seed=seeds)
def test_softmax_loss(count, classes, scale, layout, seed):
    [x] = draw(seed, (count, classes), layout=layout)
    x, before = x * scale, x * scale
    y = np.random.default_rng(seed).integers(classes, size=count)
    loss, dx = layers.softmax_loss(x, y)
    scores = torch.tensor(np.ascontiguousarray(x), requires_grad=True)
    expected = F.cross_entropy(scores, torch.tensor(y))
    expected.backward()
    assert isinstance(loss, float) and loss == pytest.approx(expected.item(), rel=1e-10, abs=1e-10)
    assert np.abs(dx - scores.grad.numpy()).max() <= 1e-9 and np.array_equal(x, before)


def test_softmax_of_huge_scores_stays_finite():
    loss, dx = layers.softmax_loss(np.array([[1e4, 0.0], [0.0, -1e4]], dtype=np.float32), np.array([1, 0]))
    assert loss == 5000 and np.array_equal(dx, np.array([[0.5, -0.5], [0, 0]], dtype=np.float32))


# The sheet's formulas


def test_convolution_gradients_are_the_sheets():
    """Q1c: ∂L/∂X = Σ_f W *full ∂L/∂Y and ∂L/∂W = Σ_n X *filt ∂L/∂Y, loop by loop."""
    x, w, dout = draw(0, (2, 2, 5, 4), (3, 2, 3, 2), (2, 3, 3, 3))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n, f, i, j in np.ndindex(dout.shape):
        for c, p, q in np.ndindex(w.shape[1:]):
            dx[n, c, i + p, j + q] += w[f, c, p, q] * dout[n, f, i, j]
            dw[f, c, p, q] += x[n, c, i + p, j + q] * dout[n, f, i, j]
    _, cache = layers.conv_forward(x, w)
    for ours, expected in zip(layers.conv_backward(dout, cache), (dx, dw), strict=True):
        assert np.allclose(ours, expected, rtol=0, atol=1e-12)


def test_gradients_equal_finite_differences():
    x, w, w2, b2 = draw(1, (2, 2, 5, 5), (3, 2, 2, 2), (12, 4), (4,))
    y = np.array([3, 0])

    def forward():
        maps, conv = layers.conv_forward(x, w)
        maps, relu = layers.relu_forward(maps)
        maps, pool = layers.max_pool_forward(maps, POOL)
        scores, fc = layers.fc_forward(maps, w2, b2)
        return *layers.softmax_loss(scores, y), (conv, relu, pool, fc)

    _, dscores, (conv, relu, pool, fc) = forward()
    dmaps, dw2, db2 = layers.fc_backward(dscores, fc)
    dx, dw = layers.conv_backward(layers.relu_backward(layers.max_pool_backward(dmaps, pool), relu), conv)
    for array, gradient in ((x, dx), (w, dw), (w2, dw2), (b2, db2)):
        before = array.copy()
        expected = eval_numerical_gradient(lambda _: forward()[0], array)
        assert np.abs(gradient - expected).max() < 1e-8
        assert np.array_equal(array, before)


def test_numerical_gradient_of_an_array_and_of_a_view():
    x, df = draw(2, (3, 2), (3, 2))
    assert np.abs(eval_numerical_gradient_array(lambda x: x**2, x, df) - 2 * x * df).max() < 1e-8
    assert np.abs(eval_numerical_gradient_array(lambda x: x.T, x, df.T) - df).max() < 1e-8


def test_numerical_gradient_restores_x_when_f_fails(capsys):
    def fail(_):
        raise RuntimeError

    [x] = draw(2, (2,))
    before = x.copy()
    with pytest.raises(RuntimeError):
        eval_numerical_gradient(fail, x)
    assert np.array_equal(x, before)
    with pytest.raises(TypeError, match="x holds int64, expected floating-point numbers"):
        eval_numerical_gradient(np.sum, np.arange(3))
    eval_numerical_gradient(np.sum, x, verbose=True)
    assert capsys.readouterr().out.startswith("(0,) 1.0")


# Types and layouts


def test_single_precision_stays_single():
    x, w, w2, b2 = draw(3, (2, 2, 6, 6), (3, 2, 3, 3), (12, 4), (4,), dtype=np.float32)
    y = np.array([3, 0])
    maps, conv = layers.conv_forward(x, w)
    relued, relu = layers.relu_forward(maps)
    pooled, pool = layers.max_pool_forward(relued, POOL)
    scores, fc = layers.fc_forward(pooled, w2, b2)
    _, dscores = layers.softmax_loss(scores, y)
    gradients = layers.fc_backward(dscores, fc)
    dpooled = layers.max_pool_backward(gradients[0], pool)
    drelued = layers.relu_backward(dpooled, relu)
    everything = [
        maps,
        relued,
        pooled,
        scores,
        dscores,
        *gradients,
        dpooled,
        drelued,
        *layers.conv_backward(drelued, conv),
    ]
    assert {array.dtype for array in everything} == {np.dtype(np.float32)}


def test_feature_maps_keep_the_batch_innermost_through_the_network():
    """The layers are fast because nothing is copied into another layout between the convolution and its gradient."""
    x, w, w2, b2 = draw(3, (4, 2, 6, 6), (3, 2, 3, 3), (12, 4), (4,))
    maps, _ = layers.conv_forward(x, w)
    relued, relu = layers.relu_forward(maps)
    pooled, pool = layers.max_pool_forward(relued, POOL)
    scores, fc = layers.fc_forward(pooled, w2, b2)
    dpooled, _, _ = layers.fc_backward(scores, fc)
    drelued = layers.max_pool_backward(dpooled, pool)
    for array in (maps, relued, pooled, dpooled, drelued, layers.relu_backward(drelued, relu)):
        assert array.transpose(1, 2, 3, 0).flags.c_contiguous
    assert np.shares_memory(pooled.reshape(4, -1), pooled)


# Bad input


@pytest.mark.parametrize(
    ("forward", "shapes", "message"),
    [
        (layers.fc_forward, [(2, 3), (4, 5), (5,)], "x of shape (2, 3) needs w of shape (3, D_out), got (4, 5)"),
        (layers.fc_forward, [(2, 3), (3, 5), (4,)], "w of shape (3, 5) needs b of shape (5,), got (4,)"),
        (layers.fc_forward, [(3,), (3, 5), (5,)], "x has shape (3,), expected (N, D_in)"),
        (layers.conv_forward, [(2, 3, 5, 5), (4, 2, 3, 3)], "x of shape (2, 3, 5, 5) and w of shape (4, 2, 3, 3)"),
        (layers.conv_forward, [(2, 3, 5), (4, 3, 3, 3)], "x has shape (2, 3, 5), expected (N, C, H, W)"),
        (layers.conv_forward, [(2, 3, 5, 5), (4, 3, 3)], "w has shape (4, 3, 3), expected (F, C, H', W')"),
        (
            layers.conv_forward,
            [(2, 1, 5, 2), (4, 1, 3, 3)],
            "w, shape (4, 1, 3, 3), does not fit into the images of x, shape (2, 1, 5, 2)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(forward, shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        forward(*map(np.zeros, shapes))


@pytest.mark.parametrize(
    ("shape", "param", "message"),
    [
        ((2, 3, 1, 4), {}, "window of (2, 2) does not fit into the images of x, shape (2, 3, 1, 4)"),
        ((2, 4), {}, "x has shape (2, 4), expected (N, C, H, W)"),
        ((2, 3, 4, 4), {"stride": 0}, "needs a positive stride"),
        ((2, 3, 4, 4), {"pool_height": -1}, "needs a positive pool_height"),
    ],
)
def test_wrong_pooling_is_refused(shape, param, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layers.max_pool_forward(np.zeros(shape), {**POOL, **param})
    with pytest.raises(ValueError, match="needs a positive pool_height"):
        layers.max_pool_forward(np.zeros((1, 1, 4, 4)), {"stride": 2})


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 3), [0], "x of shape (2, 3) needs y of shape (2,), got (1,)"),
        ((2, 3), [0, 3], "has classes 0 to 2, y holds 0 to 3"),
        ((2, 3), [-1, 0], "has classes 0 to 2, y holds -1 to 0"),
        ((2, 3), [0.0, 1.0], "y holds float64, expected integers"),
        ((3,), [0], "x has shape (3,), expected (N, C)"),
    ],
)
def test_wrong_labels_are_refused(shape, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layers.softmax_loss(np.zeros(shape), np.array(labels))


def test_gradients_of_another_shape_are_refused():
    x, w = np.zeros((2, 3, 4, 4)), np.zeros((5, 3, 2, 2))
    pairs = [
        (layers.fc_backward, layers.fc_forward(x, np.zeros((48, 4)), np.zeros(4))),
        (layers.relu_backward, layers.relu_forward(x)),
        (layers.conv_backward, layers.conv_forward(x, w)),
        (layers.max_pool_backward, layers.max_pool_forward(x, POOL)),
    ]
    for backward, (out, cache) in pairs:
        with pytest.raises(ValueError, match=r"dout has shape .*, the layer's output has") as caught:
            backward(np.zeros((1, *out.shape[1:])), cache)
        assert str(out.shape) in str(caught.value)


# Update rules

THEIRS = {
    "sgd": lambda w, lr: torch.optim.SGD([w], lr),
    "sgd_momentum": lambda w, lr: torch.optim.SGD([w], lr, momentum=0.9),
    "rmsprop": lambda w, lr: torch.optim.RMSprop([w], lr),
    "adam": lambda w, lr: torch.optim.Adam([w], lr),
}


@pytest.mark.parametrize("rule", sorted(THEIRS))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_update_rules_equal_torchs(rule, dtype):
    w, *gradients = draw(4, *[(3, 2)] * 6, dtype=dtype)
    tensor = torch.tensor(w, requires_grad=True)
    theirs = THEIRS[rule](tensor, 0.1)
    config = {"learning_rate": np.float64(0.1)}  # which must not turn single precision into double
    for gradient in gradients:
        before = w.copy(), gradient.copy()
        new, same = getattr(optim, rule)(w, gradient, config)
        assert same is config and new.dtype == dtype
        assert np.array_equal(w, before[0]) and np.array_equal(gradient, before[1])
        tensor.grad = torch.tensor(gradient)
        theirs.step()
        w = new
    assert np.abs(w - tensor.detach().numpy()).max() < (1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("rule", sorted(THEIRS))
def test_update_rules_have_defaults(rule):
    w, config = getattr(optim, rule)(np.ones(2), np.ones(2))
    assert np.all(w < 1) and config["learning_rate"] == (1e-3 if rule == "adam" else 1e-2)


def test_caches_are_those_of_the_courses_files():
    """A student's function that takes the documented cache works with our forward function, and the other way round."""
    x, w, b = draw(3, (2, 3), (3, 4), (4,))
    assert [array is given for array, given in zip(layers.fc_forward(x, w, b)[1], (x, w, b), strict=True)] == [True] * 3
    images, kernels = draw(4, (2, 2, 4, 4), (3, 2, 2, 2))
    assert all(
        array is given for array, given in zip(layers.conv_forward(images, kernels)[1], (images, kernels), strict=True)
    )
    out, cache = layers.max_pool_forward(images, POOL)
    pixels, pool_param = cache
    assert pixels is images and pool_param == POOL
    assert np.array_equal(layers.max_pool_backward(out, cache), layers.max_pool_backward(out, (images, POOL)))
