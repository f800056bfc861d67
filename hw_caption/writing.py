"""Captions as words, from the images of a data set or from any files, by whichever way of decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hw_caption import decoding
from hw_caption.consensus import Consensus
from hw_caption.data import Inputs
from hw_caption.images import VIEWS
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
        consensus: chooses among captions, where that is asked for.
    """

    model: Captioner
    vocabulary: Vocabulary
    longest: int
    beam: int
    consensus: Consensus | None = None

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
        decoders, regions = self.model.ensemble, _see(self.model, inputs, names)
        if how == "greedy":
            return [caption.tokens for caption in decoding.greedy(decoders, regions, self.longest)]
        if how == "beam":
            found = decoding.beam_search(decoders, regions, self.beam, self.longest)
            return [captions[0].tokens for captions in found]
        candidates: list[list[tuple[int, ...]]] = [[] for _ in names]
        for decoder in decoders:
            found = decoding.beam_search([decoder], regions, self.beam, self.longest)
            for several, captions in zip(candidates, found, strict=True):
                several += [tuple(caption.tokens) for caption in captions]
        return self.consensus.choose(describe(self.model, inputs, names), candidates)

    def look(self, inputs: Inputs, name: str, caption: Sequence[str]) -> np.ndarray | None:
        """Where the decoders look before each word of `caption`: (words, rows, columns); None without attention."""
        numbers = self.vocabulary.encode(caption)[1:-1]
        looks = decoding.follow(self.model.ensemble, _see(self.model, inputs, [name]), numbers)
        if looks is None:
            return None
        side = round(looks.shape[1] ** 0.5)
        return looks.view(-1, side, side).cpu().numpy()


def describe(model: Captioner, inputs: Inputs, names: Sequence[str]) -> Tensor:
    """What images look like as a whole, (B, encoder_dim) float32: the mean of their regions.

    Of all flips and rotations too, since an aerial image has no upper edge.
    """
    parts = [names[first : first + _IMAGES_AT_ONCE] for first in range(0, len(names), _IMAGES_AT_ONCE)]
    with torch.inference_mode():
        views = [[_see(model, inputs, part, view).float().mean(dim=1) for view in range(VIEWS)] for part in parts]
    return torch.cat([torch.stack(of_part).mean(dim=0) for of_part in views]).cpu()


def _see(model: Captioner, inputs: Inputs, names: Sequence[str], view: int = 0) -> Tensor:
    """The regions of images, (B, R, encoder_dim), each turned as `view` says."""
    device = next(model.parameters()).device
    return model.encoder(inputs.take(names, [view] * len(names)).to(device))
