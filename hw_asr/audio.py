"""Sound files as log-mel spectrograms, in NumPy alone: what a clip becomes does not depend on anything else."""

import functools
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hw_common.data.dataset_files import DatasetFile
from hw_common.runs.errors import UserError

LONGEST = 600.0  # seconds of sound in any file
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 192_000  # samples a second
_MOST_CHANNELS = 64
_SHORTEST = 0.05  # seconds
_SILENCE = 1e-4  # largest difference between samples: two steps of 16 bits
_BLOCK = 2**16  # samples that are worked on at once, whatever a header says
_ZERO_CROSSINGS, _ROLLOFF = 6, 0.99  # of the windowed sinc, torchaudio's


@dataclass(frozen=True)
class Settings:
    """The course's spectrogram (ist-2023-24-hw2 Q3; the numbers are its notebook's).

    Attributes:
        sample_rate: samples a second that clips are resampled to.
        fft: samples under a Hann window.
        hop: samples from one window to the next.
        mels: bands.
        filter_rate: sample rate that the filter bank is made for.
    """

    sample_rate: int = 22_050
    fft: int = 400
    hop: int = 160
    mels: int = 80
    filter_rate: int = 22_050

    @property
    def label(self) -> str:
        """A short name that can be part of a file name."""
        stretched = f"-filters{self.filter_rate}" if self.filter_rate != self.sample_rate else ""
        return f"{self.mels}mels-{self.sample_rate}{stretched}"


# The notebook never tells the filter bank the sample rate, which is then taken for 16 kHz.
SETTINGS = {"sheet": Settings(), "notebook": Settings(filter_rate=16_000)}


def read(file: DatasetFile | Path, sample_rate: int, longest: float = LONGEST) -> np.ndarray:
    """The sound in `file`, as the mean of its channels, resampled.

    Args:
        file: WAV, FLAC or what else libsndfile reads.
        sample_rate: samples a second that are wanted.
        longest: seconds.

    Returns:
        (samples,) float32 from -1 to 1.

    Raises:
        UserError: it cannot be read, is damaged, cut short, empty, silent, shorter than a twentieth of a second, longer
            than `longest`, or has a sample rate that no speech has.
    """
    if isinstance(file, Path):
        file = DatasetFile.from_path(file)
    samples, rate = decode(file.read(), file.where, longest)
    return resample(samples, rate, sample_rate)


def decode(content: bytes, where: str, longest: float = LONGEST) -> tuple[np.ndarray, int]:
    """The sound in the bytes of a file: (samples,) float32, and its sample rate; arguments and errors as of `read`."""
    _check_wav_size(content, where)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            samples = _decode(sound, where, longest)
            rate = sound.samplerate
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        reason = "it is empty" if not content else str(error).rpartition(">: ")[2] or str(error)
        raise UserError(f"{where} is damaged or no sound file that libsndfile reads: {reason.rstrip('.')}") from error
    if len(samples) < _SHORTEST * rate:
        raise UserError(f"{where} holds {len(samples)} samples, expected at least {_SHORTEST} s of sound")
    if not np.isfinite(samples).all():
        raise UserError(f"{where} is damaged: it holds samples that are no finite numbers")
    if np.ptp(samples) < _SILENCE:
        raise UserError(f"{where} is silent")
    return samples, rate


