"""The solver for image captioning (eecs545-w20-hw4 Q4d)."""

import numpy as np
from numpy import ndarray

if __package__:  # the course's scripts import these files by bare names
    from .solver import BaseSolver
else:
    from solver import BaseSolver


class CaptioningSolver(BaseSolver):
    """Trains a CaptioningRNN on data from `coco_utils.load_coco_data`; the arguments are those of `BaseSolver`."""

    @property
    def num_train(self) -> int:
        """Number of training captions."""
        return len(self.data["train_captions"])

    def batch(self, rows: ndarray) -> tuple[ndarray, ndarray]:
        """Image features and captions at `rows`. Columns at the end that hold only <NULL> are cut off."""
        captions, images = self.data["train_captions"][rows], self.data["train_image_idxs"][rows]
        words = (captions != self.data["word_to_idx"]["<NULL>"]).any(axis=0)
        return self.data["train_features"][images], captions[:, : 1 + np.flatnonzero(words)[-1]]
