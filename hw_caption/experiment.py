"""A run of `hw_caption.train`: its model, batches and loss, its evaluation and its summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_caption import backbone, data, decoding, feature_store, fetch, metrics, results
from hw_caption.consensus import Consensus
from hw_caption.data import CaptionData, Inputs, Split
from hw_caption.decoding import CaptionGenerator
from hw_caption.fast_attention import FastDecoder, FastDecoderWithAttention
from hw_caption.feature_store import Pixels
from hw_caption.images import VIEWS
from hw_caption.models import Captioner, Decoder, DecoderWithAttention, Encoder
from hw_caption.presets import CAPTION_FILES, HOMEWORK, MAX_GRADIENT, SOURCE, TITLES, Settings
from hw_caption.results import ImageWithReferences
from hw_caption.vocabulary import Vocabulary
from hw_common.data.words import EARLIER
from hw_common.runs import checkpoints
from hw_common.runs.run_folder import LAST
from hw_common.training import distributed
from hw_common.training.backbones import BACKBONES
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row
from hw_common.training.parameters import count_parameters

VOCABULARY, CONSENSUS = "vocabulary.json", "consensus.safetensors"
_WEIGHTS_SEED = 42  # seed of --weights none; runs with different --seed share one random encoder
_DECODERS: Mapping[tuple[str, str], type[Decoder]] = {
    ("vanilla", "plain"): Decoder,
    ("vanilla", "fast"): FastDecoder,
    ("attention", "plain"): DecoderWithAttention,
    ("attention", "fast"): FastDecoderWithAttention,
}


def build_model(settings: Settings, vocab_size: int, encoder: nn.Module) -> Captioner:
    """A new captioner with the decoders of `models` or `fast_attention`, chosen by `settings.kernels`."""
    decoder = _DECODERS[settings.decoder, settings.kernels]
    encoder_dim = BACKBONES[settings.backbone].channels
    return Captioner(
        encoder,
        [decoder(vocab_size, encoder_dim=encoder_dim, dropout=settings.dropout) for _ in range(settings.ensemble_size)],
    )


def load_encoder(weights: str, data_dir: Path, network: str) -> Encoder:
    """The pretrained encoder; arguments and errors as in `backbone.load_trunk`."""
    return Encoder(backbone.load_trunk(weights, data_dir, _WEIGHTS_SEED, network))


@dataclass
class _Task:
    """The data and the captioner of a training run, which its evaluation needs."""

    settings: Settings
    found: CaptionData  # the captions and the image files
    inputs: Inputs  # the images' features, or their pixels if the encoder is trained
    hashes: Mapping[str, str]  # hashes of captions, images and encoder
    generator: CaptionGenerator  # generates captions with the model that is trained
    images: Sequence[ImageWithReferences]  # images to draw, with their references
    # decoding -> captions of the test images, from the latest call of `test`
    generated: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def decodings(self) -> list[str]:
        """The decodings to test: greedy search, beam search and the decoding of the settings."""
        return list(dict.fromkeys(["greedy", "beam", self.settings.decoding]))

    def validate(self, decodings: Sequence[str]) -> Row:
        """BLEU-4 on the validation images."""
        names, references = self.found.val.names, self.found.val.captions
        captions = {method: self.generator.generate(self.inputs, names, method) for method in decodings}
        return {f"validation_{method}_bleu4": metrics.course_bleu(references, captions[method]) for method in decodings}

    def test(self) -> Row:
        """All metrics on the test images and BLEU-4 on the validation images, for each decoding."""
        row = self.validate(self.decodings)
        for method in self.decodings:
            self.generated[method] = self.generator.generate(self.inputs, self.found.test.names, method)
            values = metrics.evaluate(self.found.test.captions, self.generated[method])
            row |= {f"test_{method}_{name}": value for name, value in values.items()}
        return row


def prepare(settings: Settings, found: CaptionData, device: torch.device, show: Sequence[str] | None) -> Experiment:
    """Prepares a training run on `device`, which ends by drawing captions of the images `show` (default: Q3.1c's).

    Raises:
        UserError: an image of `show` is not in the data set, or the images or the encoder's weights cannot be used.
    """
    images = results.images_to_show(found, show)
    fetch.restore(image for image, _ in images)
    inputs, encoder, hashes = _open_inputs(settings, found, device)
    model = build_model(settings, len(found.vocabulary), encoder).to(device)
    _announce(settings, found, model)
    needs_consensus = settings.decoding == "consensus"
    consensus = _make_consensus(model, inputs, found.train, found.vocabulary) if needs_consensus else None
    generator = CaptionGenerator(model, found.vocabulary, found.max_length - 1, settings.beam, consensus)
    task = _Task(settings, found, inputs, {**found.hashes, **hashes}, generator, images)
    batches = data.caption_batches(
        found.train, found.vocabulary, inputs, settings.batch_size,
        device=device, seed=settings.seed, augment=settings.augment,
    )  # fmt: skip
    optimizer = _make_optimizer(settings, model)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(settings.schedule, optimizer, settings.epochs * len(batches)),
        loss_function=loss_function,
        evaluate=lambda model: task.validate(list(dict.fromkeys(["greedy", settings.decoding]))),
        monitor=f"validation_{settings.decoding}_bleu4",
        hashes=task.hashes,
        metadata=file_metadata(found.vocabulary, decoder=settings.decoder),
        summarize=lambda fitted: _summarize(task, fitted),
        draw=lambda folder, fitted, summary: _draw(task, folder, fitted),
        report=_report,
        clip_value=MAX_GRADIENT,
    )


def load_data(
    dataset: str, data_dir: Path, dataset_dir: Path | None, min_count: int, *, resume: Path | None
) -> CaptionData:
    """Reads a data set; the arguments are those of `data.load`, and the folder of the run to resume.

    A resumed run that an earlier version of the code started keeps that version's vocabulary.

    Raises:
        UserError: the data set cannot be used.
    """
    found = data.load(dataset, data_dir, dataset_dir, min_count)
    is_ascii = all(word.isascii() for word in found.vocabulary.words)  # every version of the rules splits ASCII alike
    if is_ascii or resume is None or not (resume / LAST).is_file():
        return found
    saved = checkpoints.load_state(resume / LAST).get("metadata")
    earlier = data.load(dataset, data_dir, dataset_dir, min_count, EARLIER)
    is_earlier = isinstance(saved, dict) and saved.get("vocabulary") == earlier.vocabulary.sha256
    return earlier if is_earlier else found


def file_metadata(vocabulary: Vocabulary, **more: str) -> dict[str, str]:
    """Metadata stored in the files of weights and of a `Consensus`, checked when such a file is loaded."""
    return {"homework": HOMEWORK, **more, "vocabulary": vocabulary.sha256}


def _open_inputs(
    settings: Settings, found: CaptionData, device: torch.device
) -> tuple[Inputs, nn.Module, dict[str, str]]:
    """Returns the captioner's inputs, its encoder (nn.Identity() if the inputs are features), and their hashes."""
    if settings.finetune_encoder:
        encoder = load_encoder(settings.weights, settings.data_dir, settings.backbone).requires_grad_(True)
        pixels = Pixels(found.images, settings.image_size)
        _, image_hash = feature_store.hash_images(found.images)
        return pixels, encoder, {"images": image_hash, "encoder": backbone.weights_sha256(encoder.trunk)}
    needs_views = settings.augment or settings.decoding == "consensus"
    store = feature_store.ensure(
        found.images, found.label, settings.weights, results_dir=settings.results_dir, data_dir=settings.data_dir,
        size=settings.image_size, views=VIEWS if needs_views else 1, seed=_WEIGHTS_SEED, device=device,
        network=settings.backbone, keep=not settings.dry_run,
    )  # fmt: skip
    return store, nn.Identity(), store.hashes


def _make_consensus(model: Captioner, inputs: Inputs, train: Split, vocabulary: Vocabulary) -> Consensus:
    """The training images, prepared for consensus decoding."""
    references = [[tuple(vocabulary.encode(caption)[1:-1]) for caption in captions] for captions in train.captions]
    return Consensus(decoding.describe(model, inputs, train.names), references)


def _make_optimizer(settings: Settings, model: Captioner) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(model.decoders.parameters())}]
    if settings.finetune_encoder:
        groups.append({"params": list(model.encoder.parameters()), "lr": settings.encoder_lr})
    return make_optimizer(settings.optimizer, groups, settings.lr, settings.l2_decay)


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The loss for `fit`: the mean cross-entropy over all words after START, given image and preceding words."""
    scores, words = model(*batch)
    return F.cross_entropy(scores.float(), words), len(words), {}


def _summarize(task: _Task, fitted: Fitted) -> dict[str, Any]:
    settings, found, model = task.settings, task.found, task.generator.model
    final, best = last_and_best(model, fitted, settings.precision, task.test)
    captions = sum(len(captions) for captions in found.train.captions)
    return {
        "homework": HOMEWORK,
        "dataset": found.label,
        "data": found.name,
        "decoder": settings.decoder,
        "images": {"training": len(found.train), "validation": len(found.val), "test": len(found.test)},
        "captions": captions,
        "words": len(found.vocabulary),
        "longest": task.generator.max_length,
        "parameters": count_parameters(model),
        "ways": task.decodings,
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "captions_per_second": round(settings.epochs * captions / fitted.seconds, 1),
        },
    }


def _draw(task: _Task, folder: Path, fitted: Fitted) -> None:
    """Writes vocabulary, captions and figures; captions are generated with the weights of the best epoch."""
    settings, found, generator = task.settings, task.found, task.generator
    title = f"{found.name}, {SOURCE}"
    found.vocabulary.save(folder / VOCABULARY)
    if generator.consensus is not None:
        generator.consensus.save(folder / CONSENSUS, file_metadata(found.vocabulary))
    results.draw_curves(folder, settings.decoder, fitted.rows, task.hashes, title)
    # The latest call of `test` was the one with the weights of the best epoch.
    results.write_captions(
        folder / CAPTION_FILES[settings.decoder], found.test.names, task.generated[settings.decoding]
    )
    generator.model.load_state_dict(fitted.best_weights)
    title = f"{TITLES[settings.decoder]}, {title}"
    with torch.inference_mode():
        results.draw_images(folder, task.images, generator, task.inputs, settings.decoding, title)


def _report(summary: dict[str, Any]) -> list[str]:
    lines = []
    for title, values in (("last epoch", summary["final"]), ("best epoch", summary["best"])):
        lines += [
            f"{title} ({values['epoch']}), {method}: validation BLEU-4 {values[f'validation_{method}_bleu4']:.4f}, "
            f"test BLEU-4 {values[f'test_{method}_bleu4']:.4f} (corpus {values[f'test_{method}_corpus_bleu4']:.4f}), "
            f"ROUGE-L {values[f'test_{method}_rouge_l']:.4f}, CIDEr-D {values[f'test_{method}_cider_d']:.4f}"
            for method in summary["ways"]
        ]
    seconds, per_second = (summary["speed"][name] for name in ("training_seconds", "captions_per_second"))
    return [*lines, f"{seconds:.1f} s of training, {per_second:.0f} captions per second"]


def _announce(settings: Settings, found: CaptionData, model: Captioner) -> None:
    if not distributed.is_main():
        return
    splits = ((found.train, "training"), (found.val, "validation"), (found.test, "test"))
    print(
        f"{found.name}: {', '.join(f'{len(split)} {part}' for split, part in splits)} images, "
        f"{sum(map(len, found.train.captions))} training captions, {len(found.vocabulary)} words\n"
        f"decoder {TITLES[settings.decoder]}, {count_parameters(model)} parameters; {settings.epochs} epochs of "
        f"{settings.optimizer}, learning rate {settings.lr:g}, batch {settings.batch_size}, seed {settings.seed}"
    )
