"""What `hw_caption.train` trains: encoder and decoders, batches, loss, and the numbers of its summary."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_caption import backbone, data, feature_store, metrics, results
from hw_caption.consensus import Consensus
from hw_caption.data import CaptionData, Inputs, Split
from hw_caption.fast_attention import FastDecoder, FastDecoderWithAttention
from hw_caption.feature_store import Pixels
from hw_caption.images import VIEWS
from hw_caption.models import Captioner, Decoder, DecoderWithAttention, Encoder
from hw_caption.presets import CAPTION_FILES, HOMEWORK, LARGEST_GRADIENT, SOURCE, TITLES, decoder_kind
from hw_caption.vocabulary import Vocabulary
from hw_caption.writing import Writer, describe
from hw_common.data.captioned_images import Captions
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.experiment import Experiment, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted, Row

VOCABULARY, CONSENSUS = "vocabulary.json", "consensus.safetensors"
_WEIGHTS_SEED = 42  # of --weights none: all runs share one random encoder, whatever their seed


_DECODERS: Mapping[tuple[str, str], type[Decoder]] = {
    ("vanilla", "plain"): Decoder,
    ("vanilla", "fast"): FastDecoder,
    ("attention", "plain"): DecoderWithAttention,
    ("attention", "fast"): FastDecoderWithAttention,
}


def build_model(arguments: argparse.Namespace, vocab_size: int, encoder: nn.Module) -> Captioner:
    """The captioner that `arguments` describe; --kernels chooses between `models` and `fast_attention`."""
    decoder = _DECODERS[decoder_kind(arguments.use_attention), arguments.kernels]
    return Captioner(encoder, [decoder(vocab_size, dropout=arguments.dropout) for _ in range(arguments.members)])


def load_encoder(arguments: argparse.Namespace) -> Encoder:
    """The pretrained encoder that `arguments` name; raises UserError if its weights cannot be had."""
    return Encoder(backbone.load_trunk(arguments.weights, arguments.data_dir, _WEIGHTS_SEED))


def _make_consensus(model: Captioner, inputs: Inputs, train: Split, vocabulary: Vocabulary) -> Consensus:
    """Chooses captions by the training images."""
    references = [[tuple(vocabulary.encode(caption)[1:-1]) for caption in captions] for captions in train.captions]
    return Consensus(describe(model, inputs, train.names), references)


@dataclass
class _Task:
    """A training and all that belongs to it.

    Attributes:
        arguments: of the command.
        found: captions, and where the images are.
        inputs: what the model is told of an image.
        hashes: of all data.
        writer: writes with the model.
        images: to be drawn, with their references.
        written: captions of the test images by the way of decoding, as the latest `test` wrote them.
    """

    arguments: argparse.Namespace
    found: CaptionData
    inputs: Inputs
    hashes: Mapping[str, str]
    writer: Writer
    images: Sequence[tuple[DatasetFile, Captions]]
    written: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def ways(self) -> list[str]:
        """How the test images are captioned: greedily, by beam search, and as the arguments say."""
        return list(dict.fromkeys(["greedy", "beam", self.arguments.decoding]))

    def validate(self, ways: Sequence[str]) -> Row:
        """BLEU-4 on the validation images."""
        names, references = self.found.val.names, self.found.val.captions
        written = {way: self.writer.write(self.inputs, names, way) for way in ways}
        return {f"validation_{way}_bleu4": metrics.course_bleu(references, written[way]) for way in ways}

    def test(self) -> Row:
        """All metrics on the test images, and BLEU-4 on the validation images, for each way of decoding."""
        row = self.validate(self.ways)
        for way in self.ways:
            self.written[way] = self.writer.write(self.inputs, self.found.test.names, way)
            numbers = metrics.evaluate(self.found.test.captions, self.written[way])
            row |= {f"test_{way}_{name}": value for name, value in numbers.items()}
        return row


def prepare(arguments: argparse.Namespace, device: torch.device) -> Experiment:
    """Everything that `arguments` describe.

    Raises:
        UserError: the data or the encoder's weights cannot be used, or the batch is smaller than the number of
            processes.
    """
    if arguments.batch_size < distributed.world_size():
        raise UserError(f"--batch_size {arguments.batch_size} is less than one caption for each process")
    found = data.load(arguments.dataset, arguments.data_dir, arguments.dataset_dir, arguments.min_count)
    images = results.images_to_show(found, arguments.show)
    inputs, encoder, hashes = _open_inputs(arguments, found, device)
    model = build_model(arguments, len(found.vocabulary), encoder).to(device)
    _announce(arguments, found, model)
    chooses = arguments.decoding == "consensus"
    consensus = _make_consensus(model, inputs, found.train, found.vocabulary) if chooses else None
    writer = Writer(model, found.vocabulary, found.max_length - 1, arguments.beam, consensus)
    task = _Task(arguments, found, inputs, {**found.hashes, **hashes}, writer, images)
    batches = data.caption_batches(
        found.train, found.vocabulary, inputs, arguments.batch_size,
        device=device, seed=arguments.seed, augment=arguments.augment,
    )  # fmt: skip
    optimizer = _make_optimizer(arguments, model)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule(arguments.schedule, optimizer, arguments.epochs * len(batches)),
        loss_function=loss_function,
        evaluate=lambda model: task.validate(list(dict.fromkeys(["greedy", arguments.decoding]))),
        monitor=f"validation_{arguments.decoding}_bleu4",
        hashes=task.hashes,
        metadata=weights_metadata(arguments, found.vocabulary),
        summarize=lambda fitted: _summarize(task, fitted),
        draw=lambda folder, fitted, summary: _draw(task, folder, fitted),
        report=_report,
        clip_value=LARGEST_GRADIENT,
    )


def weights_metadata(arguments: argparse.Namespace, vocabulary: Vocabulary) -> dict[str, str]:
    """Whose weights these are: what a weights file says about itself."""
    return {"homework": HOMEWORK, "decoder": decoder_kind(arguments.use_attention), "vocabulary": vocabulary.sha256}


def consensus_metadata(vocabulary: Vocabulary) -> dict[str, str]:
    """Whose captions these are: what the file of a consensus says about itself."""
    return {"homework": HOMEWORK, "vocabulary": vocabulary.sha256}


def _open_inputs(
    arguments: argparse.Namespace, found: CaptionData, device: torch.device
) -> tuple[Inputs, nn.Module, dict[str, str]]:
    """What the captioner is given for an image, the encoder that it still needs for that, and hashes of both."""
    if arguments.finetune_encoder:
        encoder = load_encoder(arguments).requires_grad_(True)
        pixels = Pixels(found.images, arguments.image_size)
        return pixels, encoder, {"images": _hash(found.images), "encoder": backbone.weights_sha256(encoder.trunk)}
    turned = arguments.augment or arguments.decoding == "consensus"
    store = feature_store.ensure(
        found.images, found.label, arguments.weights, results_dir=arguments.results_dir, data_dir=arguments.data_dir,
        size=arguments.image_size, views=VIEWS if turned else 1, seed=_WEIGHTS_SEED, device=device,
    )  # fmt: skip
    return store, nn.Identity(), store.hashes


def _hash(images: Sequence[DatasetFile]) -> str:
    """The hash that `FeatureStore.hashes` would have of them."""
    digests = {image.name: hashlib.sha256(image.read()).hexdigest() for image in images}
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _make_optimizer(arguments: argparse.Namespace, model: Captioner) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(model.decoders.parameters())}]
    if arguments.finetune_encoder:
        groups.append({"params": list(model.encoder.parameters()), "lr": arguments.encoder_lr})
    return make_optimizer(arguments.optimizer, groups, arguments.lr, arguments.l2_decay)


def loss_function(model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: the mean cross-entropy of each word after START, given the words before it."""
    scores, words = model(*batch)
    return F.cross_entropy(scores.float(), words), len(words), {}


