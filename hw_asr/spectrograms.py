"""The spectrograms of a dataset, computed once and stored on disk."""

import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from hw_asr import audio
from hw_asr.audio import SpectrogramSettings
from hw_asr.presets import HOMEWORK
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.feature_cache import FeatureCache
from hw_common.data.thread_map import thread_map
from hw_common.runs.errors import Stopped, signal_of

_VERSION = 2  # increase this number when the results of audio.py change
_MAX_SECONDS = 60.0  # longest clip that a dataset may contain; LJSpeech's longest clip lasts 10 s


class Spectrograms:
    """The memory-mapped spectrograms of clips."""

    def __init__(self, cache: FeatureCache, keys: Sequence[str]) -> None:
        self._cache = cache
        self._keys = keys
        self.frames = [cache.count(key) for key in keys]  # number of frames of each clip
        self.sha256 = hashlib.sha256("".join(keys).encode()).hexdigest()  # hash of the hashes of all sound files

    def part(self, clips: Iterable[int]) -> "Spectrograms":
        """The spectrograms of some of the clips, given by their indices."""
        return Spectrograms(self._cache, [self._keys[clip] for clip in clips])

    def take(self, clip: int) -> np.ndarray:
        """The spectrogram (frames, mels) float16 of the clip with index `clip`."""
        return self._cache.take(self._keys[clip])


def ensure(
    clips: Sequence[DatasetFile], label: str, settings: SpectrogramSettings, results_dir: Path, keep: bool = True
) -> Spectrograms:
    """Computes the spectrograms that are missing, outdated or damaged, in threads on all cores, and opens all.

    They are stored in the folder `results_dir`/hw_asr/spectrograms/<label>-<settings>; `label` names the dataset.
    With `keep` false, nothing is written, and missing spectrograms are computed in memory.

    Raises:
        UserError: a clip cannot be read, or the folder cannot be written.
        Stopped: SIGINT or SIGTERM arrived; the finished spectrograms are saved.
    """
    folder = results_dir / HOMEWORK / "spectrograms" / f"{label}-{settings.label}"
    recipe = {"settings": dataclasses.asdict(settings), "version": _VERSION}
    cache = FeatureCache(folder, recipe, settings.mels, keep)

    notes: list[str] = []

    def compute(clip: DatasetFile) -> tuple[str, np.ndarray | None]:
        content = clip.read()
        key = hashlib.sha256(content).hexdigest()
        if cache.holds(key):
            return key, None
        samples, rate = audio.decode(content, clip.where, _MAX_SECONDS, notes.append)
        return key, audio.log_mel(audio.resample(samples, rate, settings.sample_rate), settings).T

    keys: list[str] = []
    computed: set[str] = set()
    # Each clip has its thread already; further BLAS threads would slow all of them down.
    with cache.locked(), threadpool_limits(1, user_api="blas"):
        found = thread_map(compute, clips)
        bar = tqdm(found, f"spectrograms of {label}", len(clips), unit="clip", disable=None, leave=False)
        try:
            with contextlib.closing(found), bar:
                for key, rows in bar:
                    if rows is not None and key not in computed:  # two clips may have the same sound
                        cache.append(key, rows)
                        computed.add(key)
                    keys.append(key)
        except KeyboardInterrupt as interrupt:
            done = f"stopped after the spectrograms of {len(keys)} of {len(clips)} clips"
            raise Stopped(signal_of(interrupt), f"{done}; they are saved, and the same command resumes") from None
        finally:
            cache.commit()
    if notes:
        print(
            notes[0] + (f"; other clips that were scaled: {len(notes) - 1}" if len(notes) > 1 else ""), file=sys.stderr
        )
    if damaged := len(computed & cache.damaged):
        print(f"{folder}: {damaged} of {len(keys)} spectrograms were damaged and have been computed again")
    return Spectrograms(cache, keys)
