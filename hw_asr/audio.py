"""Reads sound files and computes log-mel spectrograms, in NumPy."""

import contextlib
import functools
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hw_asr import containers
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs.errors import UserError

MAX_SECONDS = 600.0  # longest sound that a file may contain
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 192_000  # accepted sample rates in samples per second
_MAX_CHANNELS = 64
_MIN_SECONDS = 0.05
_SILENCE = 1e-4  # a sound is silent if its samples span less than this, about three steps of 16-bit sound
_LARGEST_OVERSHOOT = 8.0  # floating-point samples up to this are treated as loud sound, larger ones as integers
_CANCELLED = 1e-3  # channels cancel out if their average has less than this share of their power
_STDERR = threading.Lock()  # held while standard error is redirected
_BLOCK = 2**16  # number of samples that are read or resampled at a time
_ZERO_CROSSINGS, _ROLLOFF = 6, 0.99  # torchaudio's defaults for the windowed sinc


@dataclass(frozen=True)
class SpectrogramSettings:
    """Settings of a spectrogram (ist-2023-24-hw2 Q3; the defaults are those of its notebook)."""

    sample_rate: int = 22_050  # samples per second to which clips are resampled
    fft: int = 400  # length of the Hann window in samples
    hop: int = 160  # samples from the start of one window to the start of the next
    mels: int = 80  # number of mel bands
    filter_rate: int = 22_050  # sample rate for which the mel filters are computed

    @property
    def label(self) -> str:
        """A short name for folders of spectrograms."""
        filters = f"-filters{self.filter_rate}" if self.filter_rate != self.sample_rate else ""
        return f"{self.mels}mels-{self.sample_rate}{filters}"


# Settings of each preset. The notebook does not pass the sample rate to MelScale, which then assumes 16 kHz.
SPECTROGRAMS = {"sheet": SpectrogramSettings(), "notebook": SpectrogramSettings(filter_rate=16_000)}
FRAMES_PER_SECOND = SpectrogramSettings.sample_rate / SpectrogramSettings.hop


def read(path: Path, sample_rate: int) -> np.ndarray:
    """Reads a sound file in a format of libsndfile, such as WAV or FLAC, averages its channels and resamples it.

    The result is (samples,) float32 from -1 to 1, with `sample_rate` samples per second.

    Raises:
        UserError: the file cannot be read, or `decode` rejects its content.
    """
    file = DatasetFile.from_path(path)
    samples, rate = decode(file.read(), file.where)
    return resample(samples, rate, sample_rate)


def _print_note(message: str) -> None:
    print(message, file=sys.stderr)


def decode(
    content: bytes, where: str, max_seconds: float = MAX_SECONDS, note: Callable[[str], None] = _print_note
) -> tuple[np.ndarray, int]:
    """Decodes the content of a sound file and averages its channels.

    Args:
        content: the bytes of the file.
        where: the path of the file, for messages.
        max_seconds: longest accepted duration.
        note: receives a message if floating-point samples lie beyond ±1 and are therefore scaled.

    Returns:
        (samples,) float32 from -1 to 1, and the sample rate.

    Raises:
        UserError: the sound is damaged, cut short, empty, silent, shorter than 0.05 s or longer than `max_seconds`; its
            channels cancel out; or it has more than 64 channels or a sample rate outside 1 to 192 kHz.
    """
    whole = containers.checked(content, where)
    try:
        # NaN and infinity are refused below, so NumPy need not warn about them.
        with _quiet(whole), np.errstate(all="ignore"), soundfile.SoundFile(_Content(whole)) as sound:
            samples, peak, power = _decode(sound, where, max_seconds)
            rate, is_float = sound.samplerate, sound.subtype in ("FLOAT", "DOUBLE")
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        reason = "it is empty" if not content else str(error).rpartition(">: ")[2] or str(error)
        message = f"{where} is damaged or not a sound file that libsndfile reads: {reason.rstrip('.')}"
        raise UserError(message) from error
    if len(samples) < _MIN_SECONDS * rate:
        raise UserError(f"{where} has {len(samples)} samples, expected at least {_MIN_SECONDS} s of sound")
    if not np.isfinite(samples).all():
        raise UserError(f"{where} is damaged: it contains samples that are not finite numbers")
    if is_float and peak > 1:
        divisor = _divisor(peak, where)
        samples, power = samples / np.float32(divisor), power / divisor**2
        note(f"{where} has samples up to {peak:.6g}, expected -1 to 1; all samples were divided by {divisor:.6g}")
    if power > len(samples) * _SILENCE**2 and np.square(samples, dtype=np.float64).sum() < _CANCELLED * power:
        raise UserError(
            f"{where} has channels that cancel out when they are averaged: one has the opposite sign of the other; "
            "keep only one of them"
        )
    if np.ptp(samples) < _SILENCE:
        raise UserError(f"{where} is silent")
    return samples, rate


