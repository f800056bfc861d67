"""What `hw_ocr.train` trains: network, batches, loss, and the numbers and figures of its summary."""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.runs import figures, files
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.batches import EpochBatches
from hw_common.training.experiment import Experiment, evaluate_once, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row
from hw_ocr import data, plots
from hw_ocr.crf import LinearChainCRF
from hw_ocr.data import Letters, OcrData
from hw_ocr.fast_crf import FastLinearChainCRF
from hw_ocr.models import CLASSES, BiLSTM, ConvBiLSTM, OcrCNN, PerLetter, WithCRF
from hw_ocr.presets import HOMEWORK, SOURCE, TITLES, takes_words

_WORDS_AT_ONCE = 256


def build_model(arguments: argparse.Namespace) -> nn.Module:
    """The network that `arguments` describe: of letters for a CNN without CRF, else of words."""
    if arguments.model == "cnn":
        network: nn.Module = OcrCNN(arguments.conv_layers)
        if not arguments.crf:
            return network
        network = PerLetter(network)
    else:
        sizes = {"hidden": arguments.hidden, "layers": arguments.layers, "dropout": arguments.dropout}
        network = BiLSTM(**sizes) if arguments.model == "bilstm" else ConvBiLSTM(**sizes)
    crf = FastLinearChainCRF if arguments.kernels == "fast" else LinearChainCRF
    return WithCRF(network, crf(CLASSES)) if arguments.crf else network


def prepare(arguments: argparse.Namespace, device: torch.device) -> Experiment:
    """Everything that `arguments` describe.

    Raises:
        UserError: the data cannot be used, or the batch is smaller than the number of processes.
    """
    ocr = data.load(arguments.dataset, arguments.data_dir, arguments.seed)
    model = build_model(arguments).to(device)
    _announce(arguments, ocr, model)
    batches = training_batches(arguments, ocr.train, device)
    optimizer = make_optimizer(arguments.optimizer, model.parameters(), arguments.lr, arguments.l2_decay)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(arguments.schedule, optimizer, arguments.epochs * len(batches)),
        loss_function=word_loss if takes_words(arguments.model, arguments.crf) else letter_loss,
        evaluate=lambda model: evaluate(model, ocr.dev, "validation"),
        monitor="validation_accuracy",
        hashes=ocr.hashes,
        metadata=weights_metadata(arguments),
        summarize=lambda fitted: _summarize(arguments, ocr, model, fitted),
        draw=lambda folder, fitted, summary: _draw(arguments, ocr, model, folder, fitted),
        report=_report,
    )


def title(arguments: argparse.Namespace) -> str:
    """What people call the network that `arguments` describe."""
    layers = f" with {arguments.conv_layers} convolutions" if arguments.model == "cnn" else ""
    return f"{TITLES[arguments.model]}{'-CRF' if arguments.crf else ''}{layers}"


def weights_metadata(arguments: argparse.Namespace) -> dict[str, str]:
    """Whose weights these are: what a weights file says about itself."""
    return {"homework": HOMEWORK, "network": title(arguments)}


def training_batches(arguments: argparse.Namespace, letters: Letters, device: torch.device) -> EpochBatches:
    """The shuffled, possibly augmented mini-batches of letters or words that `arguments` describe, on `device`."""
    if arguments.batch_size < distributed.world_size():
        raise UserError(f"--batch_size {arguments.batch_size} is less than one example for each process")
    make = data.word_batches if takes_words(arguments.model, arguments.crf) else data.letter_batches
    return make(letters, arguments.batch_size, device, arguments.seed, shuffle=True, augment=arguments.augment)


def letter_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes for a network of single letters: mean cross-entropy of the letters."""
    images, labels = batch
    return F.cross_entropy(model(images), labels), len(labels), {}


def word_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes for a network of words.

    Mean over the letters of the cross-entropy or, under a CRF, of the words' negative log-likelihoods (dsl-2019-hw3
    Q2.2). Dividing those by letters too makes one learning rate suit both.
    """
    images, labels, mask = batch
    scores = model(images, mask)
    letters = int(mask.sum())
    return _negative_log_likelihood(getattr(model, "module", model), scores, labels, mask) / letters, letters, {}


