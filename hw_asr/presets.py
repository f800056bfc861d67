"""The sheet's settings and published results as plain facts, known before torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_asr"
SOURCE = "ist-2023-24-hw2 Q3"
TITLES: Mapping[str, str] = MappingProxyType({"lstm": "LSTM decoder", "transformer": "Transformer decoder"})


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks (ist-2023-24-hw2 Q3 and its Appendices A to C).

    Attributes:
        encoder_blocks: N_enc.
        outer_norm: whether a sub-block ends with a LayerNorm, as the sheet prints it; else one follows all blocks of
            the encoder.
        mels: bands of a spectrogram.
        width: hidden dimension, h_enc.
        heads: of attention, k_enc; the hidden layer of a feed-forward network is twice as wide as `width`.
        vocabulary: characters.
        text_positions: characters that the Transformer decoder can read.
        dropout: probability, behind every module of a sub-block; the sheet has none.
        first_stride: of the first convolution; 2 halves the positions, and the time that they take.
        ctc: whether there is a classifier on the encoder's output, to help training; the sheet has none.
    """

    encoder_blocks: int = 4
    outer_norm: bool = True
    mels: int = 80
    width: int = 200
    heads: int = 2
    vocabulary: int = 35
    text_positions: int = 256
    dropout: float = 0.0
    first_stride: int = 1
    ctc: bool = False


# What the sheet prints, and what the course's notebook does.
PRESETS: Mapping[str, Sizes] = MappingProxyType({
    "sheet": Sizes(),
    "notebook": Sizes(encoder_blocks=2, outer_norm=False, text_positions=98),
})  # fmt: skip
NOTEBOOK_FRAMES = 2754  # that the notebook pads every spectrogram to: 20 s

PLAIN: Mapping[str, Any] = MappingProxyType({
    "epochs": 15,
    "batch_size": 64,
    "lr": 1e-3,
    "optimizer": "adamw",
    "l2_decay": 0.01,
    "precision": "fp32",
    "dropout": 0.0,
    "spec_augment": False,
    "join": False,
    "tempo": False,
    "ctc": 0.0,
    "first_stride": 1,
})  # fmt: skip
# Ours, chosen on validation.
_BEST: Mapping[str, Any] = MappingProxyType({
    "epochs": 60,
    "batch_size": 16,
    "precision": "bf16",
    "spec_augment": True,
    "join": True,
    "tempo": True,
    "ctc": 0.3,
    "first_stride": 2,
})  # fmt: skip
# Published results on LJSpeech's test clips, with padding counted in the loss.
PUBLISHED: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "lstm": {"loss": "1.1828", "jaccard": "0.7149", "cosine": "0.8324", "damerau_levenshtein": "0.5087"},
    "transformer": {"loss": "1.1604", "jaccard": "0.7652", "cosine": "0.8657", "damerau_levenshtein": "0.6335"},
})  # fmt: skip


def defaults(preset: str, recipe: str) -> dict[str, Any]:
    """The settings that are not given on the command line, by the name of the flag.

    Args:
        preset: one of PRESETS; the notebook counts padding in its loss.
        recipe: "plain", the course's, or "best", ours.
    """
    return {**PLAIN, **(_BEST if recipe == "best" else {}), "count_padding": preset == "notebook"}
