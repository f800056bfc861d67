"""Long recordings, cut where nobody speaks into pieces that a network can hear at once."""

import numpy as np

from hw_asr.audio import Settings

FRAMES_A_SECOND = Settings.sample_rate / Settings.hop
_MOMENT = 0.05  # seconds over which loudness is measured
_QUIET = 0.01  # of a recording's largest sample: with less, nobody speaks
_MARGIN = 0.01  # seconds of quiet that are kept around speech


def cut(samples: np.ndarray, rate: int, longest: float) -> list[tuple[int, np.ndarray]]:
    """Cuts a recording at its quietest moments, if it is too long.

    A cut lies behind the middle of the longest possible piece, and leaves at least a quarter of that for the next. The
    quiet beside a cut is left out, as clips for training begin and end with speech.

    Args:
        samples: (n,), not all of them 0.
        rate: of them in a second.
        longest: seconds of a piece.

    Returns:
        Where each piece begins, in samples, and its samples.
    """
    most, moment = max(4, round(longest * rate)), max(1, round(_MOMENT * rate))
    if len(samples) <= most:
        return [(0, samples)]
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    cuts = [0]
    while len(samples) - cuts[-1] > most:
        places = np.arange(cuts[-1] + most // 2, min(cuts[-1] + most, len(samples) - most // 4))
        loudness = energy[np.minimum(places + moment // 2, len(samples))] - energy[np.maximum(places - moment // 2, 0)]
        cuts.append(int(places[loudness.argmin()]))
    return _trim(samples, [*cuts, len(samples)], round(_MARGIN * rate))


def _trim(samples: np.ndarray, cuts: list[int], margin: int) -> list[tuple[int, np.ndarray]]:
    """The pieces between `cuts` from their first loud sample to their last; those without any are left out."""
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
    pieces = []
    for begin, end in zip(cuts, cuts[1:], strict=False):
        inside = loud[np.searchsorted(loud, begin) : np.searchsorted(loud, end)]
        if len(inside):
            first, last = max(begin, int(inside[0]) - margin), min(end, int(inside[-1]) + 1 + margin)
            pieces.append((first, samples[first:last]))
    return pieces