def _check_wav_size(content: bytes, where: str) -> None:
    """Refuses a WAV file that ends before its header says so, which libsndfile would take as it is."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    offset = 12
    while offset + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, offset)
        offset += 8
        if name == b"data" and size > len(content) - offset:
            found = len(content) - offset
            raise UserError(f"{where} is cut short: its header promises {size} bytes of sound, {found} are there")
        offset += size + size % 2


def _decode(sound: soundfile.SoundFile, where: str, longest: float) -> np.ndarray:
    """All samples (samples,) float32, the mean of the channels; memory is taken as samples come, not as promised."""
    rate, channels, promised = sound.samplerate, sound.channels, sound.frames
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise UserError(f"{where} has {rate} samples a second, expected {_LOWEST_RATE} to {_HIGHEST_RATE}")
    if channels > _MOST_CHANNELS:
        raise UserError(f"{where} has {channels} channels, expected at most {_MOST_CHANNELS}")
    if promised > longest * rate:
        raise UserError(f"{where} lasts {promised / rate:.0f} s, more than the limit of {longest:g} s; cut it")
    blocks, found = [np.empty(0, np.float32)], 0
    while found < promised:
        block = sound.read(min(_BLOCK, promised - found), dtype="float32", always_2d=True)
        if not len(block):
            raise UserError(f"{where} is cut short: its header promises {promised} samples, {found} are there")
        found += len(block)
        blocks.append(block.mean(axis=1))
    return np.concatenate(blocks)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resamples (n,) float32 from `rate` to `wanted` samples a second, by a sinc under a Hann window.

    The same as torchaudio.functional.resample, which however keeps a filter of `rate` taps for each of `wanted` phases
    where the two have no common divisor: gigabytes. Here a phase has only its taps that are not zero.

    Returns:
        (ceil(n·wanted/rate),) float32.
    """
    divisor = np.gcd(rate, wanted)
    rate, wanted = int(rate // divisor), int(wanted // divisor)
    if rate == wanted:
        return samples
    cutoff = _ROLLOFF * min(rate, wanted) / rate  # zero crossings per input sample
    reach = int(np.ceil(_ZERO_CROSSINGS / cutoff))
    count = -(-len(samples) * wanted // rate)
    phases = np.arange(min(wanted, count), dtype=np.int64)
    fractions = phases * rate % wanted / wanted  # how far behind an input sample that output sample lies
    taps = np.arange(-reach, reach + 2)
    filters = _windowed_sinc((taps - fractions[:, None]) * cutoff) * cutoff  # (phases, taps)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (reach, reach + 2)), len(taps))
    result = np.empty(count, np.float32)
    block = max(1, 16 * _BLOCK // len(taps))
    for begin in range(0, count, block):
        numbers = np.arange(begin, min(begin + block, count), dtype=np.int64)
        result[numbers] = np.einsum("nt,nt->n", windows[numbers * rate // wanted], filters[numbers % wanted])
    return result


def _windowed_sinc(times: np.ndarray) -> np.ndarray:
    """A sinc under a Hann window that ends at its sixth zero crossings, as float32."""
    window = np.cos(np.clip(times / _ZERO_CROSSINGS, -1, 1) * np.pi / 2) ** 2
    return (np.sinc(times) * window).astype(np.float32)


def log_mel(samples: np.ndarray, settings: Settings) -> np.ndarray:
    """The course's spectrogram of `samples` (n,): (mels, 1 + n // hop) float32, about -1.5 to 2.

    Powers under a Hann window, centred and mirrored at the ends, go through the filter bank; then the logarithm to base
    10 is cut off at 8 below the clip's largest value, and x becomes (x + 4)/4.
    """
    padded = np.pad(samples.astype(np.float64), settings.fft // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, settings.fft)[:: settings.hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.fft) / settings.fft)
    filters = filter_bank(settings)
    mels = np.empty((len(windows), settings.mels), np.float64)
    for begin in range(0, len(windows), 1024):  # few windows at a time, or ten minutes would take a gigabyte
        spectra = np.fft.rfft(windows[begin : begin + 1024] * hann)
        mels[begin : begin + 1024] = (spectra.real**2 + spectra.imag**2) @ filters
    logs = np.log10(np.maximum(mels, 1e-10))
    return ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32).T


@functools.cache
def filter_bank(settings: Settings) -> np.ndarray:
    """Slaney's mel filters (fft/2 + 1, mels) float64: triangles of equal area, evenly spaced on Slaney's scale."""
    frequencies = np.linspace(0, settings.filter_rate / 2, settings.fft // 2 + 1)
    edges = _hertz(np.linspace(0, _slaney(settings.filter_rate / 2), settings.mels + 2))
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


_LINEAR_HERTZ = 200 / 3  # in a mel, up to 1000 Hz; from there on the scale is logarithmic
_LOG_STEP = np.log(6.4) / 27


def _slaney(hertz: float) -> float:
    """Frequency (at least 1000 Hz) on Slaney's mel scale."""
    return 1000 / _LINEAR_HERTZ + np.log(hertz / 1000) / _LOG_STEP


def _hertz(mels: np.ndarray) -> np.ndarray:
    """The inverse of Slaney's mel scale."""
    above = 1000 * np.exp(_LOG_STEP * (mels - 1000 / _LINEAR_HERTZ))
    return np.where(mels < 1000 / _LINEAR_HERTZ, mels * _LINEAR_HERTZ, above)
