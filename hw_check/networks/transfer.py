"""Question 5 of eecs545-w20-hw4, transfer learning: the four functions of transfer_learning.py."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray
from numpy.random import Generator
from torch import nn

from hw_check.networks.checks import TORCH, Check, Finding, Probe, grade_checks
from hw_check.rows import Sheet

_RATE, _EPOCHS = 0.5, 4
_NO_TRAINING = "does not train a network with train_model"
_NO_VALIDATION = "does not validate the network"
Snapshots = list[dict[str, ndarray]]  # the weights at every validation


def _data(rng: Generator) -> tuple[dict[str, ndarray], list[Any], list[Any]]:
    """Weights that classify the validation batches well, and training batches in which half of the labels are wrong."""
    weights = {"weight": rng.normal(size=(2, 6)).astype(np.float32), "bias": np.zeros(2, np.float32)}

    def batch(size: int, share: float) -> list[ndarray]:
        x = rng.normal(size=(size, 6)).astype(np.float32)
        best = (x @ weights["weight"].T).argmax(axis=1)
        return [x, np.where(rng.random(size) < share, best, 1 - best)]

    return weights, [batch(8, 0.5) for _ in range(3)], [batch(40, 1), batch(24, 1)]


def _trained(
    weights: Mapping[str, ndarray], train: list[Any], *, zero: bool = True, step: bool = True, softmax: bool = False
) -> tuple[Snapshots, list[float]]:
    """The weights after each epoch of a correct training run, or of one with a mistake, and the training accuracies."""
    model = nn.Linear(6, 2)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    optimizer, snapshots, accuracies = torch.optim.SGD(model.parameters(), lr=_RATE), [], []
    for _ in range(_EPOCHS):
        hits = 0
        for x, y in train:
            if zero:
                optimizer.zero_grad()
            scores = model(torch.from_numpy(x))
            hits += int((scores.argmax(dim=1).numpy() == y).sum())
            F.cross_entropy(scores.softmax(dim=1) if softmax else scores, torch.from_numpy(y)).backward()
            if step:
                optimizer.step()
        snapshots.append({name: p.detach().numpy().copy() for name, p in model.named_parameters()})
        accuracies.append(hits / sum(len(y) for _, y in train))
    return snapshots, accuracies


def _train_model(rng: Generator) -> list[Probe]:
    while True:
        weights, train, val = _data(rng)
        right, training_accuracies = _trained(weights, train)
        by_training = _best(training_accuracies)
        chosen = [*_best([_accuracy(one, val) for one in right]), *by_training, _EPOCHS - 1]
        if len(chosen) == len(set(chosen)) == 3:  # no ties; best validation, best training and last epoch differ
            break
    guesses = {
        "the gradients of the previous batch are not set to zero": _trained(weights, train, zero=False)[0],
        "the parameters do not change: there is no step of the optimizer": _trained(weights, train, step=False)[0],
        "a softmax comes before the criterion, which applies one itself": _trained(weights, train, softmax=True)[0],
    }

    def trains(answer: Mapping[str, Any]) -> Finding:
        found = answer["snapshots"]
        if len(found) != _EPOCHS:
            return Finding(f"validates {len(found)} times in {_EPOCHS} epochs" if found else _NO_VALIDATION)
        if _same(found, right):
            return Finding()
        mistake = next((text for text, guess in guesses.items() if _same(found, guess)), "")
        return Finding(mistake or "the weights after an epoch differ from the expected ones")

    def best_weights(answer: Mapping[str, Any]) -> Finding:
        return _judge_best_weights(answer, weights, val, right[by_training[0]])

    request = {"probe": "train_model", "weights": weights, "train": train, "val": val, "epochs": _EPOCHS, "rate": _RATE}

    def if_validated(judge: Callable[[Mapping[str, Any]], Finding]) -> Callable[[Mapping[str, Any]], Finding]:
        return lambda answer: judge(answer) if answer["snapshots"] else Finding(_NO_VALIDATION)

    # There are 2 classes, and 8 images in a batch.
    reasons = {"tensor a (2) must match the size of tensor b (8)": "preds must be taken over dim 1; dim 0 is the batch"}
    return [
        Probe(f"{_EPOCHS} epochs", request, trains, 0.4, reasons),
        Probe("steps of the scheduler", request, _judge_scheduler, 0.1),
        Probe("validation", request, if_validated(_judge_validation), 0.2),
        Probe("modes", request, if_validated(_judge_modes), 0.1),
        Probe("best weights", request, if_validated(best_weights), 0.2),
    ]


def _best(accuracies: Sequence[float]) -> list[int]:
    """The epochs with the highest accuracy."""
    return [epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies)]


def _judge_scheduler(answer: Mapping[str, Any]) -> Finding:
    steps = answer["scheduler steps"]
    if steps == 0:
        return Finding("the scheduler makes no step: the learning rate never decreases")
    text = f"the scheduler makes {steps} steps in {_EPOCHS} epochs; it counts epochs, not batches or phases"
    return Finding(text if steps > _EPOCHS else "")


def _judge_validation(answer: Mapping[str, Any]) -> Finding:
    if answer["changed"]:
        return Finding("the weights change during validation: only the training phase may step")
    return Finding(
        remark="computes gradients during validation, which takes time and memory" if answer["graphs"] else ""
    )


def _judge_modes(answer: Mapping[str, Any]) -> Finding:
    if not answer["trained in training mode"]:
        return Finding("trains in eval mode")
    return Finding("" if answer["validated in eval mode"] else "validates in training mode")


def _judge_best_weights(
    answer: Mapping[str, Any], weights: Mapping[str, ndarray], val: list[Any], by_training: Mapping[str, ndarray]
) -> Finding:
    """Judges the returned weights; `by_training` are those of the epoch with the best training accuracy."""
    found, snapshots = answer["returned"], answer["snapshots"]
    if not isinstance(found, dict):
        return Finding("does not return the network")
    if len(snapshots) != _EPOCHS or _same(snapshots[:1], snapshots[-1:]):
        return Finding()  # it does not train, which costs points elsewhere
    if any(_same([found], [snapshots[epoch]]) for epoch in _best([_accuracy(one, val) for one in snapshots])):
        return Finding()
    expected = "expected those of the epoch with the best validation accuracy"
    if _same([found], snapshots[-1:]):
        return Finding(f"returns the weights of the last epoch, {expected}: are they copied, and loaded again?")
    if _same([found], [dict(by_training)]):
        return Finding(f"returns the weights of the epoch with the best training accuracy, {expected}")
    if _same([found], [dict(weights)]):
        return Finding("returns the weights from before the training: are preds the indices of the largest scores?")
    return Finding(f"returns other weights, {expected}")


def _accuracy(weights: Mapping[str, ndarray], batches: list[Any]) -> float:
    hits = [(x @ weights["weight"].T + weights["bias"]).argmax(axis=1) == y for x, y in batches]
    return float(np.concatenate(hits).mean())


def _same(found: Any, right: Snapshots) -> bool:
    return all(
        np.allclose(one[name], value, atol=1e-5)
        for one, other in zip(found, right, strict=True)
        for name, value in other.items()
    )


def _finetune(rng: Generator) -> list[Probe]:
    def moves(answer: Mapping[str, Any]) -> Finding:
        finding = _judge_training(answer)
        if not finding.mistake and not answer["body moves"]:
            return Finding("only the last layer moves in a training step: the whole network must be trained")
        return finding

    return _transfer_probes(rng, moves)


def _freeze(rng: Generator) -> list[Probe]:
    def moves(answer: Mapping[str, Any]) -> Finding:
        finding = _judge_training(answer)
        return finding if finding.mistake else Finding(_explain_moving_body(answer))

    def frozen(answer: Mapping[str, Any]) -> Finding:
        # Layers that move cost points in `moves`.
        stays = answer["outputs"] is None or answer["body moves"] or not answer["body needs gradients"]
        return Finding(
            "" if stays else "requires_grad is still True in the other layers: only the optimizer skips them"
        )

    what_moves, last_layer, criterion = _transfer_probes(rng, moves)
    frozen_probe = Probe("requires_grad", what_moves.request, frozen, 0.1)
    return [dataclasses.replace(what_moves, cost=0.4), frozen_probe, last_layer, criterion]


def _explain_moving_body(answer: Mapping[str, Any]) -> str:
    """The reason why more than the last layer moves in a training step of `freeze`; empty if it does not."""
    moves, stays = ([str(name) for name in answer[key]] for key in ("body moves", "body stays"))
    if not moves:
        return ""
    if answer["invented"]:
        invented = ", ".join(map(str, answer["invented"]))
        return f"nothing is frozen: the attribute {invented} has no effect, expected requires_grad"
    if not stays:
        return "nothing is frozen: all layers move in a training step; requires_grad = False freezes a parameter"
    if all("conv" in name or name.endswith(".0.weight") for name in stays):
        return "the batch normalization moves in a training step, too: only the last layer may move"
    return f"other layers move in a training step ({', '.join(moves[:3])}): only the last layer may move"


def _transfer_probes(rng: Generator, moves: Callable[[Mapping[str, Any]], Finding]) -> list[Probe]:
    scores, labels = rng.normal(size=(5, 2)).astype(np.float32), rng.integers(0, 2, 5)
    tensors = torch.from_numpy(scores), torch.from_numpy(labels)
    right = float(F.cross_entropy(*tensors))
    guesses = {
        "the criterion is nn.NLLLoss, which expects log-probabilities": float(F.nll_loss(*tensors)),
        "the criterion adds up the losses, expected their mean": 5 * right,
    }

    def criterion(answer: Mapping[str, Any]) -> Finding:
        if answer["outputs"] is None:
            return Finding(_NO_TRAINING)
        loss = answer["loss"]
        if isinstance(loss, float) and abs(loss - right) < 1e-4:
            return Finding()
        near = (text for text, guess in guesses.items() if isinstance(loss, float) and abs(loss - guess) < 1e-4)
        return Finding(next(near, "the criterion is not the cross-entropy of the scores"))

    request = {"probe": "transfer", "scores": scores, "labels": labels}
    return [
        Probe("what moves", request, moves, 0.5),
        Probe("last layer", request, _judge_last_layer, 0.3),
        Probe("criterion", request, criterion, 0.2),
    ]


def _visualize(rng: Generator) -> list[Probe]:
    classes, shown = ["ants", "bees"], 6  # the function's default
    images, labels = rng.random((6, 3, 8, 8), dtype=np.float32), rng.integers(0, 2, 6)

    def predictions(answer: Mapping[str, Any]) -> Finding:
        texts = [str(text) for text in answer["texts"]]
        captions = [text.rpartition("redict")[2] for text in texts if any(name in text for name in classes)]
        right = [classes[int(place)] for place in answer["predicted"]][:shown]
        if len(captions) < shown:
            return Finding(f"names the predicted class of {len(captions)} images, expected {shown}")
        wrong = [text for text, name in zip(captions, right, strict=False) if name not in text]
        text = f"{len(wrong)} of {shown} images show a predicted class that differs from the network's"
        if len(wrong) == shown:  # there are two classes
            text += ": is the class with the smallest score taken, or are the names exchanged?"
        return Finding(text if wrong else "")

    def modes(answer: Mapping[str, Any]) -> Finding:
        if not answer["modes"]:
            return Finding("does not run the network")
        if any(answer["modes"]):
            return Finding("predicts in training mode")
        return Finding("" if answer["restored"] else "leaves the network in eval mode, but got it in training mode")

    request = {"probe": "visualize", "images": images, "labels": labels, "classes": classes}
    return [Probe("predicted classes", request, predictions, 0.7), Probe("modes", request, modes, 0.3)]


def _judge_last_layer(answer: Mapping[str, Any]) -> Finding:
    if answer["outputs"] is None:
        return Finding(_NO_TRAINING)
    if not answer["new layer"]:
        return Finding("the last layer, fc, is not replaced by a new one")
    if answer["outputs"] != 2:
        return Finding(f"the new last layer has {answer['outputs']} outputs, expected one for each of the 2 classes")
    return Finding("" if answer["pretrained"] else "does not start from pretrained weights")


def _judge_training(answer: Mapping[str, Any]) -> Finding:
    if answer["outputs"] is None:
        return Finding(_NO_TRAINING)
    if answer["fc moves"]:
        return Finding()
    if not answer["fc needs gradients"]:
        return Finding("the last layer does not move in a training step: requires_grad of its weights is False")
    if not answer["fc is optimized"]:
        return Finding("the optimizer does not get the new last layer, which is never trained: make the layer first")
    return Finding("the last layer does not move in a training step")


CHECKS = (
    Check("train_model", "transfer_learning.py", "5a", 5, _train_model),
    Check("visualize_model", "transfer_learning.py", "5b", 2, _visualize),
    Check("finetune", "transfer_learning.py", "5c", 2, _finetune),
    Check("freeze", "transfer_learning.py", "5d", 3, _freeze),
)


SHEET = Sheet(
    name="eecs545-w20-hw4-q5",
    files=("transfer_learning.py",),
    points=sum(check.points for check in CHECKS),
    elsewhere="3 more are for the accuracies of Q5e",
    runner="hw_check.networks.observe",
    grade=partial(grade_checks, CHECKS),
    preload=TORCH,
    anywhere=True,
)
