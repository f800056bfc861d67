"""The sheet's settings and published results as plain facts, known before torch is imported."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

HOMEWORK = "hw_caption"
SOURCE = "ist-2021-22-hw2 Q3"
# Each data set with the names that its folder, or its tar archive without the suffix, may have.
DATASETS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "sydney": ("sydney_captions", "Sydney_captions"),
    "flickr": ("flickr8k", "Flickr8k", "flickr1k"),
    "sample": (),
})  # fmt: skip
# The two decoders, by what a run's name says: their titles, and the course's names of the files with their captions.
TITLES: Mapping[str, str] = MappingProxyType({"vanilla": "without attention", "attention": "with attention"})
CAPTION_FILES: Mapping[str, str] = MappingProxyType({
    "vanilla": "caps_generated_enc_dec.json",
    "attention": "caps_generated_enc_dec_w_attention.json",
})  # fmt: skip
# Test BLEU-4 on Sydney of two groups, the better one; with ImageNet weights.
PUBLISHED: Mapping[str, float] = MappingProxyType({"vanilla": 0.503, "attention": 0.545})
SHOWN = ("219.tif", "540.tif", "357.tif")  # the images of Q3.1(c)
LARGEST_GRADIENT = 5.0  # the course clamps each element of the gradient

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
# Chosen by cross-validation over Sydney's training images, with a look at the validation images: longer training and
# more decoders make single captions no better, but a wide search finds better ones, which `consensus` chooses.
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
