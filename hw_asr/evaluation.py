"""How a recognizer is made to listen, and what its writing is worth: losses, similarities, error rates."""

import argparse
import dataclasses
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hw_asr import data, similarity, text
from hw_asr.data import Split
from hw_asr.generation import generate
from hw_asr.models import SpeechToText
from hw_asr.presets import NOTEBOOK_FRAMES, PRESETS, Sizes
from hw_common.training.decoding import Hypothesis
from hw_common.training.loop import Row

LABEL_SMOOTHING = 0.1
COUNTED_TOKENS = text.NOTEBOOK_LONGEST + 2  # that the course pads every transcript to
_CLIPS_AT_ONCE = 64


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    """Sizes of the network that `arguments` describe."""
    return dataclasses.replace(
        PRESETS[arguments.preset],
        dropout=arguments.dropout,
        first_stride=arguments.first_stride,
        ctc=arguments.ctc > 0,
    )


@dataclass(frozen=True)
class Listening:
    """How a network is made to hear clips and to write.

    Attributes:
        pad_to: frames and tokens of every batch, whose padding is then heard like sound; None pads as little as
            possible, and says where each clip ends.
        longest: characters that are written at most, STOP among them.
        beam: width of a beam search; None for greedy search.
    """

    pad_to: tuple[int, int] | None
    longest: int
    beam: int | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Listening":
        """As the preset of `arguments` has it, with greedy search."""
        pad_to = (NOTEBOOK_FRAMES, COUNTED_TOKENS) if arguments.preset == "notebook" else None
        return cls(pad_to, sizes_of(arguments).text_positions)

    def ends(self, frames: Tensor) -> Tensor | None:
        """What the encoder is told of the ends (B,) of clips."""
        return frames if self.pad_to is None else None

    def write(self, model: SpeechToText, spectrograms: Tensor, frames: Tensor) -> list[Hypothesis]:
        """The text of each clip of a batch; `model` is in eval mode, under inference_mode."""
        return generate([model], spectrograms, self.ends(frames), self.longest, self.beam)


def pad_texts(tokens: Tensor) -> Tensor:
    """`tokens` (B, L) with at least COUNTED_TOKENS in each row."""
    return F.pad(tokens, (0, max(0, COUNTED_TOKENS - tokens.shape[1])), value=text.EMPTY)


def cross_entropy(logits: Tensor, targets: Tensor, count_padding: bool) -> Tensor:
    """Summed over the positions of `targets` (B, L), those of padding left out unless `count_padding`."""
    left_out = -100 if count_padding else text.EMPTY  # no target is -100
    return F.cross_entropy(
        logits.float().flatten(0, 1),
        targets.flatten(),
        ignore_index=left_out,
        label_smoothing=LABEL_SMOOTHING,
        reduction="sum",
    )


def ctc_loss(heard: Tensor, positions: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """CTC (Graves et al., 2006) of the characters between START and STOP, with EMPTY as its blank, summed over clips.

    Args:
        heard: (B, T, V) logits.
        positions: (B,) of T that are a clip's own.
        tokens: (B, L) from START on.
        lengths: (B,) of the texts, START and STOP included.
    """
    log_probabilities = heard.float().log_softmax(dim=2).transpose(0, 1)
    # On the CPU, since on a GPU the gradient differs from run to run.
    loss = F.ctc_loss(
        log_probabilities.cpu(),
        tokens[:, 1:].cpu(),
        positions.cpu(),
        lengths.cpu() - 2,
        blank=text.EMPTY,
        reduction="sum",
        zero_infinity=True,  # of a clip that is too short for its text
    )
    return loss.to(heard.device)


def evaluate(model: SpeechToText, clips: Split, listening: Listening, part: str) -> Row:
    """Losses, similarities and error rates of `model`, in eval mode, in every process alike.

    Args:
        model: under inference_mode.
        clips: a split.
        listening: how clips are heard and how much is written.
        part: the numbers are called <part>_loss (padding counted as in the course: at least 98 positions a clip, and
            those of the longest text of its batch), <part>_loss_without_padding, <part>_jaccard and so on.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(clips)), key=lambda i: clips.frames[i])
    losses, counts = {True: 0.0, False: 0.0}, {True: 0, False: 0}  # by whether padding is counted
    pairs = []
    for first in range(0, len(order), _CLIPS_AT_ONCE):
        chosen = [(clips.spectrogram(i), clips.tokens[i]) for i in order[first : first + _CLIPS_AT_ONCE]]
        spectrograms, frames, tokens, _ = (tensor.to(device) for tensor in data.pad(chosen, listening.pad_to))
        padded = pad_texts(tokens)
        logits = model(spectrograms, listening.ends(frames), padded[:, :-1])
        for count_padding in losses:
            losses[count_padding] += cross_entropy(logits, padded[:, 1:], count_padding).item()
            counted = padded[:, 1:] if count_padding else padded[:, 1:][padded[:, 1:] != text.EMPTY]
            counts[count_padding] += counted.numel()
        written = listening.write(model, spectrograms, frames)
        pairs += [(truth, one) for (_, truth), one in zip(chosen, written, strict=True)]
    numbers = {
        "loss": losses[True] / counts[True],
        "loss_without_padding": losses[False] / counts[False],
        **compare_texts(pairs),
    }
    return {f"{part}_{name}": value for name, value in numbers.items()}


def compare_texts(pairs: list[tuple[list[int], Hypothesis]]) -> dict[str, float]:
    """Mean similarities, and error rates, of transcripts (START to STOP) and what was written instead."""
    as_ids = [(truth, ids_of(written)) for truth, written in pairs]
    numbers = {name: sum(like(*pair) for pair in as_ids) / len(pairs) for name, like in similarity.SIMILARITIES.items()}
    texts = [(text.decode(truth), text.decode(written.tokens)) for truth, written in pairs]
    words = [(truth.split(), written.split()) for truth, written in texts]
    return {**numbers, "cer": similarity.error_rate(texts), "wer": similarity.error_rate(words)}


def ids_of(written: Hypothesis) -> list[int]:
    """What the course compares: START, the characters, STOP, which takes the last one's place if there is none."""
    return [text.START, *(written.tokens if written.has_ended else written.tokens[:-1]), text.STOP]
