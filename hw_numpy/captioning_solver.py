"""The solver for captions (eecs545-w20-hw4 Q4d)."""

import numpy as np
from numpy import ndarray

if __package__:  # see softmax.py
    from .solver import BaseSolver
else:
    from solver import BaseSolver


class CaptioningSolver(BaseSolver):
    """Trains a CaptioningRNN on the captions that `coco_utils.load_coco_data` returns.

    Its arguments are those of `BaseSolver`; an unknown one is refused by Python, with its name.
    """

    @property
    def num_train(self) -> int:
        """How many training captions there are."""
        return len(self.data["train_captions"])

    def batch(self, rows: ndarray) -> tuple[ndarray, ndarray]:
        """The features of the images and the captions at `rows`, cut after the longest: <NULL> costs time only."""
        captions, images = self.data["train_captions"][rows], self.data["train_image_idxs"][rows]
        words = (captions != self.data["word_to_idx"]["<NULL>"]).any(axis=0)
        return self.data["train_features"][images], captions[:, : 1 + np.flatnonzero(words)[-1]]
