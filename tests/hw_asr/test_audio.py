"""Sound files and spectrograms against torchaudio."""

import asr_files
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr import audio
from hw_asr.audio import SPECTROGRAMS, SpectrogramSettings


def of_torchaudio(samples: np.ndarray, chosen: SpectrogramSettings, told: bool) -> np.ndarray:
    """The course's transforms on `samples`; `told`: whether the mel scale is told the sample rate."""
    spectrum = torchaudio.transforms.Spectrogram(
        n_fft=chosen.fft, hop_length=chosen.hop, power=2, center=True, normalized=False
    )(torch.from_numpy(samples))
    rate = {"sample_rate": chosen.sample_rate} if told else {}
    scale = torchaudio.transforms.MelScale(
        n_mels=chosen.mels, n_stft=chosen.fft // 2 + 1, norm="slaney", mel_scale="slaney", **rate
    )
    logs = scale(spectrum).clamp(min=1e-10).log10()
    return ((logs.maximum(logs.max() - 8.0) + 4.0) / 4.0).numpy()


# Spectrograms


@pytest.mark.parametrize(("preset", "told"), [("sheet", True), ("notebook", False)])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), samples=st.integers(1200, 9000), loudness=st.sampled_from([1e-3, 0.1, 2.0]))
def test_spectrograms_equal_torchaudio_s(preset, told, seed, samples, loudness):
    clip = asr_files.sound(seed, samples / asr_files.RATE)[:, 0] * np.float32(loudness)
    expected = of_torchaudio(clip, SPECTROGRAMS[preset], told)
    found = audio.log_mel(clip, SPECTROGRAMS[preset])
    assert found.shape == expected.shape == (80, 1 + samples // 160) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4


def test_the_presets_differ_in_the_filters_alone():
    sheet, notebook = (audio.filter_bank(SPECTROGRAMS[name]) for name in ("sheet", "notebook"))
    assert sheet.shape == notebook.shape == (201, 80)
    assert np.abs(sheet - notebook).max() > 1e-3
    assert SPECTROGRAMS["sheet"].label != SPECTROGRAMS["notebook"].label


def test_silence_in_a_clip_lies_2_below_its_loudest():
    clip = np.concatenate([asr_files.sound()[:, 0], np.zeros(4000, np.float32)])
    found = audio.log_mel(clip, SpectrogramSettings())
    assert found.min() == pytest.approx(found.max() - 2, abs=1e-6)


def test_long_clips_are_worked_on_in_parts():
    clip = asr_files.sound(1, 1100 * 160 / asr_files.RATE)[:, 0]
    assert (
        np.abs(audio.log_mel(clip, SpectrogramSettings()) - of_torchaudio(clip, SpectrogramSettings(), True)).max()
        < 1e-4
    )


# Resampling


@settings(deadline=None, max_examples=40)
@given(
    rate=st.sampled_from([8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 7, 3]),
    wanted=st.sampled_from([22050, 16000, 5]),
    samples=st.integers(1, 700),
    seed=st.integers(0, 99),
)
def test_resampling_equals_torchaudio_s(rate, wanted, samples, seed):
    if max(rate, wanted) > 1000 * min(rate, wanted):
        rate, wanted = 7, 5
    clip = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(clip), rate, wanted).numpy()
    found = audio.resample(clip, rate, wanted)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-4)


def test_resampling_in_parts(monkeypatch):
    clip = asr_files.sound(2)[:, 0]
    whole = audio.resample(clip, 8000, 22050)
    monkeypatch.setattr(audio, "_BLOCK", 7)
    assert np.array_equal(audio.resample(clip, 8000, 22050), whole)


def test_rates_without_a_common_divisor_need_no_huge_filter():
    tone = np.sin(2 * np.pi * 440 * np.arange(44_099) / 44_099).astype(np.float32)
    found = audio.resample(tone, 44_099, 22_050)
    expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    assert np.abs(found - expected)[100:-100].max() < 2e-3


# Files


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("WAVEX", "PCM_16"),
    ],
)
def test_formats(tmp_path, kind, subtype):
    clip = asr_files.sound()
    (tmp_path / "a file").write_bytes(asr_files.encoded(clip, kind=kind, subtype=subtype))
    found = audio.read(tmp_path / "a file", asr_files.RATE)
    assert found.dtype == np.float32
    assert np.allclose(found, clip[:, 0], atol=0.01 if subtype == "PCM_U8" else 1e-4)


def test_channels_are_averaged():
    clip = asr_files.sound(channels=2)
    found, rate = audio.decode(asr_files.encoded(clip, subtype="FLOAT"), "x")
    assert rate == asr_files.RATE and np.allclose(found, clip.mean(1))


@pytest.mark.parametrize("rate", [8000, 44_100, 96_000])
def test_any_rate_becomes_the_one_that_is_wanted(tmp_path, rate):
    times = np.arange(rate // 2) / rate
    (tmp_path / "tone.flac").write_bytes(asr_files.encoded(np.sin(2 * np.pi * 500 * times) / 2, rate, "FLAC"))
    found = audio.read(tmp_path / "tone.flac", 22_050)
    expected = np.sin(2 * np.pi * 500 * np.arange(11_025) / 22_050) / 2
    assert len(found) == 11_025 and np.abs(found - expected)[200:-200].max() < 2e-3


def test_a_file_is_read_in_parts(monkeypatch):
    clip = asr_files.sound(channels=3)
    content = asr_files.encoded(clip, kind="FLAC")
    whole = audio.decode(content, "x")[0]
    monkeypatch.setattr(audio, "_BLOCK", 100)
    assert np.array_equal(audio.decode(content, "x")[0], whole) and len(whole) == len(clip)
