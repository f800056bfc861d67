"""Bad sound files and transcripts: one line that names the file, no hang, no huge allocation."""

import os
import struct
import tracemalloc
from pathlib import Path

import asr_files
import numpy as np
import pytest

from hw_asr import audio, data
from hw_common.runs.errors import UserError

QUIET = np.zeros((3000, 1), np.float32)


def refusal(path: Path) -> str:
    """What the user is told: one line that names the file."""
    with pytest.raises(UserError) as caught:
        audio.read(path, 22_050)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


# Sound files

CLIP = asr_files.sound()
PCM = np.int16(CLIP * 20_000).tobytes()
GOOD = asr_files.wav(PCM)


def test_the_hand_written_file_is_right(tmp_path):
    (tmp_path / "good.wav").write_bytes(GOOD)
    assert len(audio.read(tmp_path / "good.wav", 22_050)) == len(CLIP)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"a text that calls itself a sound", "no sound file that libsndfile reads: Format not recognised"),
        (GOOD[:10], "is damaged or no sound file"),
        (GOOD[:30], "is damaged or no sound file"),
        (GOOD[:44], "is cut short: its header promises 4410 bytes of sound, 0 are there"),
        (GOOD[:1000], "is cut short: its header promises 4410 bytes of sound, 956 are there"),
        (asr_files.wav(PCM, 2**32 - 1), "is cut short: its header promises 4294967295 bytes of sound, 4410 are there"),
        (asr_files.wav(PCM, 2**31), "is cut short: its header promises 2147483648 bytes"),
        (asr_files.wav(b""), "holds 0 samples, expected at least 0.05 s of sound"),
        (asr_files.wav(PCM[:1000]), "holds 500 samples, expected at least 0.05 s of sound"),
        (asr_files.wav(bytes(len(PCM))), "is silent"),
        (asr_files.wav(b"\x80" * 3000, bits=8), "is silent"),
        (asr_files.encoded(QUIET + 0.5), "is silent"),
        (asr_files.encoded(QUIET, subtype="FLOAT"), "is silent"),
        (asr_files.wav(np.full(3000, np.nan, "<f4").tobytes(), bits=32, code=3), "samples that are no finite numbers"),
        (asr_files.wav(struct.pack("<f", np.inf) * 3000, bits=32, code=3), "samples that are no finite numbers"),
        (asr_files.wav(PCM, rate=1), "has 1 samples a second, expected 1000 to 192000"),
        (asr_files.wav(PCM, rate=2**31 - 1), "samples a second, expected 1000 to 192000"),
        (asr_files.wav(PCM, rate=0), "samples a second, expected|is damaged"),
        (asr_files.wav(bytes(65_535 * 2), channels=65_535), "channels, expected at most|is damaged"),
        (asr_files.wav(PCM, channels=0), "is damaged"),
        (asr_files.wav(PCM, bits=0), "is damaged"),
        (asr_files.encoded(CLIP, kind="FLAC")[:2000], "is damaged"),
        (asr_files.flac_claiming(2**35), "more than the limit of 600 s|is damaged"),
        (asr_files.flac_claiming(13_000_000), "is damaged|is cut short"),
        (asr_files.encoded(CLIP, 16_000, "OGG", "OPUS")[:300], "is damaged"),
    ],
)
def test_bad_sound_files(tmp_path, content, says):
    path = tmp_path / "bad file.wav"
    path.write_bytes(content)
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert any(part in message for part in says.split("|")), message


def test_a_sound_that_is_too_long(tmp_path):
    (tmp_path / "long.flac").write_bytes(asr_files.encoded(np.zeros(700_000), 1000, "FLAC"))
    assert "lasts 700 s, more than the limit of 600 s; cut it" in refusal(tmp_path / "long.flac")