def _summarize(task: _Task, fitted: Fitted) -> dict[str, Any]:
    arguments, found, model = task.arguments, task.found, task.writer.model
    final, best = last_and_best(model, fitted, arguments.precision, task.test)
    captions = sum(len(captions) for captions in found.train.captions)
    return {
        "homework": HOMEWORK,
        "dataset": found.label,
        "data": found.name,
        "decoder": decoder_kind(arguments.use_attention),
        "images": {"training": len(found.train), "validation": len(found.val), "test": len(found.test)},
        "captions": captions,
        "words": len(found.vocabulary),
        "longest": task.writer.longest,
        "parameters": parameters(model),
        "ways": task.ways,
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "captions_per_second": round(arguments.epochs * captions / fitted.seconds, 1),
        },
    }


def _draw(task: _Task, folder: Path, fitted: Fitted) -> None:
    """Vocabulary, captions and figures; captions are those of the best epoch, whose weights the run keeps."""
    arguments, found, writer = task.arguments, task.found, task.writer
    kind = decoder_kind(arguments.use_attention)
    what = f"{found.name}, {SOURCE}"
    found.vocabulary.save(folder / VOCABULARY)
    if writer.consensus is not None:
        writer.consensus.save(folder / CONSENSUS, consensus_metadata(found.vocabulary))
    results.draw_curves(folder, kind, fitted.rows, task.hashes, what)
    # The latest test was that of the best epoch.
    results.write_captions(folder / CAPTION_FILES[kind], found.test.names, task.written[arguments.decoding])
    writer.model.load_state_dict(fitted.best_weights)
    with torch.inference_mode():
        results.draw_images(folder, task.images, writer, task.inputs, arguments.decoding, f"{TITLES[kind]}, {what}")


def _report(summary: dict[str, Any]) -> list[str]:
    lines = []
    for title, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"])):
        lines += [
            f"{title} ({numbers['epoch']}), {way}: validation BLEU-4 {numbers[f'validation_{way}_bleu4']:.4f}, "
            f"test BLEU-4 {numbers[f'test_{way}_bleu4']:.4f} (corpus {numbers[f'test_{way}_corpus_bleu4']:.4f}), "
            f"ROUGE-L {numbers[f'test_{way}_rouge_l']:.4f}, CIDEr-D {numbers[f'test_{way}_cider_d']:.4f}"
            for way in summary["ways"]
        ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['captions_per_second']:.0f} captions a second",
    ]


def _announce(arguments: argparse.Namespace, found: CaptionData, model: Captioner) -> None:
    if not distributed.is_main():
        return
    splits = ((found.train, "training"), (found.val, "validation"), (found.test, "test"))
    decoder = TITLES[decoder_kind(arguments.use_attention)]
    print(
        f"{found.name}: {', '.join(f'{len(split)} {part}' for split, part in splits)} images, "
        f"{sum(map(len, found.train.captions))} training captions, {len(found.vocabulary)} words\n"
        f"decoder {decoder}, {parameters(model)} parameters; {arguments.epochs} epochs of "
        f"{arguments.optimizer}, learning rate {arguments.lr:g}, batch {arguments.batch_size}, seed {arguments.seed}"
    )


def parameters(model: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
