"""The sheet convnets-2024-a2: a network for CIFAR-10 (Task 1.1), and a linear and a convolutional layer (2.1, 3.1)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.networks.judges import classifier_probes, explain_output, gradient_judge, same
from hw_check.rows import Row, Sheet
from hw_check.sandbox import Sandbox
from hw_cnn.models import CifarCNN


def _network(rng: Generator) -> list[Probe]:
    images = rng.random((3, 3, 32, 32), dtype=np.float32)
    layers = {
        "first convolution": (8, 3, 5, 5),
        "second convolution": (16, 8, 5, 5),
        "first fully connected layer": (128, 400),
        "second fully connected layer": (64, 128),
        "output layer": (10, 64),
    }

    def guesses(model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
        part: Any = model
        features = part.pool2(part.conv2(part.pool1(part.conv1(images).relu())).relu()).flatten(1)
        first, second = part.fc1(features), part.fc2(part.fc1(features).relu())
        return {
            "the ReLU after the first fully connected layer is missing": part.fc3(part.fc2(first).relu()),
            "the ReLU after the second fully connected layer is missing": part.fc3(second),
            "a ReLU stands after the output layer": model(images).relu(),
            "both ReLUs between the fully connected layers are missing": part.fc3(part.fc2(first)),
        }

    return classifier_probes(CifarCNN(), rng, {}, [[images]], layers, guesses, has_dropout=False)


def _linear(rng: Generator) -> list[Probe]:
    probes = []
    for shape, cost in (((4, 5), 0.7), ((1, 5), 0.1), ((2, 3, 5), 0.0)):
        weights = {"weight": _normal(rng, 6, 5), "bias": _normal(rng, 6)}
        x = _normal(rng, *shape)
        right = F.linear(*map(torch.from_numpy, (x, *weights.values())))
        guesses = {"the bias is not added": right - torch.from_numpy(weights["bias"])}
        request = {
            "probe": "layer", "positional": [5, 6], "options": {}, "weights": weights, "inputs": [[x]],
            "forbidden": ["linear"],
        }  # fmt: skip
        probes.append(Probe(f"x of shape {shape}", request, _layer_judge([right], guesses), cost))
    return [*probes, *_common(probes[0].request)]


def _convolution(rng: Generator) -> list[Probe]:
    probes = []
    for title, kernel, options, cost in (
        ("3×3 kernels", 3, {}, 0.4),
        ("5×5 kernels", 5, {}, 0.2),
        ("one image", 3, {}, 0.1),
        ("stride 2", 3, {"stride": 2}, 0.05),
        ("padding 1", 3, {"padding": 1}, 0.05),
    ):
        weights = {"weight": _normal(rng, 4, 3, kernel, kernel), "bias": _normal(rng, 4)}
        x, w, b = (
            torch.from_numpy(v) for v in (_normal(rng, 1 if title == "one image" else 2, 3, 8, 9), *weights.values())
        )
        stride = int(options.get("stride", 1))
        paddings = [options["padding"]] if options.get("padding") else [0, kernel // 2]  # Task 1, and Equation 4
        rights = [F.conv2d(x, w, b, stride, padding) for padding in paddings]
        guesses: dict[str, Tensor] = {}
        for padding in paddings:
            guesses |= {
                f"the bias is not added{'' if not padding else ' '}": F.conv2d(x, w, None, stride, padding),
                f"the kernels are flipped{'' if not padding else ' '}": F.conv2d(x, w.flip(2, 3), b, stride, padding),
                f"rows and columns of the kernels are swapped{'' if not padding else ' '}": F.conv2d(
                    x, w.transpose(2, 3), b, stride, padding
                ),
            }
        request = {
            "probe": "layer", "positional": [3, 4, kernel], "options": options, "weights": weights,
            "inputs": [[x.numpy()]], "forbidden": ["conv2d", "conv1d", "conv3d", "linear", "convolution"],
        }  # fmt: skip
        probes.append(Probe(title, request, _layer_judge(rights, guesses), cost))
    return [*probes, *_common(probes[0].request)]


def _common(request: Mapping[str, Any]) -> list[Probe]:
    """Probes of both layers: whether they have gradients, and whether they use what the task forbids."""

    def allowed(answer: Mapping[str, Any]) -> Finding:
        used = [str(name) for name in answer["used"]]
        return Finding(f"uses torch's own {used[0]}, which the task forbids" if used else "")

    return [
        Probe("gradients", {**request, "probe": "layer_gradient"}, gradient_judge, 0.1),
        Probe("what the task forbids", request, allowed, 1.0),
    ]


def _layer_judge(rights: list[Tensor], guesses: Mapping[str, Tensor]) -> Any:
    def judge(answer: Mapping[str, Any]) -> Finding:
        if answer["ignored"]:
            return Finding(remark=f"has no {', '.join(map(str, answer['ignored']))}, which the sheet does not ask for")
        if not answer["loaded"]:
            return Finding("its parameters are not weight and bias with the shapes of torch's layer")
        if any(same(answer["out"], right) for right in rights):
            return Finding()
        return Finding(explain_output(answer["out"], rights[0], guesses).strip())

    return judge


def _normal(rng: Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


CHECKS = (
    Check("Net", "assignment2.py", "1.1", 0.1, _network,
          also=("ConvNet", "CNN", "Network", "MyNet", "ConvolutionalNetwork")),
    Check("myLinear", "assignment2.py", "2.1", 0.3, _linear, also=("MyLinear", "my_linear", "Linear")),
    Check("myConv2d", "assignment2.py", "3.1", 0.4, _convolution,
          also=("myConv2D", "MyConv2d", "MyConv2D", "myConv", "MyConv", "myConvolution", "my_conv2d")),
)  # fmt: skip


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    return grade_checks(CHECKS, folder, seed, seconds, sandbox, names)


SHEET = Sheet(
    name="convnets-2024-a2",
    files=("assignment2.ipynb",),
    elsewhere="1.2 more are for the training, the times, the feature maps and Grad-CAM (Tasks 1.2 and 3.2 to 3.4)",
    runner="hw_check.networks.inside",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
