"""Which of many captions of an image to take: the one that agrees most with what was said of images like it.

After Devlin et al. 2015 ("Exploring nearest neighbor approaches for image captioning"), who take the caption that is
most similar to all captions of the nearest training images. Here every training image has a say, and how much is found
by kernel ridge regression: BLEU-4 of a caption against an image's references, known for all training images, is a
function of the image that can be learned from them, for any caption.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_caption import metrics
from hw_caption.vocabulary import PAD, SPECIALS, UNKNOWN
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError

Words = tuple[int, ...]  # numbers of a caption's words, without START and END

# Chosen by cross-validation over stretches of Sydney's training images. Neighbours in the data set are neighbours on
# the ground, and its splits are stretches too: with images left out at random, less smoothing looks better than it is.
_RIDGE = 1.0
_NEAREST = 50  # images whose own captions are candidates too
_MOST_IMAGES = 20_000  # their kernel matrix has 3.2 GB
_REMEMBERED = 4096  # captions whose BLEU against all training images is kept


class Consensus:
    """Training images with their references, to choose captions by.

    Attributes:
        descriptors: (N, C) float32, of the training images: what is alike in them should look alike.
        references: for each of them, its captions.
    """

    def __init__(self, descriptors: Tensor, references: Sequence[Sequence[Words]]) -> None:
        """Learns how much each training image has to say about an image.

        Raises:
            UserError: there are too many training images, or none.
        """
        if not 1 <= len(references) <= _MOST_IMAGES:
            raise UserError(
                f"--decoding consensus: expected 1 to {_MOST_IMAGES} training images, got {len(references)}; "
                "choose beam"
            )
        self.descriptors = descriptors
        self.references = references
        self._mean = descriptors.double().mean(dim=0)
        self._spread = descriptors.double().std(dim=0, correction=0) + 1e-6
        self._directions = self._direct(descriptors)
        kernel = self._kernel(descriptors)
        self._factor = torch.linalg.cholesky(kernel + _RIDGE * torch.eye(len(kernel), dtype=torch.double))
        self._said_of: dict[Words, list[int]] = {}  # caption -> images that it is a reference of
        for image, captions in enumerate(references):
            for caption in set(captions):
                self._said_of.setdefault(caption, []).append(image)
        self._having = self._index()
        self._bleu = functools.lru_cache(_REMEMBERED)(self._compute_bleu)
        self._brevity = functools.cache(self._compute_brevity)

    def choose(self, descriptors: Tensor, found: Sequence[Sequence[Words]]) -> list[Words]:
        """The caption of each image with the largest expected BLEU-4.

        Args:
            descriptors: (B, C) of the images.
            found: candidates for each; the references of the most similar training images are candidates as well.
        """
        kernel = self._kernel(descriptors)
        nearest = kernel.topk(min(_NEAREST, len(self.references)), dim=1).indices.tolist()
        chosen = []
        for say, images, own in zip(self._say(kernel).numpy(), nearest, found, strict=True):
            theirs = itertools.chain.from_iterable(self.references[image] for image in images)
            candidates = sorted({*own, *(caption for caption in theirs if UNKNOWN not in caption)})
            chosen.append(max(candidates, key=lambda caption, say=say: float(self._bleu(caption) @ say)))
        return chosen

    def _kernel(self, descriptors: Tensor) -> Tensor:
        """How similar images are to the training images, from exp(−4) to 1: (B, N) float64."""
        return (2 * self._direct(descriptors) @ self._directions.T - 2).exp()

    def _direct(self, descriptors: Tensor) -> Tensor:
        return torch.nn.functional.normalize((descriptors.double() - self._mean) / self._spread, dim=1)

    def _say(self, kernel: Tensor) -> Tensor:
        """How much each training image has to say about each image: (B, N), each row with the sum 1.

        The prediction of kernel ridge regression, with the mean of the targets taken off before and put back after, is
        a sum over the training images with these weights.
        """
        weights = torch.cholesky_solve(kernel.T, self._factor).T
        return weights + (1 - weights.sum(dim=1, keepdim=True)) / len(self.references)

    def _index(self) -> dict[tuple[Words, int], np.ndarray]:
        """The images that have a reference in which an n-gram occurs so often."""
        having: dict[tuple[Words, int], list[int]] = {}
        for image, captions in enumerate(self.references):
            for n in range(1, metrics.LONGEST + 1):
                for ngram, most in metrics.most_ngrams(captions, n).items():
                    for times in range(1, most + 1):
                        having.setdefault((ngram, times), []).append(image)
        return {key: np.array(images, dtype=np.int32) for key, images in having.items()}

    def _compute_bleu(self, caption: Words) -> np.ndarray:
        """BLEU-4 of a caption, without smoothing, against the other references of each training image: (N,) float64."""
        score = np.zeros(len(self.references))
        for n in range(1, metrics.LONGEST + 1):
            matches = np.zeros(len(self.references))
            ngrams = metrics.count_ngrams(caption, n)
            for ngram, count in ngrams.items():
                for times in range(1, count + 1):
                    matches[self._having.get((ngram, times), [])] += 1
            with np.errstate(divide="ignore"):
                score += np.log(matches / max(1, ngrams.total())) / metrics.LONGEST
        score = np.exp(score) * self._brevity(len(caption))
        for image in self._said_of.get(caption, ()):
            others = list(self.references[image])
            others.remove(caption)
            score[image] = metrics.course_bleu([others], [caption]) if others else 0.0
        return score

    def _compute_brevity(self, length: int) -> np.ndarray:
        """BLEU's brevity penalty of captions of so many words, for each training image."""
        lengths = ([len(caption) for caption in captions] for captions in self.references)
        closest = np.array([min(of_image, key=lambda other: (abs(other - length), other)) for of_image in lengths])
        return np.exp(np.minimum(0, 1 - closest / max(1, length)))

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes a safetensors file; `metadata` says whose it is."""
        captions = list(itertools.chain.from_iterable(self.references))
        words = np.full((len(captions), max(1, *map(len, captions))), PAD, dtype=np.int32)
        for row, caption in zip(words, captions, strict=True):
            row[: len(caption)] = caption
        tensors = {
            "descriptors": self.descriptors,
            "words": torch.from_numpy(words),
            "captions_of_image": torch.tensor([len(captions) for captions in self.references], dtype=torch.int32),
        }
        checkpoints.save_weights(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path, metadata: dict[str, str], words: int, width: int) -> "Consensus":
        """Reads what `save` wrote.

        Args:
            path: of the file.
            metadata: must be what it says.
            words: of the vocabulary.
            width: numbers in a descriptor.

        Raises:
            UserError: the file is missing, damaged, or somebody else's.
        """
        tensors = checkpoints.load_weights(path, metadata)
        shapes = {name: (tensor.dtype, tensor.dim()) for name, tensor in tensors.items()}
        expected = {"descriptors": (torch.float32, 2), "words": (torch.int32, 2), "captions_of_image": (torch.int32, 1)}
        if shapes != expected or not tensors["descriptors"].isfinite().all():
            raise UserError(f"{path} is damaged: expected descriptors of images and the words of their captions")
        numbers, counts = tensors["words"], tensors["captions_of_image"].long()
        named = (numbers == PAD) | (numbers == UNKNOWN) | ((numbers >= len(SPECIALS)) & (numbers < words))
        fits = tensors["descriptors"].shape == (len(counts), width)
        if not fits or not (counts > 0).all() or counts.sum() != len(numbers) or not named.all():
            raise UserError(f"{path} is damaged: its captions are not those of its images, or have other words")
        captions = iter(tuple(word for word in row if word != PAD) for row in numbers.tolist())
        return cls(tensors["descriptors"], [list(itertools.islice(captions, count)) for count in counts.tolist()])
