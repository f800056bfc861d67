"""A run of `hw_ocr.train`: network, batches, loss, metrics, figures and summary."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.runs import files
from hw_common.training import distributed
from hw_common.training.batches import EpochBatches
from hw_common.training.experiment import Experiment, evaluate_once, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row
from hw_common.training.parameters import count_parameters
from hw_ocr import data
from hw_ocr.crf import LinearChainCRF
from hw_ocr.data import Letters, OcrData
from hw_ocr.fast_crf import FastLinearChainCRF
from hw_ocr.models import CLASSES, BiLSTM, ConvBiLSTM, OcrCNN, PairwiseClassifier, PerLetter, WithCRF
from hw_ocr.presets import CITATION, HOMEWORK, Settings

_NETWORKS: dict[str, type[nn.Module]] = {
    "cnn": OcrCNN, "pairwise": PairwiseClassifier, "bilstm": BiLSTM, "conv-bilstm": ConvBiLSTM
}  # fmt: skip
_WORDS_AT_ONCE = 256


def build_model(settings: Settings) -> nn.Module:
    """Builds the network in `settings`. Letter networks without a CRF take single letters; the others take words."""
    network = _NETWORKS[settings.model](**settings.sizes)
    if not settings.crf:
        return network
    crf = FastLinearChainCRF if settings.kernels == "fast" else LinearChainCRF
    return WithCRF(as_word_network(network), crf(CLASSES))


def as_word_network(network: nn.Module) -> nn.Module:
    """A network from images (B, T, 16, 8) and a mask (B, T) to scores (B, T, 26), made from any network."""
    return PerLetter(network) if isinstance(network, OcrCNN | PairwiseClassifier) else network


def prepare(settings: Settings, ocr: OcrData, device: torch.device) -> Experiment:
    """Prepares a training run on `device`."""
    model = build_model(settings).to(device)
    _announce(settings, ocr, model)
    batches = training_batches(settings, ocr.train, device)
    optimizer = make_optimizer(settings.optimizer, model.parameters(), settings.lr, settings.l2_decay)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(settings.schedule, optimizer, settings.epochs * len(batches)),
        loss_function=word_loss if settings.trains_on_words else letter_loss,
        evaluate=lambda model: evaluate(model, ocr.dev, "validation"),
        monitor="validation_accuracy",
        hashes=ocr.hashes,
        metadata=weights_metadata(settings),
        summarize=lambda fitted: _summarize(settings, ocr, model, fitted),
        draw=lambda folder, fitted, summary: _draw(settings, ocr, model, folder, fitted),
        report=_report,
    )


def weights_metadata(settings: Settings) -> dict[str, str]:
    """Metadata stored in a weights file, checked when the file is loaded."""
    return {"homework": HOMEWORK, "network": settings.title}


def training_batches(settings: Settings, letters: Letters, device: torch.device) -> EpochBatches:
    """Shuffled mini-batches of words, or of letters for a network of letters, on `device`."""
    make = data.word_batches if settings.trains_on_words else data.letter_batches
    return make(letters, settings.batch_size, device, settings.seed, shuffle=True, augment=settings.augment)


def letter_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The mean cross-entropy of a batch of letters, and the number of letters."""
    images, labels = batch
    return F.cross_entropy(model(images), labels), len(labels), {}


def word_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The loss of a batch of words, divided by its number of letters, and the number of letters.

    The loss is the sum of the letters' cross-entropies. With a CRF it is the sum of the words' negative log-likelihoods
    (dsl-2019-hw3 Q2.2). Both are divided by the number of letters, so that one learning rate suits both.
    """
    images, labels, mask = batch
    scores = model(images, mask)
    letters = int(mask.sum())
    return _negative_log_likelihood(getattr(model, "module", model), scores, labels, mask) / letters, letters, {}


def _negative_log_likelihood(network: nn.Module, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The negative log-likelihood of a batch, summed over its letters or, with a CRF, over its words."""
    if isinstance(network, WithCRF):
        return -network.crf.log_likelihood(scores.float(), labels, mask).sum()
    return F.cross_entropy(scores[mask], labels[mask], reduction="sum")


def decode(network: nn.Module, scores: Tensor, mask: Tensor) -> Tensor:
    """The predicted letters, (B, T) int64: each letter's best score or, with a CRF, the best word (Viterbi)."""
    return network.crf.decode(scores.float(), mask) if isinstance(network, WithCRF) else scores.argmax(2)


