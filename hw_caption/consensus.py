"""Consensus decoding: chooses the candidate caption with the largest expected BLEU-4.

Beam search ranks captions by their probability, but captions are judged by their BLEU-4 against human references.
Consensus decoding (Devlin et al. 2015, "Exploring nearest neighbor approaches for image captioning") chooses the
candidate that agrees most with the references of similar training images. For a new image, it works in four steps:

1. Collect the candidates: all captions that beam search returns, and those references of the 50 most similar training
   images that contain no unknown word.
2. Score each candidate against each of the N training images: the score is the candidate's BLEU-4 against the
   references of the training image.
3. Predict each candidate's BLEU-4 against the unknown references of the new image, by kernel ridge regression from
   image descriptors to scores. The prediction is a weighted sum of the candidate's N scores. The weights depend on the
   new image alone, so they are the same for all candidates.
4. Return the candidate with the largest prediction.

Devlin et al. instead give equal weights to the nearest training images and no weight to the others.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_caption import metrics
from hw_caption.metrics import Ngram
from hw_caption.vocabulary import PAD, SPECIALS, UNKNOWN
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError

Words = tuple[int, ...]  # ids of a caption's words, without START and END

# The ridge was chosen by cross-validation on the training images of the Sydney data set, which are aerial photographs.
# Each fold was a block of consecutive images, because these show neighbouring places: random folds would favour a ridge
# that is too small.
_RIDGE = 1.0
_NEAREST = 50  # number of training images whose references are candidates
_MAX_IMAGES = 20_000  # the kernel matrix then takes 3.2 GB
_CACHED_CAPTIONS = 4096  # number of candidates whose N scores are kept in memory


class Consensus:
    """Training images and their references, prepared for consensus decoding.

    Args:
        descriptors: (N, C) float32, a vector for each training image; similar images have similar descriptors.
        references: the reference captions of each training image.

    Raises:
        UserError: there are no training images, or too many.
    """

    def __init__(self, descriptors: Tensor, references: Sequence[Sequence[Words]]) -> None:
        if not 1 <= len(references) <= _MAX_IMAGES:
            raise UserError(
                f"--decoding consensus: expected 1 to {_MAX_IMAGES} training images, got {len(references)}; choose beam"
            )
        self.descriptors = descriptors
        self.references = references
        self._mean = descriptors.double().mean(dim=0)
        self._std = descriptors.double().std(dim=0, correction=0) + 1e-6
        self._directions = self._normalize(descriptors)
        kernel = self._kernel(descriptors)
        self._factor = torch.linalg.cholesky(kernel + _RIDGE * torch.eye(len(kernel), dtype=torch.double))
        self._images_with_caption: dict[Words, list[int]] = {}
        for image, captions in enumerate(references):
            for caption in set(captions):
                self._images_with_caption.setdefault(caption, []).append(image)
        self._images_with_ngram = self._index_ngrams()
        self._bleu = functools.lru_cache(_CACHED_CAPTIONS)(self._compute_bleu)
        self._brevity = functools.cache(self._compute_brevity)

    def choose(self, descriptors: Tensor, found: Sequence[Sequence[Words]]) -> list[Words]:
        """Returns the candidate with the largest expected BLEU-4 for each image.

        Args:
            descriptors: (B, C), the images' descriptors.
            found: for each image, the captions that beam search returned.
        """
        kernel = self._kernel(descriptors)
        nearest = kernel.topk(min(_NEAREST, len(self.references)), dim=1).indices.tolist()
        chosen = []
        for weights, images, own in zip(self._weights(kernel).numpy(), nearest, found, strict=True):
            others = itertools.chain.from_iterable(self.references[image] for image in images)
            candidates = sorted({*own, *(caption for caption in others if UNKNOWN not in caption)})
            predictions = [float(self._bleu(caption) @ weights) for caption in candidates]
            chosen.append(candidates[predictions.index(max(predictions))])
        return chosen

    def _kernel(self, descriptors: Tensor) -> Tensor:
        """The kernel exp(-|x - y|²) of normalized descriptors, x of images and y of training images: (B, N) float64."""
        return (2 * self._normalize(descriptors) @ self._directions.T - 2).exp()

    def _normalize(self, descriptors: Tensor) -> Tensor:
        """Standardizes each feature over the training images, then scales each descriptor to length 1."""
        return torch.nn.functional.normalize((descriptors.double() - self._mean) / self._std, dim=1)

    def _weights(self, kernel: Tensor) -> Tensor:
        """The weights (B, N) of the training images in the predictions for each image; each row sums to 1.

        Kernel ridge regression is fitted to the scores minus their mean, and the mean is added to its predictions.
        """
        weights = torch.cholesky_solve(kernel.T, self._factor).T
        return weights + (1 - weights.sum(dim=1, keepdim=True)) / len(self.references)

    def _index_ngrams(self) -> dict[tuple[Ngram, int], np.ndarray]:
        """Maps (n-gram, k) to the training images that have the n-gram at least k times in one of their references."""
        index: dict[tuple[Ngram, int], list[int]] = {}
        for image, captions in enumerate(self.references):
            for n in range(1, metrics.MAX_N + 1):
                for ngram, most in metrics.max_ngram_counts(captions, n).items():
                    for times in range(1, most + 1):
                        index.setdefault((ngram, times), []).append(image)
        return {key: np.array(images, dtype=np.int32) for key, images in index.items()}

    def _compute_bleu(self, caption: Words) -> np.ndarray:
        """BLEU-4 of a caption, without smoothing, against the references of each training image: (N,) float64.

        If a training image has the caption among its references, one copy of it is left out. Otherwise, a candidate
        that comes from a training image would score 1 against this image.
        """
        score = np.zeros(len(self.references))
        for n in range(1, metrics.MAX_N + 1):
            matches = np.zeros(len(self.references))
            ngrams = metrics.count_ngrams(caption, n)
            for ngram, count in ngrams.items():
                for times in range(1, count + 1):
                    matches[self._images_with_ngram.get((ngram, times), [])] += 1
            with np.errstate(divide="ignore"):
                score += np.log(matches / max(1, ngrams.total())) / metrics.MAX_N
        score = np.exp(score) * self._brevity(len(caption))
        for image in self._images_with_caption.get(caption, ()):
            others = list(self.references[image])
            others.remove(caption)
            score[image] = metrics.course_bleu([others], [caption]) if others else 0.0
        return score

    def _compute_brevity(self, length: int) -> np.ndarray:
        """BLEU's brevity penalty of a caption with `length` words against each training image's references: (N,)."""
        lengths = ([len(caption) for caption in captions] for captions in self.references)
        closest = np.array([min(of_image, key=lambda other: (abs(other - length), other)) for of_image in lengths])
        return np.exp(np.minimum(0, 1 - closest / max(1, length)))

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes a safetensors file with `metadata`, which `load` checks."""
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
    def load(cls, path: Path, metadata: dict[str, str], vocab_size: int, descriptor_size: int) -> "Consensus":
        """Reads a file that `save` wrote.

        Args:
            path: the file.
            metadata: the metadata that `save` was given.
            vocab_size: number of words in the vocabulary.
            descriptor_size: number of features in a descriptor.

        Raises:
            UserError: the file is missing or damaged, or its metadata differ.
        """
        tensors = checkpoints.load_weights(path, metadata)
        shapes = {name: (tensor.dtype, tensor.dim()) for name, tensor in tensors.items()}
        expected = {"descriptors": (torch.float32, 2), "words": (torch.int32, 2), "captions_of_image": (torch.int32, 1)}
        if shapes != expected or not tensors["descriptors"].isfinite().all():
            raise UserError(f"{path} is damaged: expected descriptors of images and the words of their captions")
        ids, counts = tensors["words"], tensors["captions_of_image"].long()
        is_known = (ids == PAD) | (ids == UNKNOWN) | ((ids >= len(SPECIALS)) & (ids < vocab_size))
        fits = tensors["descriptors"].shape == (len(counts), descriptor_size)
        if not fits or not (counts > 0).all() or counts.sum() != len(ids) or not is_known.all():
            raise UserError(f"{path} is damaged: its captions do not fit its images or the vocabulary")
        captions = iter(tuple(word for word in row if word != PAD) for row in ids.tolist())
        return cls(tensors["descriptors"], [list(itertools.islice(captions, count)) for count in counts.tolist()])
