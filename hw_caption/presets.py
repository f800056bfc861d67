"""The sheet's settings and published results; nothing here imports torch."""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_caption"
SOURCE = "ist-2021-22-hw2 Q3"
# Data set -> possible names of its folder or, without .tar, of its archive.
DATASETS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "sydney": ("sydney_captions", "Sydney_captions"),
    "flickr": ("flickr8k", "Flickr8k", "flickr1k"),
    "sample": (),
})  # fmt: skip
# Decoder -> its title.
TITLES: Mapping[str, str] = MappingProxyType({"vanilla": "without attention", "attention": "with attention"})
# Decoder -> name of its caption file in the course.
CAPTION_FILES: Mapping[str, str] = MappingProxyType({
    "vanilla": "caps_generated_enc_dec.json",
    "attention": "caps_generated_enc_dec_w_attention.json",
})  # fmt: skip
# Decoder -> published test BLEU-4 on Sydney with ImageNet weights, the better of two groups' results.
PUBLISHED: Mapping[str, float] = MappingProxyType({"vanilla": 0.503, "attention": 0.545})
SHOWN = ("219.tif", "540.tif", "357.tif")  # the images of Q3.1(c)
MAX_GRADIENT = 5.0  # the course clamps each element of the gradient to ±5
MAX_BEAM = 1000  # largest accepted width, also in a manipulated run folder; a wider beam could fill the memory

PLAIN: Mapping[str, Any] = MappingProxyType({
    "epochs": 6,
    "batch_size": 8,
    "lr": 4e-4,
    "optimizer": "adam",
    "l2_decay": 0.0,
    "dropout": 0.5,
    "precision": "fp32",
    "schedule": "constant",
    "augment": False,
    "members": 1,
    "decoding": "greedy",
    "beam": 5,
})  # fmt: skip
# These settings were chosen by cross-validation over Sydney's training images, but results on the validation images
# were known before. Longer training and more decoders do not improve the captions of greedy search, but they improve
# the candidates of a wide beam search, from which consensus decoding chooses.
BEST: Mapping[str, Any] = MappingProxyType({
    **PLAIN,
    "epochs": 15,
    "batch_size": 32,
    "lr": 1e-3,
    "precision": "bf16",
    "members": 2,
    "decoding": "consensus",
    "beam": 20,
})  # fmt: skip
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType({"plain": PLAIN, "best": BEST})


def decoder_kind(use_attention: bool) -> str:
    """The decoder's key in TITLES."""
    return "attention" if use_attention else "vanilla"


@dataclass(frozen=True)
class Settings:
    """The settings of a captioner and its training."""

    decoder: str  # a key of TITLES
    kernels: str  # "plain" computes with `models`, "fast" with `fast_attention`
    ensemble_size: int  # number of decoders that are trained and that decode together
    dropout: float  # probability of dropout between the LSTM and the last layer
    decoding: str  # decoding of the captions that the run writes: "greedy", "beam" or "consensus"
    beam: int  # width of the beam search
    backbone: str  # the encoder, a key of BACKBONES
    weights: str  # the encoder's weights, see `backbone.load_trunk`
    image_size: int  # height and width of the encoder's input, in pixels
    finetune_encoder: bool  # whether the encoder is trained too
    augment: bool  # whether training images are flipped and rotated at random
    epochs: int  # number of passes over the training data
    batch_size: int  # number of captions in a training step, over all processes
    optimizer: str  # "adam", "adamw" or "sgd"
    lr: float  # learning rate of the decoders
    encoder_lr: float | None  # learning rate of the encoder; None if it is frozen
    l2_decay: float  # weight decay
    schedule: str  # "constant" or "cosine"
    precision: str  # "fp32" or "bf16"
    seed: int  # seed of the batches' order and flips
    data_dir: Path  # folder of data sets and downloaded weights
    results_dir: Path  # folder of run folders and features
    dry_run: bool  # whether nothing is written

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Settings":
        """Returns the settings in the arguments of `hw_caption.train`."""
        given = vars(arguments)
        named = {field.name: given[field.name] for field in dataclasses.fields(cls) if field.name in given}
        return cls(**named, decoder=decoder_kind(arguments.use_attention), ensemble_size=arguments.members)
