"""Splits long recordings at quiet moments into segments about as short as the clips of the training data."""

import numpy as np

_WINDOW = 0.05  # seconds over which the loudness is measured
_QUIET = 0.01  # a sample is quiet if it is smaller than this share of the recording's largest sample
_MARGIN = 0.01  # seconds of silence that are kept before and after speech


def split(samples: np.ndarray, rate: int, max_seconds: float) -> list[tuple[int, np.ndarray]]:
    """Splits a recording longer than `max_seconds` at its quietest moments; returns a shorter one as it is.

    Every segment but the last is at least half as long as `max_seconds`, and the last at least a quarter. Then silence
    at both ends of each segment is removed, since the clips of the training data begin and end with speech.

    Args:
        samples: (n,), not all of them 0.
        rate: samples per second.
        max_seconds: duration of the longest allowed segment.

    Returns:
        The index of the first sample, and the samples, of each segment.
    """
    max_length, window = max(4, round(max_seconds * rate)), max(1, round(_WINDOW * rate))
    if len(samples) <= max_length:
        return [(0, samples)]
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    cuts = [0]
    while len(samples) - cuts[-1] > max_length:
        candidates = np.arange(cuts[-1] + max_length // 2, min(cuts[-1] + max_length, len(samples) - max_length // 4))
        ends, begins = np.minimum(candidates + window // 2, len(samples)), np.maximum(candidates - window // 2, 0)
        loudness = energy[ends] - energy[begins]
        cuts.append(int(candidates[loudness.argmin()]))
    return _trim(samples, [*cuts, len(samples)], round(_MARGIN * rate))


def _trim(samples: np.ndarray, cuts: list[int], margin: int) -> list[tuple[int, np.ndarray]]:
    """The segments between `cuts`, each from its first loud sample to its last; quiet segments are left out."""
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
    segments = []
    for begin, end in zip(cuts, cuts[1:], strict=False):
        inside = loud[np.searchsorted(loud, begin) : np.searchsorted(loud, end)]
        if len(inside):
            first, last = max(begin, int(inside[0]) - margin), min(end, int(inside[-1]) + 1 + margin)
            segments.append((first, samples[first:last]))
    return segments
