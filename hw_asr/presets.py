"""Settings of a training run, sizes of the networks, and published results; importable without torch."""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_asr"
SOURCE = "ist-2023-24-hw2 Q3"
TITLES: Mapping[str, str] = MappingProxyType({"lstm": "LSTM decoder", "transformer": "Transformer decoder"})


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network (ist-2023-24-hw2 Q3 and its Appendices A to C)."""

    encoder_blocks: int = 4  # N_enc
    outer_norm: bool = True  # LayerNorm at the end of each sub-block, as on the sheet; else one after all blocks
    mels: int = 80  # mel bands of a spectrogram
    width: int = 200  # h_enc, the hidden dimension; feed-forward networks have twice as many hidden units
    heads: int = 2  # k_enc, the number of attention heads
    vocabulary: int = 35  # |V|, the number of tokens
    text_positions: int = 256  # the largest number of input tokens of the Transformer decoder
    dropout: float = 0.0  # dropout probability after the module of each sub-block; the sheet has no dropout
    first_stride: int = 1  # stride of the first convolution; 2 halves the number of encoder positions
    ctc: bool = False  # a classifier on the encoder's output, for a CTC loss; the sheet has none


# "sheet" is the network that the sheet describes, "notebook" the network in the course's notebook.
PRESETS: Mapping[str, Sizes] = MappingProxyType({
    "sheet": Sizes(),
    "notebook": Sizes(encoder_blocks=2, outer_norm=False, text_positions=98),
})  # fmt: skip
NOTEBOOK_FRAMES = 2754  # frames to which the notebook pads every spectrogram: 20 s


@dataclass(frozen=True)
class Settings:
    """Settings of a training run. Each is a flag of `python -m hw_asr.train`; the defaults are the sheet's recipe."""

    decoder: str  # "lstm" (Question 3.1) or "transformer" (Question 3.2)
    preset: str  # a name in PRESETS
    kernels: str  # "plain" to compute with models.py and attention.py alone, "fast" for a faster computation
    seed: int  # seed of the order and the augmentation of the training clips
    beam: int | None  # width of the beam search on test clips; None for greedy search
    ctc_weight: float  # weight of the CTC scores in the beam search
    count_padding: bool  # whether the training loss includes the padding after a text, as in the course's notebook
    epochs: int = 15  # passes over the training clips
    batch_size: int = 64  # clips per training step, over all processes
    lr: float = 1e-3  # largest learning rate
    optimizer: str = "adamw"  # "adamw", "adam" or "sgd"
    l2_decay: float = 0.01  # weight decay
    precision: str = "fp32"  # "fp32" or "bf16"
    dropout: float = 0.0  # dropout probability, see `Sizes`
    spec_augment: bool = False  # whether training clips are masked by SpecAugment
    join: bool = False  # whether each training clip is joined with a second one with probability 1/2
    tempo: bool = False  # whether each batch of training clips is made a little faster or slower
    ctc: float = 0.0  # weight of the CTC loss; 0 for no CTC loss
    first_stride: int = 1  # stride of the first convolution, see `Sizes`

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """The settings among the checked arguments of `python -m hw_asr.train`."""
        return cls(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls)})

    @property
    def sizes(self) -> Sizes:
        """The sizes of the network."""
        preset = PRESETS[self.preset]
        return dataclasses.replace(preset, dropout=self.dropout, first_stride=self.first_stride, ctc=self.ctc > 0)

    @property
    def max_text(self) -> int:
        """Number of characters to which transcripts are truncated, so that START and the text fit into the decoder."""
        return self.sizes.text_positions - 1

    @property
    def title(self) -> str:
        """The network's title in figures."""
        return TITLES[self.decoder] + (" as in the notebook" if self.preset == "notebook" else "")


# Settings of our recipe that differ from the sheet's; they were chosen on validation clips.
_BEST: Mapping[str, Any] = MappingProxyType({
    "epochs": 60, "batch_size": 16, "precision": "bf16", "ctc": 0.3, "first_stride": 2,
    "spec_augment": True, "join": True, "tempo": True,
})  # fmt: skip
# Results that others published for LJSpeech's test clips; the loss includes padding.
PUBLISHED: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "lstm": {"loss": "1.1828", "jaccard": "0.7149", "cosine": "0.8324", "damerau_levenshtein": "0.5087"},
    "transformer": {"loss": "1.1604", "jaccard": "0.7652", "cosine": "0.8657", "damerau_levenshtein": "0.6335"},
})  # fmt: skip


def defaults(preset: str, recipe: str) -> dict[str, Any]:
    """Default values, by flag, of the flags whose default depends on the preset or the recipe.

    Args:
        preset: a name in PRESETS.
        recipe: "plain" for the course's recipe, "best" for ours.
    """
    fields = dataclasses.fields(Settings)
    plain = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    return {**plain, **(_BEST if recipe == "best" else {}), "count_padding": preset == "notebook"}
