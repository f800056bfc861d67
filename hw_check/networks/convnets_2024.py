"""The sheet convnets-2024-a2: a network for CIFAR-10 (Task 1.1), own layers (2.1, 3.1) and a network of them (3.2)."""

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator

from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.networks.classifiers import Classifier, Design, Plan, classifier_probes
from hw_check.networks.measuring import measuring_remarks
from hw_check.networks.observed import Answer
from hw_check.networks.own_layers import convolution_probes, linear_probes
from hw_check.rows import Row, Sheet
from hw_check.sandbox import Sandbox
from hw_cnn.models import CifarCNN

_PLAN = Plan((0, 0), (1, 1), (True, True), "scores", linear=3)
_TITLES = ("first convolution", "second convolution", "first fully connected layer", "second fully connected layer",
           "output layer")  # fmt: skip


def _shapes(features: int) -> tuple[tuple[int, ...], ...]:
    return (8, 3, 5, 5), (16, 8, 5, 5), (128, features), (64, 128), (10, 64)


_NETWORK = Classifier(
    designs=(
        Design(_PLAN, CifarCNN, _TITLES, _shapes(400)),
        Design(
            dataclasses.replace(_PLAN, paddings=(2, 2)), lambda: CifarCNN(padding=2), _TITLES, _shapes(1024),
            "pads the images, as Equation 4 does",
        ),
    ),
    options={},
    images=lambda rng: rng.normal(size=(3, 3, 32, 32)).astype(np.float32),
    forms=lambda images: [[images]],
    or_log_probabilities=True,
)  # fmt: skip


def _network(rng: Generator) -> list[Probe]:
    return classifier_probes(_NETWORK, rng)


def _own_network(rng: Generator) -> list[Probe]:
    """The network of Task 3.2, which must consist of the student's layers."""

    def own(answer: Answer) -> Finding:
        theirs = [name for name in ("Conv2d", "Linear") if name in answer["layers"]]
        return Finding(
            f"uses torch's {' and '.join(theirs)}, expected the layers of Tasks 2.1 and 3.1" if theirs else ""
        )

    probes = classifier_probes(_NETWORK, rng)
    return [*probes, Probe("own layers", probes[0].request, own, 1.0)]


def _is_a(*parts: str, without: tuple[str, ...] = ()) -> Callable[[ast.stmt], bool]:
    """Recognizes a class by names that occur in it, in lower case."""

    def is_like(node: ast.stmt) -> bool:
        text = ast.unparse(node).lower()
        return all(part in text for part in parts) and not any(part in text for part in without)

    return is_like


def _is_layer(*names: str, arguments: int) -> Callable[[ast.stmt], bool]:
    """Recognizes an own layer by the name of its class, such as MyConv2D or ConvLayer, and by its arguments."""

    def is_like(node: ast.stmt) -> bool:
        if not isinstance(node, ast.ClassDef):
            return False
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        made = next((method for method in methods if method.name == "__init__"), None)
        name = node.name.lower()
        return (
            any(part in name for part in names)
            and "net" not in name
            and made is not None
            and len(made.args.args) - len(made.args.defaults) > arguments
        )

    return is_like


CHECKS = (
    Check("network", "assignment2.py", "1.1", 0.1, _network, like=_is_a("nn.conv2d(", "nn.linear(")),
    Check("myLinear", "assignment2.py", "2.1", 0.3, linear_probes, like=_is_layer("linear", "fully", arguments=2)),
    Check("myConv2d", "assignment2.py", "3.1", 0.4, convolution_probes, like=_is_layer("conv", arguments=3)),
    Check("own network", "assignment2.py", "3.2", 0, _own_network,
          like=_is_a("conv", "linear", "self.", without=("nn.conv2d(", "parameter("))),
)  # fmt: skip


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    file, remarks = measuring_remarks(folder)
    yield from grade_checks(CHECKS, folder, seed, seconds, sandbox, names)
    if file:
        yield Row("measured ratio", file, "3.2", 0, 0, "passed", remarks=tuple(remarks))


SHEET = Sheet(
    name="convnets-2024-a2",
    files=("assignment2.ipynb",),
    elsewhere="1.2 more are for the training (1.2), the accuracies and times (3.2), and the figures (3.3, 3.4)",
    runner="hw_check.networks.observe",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
