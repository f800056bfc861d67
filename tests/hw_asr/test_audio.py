"""Sound files and spectrograms against torchaudio."""

import asr_files
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr import audio
from hw_asr.audio import SPECTROGRAMS

SHEET = SPECTROGRAMS["sheet"]
RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 7, 3]
FORMATS = [("FLAC", "PCM_16"), ("WAVEX", "PCM_16"), *(("WAV", x) for x in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"))]


def of_torchaudio(samples, chosen, **rate):
    """The course's spectrogram of `samples`; `rate` holds MelScale's argument sample_rate, or nothing."""
    spectrum = torchaudio.transforms.Spectrogram(chosen.fft, hop_length=chosen.hop)(torch.from_numpy(samples))
    scale = torchaudio.transforms.MelScale(
        chosen.mels, n_stft=chosen.fft // 2 + 1, norm="slaney", mel_scale="slaney", **rate
    )
    logs = scale(spectrum).clamp(min=1e-10).log10()
    return ((logs.maximum(logs.max() - 8.0) + 4.0) / 4.0).numpy()


def tone(rate, hertz, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(("preset", "rate"), [("sheet", {"sample_rate": asr_files.RATE}), ("notebook", {})])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), samples=st.integers(1200, 9000), loudness=st.sampled_from([1e-3, 0.1, 2.0]))
def test_spectrograms_equal_torchaudio_s(preset, rate, seed, samples, loudness):
    clip = asr_files.sound(seed, samples / asr_files.RATE)[:, 0] * np.float32(loudness)
    expected = of_torchaudio(clip, SPECTROGRAMS[preset], **rate)
    found = audio.log_mel(clip, SPECTROGRAMS[preset])
    assert found.shape == expected.shape == (80, 1 + samples // 160) and found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4


def test_the_presets_differ_in_their_filters():
    sheet, notebook = (audio.filter_bank(SPECTROGRAMS[name]) for name in ("sheet", "notebook"))
    assert sheet.shape == notebook.shape == (201, 80)
    assert np.abs(sheet - notebook).max() > 1e-3
    assert SPECTROGRAMS["sheet"].label != SPECTROGRAMS["notebook"].label


def test_silence_is_2_below_the_loudest_value():
    clip = np.concatenate([asr_files.sound()[:, 0], np.zeros(4000, np.float32)])
    found = audio.log_mel(clip, SHEET)
    assert found.min() == pytest.approx(found.max() - 2, abs=1e-6)


def test_long_clips_are_processed_in_parts():
    clip = asr_files.sound(1, 1100 * 160 / asr_files.RATE)[:, 0]
    expected = of_torchaudio(clip, SHEET, sample_rate=asr_files.RATE)
    assert np.abs(audio.log_mel(clip, SHEET) - expected).max() < 1e-4


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(RATES), st.sampled_from([22050, 16000, 5]), st.integers(1, 700), st.integers(0, 99))
def test_resampling_equals_torchaudio_s(rate, wanted, samples, seed):
    if max(rate, wanted) > 1000 * min(rate, wanted):
        rate, wanted = 7, 5
    clip = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    expected = torchaudio.functional.resample(torch.from_numpy(clip), rate, wanted).numpy()
    found = audio.resample(clip, rate, wanted)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-4)


def test_rates_without_a_common_divisor_need_no_huge_filter():
    found = audio.resample(tone(44_099, 440).astype(np.float32), 44_099, 22_050)
    assert np.abs(found - tone(22_050, 440))[100:-100].max() < 2e-3


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
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
def test_files_are_resampled(tmp_path, rate):
    (tmp_path / "tone.flac").write_bytes(asr_files.encoded(tone(rate, 500, 0.5) / 2, rate, "FLAC"))
    found = audio.read(tmp_path / "tone.flac", 22_050)
    assert len(found) == 11_025 and np.abs(found - tone(22_050, 500, 0.5) / 2)[200:-200].max() < 2e-3


@pytest.mark.parametrize("block", [7, 100])
def test_the_size_of_the_blocks_has_no_influence(monkeypatch, block):
    mono, three_channels = asr_files.sound(2)[:, 0], asr_files.sound(channels=3)
    content = asr_files.encoded(three_channels, kind="FLAC")
    resampled, decoded = audio.resample(mono, 8000, 22050), audio.decode(content, "x")[0]
    monkeypatch.setattr(audio, "_BLOCK", block)
    assert np.array_equal(audio.resample(mono, 8000, 22050), resampled)
    assert np.array_equal(audio.decode(content, "x")[0], decoded) and len(decoded) == len(three_channels)
