"""Bad sound files and datasets: the message is one line that names the file; none fills the memory or takes forever."""

import os
import socket
import struct
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import asr_files
import numpy as np
import pytest
from asr_files import encoded, wav

from hw_asr import audio, data
from hw_common.data import dataset_files
from hw_common.runs.errors import UserError

QUIET = np.zeros((3000, 1), np.float32)
CLIP = asr_files.sound()
PCM = np.int16(CLIP * 20_000).tobytes()
GOOD = wav(PCM)
SOUNDS = [
    (b"", "it is empty"),
    (b"a text that calls itself a sound", "not a sound file that libsndfile reads: Format not recognised"),
    (GOOD[:10], "is damaged or not a sound file"),
    (GOOD[:30], "is damaged: it has no chunk 'data'"),
    (GOOD[:44], "is cut short: its header says 4410 bytes of sound, but the file has 0"),
    (GOOD[:1000], "is cut short: its header says 4410 bytes of sound, but the file has 956"),
    (wav(PCM, 2**32 - 2**25), "is cut short: its header says 4261412864 bytes of sound, but the file has 4410"),
    (wav(PCM, 4410 + 18), "is cut short: its header says 4428 bytes"),
    (wav(b""), "has 0 samples, expected at least 0.05 s of sound"),
    (wav(PCM[:1000]), "has 500 samples, expected at least 0.05 s of sound"),
    (wav(bytes(len(PCM))), "is silent"),
    (wav(b"\x80" * 3000, bits=8), "is silent"),
    (encoded(QUIET + 0.5), "is silent"),
    (encoded(QUIET, subtype="FLOAT"), "is silent"),
    (wav(np.full(3000, np.nan, "<f4").tobytes(), bits=32, code=3), "samples that are not finite numbers"),
    (wav(struct.pack("<f", np.inf) * 3000, bits=32, code=3), "samples that are not finite numbers"),
    (wav(PCM, rate=1), "has 1 samples per second, expected 1000 to 192000"),
    (wav(PCM, rate=2**31 - 1), "samples per second, expected 1000 to 192000"),
    (wav(PCM, rate=0), "samples per second, expected|is damaged"),
    (wav(bytes(65_535 * 2), channels=65_535), "channels, expected at most|is damaged"),
    (wav(PCM, channels=0), "is damaged"),
    (wav(PCM, bits=0), "is damaged"),
    (encoded(CLIP, kind="FLAC")[:2000], "is cut short"),
    (asr_files.flac_claiming(2**35), "is cut short: its header says 34359738368 samples"),
    (asr_files.flac_claiming(13_000_000), "is cut short: its header says 13000000 samples"),
    (encoded(np.zeros(700_000), 1000, "FLAC"), "lasts 700 s, over the limit of 600 s; shorten the file"),
    (encoded(CLIP, 16_000, "OGG", "OPUS")[:300], "is cut short"),
]
NO_NAME = "is not the name of a file in the folder wavs"
ROWS = [  # replacements of row 4, and messages
    ("clip-3", "row 4: found 1 fields, expected id|transcript|normalized transcript"),
    ("clip-3|one", "row 4: found 2 fields"),
    ("clip-3|one|two|three", "row 4: found 4 fields"),
    ("|one|two", f"row 4: the id '' {NO_NAME}"),
    ("../clip-3|one|two", f"row 4: the id '../clip-3' {NO_NAME}"),
    ("/etc/passwd|one|two", f"row 4: the id '/etc/passwd' {NO_NAME}"),
    ("a/../../clip-3|one|two", NO_NAME),
    ("sub/clip-3|one|two", NO_NAME),
    ("clip-3\0|one|two", NO_NAME),
    ("x" * 300 + "|one|two", NO_NAME),
    ("clip-2|one|two", "row 4: the id 'clip-2' occurs twice"),
    ("clip-9|one|two", "metadata.csv, row 4, lists 'clip-9', but there is no wavs/clip-9.wav (nor .flac, .ogg)"),
    ("clip-3|one|", "row 4: the normalized transcript is empty"),
    ("clip-3|one| ", "row 4: the normalized transcript is empty"),
    ("clip-3|1455|«1455»", "row 4: the transcript '«1455»' contains no letter from a to z"),
    ("clip-3|x|#@<> .", "contains no letter from a to z"),
    ("clip-3|x|" + "y" * 1001, "row 4: the transcript has 1001 characters; the limit is 1000"),
    ("clip-3|\udcff|\udcff", "metadata.csv is damaged: row 4 is not UTF-8 (byte 0xff); save it as UTF-8"),
]


@pytest.fixture
def folder(tmp_path):
    """A good dataset of eight clips."""
    return asr_files.write(tmp_path / "set")


def refusal(path, read, *arguments):
    """The message of the error that `read` raises, after a check that it is one line and names `path`."""
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def load(folder, dataset="ljspeech", dataset_dir=None):
    settings = audio.SPECTROGRAMS["sheet"]
    return data.load(dataset, folder, dataset_dir, results_dir=folder / "results", settings=settings)


