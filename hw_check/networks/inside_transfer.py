"""The probes of inside.py for a student's transfer_learning.py: training runs of tiny networks.

Imports only the standard library, torch, torchvision, Matplotlib and startup.py, which makes torch start faster.
"""

import contextlib
import sys
import types
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from hw_common.training.startup import import_torchvision, skip_compiler

skip_compiler()
import_torchvision()
import torchvision  # noqa: E402

Case = Mapping[str, Any]


class _Watched(nn.Linear):
    """A linear network that notes how it is trained and validated."""

    def __init__(self, case: Case) -> None:
        super().__init__(6, 2)
        for name, parameter in self.named_parameters():
            parameter.data = torch.from_numpy(case["weights"][name].copy())
        self.first = torch.from_numpy(case["val"][0][0])
        self.train_sizes = {len(x) for x, _ in case["train"]}
        self.notes: dict[str, Any] = {"snapshots": [], "changed": False, "graphs": False}
        self.notes |= {"trained in training mode": True, "validated in eval mode": True}

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        now = self.weights()
        if len(x) in self.train_sizes:
            self.notes["trained in training mode"] &= self.training
        else:
            self.notes["validated in eval mode"] &= not self.training
            self.notes["graphs"] |= torch.is_grad_enabled()
            if len(x) == len(self.first):
                self.notes["snapshots"].append(now)
            elif self.notes["snapshots"]:
                before = self.notes["snapshots"][-1]
                self.notes["changed"] |= any((before[name] != value).any() for name, value in now.items())
        return super().forward(x)

    def weights(self) -> dict[str, Any]:
        """A copy of the parameters."""
        return {name: p.detach().numpy().copy() for name, p in self.named_parameters()}


def _train_model(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Trains a watched network with the student's train_model."""
    model = _Watched(case)
    optimizer = torch.optim.SGD(model.parameters(), lr=case["rate"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100)
    steps = [0]
    scheduler.step = _counting(scheduler.step, steps)  # type: ignore[method-assign]  # counts the calls
    loaders = {
        phase: [tuple(map(torch.from_numpy, batch)) for batch in case[phase]] for phase in ("train", "val")
    }  # fmt: skip
    sizes = {phase: sum(len(y) for _, y in batches) for phase, batches in loaders.items()}
    train = getattr(module, job["needs"][0])
    returned = train(torch.device("cpu"), loaders, sizes, model, nn.CrossEntropyLoss(), optimizer, scheduler,
                     num_epochs=case["epochs"])  # fmt: skip
    network = returned[0] if isinstance(returned, tuple | list) else returned
    returned_weights = network.weights() if isinstance(network, _Watched) else None
    nothing = network is None and not model.notes["snapshots"]
    return {**model.notes, "returned": returned_weights, "scheduler steps": steps[0], "nothing": nothing}


def _counting(step: Any, steps: list[int]) -> Any:
    def counted(*arguments: Any, **named: Any) -> Any:
        steps[0] += 1
        return step(*arguments, **named)

    return counted


class _Backbone(nn.Module):
    """A small network with names and sizes of a ResNet-18, in place of torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number in range(1, 5):
            size = 32 * 2**number
            convolution = nn.Conv2d(max(64, size // 2), size, 1, bias=False)
            setattr(self, f"layer{number}", nn.Sequential(convolution, nn.BatchNorm2d(size), nn.ReLU()))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        x = self.bn1(self.conv1(x)).relu()
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        scores: Tensor = self.fc(x.mean(dim=(2, 3)))
        return scores


def _transfer(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Calls finetune or freeze with a tiny network in place of ResNet-18 and one step in place of train_model."""
    answer: dict[str, Any] = {"outputs": None, "new layer": False, "pretrained": False}
    made: list[tuple[_Backbone, nn.Module]] = []  # each network with its original last layer

    def resnet18(*arguments: Any, **named: Any) -> nn.Module:
        answer["pretrained"] |= bool(arguments and arguments[0]) or bool(
            named.get("pretrained") or named.get("weights")
        )
        model = _Backbone()
        made.append((model, model.fc))
        return model

    def train(*arguments: Any, **named: Any) -> Any:
        given = [*arguments, *named.values()]
        model = next((value for value in given if isinstance(value, nn.Module) and hasattr(value, "fc")), None)
        optimizer = next((value for value in given if isinstance(value, torch.optim.Optimizer)), None)
        criterion = next(
            (v for v in given if v is not model and (isinstance(v, nn.Module) or hasattr(v, "__name__"))), None
        )
        if named.get("num_epochs") != 0 and model is not None and optimizer is not None:
            answer.update(_one_step(model, optimizer))
            answer["loss"] = _loss(criterion, case)
        return model

    _replace(torchvision.models.resnet18, resnet18)
    for name, value in {"train_model": train, "visualize_model": lambda *a, **k: None}.items():
        setattr(module, name, value)
    batch = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))]
    getattr(module, job["needs"][0])(torch.device("cpu"), {"train": batch, "val": batch}, {"train": 4, "val": 4},
                                     ["ants", "bees"])  # fmt: skip
    answer["new layer"] = bool(made) and made[-1][0].fc is not made[-1][1]
    answer["nothing"] = not made and answer["outputs"] is None
    return answer


