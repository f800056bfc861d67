"""Draws the inputs of the test cases for networks: sizes, images, captions and scales of the parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

_WORDS = ("<NULL>", "<START>", "<END>", "a", "red", "boat", "on", "the", "sea")


@dataclass(frozen=True)
class Drawn:
    """One case, as drawn from a random generator."""

    title: str
    cost: float | None  # as in `Case`
    options: dict[str, Any]  # arguments of the class
    given: tuple[Any, ...] = ()  # arguments of the method
    scales: Mapping[str, float] = field(default_factory=dict)  # factors of the random parameters, by name


def _distinct(rng: Generator, count: int, low: int, high: int) -> list[int]:
    return rng.choice(np.arange(low, high + 1), count, replace=False).tolist()


def draw_softmax_init(rng: Generator) -> Iterator[Drawn]:
    """Yields the cases for SoftmaxClassifier.__init__."""
    for scale in (1e-3, 0.1, 2.0):
        D, H, C = _distinct(rng, 3, 20, 60)
        options = {"input_dim": D, "hidden_dim": H, "num_classes": C, "weight_scale": scale}
        yield Drawn("random sizes and scales", None, options)


def draw_softmax_loss(rng: Generator) -> Iterator[Drawn]:
    """Yields the cases for SoftmaxClassifier.loss."""
    for title, cost, count, scale in (
        ("random shapes", None, 0, 1.0),
        ("random shapes", None, 0, 1.0),
        ("one sample", 0.25, 1, 1.0),
        ("large inputs", 0.25, 0, 1e6),
    ):
        N, D, H, C = _distinct(rng, 4, 2, 8)
        options = {"input_dim": D, "hidden_dim": H, "num_classes": C, "weight_scale": 0.1}
        N = count or N
        x, y = scale * (rng.normal(size=(N, D)) if scale == 1 else rng.random((N, D))), rng.integers(0, C, N)
        yield Drawn(title, cost, options, (x, y), {"W1": 1 / scale})


def _cnn_options(rng: Generator, dtype: str, square: bool, one_channel: bool = False) -> dict[str, Any]:
    channels, filters, hidden, classes = _distinct(rng, 4, 2, 7)
    size = int(rng.integers(2, 5))
    # After the convolution, an even number of pixels is left to pool.
    height, width = (2 * side + size - 1 for side in _distinct(rng, 2, 2, 4))
    return {
        "input_dim": [1 if one_channel else channels, height, height if square else width], "num_filters": filters,
        "filter_size": size, "hidden_dim": hidden, "num_classes": classes, "weight_scale": 0.1, "dtype": dtype,
    }  # fmt: skip


def draw_cnn_init(rng: Generator) -> Iterator[Drawn]:
    """Yields the cases for ConvNet.__init__."""
    for title, cost, scale, dtype, square in (
        ("random sizes and scales", None, 1e-3, "float64", True),
        ("random sizes and scales", None, 0.3, "float64", True),
        ("images that are not square", 0.25, 0.3, "float64", False),
        ("float32", 0.25, 0.1, "float32", True),
    ):
        larger = {"num_filters": int(rng.integers(8, 12)), "hidden_dim": int(rng.integers(30, 40))}
        options = {**_cnn_options(rng, dtype, square), **larger, "num_classes": 12, "weight_scale": scale}
        yield Drawn(title, cost, options)


def draw_cnn_loss(rng: Generator) -> Iterator[Drawn]:
    """Yields the cases for ConvNet.loss."""
    for title, cost, dtype, square, scale in (
        ("square images", None, "float64", True, 1.0),
        ("square images", None, "float64", True, 1.0),
        ("images that are not square", 0.25, "float64", False, 1.0),
        ("one image", 0.25, "float64", True, 1.0),
        ("one channel", 0.25, "float64", True, 1.0),
        ("large inputs", 0.25, "float64", True, 1e6),
        ("float32", 0.25, "float32", True, 1.0),
    ):
        options = _cnn_options(rng, dtype, square, one_channel=title == "one channel")
        N = 1 if title == "one image" else int(rng.integers(2, 7))
        x = (
            rng.normal(size=(N, *options["input_dim"]))
            if scale == 1
            else rng.random((N, *options["input_dim"])) * scale
        )
        y = rng.integers(0, options["num_classes"], N)
        yield Drawn(title, cost, options, (x.astype(dtype), y), {"W1": 1 / scale})


def _caption_options(rng: Generator, cell: str, dtype: str, *, shuffled: bool = False) -> dict[str, Any]:
    D, W, H = _distinct(rng, 3, 3, 8)
    first = int(rng.integers(1, len(_WORDS))) if shuffled else 0  # the number that stands for <NULL>
    numbers = {word: (first + number) % len(_WORDS) for number, word in enumerate(_WORDS)}
    return {
        "word_to_idx": numbers, "input_dim": D, "wordvec_dim": W, "hidden_dim": H, "cell_type": cell, "dtype": dtype
    }  # fmt: skip


def _captions(rng: Generator, words: Mapping[str, int], N: int, length: int) -> ndarray:
    """(N, length + 2) word numbers: <START>, up to `length` words, <END>, then <NULL>."""
    others = [number for word, number in words.items() if not word.startswith("<")]
    captions = np.full((N, length + 2), words["<NULL>"])
    captions[:, 0] = words["<START>"]
    for row, count in zip(captions, [length, *rng.integers(1, length + 1, N - 1)], strict=True):
        row[1 : count + 1] = rng.choice(others, count)
        row[count + 1] = words["<END>"]
    return captions


def draw_caption_loss(rng: Generator, cell: str) -> Iterator[Drawn]:
    """Yields the cases for CaptioningRNN.loss; `cell` is rnn or lstm."""
    for title, cost, N, length in (
        ("random shapes", None, 4, 5),
        ("random shapes", None, 3, 6),
        ("one caption", 0.25, 1, 4),
        ("captions of one word", 0.25, 3, 1),
        ("other numbers for <NULL>, <START> and <END>", 0.25, 4, 3),
        ("large gradients", 0.25, 2, 30),
        ("float32", 0.25, 3, 4),
    ):
        dtype = "float32" if title == "float32" else "float64"
        options = _caption_options(rng, cell, dtype, shuffled=title.startswith("other"))
        large = title == "large gradients"
        features = rng.normal(size=(N, options["input_dim"])).astype(dtype) * (100 if large else 1)
        captions = _captions(rng, options["word_to_idx"], N, length)
        yield Drawn(title, cost, options, (features, captions), {"W_proj": 1e-2, "W_vocab": 10.0} if large else {})


def draw_caption_sample(rng: Generator, cell: str) -> Iterator[Drawn]:
    """Yields the cases for CaptioningRNN.sample; `cell` is rnn or lstm."""
    for title, cost, N, length in (
        ("random shapes", None, 6, 7),
        ("random shapes", None, 5, 9),
        ("one image", 0.25, 1, 8),
        ("at most one word", 0.25, 4, 1),
        ("other numbers for <NULL>, <START> and <END>", 0.25, 6, 6),
    ):
        options = _caption_options(rng, cell, "float64", shuffled=title.startswith("other"))
        yield Drawn(title, cost, options, (rng.normal(size=(N, options["input_dim"])), length))
