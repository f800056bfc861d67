"""The sheet convnets-2024-a2: a network for CIFAR-10 (1.1), a student's layers (2.1, 3.1) and their network (3.2)."""

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from hw_check.definitions import code_of, statements, write_definitions
from hw_check.networks.checks import TORCH, Check, Finding, Probe, definitions, grade_checks
from hw_check.networks.classifiers import classifier_probes
from hw_check.networks.measuring import POINTS, measured_ratio, names_in
from hw_check.networks.observed import Answer
from hw_check.networks.own_layers import convolution_probes, linear_probes
from hw_check.networks.plans import Classifier, Design, Plan
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

    one_image = dataclasses.replace(_NETWORK, images=lambda rng: _NETWORK.images(rng)[:1], is_slow=True)
    probes = classifier_probes(one_image, rng)
    return [*probes, Probe("own layers", probes[0].request, own, 1.0)]


def _is_layer(*names: str, arguments: int) -> Callable[[ast.AST], bool]:
    """Recognizes a student's own layer by the name of its class, such as MyConv2D or ConvLayer, and by its arguments.

    The class takes at least `arguments` arguments. The first two, the numbers of inputs and outputs, have no default.
    """

    def is_like(node: ast.AST) -> bool:
        if not isinstance(node, ast.ClassDef):
            return False
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        made = next((method for method in methods if method.name == "__init__"), None)
        name = node.name.lower()
        return (
            any(part in name for part in names)
            and "net" not in name
            and made is not None
            and len(made.args.args) > arguments  # the first is self
            and len(made.args.args) - len(made.args.defaults) > 2
        )

    return is_like


_is_linear, _is_convolution = _is_layer("linear", "fully", arguments=2), _is_layer("conv", arguments=3)
CHECKS = (
    Check("network", "assignment2.py", "1.1", 0.1, _network),
    Check("myLinear", "assignment2.py", "2.1", 0.3, linear_probes, like=_is_linear),
    Check("myConv2d", "assignment2.py", "3.1", 0.4, convolution_probes, like=_is_convolution),
    Check("own network", "assignment2.py", "3.2", 0.1, _own_network),
)


def _networks(folder: Path) -> dict[str, str]:
    """The places of the network of Task 1.1 and of that of Task 3.2, as "file.py:name" or "file.py:call".

    Both may be one class or function, called with the layers or a flag: ConvNet(myConv2d, myLinear), Net(own=True).
    """
    write_definitions(folder)
    defined = definitions(folder)
    layers = {name for _, name, node in defined if _is_linear(node) or _is_convolution(node)}
    found = [(path, name, node) for path, name, node in defined if name not in layers and _builds_a_network(node)]
    own = [
        (path, name) for path, name, node in found if names_in(node) & layers and "nn.Conv2d" not in ast.unparse(node)
    ]
    default = [(path, name, node) for path, name, node in found if (path, name) not in own]
    calls: list[tuple[Path, str, set[str]]] = []  # file, call, and the names in its arguments
    for path, text in code_of(folder):
        for node in ast.walk(ast.Module(statements(text), [])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {name for _, name, _ in default}:
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                named = set().union(*map(names_in, given))
                if given and (named or all(isinstance(value, ast.Constant) for value in given)):
                    calls.append((path.with_suffix(".py"), ast.unparse(node), named))
    own = own or [(path, call) for path, call, named in calls if named & layers]
    own = own or [(path, call) for path, call, named in calls if not named]
    networks = [(path, name) for path, name, node in default if not _requires_arguments(node)]
    networks = networks or [(path, call) for path, call, named in calls if not named & layers]
    places = {"network": networks, "own network": own}
    return {name: f"{found[0][0].relative_to(folder)}:{found[0][1]}" for name, found in places.items() if found}


def _builds_a_network(node: ast.stmt) -> bool:
    """Whether a class or function has convolutions and affine layers, which may be its arguments."""
    text = ast.unparse(node)
    is_network = isinstance(node, ast.ClassDef) or "Sequential(" in text
    is_affine = any(part in text.lower() for part in ("lin", "fully", "fc"))
    return is_network and is_affine and "conv" in text.lower() and "Parameter(" not in text


def _requires_arguments(node: ast.stmt) -> bool:
    methods = [part for part in getattr(node, "body", []) if isinstance(part, ast.FunctionDef)]
    made = next((method for method in methods if method.name == "__init__"), node)
    if not isinstance(made, ast.FunctionDef):
        return False
    return len(made.args.args) - len(made.args.defaults) > (1 if made is not node else 0)


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    measured = measured_ratio(folder)
    before: list[Row] = []
    for row in grade_checks(CHECKS, folder, seed, seconds, sandbox, {**_networks(folder), **names}):
        before.append(row)
        yield _without_repeated_mistakes(row, before) if row.function == "own network" else row
    yield measured


def _without_repeated_mistakes(row: Row, before: Sequence[Row]) -> Row:
    """The row of the student's network of own layers; mistakes that cost points in other rows cost nothing here."""
    network, linear, convolution = before[:3]
    lost = any(0 < layer.points < layer.of or layer.status == "failed" for layer in (linear, convolution))
    repeats = row.hint and (lost or row.hint == network.hint)
    if not repeats or "uses torch's" in row.hint or row.status == "missing":
        return row
    remarks = (f"{row.hint} (costs nothing a second time)", *row.remarks)
    return dataclasses.replace(row, points=row.of, status="passed", hint="", remarks=remarks)


SHEET = Sheet(
    name="convnets-2024-a2",
    files=("assignment2.ipynb",),
    points=sum(check.points for check in CHECKS) + POINTS,
    elsewhere="1 more is for the training (1.2) and the figures (3.3, 3.4); a person reads the accuracies of 3.2",
    runner="hw_check.networks.observe",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