def _replace(old: Any, new: Any) -> None:
    """Puts a function in the place of another one in every module that has imported it by its name."""
    for module in list(sys.modules.values()):
        for name in [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is old]:
            setattr(module, name, new)


def _one_step(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Outputs of the last layer, and what a training step changes."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 0, 1]))
    with contextlib.suppress(RuntimeError):  # nothing requires a gradient
        loss.backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(before.get(name, p + 1), p)}
    last = [part for part in model.fc.modules() if isinstance(part, nn.Linear)]
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    body = [(name, p) for name, p in model.named_parameters() if not name.startswith("fc")]
    return {
        "outputs": last[-1].out_features if last else 0,
        "fc moves": any(name.startswith("fc") for name in moved),
        "fc is optimized": all(id(p) in optimized for p in model.fc.parameters()),
        "fc needs gradients": any(p.requires_grad for p in model.fc.parameters()),
        "body moves": [name for name, _ in body if name in moved],
        "body stays": [name for name, _ in body if name not in moved],
        "body needs gradients": any(p.requires_grad for _, p in body),
        "invented": sorted({name for p in model.parameters() for name in vars(p)}),  # attributes that have no effect
    }


def _loss(criterion: Any, case: Case) -> float | None:
    """The loss that the criterion gives for fixed scores and labels; None if it cannot be computed."""
    with contextlib.suppress(Exception):
        return float(criterion(torch.from_numpy(case["scores"].copy()), torch.from_numpy(case["labels"].copy())))
    return None


def _visualize(module: types.ModuleType, job: Mapping[str, Any], case: Case) -> Any:
    """Calls visualize_model with a tiny network, and notes its modes and all texts of the figures."""
    texts: list[str] = []
    model = _Backbone()
    model.fc = nn.Linear(512, 2)
    model.train()
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    images, labels = torch.from_numpy(case["images"].copy()), torch.from_numpy(case["labels"].copy())
    model(images)  # the averages of the batch normalization are no longer those of the beginning
    modes.clear()
    predicted = _Backbone.forward(model.eval(), images).argmax(dim=1)
    model.train()
    modes.clear()
    for kind, name in ((Axes, "set_title"), (Axes, "set_xlabel"), (Axes, "text"), (Figure, "suptitle")):
        setattr(kind, name, _noting(getattr(kind, name), texts))
    batches = [(images[:3], labels[:3]), (images[3:], labels[3:])]
    returned = getattr(module, job["needs"][0])(torch.device("cpu"), {"val": batches, "train": batches}, model,
                                                case["classes"])  # fmt: skip
    texts += [str(text) for text in _flat(returned)]
    return {
        "texts": texts[:50], "modes": modes[:50], "restored": model.training, "predicted": predicted.numpy(),
        "nothing": not texts and not modes,
    }  # fmt: skip


def _noting(method: Any, texts: list[str]) -> Any:
    def noted(self: Any, *arguments: Any, **named: Any) -> Any:
        texts.extend(value for value in (*arguments, *named.values()) if isinstance(value, str))
        return method(self, *arguments, **named)

    return noted


def _flat(value: Any) -> list[str]:
    if isinstance(value, tuple | list):
        return [text for item in value for text in _flat(item)]
    return [value] if isinstance(value, str) else []


PROBES = {"train_model": _train_model, "transfer": _transfer, "visualize": _visualize}
