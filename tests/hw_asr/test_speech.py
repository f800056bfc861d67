"""The rule that tells speech from other sounds, on the sample's speech and on generated sounds."""

import numpy as np
import other_sounds
import pytest
from other_sounds import RATE

from hw_asr import audio, readers
from hw_asr.speech import has_speech, measure

CLIPS = [
    audio.resample(*audio.decode(clip.audio.read(), clip.name), RATE)
    for clip in readers.read(readers.SAMPLE, "x", "x").clips[::40]
]
NOISE = other_sounds.noise(np.random.default_rng(0), 40 * RATE, 1)
NOISE /= NOISE.std()
CONDITIONS = {
    "as recorded": lambda clip: clip,
    "quiet": lambda clip: clip / 1000,
    "8 kHz": lambda clip: audio.resample(audio.resample(clip, RATE, 8000), 8000, RATE),
    "noise at 10 dB": lambda clip: clip + clip.std() * 10**-0.5 * NOISE[: len(clip)],
    "between pauses": lambda clip: np.pad(clip, 2 * RATE),
    "after noise": lambda clip: np.concatenate([clip.std() * NOISE[: 20 * RATE], clip]),
    "off center": lambda clip: clip + 0.3,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_speech_is_recognized(condition):
    assert all(has_speech(CONDITIONS[condition](clip), RATE) for clip in CLIPS)


def test_other_sounds_are_no_speech():
    plain = [has_speech(other_sounds.sound(kind, seed), RATE) for kind in other_sounds.PLAIN for seed in range(6)]
    assert sum(plain) <= 0.05 * len(plain)
    further = [has_speech(other_sounds.sound(kind, seed), RATE) for kind in other_sounds.FURTHER for seed in range(4)]
    assert sum(further) <= 0.1 * len(further)


@pytest.mark.parametrize("seconds", [0.05, 0.06, 0.3])
@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_short_and_constant_sounds_are_no_speech(seconds, value):
    assert not has_speech(np.full(round(seconds * RATE), value, np.float32), RATE)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_the_measures_hardly_depend_on_the_sample_rate(rate):
    clip = audio.resample(audio.resample(CLIPS[0], RATE, 8000), 8000, RATE)
    found, expected = measure(audio.resample(clip, RATE, rate), rate), measure(clip, RATE)
    assert np.allclose(found[:4], expected[:4], rtol=0.15, atol=0.05)  # the pitch is a whole number of samples
