"""The layers that students write in convnets-2024-a2: `myLinear` (2.1) and a convolution (3.1), beside torch's."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from hw_check.networks.checks import Finding, Probe
from hw_check.networks.observed import Answer, a_run, explained, gradients, observation, output, same, weights_of

_LINEAR = ("Linear", "LazyLinear", "Bilinear", "linear")  # the first one used is named in the message
_CONVOLUTION = ("Conv1d", "Conv2d", "Conv3d", "LazyConv2d", "conv1d", "conv2d", "conv3d", "convolution")
_FEATURES, _OUTPUTS = 5, 6


def linear_probes(rng: Generator) -> list[Probe]:
    """The probes of Task 2.1."""
    probes = [
        _linear(rng, "a batch", 4, 0.5),
        _linear(rng, "a single sample", 1, 0.1),
    ]
    return [*probes, *_common(probes[0].request, _LINEAR, _state_of_linear)]


def _linear(rng: Generator, title: str, batch: int, cost: float) -> Probe:
    x = rng.normal(size=(batch, _FEATURES)).astype(np.float32)
    options = {"in_features": _FEATURES, "out_features": _OUTPUTS}
    run = a_run([x], [x[:, :, None]], trace=True)  # Equation 2 has columns, (B, c_in, 1)
    request = observation(int(rng.integers(2**31)), [run], options=options, arguments=[_FEATURES, _OUTPUTS])

    def judge(answer: Answer) -> Finding:
        weight, bias = _parameters(answer, 2)
        if weight is None:
            return Finding("has no parameter of shape (c_out, c_in): register it as nn.Parameter")
        inputs = torch.from_numpy(x)
        weight = weight.T if weight.shape == (_FEATURES, _OUTPUTS) else weight
        bias = torch.zeros(_OUTPUTS) if bias is None else bias
        right, value = F.linear(inputs, weight, bias), output(answer)
        as_columns = answer["runs"][0]["form"] == 1
        if as_columns and isinstance(value, ndarray) and value.shape == (batch, _OUTPUTS, 1):
            value = value[:, :, 0]
        guesses = {
            "the bias is not added": inputs @ weight.T,
            "a ReLU is applied to the output": right.relu(),
        }
        mistake = explained(value, right, iter(guesses.items()))
        return Finding(
            mistake, "takes only columns (B, c_in, 1), as in Equation 2" if as_columns and not mistake else ""
        )

    return Probe(title, request, judge, cost)


def convolution_probes(rng: Generator) -> list[Probe]:
    """The probes of Task 3.1."""
    probes = [
        _convolution(rng, "3×3 kernels", (2, 3, 8, 9), 4, 3, 0.4),
        _convolution(rng, "5×5 kernels", (2, 3, 9, 7), 4, 5, 0.1),
        _convolution(rng, "one image, one channel", (1, 1, 6, 5), 1, 3, 0.1),
        _convolution(rng, "1×1 and even kernels", (2, 2, 5, 6), 3, 2, 0.0),
        _convolution(rng, "stride 2", (2, 3, 9, 8), 4, 3, 0.0, stride=2),
        _convolution(rng, "padding 1", (2, 3, 6, 7), 4, 3, 0.0, padding=1),
    ]
    return [*probes, *_common(probes[0].request, _CONVOLUTION, _state_of_convolution)]


def _convolution(
    rng: Generator, title: str, shape: tuple[int, ...], outputs: int, kernel: int, cost: float, **more: int
) -> Probe:
    """A convolution of one size; with `more`, a stride or a padding, which the sheet does not ask for."""
    x = rng.normal(size=shape).astype(np.float32)
    options = {"in_channels": shape[1], "out_channels": outputs, "kernel_size": kernel, **more}
    request = observation(
        int(rng.integers(2**31)), [a_run([x], optional=bool(more), trace=True)], options=options,
        arguments=[shape[1], outputs, kernel],
    )  # fmt: skip

    def judge(answer: Answer) -> Finding:
        weight, bias = _parameters(answer, 4)
        if weight is None:
            return Finding("has no parameter of shape (c_out, c_in, k, k): register it as nn.Parameter")
        if not set(more) <= {str(name) for name in answer["taken"]}:
            return Finding()  # the class has no such argument
        images, value = torch.from_numpy(x), output(answer)
        bias = torch.zeros(outputs) if bias is None else bias
        rights = list(_readings(images, weight, bias, kernel, **more))
        for remark, right in rights:
            if same(value, right):
                return Finding(remark="" if more else remark)
        guesses = (guess for _, right in rights for guess in _guesses(images, weight, bias, right, kernel, **more))
        mistake = explained(value, rights[0][1], guesses)
        return Finding(remark=f"with {title}: {mistake}") if not cost else Finding(mistake)

    return Probe(title, request, judge, cost)


def _readings(
    images: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int = 1, padding: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """The right outputs, each with a remark: without padding, and with the kernel centred as in Equation 4."""
    yield "", F.conv2d(images, weight, bias, stride, padding)
    if not padding:
        remark = "centres the kernel, as in Equation 4; Task 1 has no padding"
        before, after = kernel // 2, (kernel - 1) // 2
        yield remark, F.conv2d(F.pad(images, (before, after, before, after)), weight, bias, stride)
        yield remark, F.conv2d(images, weight, bias, stride, kernel // 2)
        yield remark, F.conv2d(images, weight, bias, stride, 2)  # the padding that fits the sheet's kernels


def _guesses(
    images: Tensor, weight: Tensor, bias: Tensor, right: Tensor, kernel: int, stride: int = 1, padding: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Typical mistakes and the outputs that they give, with the same padding as `right`."""
    if not padding and right.shape[2] > (images.shape[2] - kernel) // stride + 1:
        before, after = kernel // 2, right.shape[2] - images.shape[2] + (kernel - 1) // 2
        images = F.pad(images, (before, after, before, after))

    def convolved(kernels: Tensor, shift: Tensor | None = bias, x: Tensor = images) -> Tensor:
        return F.conv2d(x, kernels, shift, stride, padding)

    channels = weight.shape[1]
    yield "the bias is not added", convolved(weight, None)
    yield "the kernels are flipped, as in a mathematical convolution", convolved(weight.flip(2, 3))
    yield "the rows and columns of the kernels are swapped", convolved(weight.transpose(2, 3))
    yield "the bias is added once for every input channel", convolved(weight, channels * bias)
    yield "only the first input channel is used", convolved(weight[:, :1], bias, images[:, :1])
    yield "all output channels use the first kernel", convolved(weight[:1].expand_as(weight))
    yield "the products are averaged, expected their sum", convolved(weight / kernel**2)
    yield "a ReLU is applied to the output", right.relu()
    yield "the last row and column of the output are missing", right[:, :, :-1, :-1]
    yield "the last row and column of the output are zero", F.pad(right[:, :, :-1, :-1], (0, 1, 0, 1))


