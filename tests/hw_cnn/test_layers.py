"""The layers written from their equations, against torch's own, loops and finite differences."""

import ast
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hw_cnn import layers
from hw_cnn.layers import LoopConv2d, MyConv2d, MyLinear

small = st.integers(1, 5)
seeds = st.integers(0, 2**16)
quick = settings(deadline=None, max_examples=40)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def outputs_and_gradients(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output of `layer` and the gradients of a loss with respect to its input and its parameters."""
    x = x.clone().requires_grad_()
    output = layer(x)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)  # a different one for each output
    (output * weights).mean().backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in layer.named_parameters()}
    return {"output": output.detach(), "gradient of input": x.grad, **gradients}


def assert_agree(own: nn.Module, default: nn.Module, x: Tensor) -> None:
    """Same names, same shapes, at most 1e-5 apart."""
    ours, theirs = outputs_and_gradients(own, x), outputs_and_gradients(default, x)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape, name
        assert (tensor - theirs[name]).abs().max() < 1e-5, name


# MyLinear


@quick
@given(inputs=small, outputs=small, batch=st.lists(st.integers(1, 3), max_size=2), seed=seeds)
def test_linear_equals_torchs(inputs, outputs, batch, seed):
    torch.manual_seed(seed)
    default, own = nn.Linear(inputs, outputs), MyLinear(inputs, outputs)
    own.load_state_dict(default.state_dict())
    assert_agree(own, default, torch.randn(*batch, inputs))


def test_linear_of_the_sheet():
    default, own, x = nn.Linear(8, 16), MyLinear(8, 16), torch.randn(4, 8)
    assert (own(x) - default(x)).abs().mean() > 1e-2
    own.load_state_dict(default.state_dict())
    assert (own(x) - default(x)).abs().mean() < 1e-6


def test_linear_is_the_sheets_equation():
    layer, x = MyLinear(3, 2).double(), torch.randn(4, 3).double()
    weight, bias, samples = layer.weight.tolist(), layer.bias.tolist(), x.tolist()
    expected = [[sum(weight[d][c] * sample[c] for c in range(3)) + bias[d] for d in range(2)] for sample in samples]
    assert torch.allclose(layer(x), torch.tensor(expected, dtype=torch.double))


def test_linear_gradients_equal_finite_differences():
    layer = MyLinear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x),
        (x, layer.weight, layer.bias),
    )


# MyConv2d


@quick
@given(
    channels=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    kernel=small,
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    sides=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    batch=st.integers(1, 3),
    channels_last=st.booleans(),
    seed=seeds,
)
def test_convolution_equals_torchs(channels, kernel, stride, padding, sides, batch, channels_last, seed):
    assume(min(sides) + 2 * padding >= kernel)
    torch.manual_seed(seed)
    default = nn.Conv2d(*channels, kernel, stride, padding)
    own = MyConv2d(*channels, kernel, stride, padding)
    own.load_state_dict(default.state_dict())
    x = torch.randn(batch, channels[0], *sides)
    assert_agree(own, default, x.to(memory_format=torch.channels_last) if channels_last else x)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_the_naive_convolution_equals_ours(stride, padding):
    naive, ours = LoopConv2d(2, 3, 4, stride, padding), MyConv2d(2, 3, 4, stride, padding)
    naive.load_state_dict(ours.state_dict())
    x = torch.randn(2, 2, 7, 6)
    with torch.inference_mode():
        torch.testing.assert_close(naive(x), ours(x))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1)])
def test_convolution_is_equation_4(stride, padding):
    """Equation 4 loop by loop; what lies outside the image counts as zero."""
    batch, inputs, outputs, size, height, width = 2, 2, 3, 3, 5, 4
    layer = MyConv2d(inputs, outputs, size, stride, padding).double()
    x = torch.randn(batch, inputs, height, width, dtype=torch.double)

    def pixel(s: int, c: int, i: int, j: int) -> float:
        return x[s, c, i, j].item() if 0 <= i < height and 0 <= j < width else 0.0

    y = layer(x)
    assert y.shape == (
        batch,
        outputs,
        (height + 2 * padding - size) // stride + 1,
        (width + 2 * padding - size) // stride + 1,
    )
    for s, d, i, j in torch.cartesian_prod(*map(torch.arange, y.shape)).tolist():
        expected = layer.bias[d].item() + sum(
            pixel(s, c, i * stride + n - padding, j * stride + m - padding) * layer.weight[d, c, n, m].item()
            for c in range(inputs)
            for n in range(size)
            for m in range(size)
        )
        assert y[s, d, i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_convolution_gradients_equal_finite_differences(stride, padding):
    layer = MyConv2d(2, 2, 2, stride, padding).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x),
        (x, layer.weight, layer.bias),
    )


@pytest.mark.parametrize(("kernel", "padding", "sides"), [(3, 0, (2, 5)), (3, 0, (5, 2)), (6, 1, (3, 3))])
def test_kernel_larger_than_the_padded_image_is_refused(kernel, padding, sides):
    with pytest.raises(ValueError, match=f"kernel of {kernel}×{kernel} does not fit"):
        MyConv2d(1, 1, kernel, padding=padding)(torch.zeros(1, 1, *sides))


# Both


@pytest.mark.parametrize(
    ("own", "default"),
    [(MyLinear(3, 2), nn.Linear(3, 2)), (MyConv2d(3, 2, 5, 2, 1), nn.Conv2d(3, 2, 5, 2, 1))],
    ids=["linear", "convolution"],
)
def test_state_dicts_are_interchangeable_both_ways(own, default):
    for source, target in ((own, default), (default, own)):
        nn.init.normal_(source.weight)
        target.load_state_dict(source.state_dict())
        assert list(target.state_dict()) == list(source.state_dict()) == ["weight", "bias"]
        assert torch.equal(target.weight, source.weight)
        assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(MyLinear(400, 128), 400), (MyConv2d(8, 64, 5), 8 * 25)], ids=["linear", "convolution"]
)
def test_parameters_start_uniform_as_torchs_do(layer, fan_in):
    bound = 1 / math.sqrt(fan_in)
    assert 0.98 * bound < layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert 0 < layer.bias.abs().max() <= bound


FORBIDDEN = {"Linear", "Conv2d", "linear", "conv2d", "LazyLinear", "LazyConv2d", "Bilinear", "_convolution"}


def test_source_uses_none_of_torchs_layers():
    tree = ast.parse(Path(layers.__file__).read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)
             for alias in node.names}  # fmt: skip
    assert {"nn", "torch", "Parameter"} <= used  # the check finds names that are used
    assert not used & FORBIDDEN


def test_running_uses_none_of_torchs_layers_either():
    called = set()

    class Record(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.add(function)
            return function(*args, **(kwargs or {}))

    with Record():
        MyLinear(3, 2)(torch.zeros(1, 3))
        MyConv2d(1, 1, 2, 2, 1)(torch.zeros(1, 1, 3, 3))
        assert Tensor.unfold in called  # a view of the image, unlike functional.unfold, which copies patches
        assert not called & {F.linear, F.conv2d, F.conv1d, F.conv3d, F.conv_transpose2d, F.unfold}
        nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 1, 1))
    assert F.conv2d in called  # the record contains the calls