def refused_dataset(folder):
    return refusal(folder, load, folder, "ljspeech", folder)


def test_the_hand_written_file_is_valid(tmp_path):
    (tmp_path / "good.wav").write_bytes(GOOD)
    assert len(audio.read(tmp_path / "good.wav", 22_050)) == len(CLIP)


@pytest.mark.parametrize(("content", "messages"), SOUNDS)
def test_bad_sound_files(tmp_path, content, messages):
    path = tmp_path / "bad file.wav"
    path.write_bytes(content)
    tracemalloc.start()
    message = refusal(path, audio.read, path, 22_050)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert any(part in message for part in messages.split("|")), message


def test_pipes_are_read_to_their_end(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    large = wav(PCM * 50)
    writer = threading.Thread(target=pipe.write_bytes, args=[large])
    writer.start()
    assert len(audio.read(pipe, asr_files.RATE)) == 50 * len(CLIP)
    writer.join()
    reading, writing = os.pipe()
    os.write(writing, GOOD)
    os.close(writing)
    assert len(audio.read(Path(f"/dev/fd/{reading}"), asr_files.RATE)) == len(CLIP)
    os.close(reading)
    monkeypatch.setattr(dataset_files, "LARGEST_FILE", len(large) - 1)
    writer = threading.Thread(target=pipe.write_bytes, args=[large])
    writer.start()
    assert f"more than the limit of {len(large) - 1} bytes" in refusal(pipe, audio.read, pipe, 22_050)
    writer.join()


def test_paths_that_are_not_files(tmp_path):
    np.save(tmp_path / "array.npy", CLIP)
    assert "Format not recognised" in refusal(tmp_path, audio.read, tmp_path / "array.npy", 22_050)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert "cannot read" in refusal(tmp_path, audio.read, tmp_path / "socket", 22_050)
    assert "cannot read" in refusal(tmp_path, audio.read, tmp_path, 22_050)
    assert "No such file or directory" in refusal(tmp_path, audio.read, tmp_path / "gone.wav", 22_050)


AIFF = encoded(CLIP, kind="AIFF")
NOISY = {  # files about which libsndfile or NumPy complain on standard error
    "signalling NaN": encoded(CLIP, kind="WAV", subtype="FLOAT")[:-400] + b"\x01\x00\xa0\x7f" * 100,
    "seek before the start": AIFF[:24] + bytes(4) + AIFF[24:31] + b"\xff" * 4 + AIFF[31:],
}


@pytest.mark.parametrize("kind", NOISY)
def test_libraries_print_nothing(tmp_path, capfd, monkeypatch, kind):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    (tmp_path / "a.wav").write_bytes(NOISY[kind])
    with warnings.catch_warnings(action="error"):
        refusal(tmp_path, audio.read, tmp_path / "a.wav", 22_050)
    assert capfd.readouterr() == ("", "") and not unraisable


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_decoded_or_reported(seed):
    generator = np.random.default_rng(seed)
    kind, subtype = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "IMA_ADPCM")][seed % 4]
    content = bytearray(encoded(CLIP, kind=kind, subtype=subtype))
    for position in generator.integers(0, min(len(content), 80 if seed % 3 else 10**6), 4):
        content[position] = generator.integers(256)
    try:
        samples, rate = audio.decode(bytes(content), "x")
    except UserError as error:
        assert str(error).startswith("x ") and "\n" not in str(error)  # noqa: PT017
    else:
        assert samples.dtype == np.float32 and np.isfinite(samples).all() and rate > 0


@pytest.mark.parametrize(("row", "message"), ROWS)
def test_bad_rows(folder, row, message):
    lines = asr_files.rows(8)
    lines[3] = row
    (folder / "metadata.csv").write_text("\n".join(lines), errors="surrogateescape")
    assert message in refused_dataset(folder)
    assert not (folder / "results").exists()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_clips(folder, count):
    (folder / "metadata.csv").write_text("\n".join(asr_files.rows(count)))
    with pytest.raises(UserError, match=f"set has {count} clips, expected 5 or more, for training"):
        load(folder, dataset_dir=folder)


def test_missing_datasets(tmp_path):
    assert "does not exist; expected a folder or a tar archive" in refused_dataset(tmp_path / "gone")
    assert "contains no metadata.csv: expected LJSpeech's layout" in refused_dataset(tmp_path)
    message = refusal(tmp_path, load, tmp_path, "digits")
    assert "contains neither spoken_digits.tar.gz nor the folder spoken_digits; this data set cannot be" in message


def test_bad_clips_of_a_dataset_are_named(folder):
    clip = folder / "wavs" / "clip-5.wav"
    os.truncate(clip, 500)
    assert "clip-5.wav is cut short" in refused_dataset(folder)
    clip.write_bytes(wav(bytes(122_000), rate=1000))
    assert "clip-5.wav lasts 61 s, over the limit of 60 s; shorten the file" in refused_dataset(folder)
