"""Prepares a training run: network, batches and loss, and the summary and figures of its result."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hw_asr import data
from hw_asr.audio import FRAMES_PER_SECOND
from hw_asr.data import SpeechData
from hw_asr.evaluation import cross_entropy, ctc_loss, evaluate, pad_texts
from hw_asr.generation import InferenceSettings, align, generate
from hw_asr.kernels import build_model
from hw_asr.models import SpeechToText
from hw_asr.presets import HOMEWORK, SOURCE, TITLES, Settings
from hw_asr.text import decode
from hw_common.training import distributed
from hw_common.training.experiment import Experiment, evaluate_once, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted
from hw_common.training.parameters import count_parameters

if TYPE_CHECKING:
    from hw_asr.plots import Prediction

_SHOWN = 12  # number of clips in the figure of predictions


def build_network(settings: Settings) -> SpeechToText:
    """A new network."""
    return build_model(settings.preset, settings.decoder, settings.sizes, settings.kernels)


def weights_metadata(settings: Settings) -> dict[str, str]:
    """Metadata that is stored in the weights file and checked when the file is loaded."""
    # The stride is included because the shapes of the weights do not reveal it.
    network = f"{TITLES[settings.decoder]}, first stride {settings.first_stride}"
    return {"homework": HOMEWORK, "network": network, "preset": settings.preset}


def prepare(settings: Settings, speech: SpeechData, device: torch.device) -> Experiment:
    """Prepares a training run on `device`."""
    model = build_network(settings).to(device)
    inference = InferenceSettings.of(settings)
    if inference.pad_to is None:  # a limit on generated texts, which saves time
        max_length = min(inference.max_length, 2 * max(map(len, speech.train.tokens)))
        inference = dataclasses.replace(inference, max_length=max_length)
    _announce(settings, speech, model)
    batches = data.speech_batches(
        speech.train,
        settings.batch_size,
        device,
        settings.seed,
        augment=settings.spec_augment,
        pad_to=inference.pad_to,
        join_up_to=settings.max_text + 2 if settings.join else None,
        tempo=settings.tempo,
    )
    optimizer = make_optimizer(settings.optimizer, model.parameters(), settings.lr, settings.l2_decay)
    results = _Results(settings, speech, dataclasses.replace(inference, beam=settings.beam), model)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule("linear", optimizer, settings.epochs * len(batches)),
        loss_function=functools.partial(training_loss, settings, inference),
        evaluate=lambda _: evaluate(model, speech.val, inference, "validation"),
        monitor="validation_damerau_levenshtein",
        hashes=speech.hashes,
        metadata=weights_metadata(settings),
        summarize=results.summarize,
        draw=results.draw,
        report=_report,
    )


def training_loss(
    settings: Settings, inference: InferenceSettings, model: nn.Module, batch: tuple[Tensor, ...]
) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The mean cross-entropy of the next characters, with label smoothing, plus the weighted CTC loss.

    Both are sums over the batch divided by its number of targets, so that several processes can share a batch.

    Args:
        settings: settings of the training.
        inference: padding, see `InferenceSettings.unpadded`.
        model: `SpeechToText`, or its wrapper for several processes.
        batch: see `data.pad`.

    Returns:
        The loss, the number of targets, and no further metrics; see `hw_common.training.loop.LossFunction`.
    """
    spectrograms, frames, tokens, lengths = batch
    if settings.count_padding:
        tokens = pad_texts(tokens)
    output = model(spectrograms, inference.unpadded(frames), tokens[:, :-1])
    logits, ctc_logits = output if settings.ctc else (output, None)
    count = tokens[:, 1:].numel() if settings.count_padding else int((lengths - 1).sum())
    loss = cross_entropy(logits, tokens[:, 1:], settings.count_padding)
    if ctc_logits is not None:
        positions = -(-frames // (2 * settings.first_stride))
        loss = loss + settings.ctc * ctc_loss(ctc_logits, positions, tokens, lengths)
    return loss / count, count, {}


@dataclass(frozen=True)
class _Results:
    """Summary and figures of a trained network."""

    settings: Settings
    speech: SpeechData
    inference: InferenceSettings  # how the texts of test clips are generated
    model: SpeechToText

    def summarize(self, fitted: Fitted) -> dict[str, Any]:
        """The content of summary.json."""
        settings, speech = self.settings, self.speech
        test = functools.partial(evaluate, self.model, speech.test, self.inference, "test")
        final, best = last_and_best(self.model, fitted, settings.precision, test)
        splits = {"training": speech.train, "validation": speech.val, "test": speech.test}
        return {
            "homework": HOMEWORK,
            "dataset": speech.label,
            "data": speech.name,
            "network": TITLES[settings.decoder],
            "decoder": settings.decoder,
            "preset": settings.preset,
            "utterances": {part: len(clips) for part, clips in splits.items()},
            "parameters": count_parameters(self.model),
            "longest_seconds": round(max(speech.train.frames) / FRAMES_PER_SECOND, 2),
            "padding_counted_in_training": settings.count_padding,
            "test_beam": settings.beam,
            "final": final,
            "best": best,
            "speed": {
                "training_seconds": round(fitted.seconds, 2),
                "utterances_per_second": round(settings.epochs * len(speech.train) / fitted.seconds, 1),
            },
        }

    def draw(self, folder: Path, fitted: Fitted, summary: dict[str, Any]) -> None:
        """Draws all figures. Predictions and alignments are computed with the weights of the best epoch."""
        from hw_asr import plots  # imports matplotlib

        title = f"{self.settings.title}, {self.speech.name}, {SOURCE}"
        runs = {TITLES[self.settings.decoder]: [fitted.rows]}
        plots.training_curves(folder, runs, self.settings.count_padding, title)
        plots.similarities(folder, runs, title)
        self.model.load_state_dict(fitted.best_weights)
        count = min(_SHOWN, len(self.speech.test))
        chosen = [i * len(self.speech.test) // count for i in range(count)]  # evenly spaced
        precision = self.settings.precision
        predictions = evaluate_once(self.model, precision, lambda: [self._predict(clip) for clip in chosen])
        plots.predictions(folder, predictions, title)
        longest_first = sorted(predictions, key=lambda clip: -clip.spectrogram.shape[1])
        plots.alignment(folder, [longest_first[len(longest_first) // 2], longest_first[0]], title)

    def _predict(self, clip: int) -> "Prediction":
        """Generates the text of a test clip and computes its cross-attention weights."""
        from hw_asr.plots import Prediction  # imports matplotlib

        model, inference, clips = self.model, self.inference, self.speech.test
        device = next(model.parameters()).device
        spectrograms, frames, _, _ = data.pad([clips.example(clip)], inference.pad_to)
        spectrograms, frames = spectrograms.to(device), frames.to(device)
        [hypothesis] = generate(model, spectrograms, frames, inference)
        return Prediction(
            name=clips.names[clip],
            reference=clips.texts[clip],
            hypothesis=decode(hypothesis.tokens),
            spectrogram=clips.spectrogram(clip),
            attention_weights=align(model, spectrograms, frames, hypothesis, inference),
        )


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({metrics['epoch']}): validation CER {metrics['validation_cer']:.4f}, test CER "
        f"{metrics['test_cer']:.4f}, WER {metrics['test_wer']:.4f}, loss {metrics['test_loss']:.4f} "
        f"(without padding {metrics['test_loss_without_padding']:.4f}), Jaccard {metrics['test_jaccard']:.4f}, "
        f"cosine {metrics['test_cosine']:.4f}, Damerau-Levenshtein {metrics['test_damerau_levenshtein']:.4f}"
        for name, metrics in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    seconds, speed = summary["speed"]["training_seconds"], summary["speed"]["utterances_per_second"]
    return [*lines, f"{seconds:.1f} s of training, {speed:.1f} clips per second"]


def _announce(settings: Settings, speech: SpeechData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    splits = (("training", speech.train), ("validation", speech.val), ("test", speech.test))
    sizes = ", ".join(f"{len(clips)} {part}" for part, clips in splits)
    print(
        f"{speech.name}: {sizes} clips\n"
        f"{TITLES[settings.decoder]}, {settings.preset}, with {count_parameters(model)} parameters; {settings.epochs} "
        f"epochs of {settings.optimizer}, learning rate {settings.lr:g}, batches of {settings.batch_size}, "
        f"seed {settings.seed}"
    )