def predict(model: nn.Module, letters: Letters) -> tuple[Tensor, float]:
    """Predicts all words of `letters`; every process of a distributed training computes all of them.

    Args:
        model: a network that takes single letters or words; the caller sets eval mode and inference mode.
        letters: the words to predict, n letters in all.

    Returns:
        The predicted letters, (n,) int64 on the CPU, and the mean loss per letter.
    """
    network, device = as_word_network(model), next(model.parameters()).device
    predicted, loss = [], 0.0
    lengths = letters.lengths.tolist()
    images_of_words, labels_of_words = letters.images.split(lengths), letters.labels.split(lengths)
    for first in range(0, len(lengths), _WORDS_AT_ONCE):
        words = slice(first, first + _WORDS_AT_ONCE)
        images = nn.utils.rnn.pad_sequence(list(images_of_words[words]), batch_first=True).to(device)
        labels = nn.utils.rnn.pad_sequence(list(labels_of_words[words]), batch_first=True).to(device)
        mask = (torch.arange(labels.shape[1]) < letters.lengths[words, None]).to(device)
        scores = network(images.float(), mask)
        loss += _negative_log_likelihood(network, scores, labels, mask).item()
        predicted.append(decode(network, scores, mask)[mask].cpu())
    return torch.cat(predicted), loss / len(letters)


def evaluate(model: nn.Module, letters: Letters, part: str) -> Row:
    """The metrics <part>_loss, <part>_accuracy (by letter) and <part>_word_accuracy of `model`, in eval mode.

    A word is right if all its letters are right. The code of the published report (dsl-2019-hw3) counts the same way
    (`evaluate` with decision=1).
    """
    predicted, loss = predict(model, letters)
    right = predicted == letters.labels
    words = [word.all().item() for word in right.split(letters.lengths.tolist())]
    return {
        f"{part}_loss": loss,
        f"{part}_accuracy": right.double().mean().item(),
        f"{part}_word_accuracy": sum(words) / len(words),
    }


def _summarize(settings: Settings, ocr: OcrData, model: nn.Module, fitted: Fitted) -> dict[str, Any]:
    final, best = last_and_best(model, fitted, settings.precision, lambda: evaluate(model, ocr.test, "test"))
    splits = {"training": ocr.train, "validation": ocr.dev, "test": ocr.test}
    return {
        "homework": HOMEWORK,
        "dataset": settings.dataset,
        "data": ocr.name,
        "network": settings.title,
        "letters": {part: len(letters) for part, letters in splits.items()},
        "words": {part: len(letters.lengths) for part, letters in splits.items()},
        "parameters": count_parameters(model),
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "letters_per_second": round(settings.epochs * len(ocr.train) / fitted.seconds, 1),
        },
    }


def _draw(settings: Settings, ocr: OcrData, model: nn.Module, folder: Path, fitted: Fitted) -> None:
    """Draws all figures; predictions and weights are those of the best epoch."""
    from hw_common.runs import image_grids  # imports matplotlib
    from hw_ocr import plots

    model.load_state_dict(fitted.best_weights)
    predicted, _ = evaluate_once(model, settings.precision, lambda: predict(model, ocr.test))
    title = f"{settings.title}, {ocr.name}, {CITATION}"
    plots.training_curves(folder, fitted.rows, title)
    counts = plots.count_confusions(ocr.test.labels, predicted)
    files.write_csv(folder / "confusion.csv", plots.confusion_rows(counts))
    plots.confusion_matrix(folder, counts, title)
    plots.misread_words(folder, ocr.test, predicted, title)
    for name, layer in plots.convolutions(model).items():  # dsl-2019-hw3 Q1.3, Figures 5 to 8
        image_grids.kernels(folder, name, layer.weight.detach().float().cpu().numpy(), f"best epoch, {title}")
    if isinstance(model, WithCRF):
        plots.transitions(folder, model.crf, title)


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({numbers['epoch']}): accuracy by letter {numbers['validation_accuracy']:.4f} (validation), "
        f"{numbers['test_accuracy']:.4f} (test); by word {numbers['validation_word_accuracy']:.4f} (validation), "
        f"{numbers['test_word_accuracy']:.4f} (test)"
        for name, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    seconds, rate = (summary["speed"][name] for name in ("training_seconds", "letters_per_second"))
    return [*lines, f"{seconds:.1f} s of training, {rate:.0f} letters per second"]


def _announce(settings: Settings, ocr: OcrData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    unit = "words" if settings.trains_on_words else "letters"
    splits = (("training", ocr.train), ("validation", ocr.dev), ("test", ocr.test))
    sizes = ", ".join(f"{len(letters.lengths)} {part}" for part, letters in splits)
    print(
        f"{ocr.name}: {sizes} words, {sum(len(letters) for _, letters in splits)} letters\n"
        f"{settings.title} with {count_parameters(model)} parameters; {settings.epochs} epochs of "
        f"{settings.optimizer}, learning rate {settings.lr:g}, batches of {settings.batch_size} {unit}, "
        f"seed {settings.seed}"
    )