def test_paths_that_are_no_files(tmp_path):
    assert "cannot read" in refusal(tmp_path)
    assert "No such file or directory" in refusal(tmp_path / "gone.wav")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_get_further_than_a_line(tmp_path, seed):
    generator = np.random.default_rng(seed)
    kind, subtype = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "IMA_ADPCM")][seed % 4]
    content = bytearray(asr_files.encoded(CLIP, kind=kind, subtype=subtype))
    for place in generator.integers(0, min(len(content), 80 if seed % 3 else 10**6), 4):
        content[place] = generator.integers(256)
    try:
        samples, rate = audio.decode(bytes(content), "x")
    except UserError as error:
        assert str(error).startswith("x ") and "\n" not in str(error)  # noqa: PT017
    else:
        assert samples.dtype == np.float32 and np.isfinite(samples).all() and rate > 0


# Data sets


def load(folder):
    return data.load("ljspeech", folder, folder, results_dir=folder / "results", settings=audio.SETTINGS["sheet"])


def told(folder):
    with pytest.raises(UserError) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("clip-3", "row 4: it has 1 fields, expected id|transcript|normalized transcript"),
        ("clip-3|one", "row 4: it has 2 fields"),
        ("clip-3|one|two|three", "row 4: it has 4 fields"),
        ("|one|two", "row 4: the id '' is no name of a file in the folder wavs"),
        ("../clip-3|one|two", "row 4: the id '../clip-3' is no name"),
        ("/etc/passwd|one|two", "row 4: the id '/etc/passwd' is no name"),
        ("a/../../clip-3|one|two", "is no name of a file in the folder wavs"),
        ("sub/clip-3|one|two", "is no name of a file in the folder wavs"),
        ("clip-3\0|one|two", "is no name of a file in the folder wavs"),
        ("x" * 300 + "|one|two", "is no name of a file in the folder wavs"),
        ("clip-2|one|two", "row 4: the id 'clip-2' is there twice"),
        ("clip-9|one|two", "names 'clip-9', but there is no wavs/clip-9.wav (nor .flac, .ogg)"),
        ("clip-3|one|", "row 4: the normalized transcript is empty"),
        ("clip-3|one| ", "row 4: the normalized transcript is empty"),
        ("clip-3|1455|«1455»", "row 4: the transcript '«1455»' has none of the letters a to z"),
        ("clip-3|x|#@<> .", "has none of the letters a to z"),
        ("clip-3|x|" + "y" * 1001, "row 4: the transcript has 1001 characters, more than the limit of 1000"),
    ],
)
def test_bad_rows(tmp_path, row, says):
    lines = asr_files.rows(8)
    lines[3] = row
    message = told(asr_files.write(tmp_path / "set", 8, lines))
    assert says in message
    assert not (tmp_path / "set" / "results").exists()


def test_transcripts_that_are_no_text(tmp_path):
    asr_files.write(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"clip-0|\xff|\xff\n")
    assert "metadata.csv is damaged" in told(tmp_path)


def test_data_sets_that_are_not_there(tmp_path):
    assert "does not exist; expected a folder or a tar archive" in told(tmp_path / "gone")
    assert "holds no metadata.csv: expected LJSpeech's layout" in told(tmp_path)
    with pytest.raises(UserError, match="spoken_digits.tar.gz is missing, and so is the folder spoken_digits: put"):
        data.load("digits", tmp_path, None, results_dir=tmp_path, settings=audio.SETTINGS["sheet"])


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_clips(tmp_path, count):
    asr_files.write(tmp_path / "set", count)
    (tmp_path / "set" / "metadata.csv").write_text("".join(f"{row}\n" for row in asr_files.rows(count)))
    with pytest.raises(UserError, match=f"set has {count} clips, expected 5 or more, for training"):
        load(tmp_path / "set")


def test_a_bad_clip_is_named(tmp_path):
    asr_files.write(tmp_path)
    os.truncate(tmp_path / "wavs" / "clip-5.wav", 500)
    assert "clip-5.wav is cut short" in told(tmp_path)


def test_a_clip_for_training_has_at_most_a_minute(tmp_path):
    asr_files.write(tmp_path)
    (tmp_path / "wavs" / "clip-5.wav").write_bytes(asr_files.wav(bytes(122_000), rate=1000))
    assert "clip-5.wav lasts 61 s, more than the limit of 60 s; cut it" in told(tmp_path)