def _parameters(answer: Answer, axes: int) -> tuple[Tensor | None, Tensor | None]:
    """The weight, which has the given number of axes, and the bias, whichever axes of length 1 it has."""
    weights = [weight.numbers for weight in weights_of(answer)]
    weight = next((value for value in weights if value.ndim == axes and value.squeeze().ndim), None)
    if weight is None:
        return None, None
    left = [value for value in weights if value is not weight]
    bias = next((value.flatten() for value in left if value.numel() in (weight.shape[0], weight.shape[1])), None)
    return weight, bias


def _state_of_linear(answer: Answer) -> str:
    return _state(answer, {"weight": (_OUTPUTS, _FEATURES), "bias": (_OUTPUTS,)})


def _state_of_convolution(answer: Answer) -> str:
    return _state(answer, {"weight": (4, 3, 3, 3), "bias": (4,)})


def _state(answer: Answer, rights: Mapping[str, tuple[int, ...]]) -> str:
    """The reason why load_state_dict cannot copy the parameters of torch's layer; empty if it can."""
    found = {str(name): tuple(shape) for name, shape in zip(answer["names"], answer["shapes"], strict=True)}
    for name, shape in rights.items():
        if name not in found:
            return f"has no parameter called {name}, so load_state_dict cannot copy those of torch's layer"
        if found[name] != shape and (name == "weight" or found[name] not in ((*shape, 1), (1, *shape))):
            return (
                f"its {name} has the shape {found[name]}, so load_state_dict cannot copy that of torch's layer, {shape}"
            )
    return ""


def _common(request: Mapping[str, Any], forbidden: tuple[str, ...], state: Callable[[Answer], str]) -> list[Probe]:
    """Probes of both layers: the names of the parameters, the gradients, and whether they use what the task forbids."""

    def names(answer: Answer) -> Finding:
        return Finding(state(answer))

    def allowed(answer: Answer) -> Finding:
        used = {str(name).rpartition(".")[2] for name in (*answer["runs"][0]["used"], *answer["layers"])}
        found = next((name for name in forbidden if name in used), "")
        return Finding(f"uses torch's own {found}, which the task forbids" if found else "")

    gradient = {**request, "runs": [{**one, "gradient": True} for one in request["runs"]]}
    return [
        Probe("parameters as in torch's layer", request, names, 0.2),
        Probe("gradients", gradient, gradients, 0.2),
        Probe("what the task forbids", request, allowed, 1.0),
    ]
