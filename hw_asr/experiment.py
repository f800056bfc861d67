"""What `hw_asr.train` trains: network, batches, loss, and the numbers and figures of its summary."""

import argparse
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_asr import audio, data, plots
from hw_asr.data import SpeechData, Split
from hw_asr.evaluation import Listening, cross_entropy, ctc_loss, evaluate, pad_texts, sizes_of
from hw_asr.kernels import build_model
from hw_asr.models import SpeechToText
from hw_asr.pieces import FRAMES_A_SECOND
from hw_asr.presets import HOMEWORK, SOURCE, TITLES
from hw_asr.text import START, decode
from hw_common.runs.errors import UserError
from hw_common.training import distributed
from hw_common.training.batches import SequenceBatches
from hw_common.training.experiment import Experiment, evaluate_once, last_and_best, make_optimizer, make_schedule
from hw_common.training.loop import Fitted

_SHOWN = 12  # predictions in a figure


def network_of(arguments: argparse.Namespace) -> SpeechToText:
    """A new network as `arguments` describe it."""
    return build_model(arguments.preset, arguments.decoder, sizes_of(arguments), arguments.kernels)


def weights_metadata(arguments: argparse.Namespace) -> dict[str, str]:
    """Whose weights these are: what a weights file says about itself."""
    network = f"{TITLES[arguments.decoder]}, first stride {arguments.first_stride}"  # which no tensor's shape shows
    return {"homework": HOMEWORK, "network": network, "preset": arguments.preset}


def prepare(arguments: argparse.Namespace, device: torch.device) -> Experiment:
    """Everything that `arguments` describe.

    Raises:
        UserError: the data cannot be used, or the batch is smaller than the number of processes.
    """
    speech = load(arguments)
    model = network_of(arguments).to(device)
    listening = Listening.of(arguments)
    if listening.pad_to is None:  # nobody says more than two of the longest sentences; it would only cost time
        longest = min(listening.longest, 2 * max(map(len, speech.train.tokens)))
        listening = dataclasses.replace(listening, longest=longest)
    _announce(arguments, speech, model)
    batches = training_batches(arguments, speech.train, device)
    optimizer = make_optimizer(arguments.optimizer, model.parameters(), arguments.lr, arguments.l2_decay)
    return Experiment(
        model=model,
        batches=batches,
        optimizer=optimizer,
        scheduler=make_schedule("linear", optimizer, arguments.epochs * len(batches)),
        loss_function=functools.partial(training_loss, arguments, listening),
        evaluate=lambda model: evaluate(model, speech.val, listening, "validation"),
        monitor="validation_damerau_levenshtein",
        hashes=speech.hashes,
        metadata=weights_metadata(arguments),
        summarize=lambda fitted: _summarize(arguments, speech, listening, model, fitted),
        draw=lambda folder, fitted, summary: _draw(arguments, speech, listening, model, folder, fitted),
        report=_report,
    )


def load(arguments: argparse.Namespace) -> SpeechData:
    """The data that `arguments` describe; transcripts end where the decoder's positions do."""
    return data.load(
        arguments.dataset,
        arguments.data_dir,
        arguments.dataset_dir,
        results_dir=arguments.results_dir,
        settings=audio.SETTINGS[arguments.preset],
        longest_text=sizes_of(arguments).text_positions - 1,  # START is read too, STOP is not
    )


def training_batches(arguments: argparse.Namespace, clips: Split, device: torch.device) -> SequenceBatches:
    """The shuffled, possibly augmented mini-batches that `arguments` describe, on `device`."""
    if arguments.batch_size < distributed.world_size():
        raise UserError(f"--batch_size {arguments.batch_size} is less than one example for each process")
    return data.speech_batches(
        clips,
        arguments.batch_size,
        device,
        arguments.seed,
        shuffle=True,
        augment=arguments.spec_augment,
        pad_to=Listening.of(arguments).pad_to,
        join_up_to=sizes_of(arguments).text_positions + 1 if arguments.join else None,
        tempo=arguments.tempo,
    )