class _Content(io.BytesIO):
    """The bytes of a sound file. A damaged header may make libsndfile seek to a negative position."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position; stays at the current one if the new one is negative."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _decode(sound: soundfile.SoundFile, where: str, max_seconds: float) -> tuple[np.ndarray, float, float]:
    """Decodes a sound block by block, so that a false header cannot exhaust the memory.

    Returns:
        (samples,) float32, the average of the channels; the largest absolute value of any channel; and the power of a
        channel, summed over the samples and averaged over the channels.
    """
    rate, channels, promised = sound.samplerate, sound.channels, sound.frames
    if sound.format not in containers.FORMATS:
        raise UserError(f"{where} has the format {sound.format}, which is not supported; convert it to WAV or FLAC")
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise UserError(f"{where} has {rate} samples per second, expected {_LOWEST_RATE} to {_HIGHEST_RATE}")
    if channels > _MAX_CHANNELS:
        raise UserError(f"{where} has {channels} channels, expected at most {_MAX_CHANNELS}")
    if promised > max_seconds * rate:
        raise UserError(f"{where} lasts {promised / rate:.0f} s, over the limit of {max_seconds:g} s; shorten the file")
    blocks, found, peak, power = [np.empty(0, np.float32)], 0, 0.0, 0.0
    while found < promised:
        try:
            block = sound.read(min(_BLOCK, promised - found), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            reason = str(error).rpartition(": ")[2].rstrip(".")
            message = (
                f"{where} is cut short or damaged: its header says {promised} samples, but only {found} can be read"
            )
            raise UserError(f"{message} ({reason})") from error
        if not len(block):
            raise UserError(f"{where} is cut short: its header says {promised} samples, but the file has {found}")
        found += len(block)
        blocks.append(block.mean(axis=1))
        peak = max(peak, float(np.abs(block).max()))
        power += float(np.square(block, dtype=np.float64).sum()) / channels
    return np.concatenate(blocks), peak, power


def _divisor(peak: float, where: str) -> float:
    """The number by which floating-point samples up to `peak` are divided so that they lie between -1 and 1."""
    if peak <= _LARGEST_OVERSHOOT:
        return peak
    for full_scale in (2.0**15, 2.0**23, 2.0**31):  # integers that were converted to floats and never divided
        if peak <= full_scale:
            return full_scale
    raise UserError(f"{where} has samples up to {peak:.6g}, expected -1 to 1")


@contextlib.contextmanager
def _quiet(content: bytes) -> Iterator[None]:
    """Discards what the MP3 decoder writes to standard error; the other decoders write nothing."""
    with contextlib.ExitStack() as stack:
        if content[:1] == b"\xff":
            stack.enter_context(_STDERR)
            with contextlib.suppress(OSError):  # standard error may be closed
                kept = os.dup(2)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, 2)
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), 2)
        yield


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples a sound by convolution with a sinc under a Hann window, as torchaudio.functional.resample does.

    If the two rates have no common divisor above 1, torchaudio computes `new_rate` filters with `rate` taps each, which
    takes gigabytes of memory. This function computes only the taps that are not zero.

    Args:
        samples: (n,) float32.
        rate: samples per second of `samples`.
        new_rate: samples per second of the result, which is (ceil(n · new_rate / rate),) float32.
    """
    divisor = np.gcd(rate, new_rate)
    rate, new_rate = int(rate // divisor), int(new_rate // divisor)
    if rate == new_rate:
        return samples
    cutoff = _ROLLOFF * min(rate, new_rate) / rate  # zero crossings per input sample
    reach = int(np.ceil(_ZERO_CROSSINGS / cutoff))
    count = -(-len(samples) * new_rate // rate)
    phases = np.arange(min(new_rate, count), dtype=np.int64)
    offsets = phases * rate % new_rate / new_rate  # distance of an output sample from the input sample before it
    taps = np.arange(-reach, reach + 2)
    filters = _windowed_sinc((taps - offsets[:, None]) * cutoff) * cutoff  # (phases, taps)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (reach, reach + 2)), len(taps))
    result = np.empty(count, np.float32)
    block = max(1, 16 * _BLOCK // len(taps))
    for begin in range(0, count, block):
        indices = np.arange(begin, min(begin + block, count), dtype=np.int64)
        result[indices] = np.einsum("nt,nt->n", windows[indices * rate // new_rate], filters[indices % new_rate])
    return result


def _windowed_sinc(times: np.ndarray) -> np.ndarray:
    """The sinc function under a Hann window that is 0 from the sixth zero crossing on, as float32."""
    window = np.cos(np.clip(times / _ZERO_CROSSINGS, -1, 1) * np.pi / 2) ** 2
    return (np.sinc(times) * window).astype(np.float32)


def log_mel(samples: np.ndarray, settings: SpectrogramSettings) -> np.ndarray:
    """Computes the course's log-mel spectrogram.

    The sound is mirrored at both ends and cut into Hann windows. The mel filters weight and sum the power spectrum of
    each window. With x = max(log10(sum), the clip's largest log10(sum) - 8), the result is (x + 4) / 4.

    Args:
        samples: (n,) float32.
        settings: settings of the spectrogram.

    Returns:
        (mels, 1 + n // hop) float32, about -1.5 to 2.
    """
    padded = np.pad(samples.astype(np.float64), settings.fft // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, settings.fft)[:: settings.hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.fft) / settings.fft)
    filters = filter_bank(settings)
    mels = np.empty((len(windows), settings.mels), np.float64)
    for begin in range(0, len(windows), 1024):  # in parts, because the windows of ten minutes would take a gigabyte
        spectra = np.fft.rfft(windows[begin : begin + 1024] * hann)
        mels[begin : begin + 1024] = (spectra.real**2 + spectra.imag**2) @ filters
    logs = np.log10(np.maximum(mels, 1e-10))
    return ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32).T


@functools.cache
def filter_bank(settings: SpectrogramSettings) -> np.ndarray:
    """Slaney's mel filters (fft/2 + 1, mels) float64: triangles of equal area, evenly spaced on Slaney's mel scale."""
    frequencies = np.linspace(0, settings.filter_rate / 2, settings.fft // 2 + 1)
    edges = _hertz(np.linspace(0, _slaney(settings.filter_rate / 2), settings.mels + 2))
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


_LINEAR_HERTZ = 200 / 3  # Hz per mel up to 1000 Hz; above, the scale is logarithmic
_LOG_STEP = np.log(6.4) / 27


def _slaney(hertz: float) -> float:
    """Converts a frequency of at least 1000 Hz to Slaney's mel scale."""
    return 1000 / _LINEAR_HERTZ + np.log(hertz / 1000) / _LOG_STEP


def _hertz(mels: np.ndarray) -> np.ndarray:
    """Converts values of Slaney's mel scale to Hz."""
    above = 1000 * np.exp(_LOG_STEP * (mels - 1000 / _LINEAR_HERTZ))
    return np.where(mels < 1000 / _LINEAR_HERTZ, mels * _LINEAR_HERTZ, above)
