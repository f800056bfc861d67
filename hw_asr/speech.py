"""Decides whether a recording contains speech, from the sound alone.

A speech recognizer writes a sentence for any sound. This rule uses no network, so it is the same for every run.
Speech has these five properties, and every other kind of sound lacks at least one of them:

- a vowel: for some frames the sound is periodic, and the pitch glides from frame to frame;
- variety: the shape of the spectrum differs from moment to moment, unlike that of noise, tones, chords and hums;
- motion: this shape keeps changing, unlike that of a held note;
- swell: each period begins loud and fades, unlike a pure tone, but less sharply than a click;
- a moving pitch: the pitch of a voice changes all the time, unlike that of notes.

`benchmarks/speech.py` counts how often the rule errs.
"""

from typing import NamedTuple

import numpy as np

_WINDOW = 3.0  # seconds that are judged at once; a longer recording contains speech if one of its parts does
_FRAME, _HOP = 0.046, 0.01  # seconds: the length of a frame, and the time from one frame to the next
_LOUD = 20.0  # frames count if they are at most this many dB quieter than the loudest ones
_PITCHES = 55.0, 400.0  # Hz; the lowest and the highest pitch that is looked for
_PERIODIC = 0.6  # smallest correlation of a periodic frame with itself one period later
_BANDS = np.geomspace(250, 3500, 15)  # Hz; edges of the bands, which cover what a telephone transmits
_RANGE = 45.0  # quieter bands are raised to this many dB below the loudest one
_SMOOTHED, _LAG = 5, 5  # spectra are averaged over 5 frames, and compared with those 5 frames later
_BLOCK = 0.002  # seconds over which the power within a frame is measured
_LARGEST_STEP = 0.08  # octaves; the pitch of a voice changes by at most this much from one frame to the next
_STILL = 0.002  # octaves; the pitch of a voice mostly changes by more than this from one frame to the next


class Measures(NamedTuple):
    """The measures on which the rule is based."""

    vowel: float  # seconds of the longest stretch that is periodic with a gliding pitch
    variety: float  # dB; standard deviation of the spectral shape over time
    motion: float  # dB; lower quartile of the change of the spectral shape within 0.05 s
    swell: float  # largest power within a frame, relative to the mean; the median over the frames
    still: float  # share of the steps between periodic frames in which the pitch stays the same


def has_speech(samples: np.ndarray, rate: int) -> bool:
    """Whether a recording (n,) with `rate` samples per second contains something that sounds like speech."""
    parts = np.array_split(samples, int(np.ceil(len(samples) / (_WINDOW * rate))))
    return any(_is_speech(measure(part, rate)) for part in parts if len(part))


def _is_speech(found: Measures) -> bool:
    # Each comment first gives the range of 99 % of the calibration clips (as recorded and with noise), and then the
    # values of most other sounds. A limit may lie a little inside the range, so it rejects a few of these clips.
    return (
        found.vowel >= 0.02  # 0.02 to 0.52; white and pink noise up to 0.01
        and 1.75 <= found.variety <= 10  # 2.5 to 8.1; stationary noise up to 1.5, melodies up to 13
        and found.variety + 20 * found.vowel >= 3.2  # at least 3.1; clicks and bursts of noise up to 3
        and found.motion >= 1.6  # 1.9 to 6.0; chords up to 0.8, notes mostly up to 1.6
        and 1.3 <= found.swell <= 7  # 2.0 to 5.1; pure tones up to 1.2, crackling 9 or more
        and found.still <= 0.6  # at most 0.53; dialled digits and notes mostly 0.7 or more
    )


def measure(samples: np.ndarray, rate: int) -> Measures:
    """Measures a part of a recording, (n,) with `rate` samples per second."""
    frames = _frames(samples, rate)
    hann = np.hanning(frames.shape[1])
    power = np.abs(np.fft.rfft(frames * hann, 2 * len(hann))) ** 2  # (frames, frequencies)
    frequencies = np.fft.rfftfreq(2 * len(hann), 1 / rate)
    level = 10 * np.log10(power[:, (frequencies >= 80) & (frequencies <= 4000)].sum(axis=1) + 1e-9)
    loud = level > np.percentile(level, 95) - _LOUD
    periodic, pitch = _pitch(power * ((frequencies >= 60) & (frequencies <= 2500)), hann, rate)
    steps = np.abs(np.diff(np.log2(pitch)))  # octaves
    voiced = (periodic & loud)[1:] & (periodic & loud)[:-1] & (steps < _LARGEST_STEP)
    variety, motion = _shape(power, frequencies, loud)
    return Measures(
        vowel=_longest(voiced) * _HOP,
        variety=variety,
        motion=motion,
        swell=_swell(frames[loud], round(_BLOCK * rate)),
        still=float((steps[voiced] < _STILL).mean()) if voiced.any() else 0.0,
    )


def _frames(samples: np.ndarray, rate: int) -> np.ndarray:
    """Overlapping frames (frames, samples) without their means; the largest sample is 1."""
    length = round(_FRAME * rate)
    padded = np.pad(samples.astype(np.float64), (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[:: round(_HOP * rate)]
    frames = frames - frames.mean(axis=1, keepdims=True)
    return frames / max(float(np.abs(frames).max()), 1e-12)


def _pitch(power: np.ndarray, window: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each frame is periodic, and its pitch in Hz, from its autocorrelation divided by the window's."""
    weights = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * len(window))) ** 2)
    lags = np.arange(int(rate / _PITCHES[1]), int(rate / _PITCHES[0]))
    correlation = np.fft.irfft(power)
    correlation = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-9) * (weights[0] / weights[lags])
    best = correlation.argmax(axis=1)
    is_peak = (best > 0) & (best < len(lags) - 1)  # slow waves correlate most at the shortest lag; this is not a peak
    return is_peak & (correlation.max(axis=1) >= _PERIODIC), rate / lags[best]


def _shape(power: np.ndarray, frequencies: np.ndarray, loud: np.ndarray) -> tuple[float, float]:
    """Standard deviation of the spectral shape over time, and the lower quartile of its change, in dB."""
    inside = [(frequencies >= low) & (frequencies < high) for low, high in zip(_BANDS, _BANDS[1:], strict=False)]
    bands = np.stack([power[:, band].mean(axis=1) for band in inside], axis=1)  # (frames, bands)
    levels = 10 * np.log10(bands + 1e-9)
    average = min(_SMOOTHED, len(levels))
    levels = np.lib.stride_tricks.sliding_window_view(levels, average, axis=0).mean(axis=2)
    loud = np.lib.stride_tricks.sliding_window_view(loud, average).mean(axis=1) > 0.5
    levels = np.maximum(levels, levels.max() - _RANGE)
    shapes = levels - levels.mean(axis=1, keepdims=True)
    changes = np.sqrt(((shapes[_LAG:] - shapes[:-_LAG]) ** 2).mean(axis=1))[loud[_LAG:] & loud[:-_LAG]]
    if not len(changes):
        return 0.0, 0.0
    return float(shapes[loud].std(axis=0).mean()), float(np.percentile(changes, 25))


def _swell(frames: np.ndarray, block: int) -> float:
    count = frames.shape[1] // block
    power = np.square(frames[:, : count * block].reshape(len(frames), count, block)).sum(axis=2)
    return float(np.median(power.max(axis=1) / np.maximum(power.mean(axis=1), 1e-12)))


def _longest(flags: np.ndarray) -> int:
    """The length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int(np.diff(edges)[::2].max(initial=0))
