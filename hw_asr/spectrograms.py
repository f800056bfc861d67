"""The spectrograms of a data set, computed once and kept on disk."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from hw_asr import audio
from hw_asr.audio import Settings
from hw_asr.presets import HOMEWORK
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.feature_cache import FeatureCache
from hw_common.data.thread_map import thread_map
from hw_common.runs.errors import Stopped, signal_of

_VERSION = 1  # of what audio.py computes
_LONGEST = 60.0  # seconds of a clip for training; LJSpeech's longest has 10


class Spectrograms:
    """The spectrograms of clips, memory-mapped.

    Attributes:
        frames: of each clip.
        sha256: of all the sound files together.
    """

    def __init__(self, cache: FeatureCache, keys: Sequence[str]) -> None:
        self._cache = cache
        self._keys = keys
        self.frames = [cache.count(key) for key in keys]
        self.sha256 = hashlib.sha256("".join(keys).encode()).hexdigest()

    def part(self, clips: Iterable[int]) -> "Spectrograms":
        """Those of some of the clips."""
        return Spectrograms(self._cache, [self._keys[clip] for clip in clips])

    def take(self, clip: int) -> np.ndarray:
        """The spectrogram (frames, mels) float16 of a clip."""
        return self._cache.take(self._keys[clip])


def ensure(clips: Sequence[DatasetFile], label: str, settings: Settings, results_dir: Path) -> Spectrograms:
    """Opens the spectrograms of `clips`, after computing those that are missing, stale or damaged.

    Threads keep all cores busy, since NumPy, libsndfile and the hash let go of Python's lock.

    Args:
        clips: their sound files.
        label: short name of the data set.
        settings: of the spectrograms.
        results_dir: they go to `results_dir/hw_asr/spectrograms/<label>-<settings>`.

    Raises:
        UserError: a clip cannot be read, or the folder cannot be written.
        Stopped: on SIGINT or SIGTERM, after saving.
    """
    folder = results_dir / HOMEWORK / "spectrograms" / f"{label}-{settings.label}"
    recipe = {"settings": dataclasses.asdict(settings), "version": _VERSION}
    cache = FeatureCache(folder, recipe, settings.mels)

    def look(clip: DatasetFile) -> tuple[str, np.ndarray | None]:
        content = clip.read()
        key = hashlib.sha256(content).hexdigest()
        if cache.holds(key):
            return key, None
        samples, rate = audio.decode(content, clip.where, _LONGEST)
        return key, audio.log_mel(audio.resample(samples, rate, settings.sample_rate), settings).T

    keys: list[str] = []
    computed: set[str] = set()
    # One thread for each clip: BLAS's own would get in each other's way.
    with cache.locked(), threadpool_limits(1, user_api="blas"):
        found = thread_map(look, clips)
        bar = tqdm(found, f"spectrograms of {label}", len(clips), unit="clip", disable=None, leave=False)
        try:
            with contextlib.closing(found), bar:
                for key, rows in bar:
                    if rows is not None and key not in computed:  # the same sound may be there twice
                        cache.append(key, rows)
                        computed.add(key)
                    keys.append(key)
        except KeyboardInterrupt as interrupt:
            done = f"stopped after the spectrograms of {len(keys)} of {len(clips)} clips"
            raise Stopped(signal_of(interrupt), f"{done}; saved, and the same command goes on") from None
        finally:
            cache.commit()
    if damaged := len(computed & cache.damaged):
        print(f"{folder}: {damaged} of {len(keys)} spectrograms were damaged, and were computed anew")
    return Spectrograms(cache, keys)