def _negative_log_likelihood(network: nn.Module, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Summed over all letters, or all words, of a batch of `scores` (B, T, 26)."""
    if isinstance(network, WithCRF):
        return -network.crf.log_likelihood(scores.float(), labels, mask).sum()
    return F.cross_entropy(scores[mask], labels[mask], reduction="sum")


def on_words(model: nn.Module) -> nn.Module:
    """`model` as a network of words, (images (B, T, 16, 8), mask (B, T)) to scores (B, T, 26), whatever it is."""
    return PerLetter(model) if isinstance(model, OcrCNN) else model


def decode(network: nn.Module, scores: Tensor, mask: Tensor) -> Tensor:
    """The letters (B, T) that a network of words reads: each best one, or under a CRF the best word (Viterbi)."""
    return network.crf.decode(scores.float(), mask) if isinstance(network, WithCRF) else scores.argmax(2)


def read(model: nn.Module, letters: Letters) -> tuple[Tensor, float]:
    """Reads all words of `letters`, in every process alike.

    Args:
        model: in eval mode, under inference_mode.
        letters: (n) in words.

    Returns:
        What each letter is taken for, (n,) int64 on the CPU, and the mean loss over the letters.
    """
    network, device = on_words(model), next(model.parameters()).device
    predicted, loss = [], 0.0
    lengths = letters.lengths.tolist()
    words = list(zip(letters.images.split(lengths), letters.labels.split(lengths), strict=True))
    for first in range(0, len(words), _WORDS_AT_ONCE):
        images, labels = (
            nn.utils.rnn.pad_sequence(part, batch_first=True).to(device)
            for part in zip(*words[first : first + _WORDS_AT_ONCE], strict=True)
        )
        mask = torch.arange(labels.shape[1]) < letters.lengths[first : first + _WORDS_AT_ONCE, None]
        mask = mask.to(device)
        scores = network(images.float(), mask)
        loss += _negative_log_likelihood(network, scores, labels, mask).item()
        predicted.append(decode(network, scores, mask)[mask].cpu())
    return torch.cat(predicted), loss / len(letters)


def evaluate(model: nn.Module, letters: Letters, part: str) -> Row:
    """Mean loss, accuracy by letter and accuracy by whole word of `model`, in eval mode, called <part>_loss and so on.

    A word is right if all its letters are (the report's `evaluate` with decision=1).
    """
    predicted, loss = read(model, letters)
    right = predicted == letters.labels
    words = [word.all().item() for word in right.split(letters.lengths.tolist())]
    return {
        f"{part}_loss": loss,
        f"{part}_accuracy": right.double().mean().item(),
        f"{part}_word_accuracy": sum(words) / len(words),
    }


def _summarize(arguments: argparse.Namespace, ocr: OcrData, model: nn.Module, fitted: Fitted) -> dict[str, Any]:
    final, best = last_and_best(model, fitted, arguments.precision, lambda: evaluate(model, ocr.test, "test"))
    splits = {"training": ocr.train, "validation": ocr.dev, "test": ocr.test}
    return {
        "homework": HOMEWORK,
        "dataset": arguments.dataset,
        "data": ocr.name,
        "network": title(arguments),
        "letters": {part: len(letters) for part, letters in splits.items()},
        "words": {part: len(letters.lengths) for part, letters in splits.items()},
        "parameters": parameters(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "letters_per_second": round(arguments.epochs * len(ocr.train) / fitted.seconds, 1),
        },
    }


def parameters(model: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(parameter.numel() for parameter in model.parameters())


def _draw(arguments: argparse.Namespace, ocr: OcrData, model: nn.Module, folder: Path, fitted: Fitted) -> None:
    """All figures; those of what the network has learned show the best epoch, whose weights the run keeps."""
    model.load_state_dict(fitted.best_weights)
    predicted, _ = evaluate_once(model, arguments.precision, lambda: read(model, ocr.test))
    what = f"{title(arguments)}, {ocr.name}, {SOURCE}"
    plots.training_curves(folder, fitted.rows, what)
    counts = plots.count_confusions(ocr.test.labels, predicted)
    files.write_csv(folder / "confusion.csv", plots.confusion_rows(counts))
    plots.confusion_matrix(folder, counts, what)
    plots.misread_words(folder, ocr.test, predicted, what)
    for name, layer in plots.convolutions(model).items():  # dsl-2019-hw3 Q1.3, Figures 5 to 8
        figures.kernels(folder, name, layer.weight.detach().float().cpu().numpy(), f"best epoch, {what}")
    if isinstance(model, WithCRF):
        plots.transitions(folder, model.crf, what)


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({numbers['epoch']}): by letter validation {numbers['validation_accuracy']:.4f}, "
        f"test {numbers['test_accuracy']:.4f}; by word validation {numbers['validation_word_accuracy']:.4f}, "
        f"test {numbers['test_word_accuracy']:.4f}"
        for name, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['letters_per_second']:.0f} letters a second",
    ]


def _announce(arguments: argparse.Namespace, ocr: OcrData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    unit = "words" if takes_words(arguments.model, arguments.crf) else "letters"
    splits = (("training", ocr.train), ("validation", ocr.dev), ("test", ocr.test))
    sizes = ", ".join(f"{len(letters.lengths)} {part}" for part, letters in splits)
    print(
        f"{ocr.name}: {sizes} words, {sum(len(letters) for _, letters in splits)} letters\n"
        f"{title(arguments)} with {parameters(model)} parameters; {arguments.epochs} epochs of {arguments.optimizer}, "
        f"learning rate {arguments.lr:g}, batches of {arguments.batch_size} {unit}, seed {arguments.seed}"
    )
