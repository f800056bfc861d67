"""Generates captions by greedy search, beam search or consensus decoding.

The decoders of a captioner decode together as an ensemble: their probabilities of the next word are averaged. Shapes:
B images, R regions of encoder_dim features each, V words in the vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hw_caption.consensus import Consensus
from hw_caption.data import Inputs
from hw_caption.images import VIEWS
from hw_caption.models import Captioner, Decoder
from hw_caption.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from hw_common.training import decoding
from hw_common.training.decoding import Hypothesis, SpecialTokens

_SPECIAL_TOKENS = SpecialTokens(START, END, PAD)
_NEVER_PREDICTED = [PAD, START, UNKNOWN]  # UNKNOWN stands for every rare word, so a caption cannot contain it
_BATCH = 64  # images that are decoded at once


class _Ensemble:
    """Decoders that decode together, with their states; implements `hw_common.training.decoding.Ensemble`."""

    def __init__(self, decoders: Sequence[Decoder], regions: Tensor) -> None:
        self.decoders = decoders
        self.states = [decoder.begin(regions) for decoder in decoders]

    def step(self, tokens: Tensor) -> Tensor:
        """Reads `tokens` (B,); returns the log-probabilities of the next words, (B, V)."""
        of_decoders = []
        for i, decoder in enumerate(self.decoders):
            scores, self.states[i] = decoder(tokens, self.states[i])
            scores[:, _NEVER_PREDICTED] = -math.inf
            of_decoders.append(scores.float().log_softmax(dim=1))
        if len(of_decoders) == 1:
            return of_decoders[0]
        # The logarithm of the mean probability.
        return torch.stack(of_decoders).logsumexp(dim=0) - math.log(len(of_decoders))

    def select(self, rows: Tensor) -> None:
        """See `hw_common.training.decoding.Ensemble`."""
        self.states = [state.select(rows) for state in self.states]


def greedy(decoders: Sequence[Decoder], regions: Tensor, max_length: int) -> list[Hypothesis]:
    """Appends the most probable word at each step, until END; see `hw_common.training.decoding.greedy`.

    Args:
        decoders: an ensemble in eval mode, with torch.inference_mode on; the sheet's model is an ensemble of one.
        regions: (B, R, encoder_dim), the images.
        max_length: maximum number of words, END included.

    Returns:
        A caption for each image.
    """
    ensemble = _Ensemble(decoders, regions)
    return decoding.greedy(ensemble, len(regions), _SPECIAL_TOKENS, max_length, regions.device)


def beam_search(decoders: Sequence[Decoder], regions: Tensor, beam: int, max_length: int) -> list[list[Hypothesis]]:
    """The `beam` best captions of each image, the best one first; see `hw_common.training.decoding.beam_search`.

    Args:
        decoders: an ensemble in eval mode, with torch.inference_mode on.
        regions: (B, R, encoder_dim), the images.
        beam: number of captions that the search keeps for each image.
        max_length: maximum number of words, END included.
    """
    ensemble = _Ensemble(decoders, regions)
    return decoding.beam_search(ensemble, len(regions), _SPECIAL_TOKENS, beam, max_length, regions.device)


def attention_weights(decoders: Sequence[Decoder], regions: Tensor, words: Sequence[int]) -> Tensor | None:
    """The attention weights of the image's regions before each word of a given caption.

    Args:
        decoders: an ensemble in eval mode, with torch.inference_mode on.
        regions: (1, R, encoder_dim), the image.
        words: ids of the caption's words, without START and END.

    Returns:
        The weights (words, R), averaged over the decoders; None for decoders without attention.
    """
    ensemble, weights = _Ensemble(decoders, regions), []
    for word in [START, *words]:
        ensemble.step(torch.tensor([word], device=regions.device))
        of_decoders = [state.attention_weights for state in ensemble.states if state.attention_weights is not None]
        if not of_decoders:
            return None
        weights.append(torch.stack(of_decoders).mean(dim=0).float())
    return torch.cat(weights)[:-1]  # the last step predicts END


@dataclass(frozen=True)
class CaptionGenerator:
    """A captioner with the settings of its decoding."""

    model: Captioner  # the captioner, which must be in eval mode to generate
    vocabulary: Vocabulary  # the vocabulary of its training captions
    max_length: int  # maximum number of words in a caption, END included
    beam: int  # width of the beam search
    consensus: Consensus | None = None  # needed for consensus decoding only

    def generate(self, inputs: Inputs, names: Sequence[str], method: str) -> list[list[str]]:
        """Generates the words of one caption for each image.

        Args:
            inputs: the images' features or pixels.
            names: names of the images.
            method: "greedy", "beam" or "consensus".

        Raises:
            ValueError: consensus decoding without training images.
        """
        captions: list[list[str]] = []
        for first in range(0, len(names), _BATCH):
            ids = self._generate_batch(inputs, names[first : first + _BATCH], method)
            captions += map(self.vocabulary.decode, ids)
        return captions

    def _generate_batch(self, inputs: Inputs, names: Sequence[str], method: str) -> Sequence[Sequence[int]]:
        decoders, regions = self.model.ensemble, _encode(self.model, inputs, names)
        if method == "greedy":
            return [caption.tokens for caption in greedy(decoders, regions, self.max_length)]
        if method == "beam":
            return [captions[0].tokens for captions in beam_search(decoders, regions, self.beam, self.max_length)]
        if self.consensus is None:
            raise ValueError("consensus decoding needs training images")
        candidates: list[list[tuple[int, ...]]] = [[] for _ in names]
        for decoder in decoders:  # separate searches find more varied candidates than one by the ensemble
            found = beam_search([decoder], regions, self.beam, self.max_length)
            for of_image, captions in zip(candidates, found, strict=True):
                of_image += [tuple(caption.tokens) for caption in captions]
        return self.consensus.choose(describe(self.model, inputs, names), candidates)

    def attention_maps(self, inputs: Inputs, name: str, caption: Sequence[str]) -> np.ndarray | None:
        """The attention weights before each word of `caption`: (words, rows, columns); None without attention."""
        ids = self.vocabulary.encode(caption)[1:-1]
        weights = attention_weights(self.model.ensemble, _encode(self.model, inputs, [name]), ids)
        if weights is None:
            return None
        side = round(weights.shape[1] ** 0.5)
        return weights.view(-1, side, side).cpu().numpy()


def describe(model: Captioner, inputs: Inputs, names: Sequence[str]) -> Tensor:
    """The descriptors of images for consensus decoding, (B, encoder_dim) float32: the mean of an image's regions.

    The mean includes all flips and rotations of the image, because aerial images have no upright orientation.
    """
    descriptors = []
    with torch.inference_mode():
        for first in range(0, len(names), _BATCH):
            views = (_encode(model, inputs, names[first : first + _BATCH], view) for view in range(VIEWS))
            descriptors.append(torch.stack([regions.float().mean(dim=1) for regions in views]).mean(dim=0))
    return torch.cat(descriptors).cpu()


def _encode(model: Captioner, inputs: Inputs, names: Sequence[str], view: int = 0) -> Tensor:
    """The regions (B, R, encoder_dim) of images after the flip or rotation `view` (see `images.turn`)."""
    device = next(model.parameters()).device
    regions: Tensor = model.encoder(inputs.take(names, [view] * len(names)).to(device))
    return regions
