"""Measures how often `hw_asr.speech` misses speech, and how often it takes another sound for speech.

    python benchmarks/speech.py DATASET … --held_out test.txt lucas nicolas

DATASET is real speech in LJSpeech's layout: a folder or a tar archive. A clip is held out if --held_out names it or its
speaker, whose name is the second part of its id; --held_out also takes a file with one name per line. The thresholds of
the rule were chosen with the other clips. Each clip is judged as it was recorded, as a telephone transmits it (300 to
3400 Hz), with noise at a signal-to-noise ratio of 10 dB, and with a second of faint noise before and after it. The
other sounds are generated.
"""

import argparse
import collections
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import harness
import other_sounds
from other_sounds import RATE, noise

from hw_asr import audio, readers
from hw_asr.speech import has_speech

_FIRST_SEED = 1000  # smaller seeds were used to choose the thresholds


def telephone(samples: np.ndarray) -> np.ndarray:
    """Keeps 300 to 3400 Hz."""
    spectrum, hertz = np.fft.rfft(samples), np.fft.rfftfreq(len(samples), 1 / RATE)
    return np.fft.irfft(spectrum * ((hertz >= 300) & (hertz <= 3400)), len(samples))


def noisy(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Adds white or pink noise at this signal-to-noise ratio; its kind depends on the number of samples."""
    added = noise(np.random.default_rng(len(samples)), len(samples), len(samples) % 2)
    return samples + added * np.sqrt((samples**2).mean() / (added**2).mean() / 10 ** (decibels / 10))


CONDITIONS = {
    "as recorded": lambda samples: samples,
    "telephone": telephone,
    "noise at 10 dB": partial(noisy, decibels=10),
    "with pauses": lambda samples: noisy(np.pad(samples, RATE), 25),
}


def judge_clip(clip: readers.Clip) -> dict[str, bool]:
    """Whether a clip is taken for speech, for each condition."""
    samples = audio.resample(*audio.decode(clip.audio.read(), clip.audio.where), RATE)
    return {name: has_speech(change(samples), RATE) for name, change in CONDITIONS.items()}


def judge_sound(kind: str, seed: int) -> bool:
    """Whether a generated sound is taken for speech."""
    return has_speech(other_sounds.sound(kind, seed), RATE)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("datasets", nargs="+", type=Path, metavar="DATASET")
    flags.add_argument("--held_out", nargs="*", default=[], metavar="NAME")
    flags.add_argument("--seeds", type=int, default=20, help="generated sounds of each kind (default: 20)")
    flags.add_argument("--processes", type=int, default=2)
    arguments = flags.parse_args()
    held_out: set[str] = set()
    for name in arguments.held_out:
        held_out |= set(Path(name).read_text(encoding="utf-8").split()) if Path(name).is_file() else {name}
    with ProcessPoolExecutor(arguments.processes) as pool:
        for path in arguments.datasets:
            clips = readers.read(path, path.name, "x").clips
            counts: dict[tuple[bool, str], list[bool]] = collections.defaultdict(list)
            for clip, found in zip(clips, pool.map(judge_clip, clips, chunksize=16), strict=True):
                for condition, is_speech in found.items():
                    counts[bool({clip.name, *clip.name.split("-")[1:2]} & held_out), condition].append(is_speech)
            for (is_held_out, condition), found_all in sorted(counts.items()):
                part = "held out" if is_held_out else "calibration"
                missed = found_all.count(False)
                print(f"{path.name}, {part}, {condition}: {missed} of {len(found_all)} clips missed")
                if is_held_out and condition == "as recorded":
                    harness.print_value("missed", 100 * missed / len(found_all), "%", at_most=1)
        for title, kinds in (("plain", other_sounds.PLAIN), ("further", other_sounds.FURTHER)):
            jobs = [(kind, _FIRST_SEED + seed) for kind in kinds for seed in range(arguments.seeds)]
            found_sounds = pool.map(judge_sound, *zip(*jobs, strict=True))
            taken = [kind for (kind, _), found in zip(jobs, found_sounds, strict=True) if found]
            print(f"{title} sounds taken for speech: {len(taken)} of {len(jobs)} {dict(collections.Counter(taken))}")
            if title == "plain":
                harness.print_value("recognized as no speech", 100 - 100 * len(taken) / len(jobs), "%", at_least=95)


if __name__ == "__main__":
    main()
