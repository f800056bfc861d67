"""Captions as words, from the images of a data set or from any files, by whichever way of decoding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hw_caption import decoding
from hw_caption.data import Inputs
from hw_caption.metrics import similarities
from hw_caption.models import Captioner
from hw_caption.vocabulary import Vocabulary

_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Writer:
    """A captioner with what it needs to write.

    Attributes:
        model: in eval mode while it writes.
        vocabulary: whose words it writes.
        longest: words of a caption, its end among them.
        beam: width of the beam search.
        views: how many flips and rotations of an image `consensus` looks at: 8, or 1 if it was trained without.
    """

    model: Captioner
    vocabulary: Vocabulary
    longest: int
    beam: int
    views: int

    def write(self, inputs: Inputs, names: Sequence[str], how: str) -> list[list[str]]:
        """The words of one caption for each of the images `names`.

        Args:
            inputs: what is known of the images.
            names: of images.
            how: "greedy", "beam" or "consensus".
        """
        captions = []
        for first in range(0, len(names), _IMAGES_AT_ONCE):
            captions += self._write_some(inputs, names[first : first + _IMAGES_AT_ONCE], how)
        return [self.vocabulary.decode(words) for words in captions]

    def _write_some(self, inputs: Inputs, names: Sequence[str], how: str) -> list[Sequence[int]]:
        decoders = self.model.decoders
        if how == "greedy":
            return [caption.tokens for caption in decoding.greedy(decoders, self._see(inputs, names), self.longest)]
        if how == "beam":
            found = decoding.beam_search(decoders, self._see(inputs, names), self.beam, self.longest)
            return [captions[0].tokens for captions in found]
        candidates: list[Counter] = [Counter() for _ in names]
        for view in range(self.views):
            regions = self._see(inputs, names, view)
            for decoder in decoders:
                found = decoding.beam_search([decoder], regions, self.beam, self.longest)
                for counts, captions in zip(candidates, found, strict=True):
                    counts.update(tuple(caption.tokens) for caption in captions)
        return [consensus(counts) for counts in candidates]

    def _see(self, inputs: Inputs, names: Sequence[str], view: int = 0) -> Tensor:
        device = next(self.model.parameters()).device
        return self.model.encoder(inputs.take(names, [view] * len(names)).to(device))

    def look(self, inputs: Inputs, name: str, caption: Sequence[str]) -> np.ndarray | None:
        """Where the decoders look before each word of `caption`: (words, rows, columns); None without attention."""
        numbers = self.vocabulary.encode(caption)[1:-1]
        looks = decoding.follow(self.model.decoders, self._see(inputs, [name]), numbers)
        if looks is None:
            return None
        side = round(looks.shape[1] ** 0.5)
        return looks.view(-1, side, side).cpu().numpy()


def consensus(candidates: Counter[tuple[int, ...]]) -> tuple[int, ...]:
    """Of many captions of an image, given with how often each was found, the one that is most like all of them.

    It is the one with the least expected loss if the truth is one of them (minimum Bayes risk; Kumar and Byrne 2004).
    """
    captions, counts = list(candidates), np.array(list(candidates.values()))
    return captions[int((similarities(captions) @ counts).argmax())]