def training_loss(
    arguments: argparse.Namespace, listening: Listening, model: nn.Module, batch: tuple[Tensor, ...]
) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What `fit` minimizes: mean cross-entropy of the next character, with label smoothing, and CTC if it is asked for.

    Both are sums over a batch's characters divided by their number: so a batch may be shared by several processes.

    Args:
        arguments: of the command: whether padding is counted, as in the course, and the weight of CTC.
        listening: how clips are heard.
        model: `SpeechToText`, or what makes several processes of it.
        batch: see `speech_batches`.
    """
    spectrograms, frames, tokens, lengths = batch
    if arguments.count_padding:
        tokens = pad_texts(tokens)
    output = model(spectrograms, listening.ends(frames), tokens[:, :-1])
    logits, heard = output if arguments.ctc else (output, None)
    count = tokens[:, 1:].numel() if arguments.count_padding else int((lengths - 1).sum())
    loss = cross_entropy(logits, tokens[:, 1:], arguments.count_padding)
    if heard is not None:
        positions = -(-frames // (2 * arguments.first_stride))
        loss = loss + arguments.ctc * ctc_loss(heard, positions, tokens, lengths)
    return loss / count, count, {}


def _summarize(
    arguments: argparse.Namespace, speech: SpeechData, listening: Listening, model: SpeechToText, fitted: Fitted
) -> dict[str, Any]:
    listening = dataclasses.replace(listening, beam=arguments.beam)
    test = functools.partial(evaluate, model, speech.test, listening, "test")
    final, best = last_and_best(model, fitted, arguments.precision, test)
    splits = {"training": speech.train, "validation": speech.val, "test": speech.test}
    return {
        "homework": HOMEWORK,
        "dataset": speech.label,
        "data": speech.name,
        "network": TITLES[arguments.decoder],
        "decoder": arguments.decoder,
        "preset": arguments.preset,
        "utterances": {part: len(clips) for part, clips in splits.items()},
        "parameters": parameters(model),
        "longest_seconds": round(max(speech.train.frames) / FRAMES_A_SECOND, 2),
        "padding_counted_in_training": arguments.count_padding,
        "test_beam": arguments.beam,
        "final": final,
        "best": best,
        "speed": {
            "training_seconds": round(fitted.seconds, 2),
            "utterances_per_second": round(arguments.epochs * len(speech.train) / fitted.seconds, 1),
        },
    }


def parameters(model: nn.Module) -> int:
    """How many numbers training adjusts."""
    return sum(parameter.numel() for parameter in model.parameters())


def _draw(
    arguments: argparse.Namespace,
    speech: SpeechData,
    listening: Listening,
    model: SpeechToText,
    folder: Path,
    fitted: Fitted,
) -> None:
    """All figures; those of what the network has learned show the best epoch, whose weights the run keeps."""
    preset = " as in the notebook" if arguments.preset == "notebook" else ""
    what = f"{TITLES[arguments.decoder]}{preset}, {speech.name}, {SOURCE}"
    runs = {TITLES[arguments.decoder]: [fitted.rows]}
    plots.training_curves(folder, runs, arguments.count_padding, what)
    plots.similarities(folder, runs, what)
    model.load_state_dict(fitted.best_weights)
    listening = dataclasses.replace(listening, beam=arguments.beam)
    count = min(_SHOWN, len(speech.test))
    chosen = [i * len(speech.test) // count for i in range(count)]  # evenly from all of them
    shown = evaluate_once(model, arguments.precision, lambda: [_show(model, speech.test, i, listening) for i in chosen])
    plots.predictions(folder, shown, what)
    longest_first = sorted(shown, key=lambda clip: -clip.spectrogram.shape[1])
    plots.alignment(folder, [longest_first[len(shown) // 2], longest_first[0]], what)


def _show(model: SpeechToText, clips: Split, i: int, listening: Listening) -> plots.Shown:
    """What the network writes of a clip, and where it listens meanwhile."""
    device = next(model.parameters()).device
    spectrograms, frames, _, _ = data.pad([(clips.spectrogram(i), clips.tokens[i])], listening.pad_to)
    spectrograms, frames = spectrograms.to(device), frames.to(device)
    [written] = listening.write(model, spectrograms, frames)
    tokens = torch.tensor([[START, *written.tokens][: listening.longest]], device=device)
    looks = model.decoder.alignment(tokens, *model.encoder(spectrograms, listening.ends(frames)))[0].float().cpu()
    return plots.Shown(
        name=clips.names[i],
        target=clips.texts[i],
        written=decode(written.tokens),
        spectrogram=clips.spectrogram(i),
        looks=looks[:, : math.ceil(looks.shape[1] * int(frames) / spectrograms.shape[2])].numpy(),
    )


def _report(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name} ({numbers['epoch']}): validation CER {numbers['validation_cer']:.4f}, test CER "
        f"{numbers['test_cer']:.4f}, WER {numbers['test_wer']:.4f}, loss {numbers['test_loss']:.4f} "
        f"(without padding {numbers['test_loss_without_padding']:.4f}), Jaccard {numbers['test_jaccard']:.4f}, "
        f"cosine {numbers['test_cosine']:.4f}, Damerau-Levenshtein {numbers['test_damerau_levenshtein']:.4f}"
        for name, numbers in (("last epoch", summary["final"]), ("best epoch", summary["best"]))
    ]
    speed = summary["speed"]
    return [
        *lines,
        f"{speed['training_seconds']:.1f} s of training, {speed['utterances_per_second']:.1f} utterances a second",
    ]


def _announce(arguments: argparse.Namespace, speech: SpeechData, model: nn.Module) -> None:
    if not distributed.is_main():
        return
    splits = (("training", speech.train), ("validation", speech.val), ("test", speech.test))
    sizes = ", ".join(f"{len(clips)} {part}" for part, clips in splits)
    print(
        f"{speech.name}: {sizes} utterances\n"
        f"{TITLES[arguments.decoder]}, {arguments.preset}, with {parameters(model)} parameters; {arguments.epochs} "
        f"epochs of {arguments.optimizer}, learning rate {arguments.lr:g}, batches of {arguments.batch_size}, "
        f"seed {arguments.seed}"
    )
