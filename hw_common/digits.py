"""scikit-learn's 1 797 handwritten digits, the sample of images that needs no files, in a fixed split."""

import numpy as np

Part = tuple[np.ndarray, np.ndarray]  # images (N, 8, 8) float64 from 0 for paper to 1 for ink, labels (N,) int64


def load() -> tuple[Part, Part, Part]:
    """1 200 training, 300 validation and 297 test images, with every digit's share the same in each."""
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.images / digits.images.max(), digits.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=297, random_state=42, stratify=labels)
    train, val = train_test_split(rest, test_size=300, random_state=42, stratify=labels[rest])
    train, val, test = ((images[rows], labels[rows]) for rows in (train, val, test))
    return train, val, test
