"""Generated sounds that are no speech, at 22 050 Hz."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

RATE = 22_050
Sound = Callable[[np.random.Generator, int], np.ndarray]  # the sound from a generator and a number of samples


def noise(random: np.random.Generator, count: int, exponent: float) -> np.ndarray:
    """Noise whose power falls with this power of the frequency: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    return np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 1) ** (-exponent / 2), count)


def _wave(random: np.random.Generator, count: int, hertz: float, kind: str = "sine") -> np.ndarray:
    phase = hertz * np.arange(count) / RATE + random.random()
    if kind == "saw":
        return 2 * (phase % 1) - 1
    wave = np.sin(2 * np.pi * phase)
    return np.sign(wave) if kind == "square" else wave


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """A random number from `low` to `high` whose logarithm is uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _fade(sound: np.ndarray, seconds: float = 0.01) -> np.ndarray:
    ramp = np.minimum(1, np.arange(len(sound)) / RATE / seconds)
    return sound * ramp * ramp[::-1]


def _repeated(random: np.random.Generator, count: int, make: Callable[[], np.ndarray], pause: float) -> np.ndarray:
    """Sounds one after another over faint noise, each followed by up to `pause` seconds of silence."""
    result, begin = 10 ** random.uniform(-6, -2) * random.standard_normal(count), 0
    while begin < count:
        part = make()[: count - begin]
        result[begin : begin + len(part)] += part
        begin += len(part) + int(RATE * random.uniform(0.2, 1) * pause)
    return result


def _dither(random: np.random.Generator, count: int) -> np.ndarray:
    return np.round(random.standard_normal(count) * random.uniform(0.5, 3))


def _tone(random: np.random.Generator, count: int) -> np.ndarray:
    return _wave(random, count, _between(random, 50, 6000))


def _buzz(random: np.random.Generator, count: int) -> np.ndarray:
    return _wave(random, count, _between(random, 50, 2000), random.choice(["square", "saw"]))


def _chord(random: np.random.Generator, count: int) -> np.ndarray:
    steps = [[0, 4, 7], [0, 3, 7], [0, 4, 7, 10], [0, 5, 9, 12]][random.integers(4)]
    lowest, kind = _between(random, 80, 800), random.choice(["sine", "square", "saw"])
    return sum((_wave(random, count, lowest * 2 ** (step / 12), kind) for step in steps), np.zeros(count))


def _clicks(random: np.random.Generator, count: int) -> np.ndarray:
    result = 1e-4 * random.standard_normal(count)
    for begin in random.integers(0, count, 1 + int(count / RATE * random.uniform(0.5, 20))):
        result[begin : begin + random.integers(1, 400)] += random.uniform(-1, 1)
    return result


def _metronome(random: np.random.Generator, count: int) -> np.ndarray:
    length = int(random.integers(20, 2000))
    tick = random.standard_normal(length) if random.random() < 0.5 else _wave(random, length, random.uniform(500, 4000))
    tick *= np.exp(-5 * np.arange(length) / length)
    period = int(RATE / random.uniform(0.7, 10))
    return _repeated(random, count, lambda: np.pad(tick, (0, max(0, period - length))), 0)


def _hum(random: np.random.Generator, count: int) -> np.ndarray:
    mains = random.choice([50, 60, 100, 120])
    waves = (random.random() / (i + 1) * _wave(random, count, mains * (i + 1)) for i in range(random.integers(1, 30)))
    return sum(waves, 10 ** random.uniform(-4, -1) * random.standard_normal(count))


def _swelling_noise(random: np.random.Generator, count: int) -> np.ndarray:
    swell = 1 + random.uniform(0.3, 1) * _wave(random, count, random.uniform(2, 8))
    return noise(random, count, random.uniform(0, 2)) * swell


def _bursts(random: np.random.Generator, count: int) -> np.ndarray:
    def burst() -> np.ndarray:
        sound = noise(random, int(RATE * random.uniform(0.03, 0.4)), random.uniform(0, 2))
        return _fade(sound / np.abs(sound).max())

    return _repeated(random, count, burst, 0.5)


def _beeps(random: np.random.Generator, count: int) -> np.ndarray:
    length, hertz = int(RATE * random.uniform(0.05, 0.6)), random.uniform(300, 3000)
    return _repeated(random, count, lambda: _fade(_wave(random, length, hertz)), 0.5)


def _dialled(random: np.random.Generator, count: int) -> np.ndarray:
    length = int(RATE * random.uniform(0.06, 0.3))

    def digit() -> np.ndarray:
        low, high = random.choice([697, 770, 852, 941]), random.choice([1209, 1336, 1477])
        return _fade(_wave(random, length, low) + _wave(random, length, high), 0.003)

    return _repeated(random, count, digit, 0.3)


def _melody(random: np.random.Generator, count: int) -> np.ndarray:
    def note() -> np.ndarray:
        length = int(RATE * random.choice([0.125, 0.25, 0.5, 1]) * random.uniform(0.7, 1.3))
        hertz = 110 * random.choice([1, 2, 4]) * 2 ** (random.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        overtones = (
            random.uniform(0.1, 1) / i * _wave(random, length, hertz * i) for i in range(1, random.integers(2, 10))
        )
        return _fade(sum(overtones, np.zeros(length)) * np.exp(-random.uniform(0, 6) * np.arange(length) / RATE))

    return _repeated(random, count, note, 0)


def _music(random: np.random.Generator, count: int) -> np.ndarray:
    return sum((_melody(random, count) for _ in range(3)), 0.5 * _bursts(random, count))


def _vibrato(random: np.random.Generator, count: int) -> np.ndarray:
    def note() -> np.ndarray:
        length = int(RATE * random.uniform(0.2, 0.6))
        swing = 1 + random.uniform(0.005, 0.06) * _wave(random, length, random.uniform(4, 8))
        phase = 2 * np.pi * np.cumsum(random.uniform(100, 900) * swing) / RATE
        return _fade(sum((np.sin(i * phase) / i for i in range(1, random.integers(2, 8))), np.zeros(length)), 0.03)

    return _repeated(random, count, note, 0)


def _strums(random: np.random.Generator, count: int) -> np.ndarray:
    def strum() -> np.ndarray:
        length, lowest = int(RATE * random.uniform(0.2, 0.8)), random.choice([110, 147, 165, 196, 220])
        strings = [
            _wave(random, length, lowest * 2 ** (step / 12) * i) / i for step in (0, 4, 7, 12) for i in range(1, 8)
        ]
        return _fade(sum(strings, np.zeros(length)) * np.exp(-4 * np.arange(length) / RATE), 0.002)

    return _repeated(random, count, strum, 0)


def _drums(random: np.random.Generator, count: int) -> np.ndarray:
    length, beats = int(RATE * random.uniform(0.12, 0.3)), iter(range(10**6))
    seconds = np.arange(length) / RATE

    def beat() -> np.ndarray:
        drum = [
            np.sin(2 * np.pi * np.cumsum(120 * np.exp(-20 * seconds) + 45) / RATE) * np.exp(-12 * seconds),
            np.zeros(length),
            0.7 * random.standard_normal(length) * np.exp(-18 * seconds),
            np.zeros(length),
        ][next(beats) % 4]
        return drum + 0.3 * np.diff(random.standard_normal(length + 1)) * np.exp(-60 * seconds)

    return _repeated(random, count, beat, 0)


def _sweep(random: np.random.Generator, count: int) -> np.ndarray:
    hertz = np.geomspace(_between(random, 80, 5000), _between(random, 80, 5000), count)
    return np.sin(2 * np.pi * np.cumsum(hertz) / RATE)


def _siren(random: np.random.Generator, count: int) -> np.ndarray:
    swing = 1 + random.uniform(0.1, 0.5) * _wave(random, count, random.uniform(0.2, 8))
    return np.sin(2 * np.pi * np.cumsum(random.uniform(300, 1500) * swing) / RATE)


PLAIN: Mapping[str, Sound] = MappingProxyType(
    {
        "white noise": lambda random, count: noise(random, count, 0),
        "pink noise": lambda random, count: noise(random, count, 1),
        "brown noise": lambda random, count: noise(random, count, 2),
        "dither": _dither,
        "tones": _tone,
        "buzzes": _buzz,
        "chords": _chord,
        "clicks": _clicks,
        "metronomes": _metronome,
        "hums": _hum,
    }
)
FURTHER: Mapping[str, Sound] = MappingProxyType(
    {
        "swelling noise": _swelling_noise,
        "bursts of noise": _bursts,
        "beeps": _beeps,
        "dialled digits": _dialled,
        "melodies": _melody,
        "music": _music,
        "vibrato": _vibrato,
        "strums": _strums,
        "drums": _drums,
        "sweeps": _sweep,
        "sirens": _siren,
    }
)


def sound(kind: str, seed: int) -> np.ndarray:
    """A sound (samples,) float32 of 0.5 to 6 seconds, rounded to 16 bits, of a kind in PLAIN or FURTHER."""
    random = np.random.default_rng([seed, *kind.encode()])
    made = {**PLAIN, **FURTHER}[kind](random, int(RATE * random.uniform(0.5, 6)))
    loudness = 2.0**-15 if kind == "dither" else 10 ** random.uniform(-2, 0) / np.abs(made).max()
    return (np.round(made * loudness * 2**15) / 2**15).astype(np.float32)
