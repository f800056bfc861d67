"""The built-in sample, and the command that made it."""

import io
import tarfile

import asr_files
import numpy as np
import pytest
import soundfile

from hw_asr import audio, readers, synthesize
from hw_common.runs.errors import UserError


@pytest.fixture(scope="module")
def sample():
    """The built-in sample."""
    return readers.read_dataset("sample", None, None)


def test_the_sample_is_small_and_consists_of_the_grammars_sentences(sample):
    assert readers.SAMPLE.stat().st_size < 3e6
    assert (sample.name, sample.label, len(sample.clips)) == ("sample", "sample", 320)
    spoken = {clip.text for clip in sample.clips}
    assert spoken <= set(synthesize.sentences()) and len(spoken) > 150


def test_clips_of_the_sample_are_loud_enough(sample):
    for clip in sample.clips[::40]:
        samples, rate = audio.decode(clip.audio.read(), clip.name)
        assert 0.5 < len(samples) / rate < 3 and 0.1 < np.abs(samples).max() <= 1


def test_the_sentences():
    found = synthesize.sentences()
    assert len(found) == len(set(found)) == 200
    assert "dogs sing here." in found and "do fish wait together?" in found


@pytest.fixture
def voice(monkeypatch):
    """Replaces espeak-ng by one second of noise per ten characters, or less at a higher speed."""
    said = []

    def run(command, input, **options):
        said.append((command, input.decode()))
        if "boom" in input.decode():
            raise synthesize.subprocess.CalledProcessError(1, command, stderr=b"no such voice\n")
        speed = int(command[command.index("-s") + 1])
        seconds = len(input) / 10 * synthesize._SPEED / speed
        samples = np.int16(asr_files.sound(0, seconds)[:, 0] * 20_000)
        return synthesize.subprocess.CompletedProcess(command, 0, stdout=bytes(44) + samples.tobytes())

    monkeypatch.setattr(synthesize.subprocess, "run", run)
    return said


def test_synthesizing_transcripts(tmp_path, voice, capsys):
    lines = [f"LJ-{i}|{'a' * 6}|{'a' * (12 * i + 6)}" for i in range(12)]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    synthesize.main([str(tmp_path / "out"), "--transcripts", str(tmp_path / "metadata.csv"), "--count", "6"])
    found = readers.read(tmp_path / "out", "x", "x")
    assert [clip.name for clip in found.clips] == [f"LJ-{i}" for i in range(0, 12, 2)]  # spread evenly
    assert found.clips[2].text == "a" * 54
    seconds = [soundfile.info(tmp_path / "out" / "wavs" / f"{clip.name}.wav").duration for clip in found.clips]
    assert seconds[:4] == pytest.approx([0.6, 3.0, 5.4, 7.8], abs=1e-3)
    assert all(10 < duration <= 10.1 for duration in seconds[4:])  # spoken faster
    assert "6 clips" in capsys.readouterr().out


def test_writing_a_sample(tmp_path, voice, monkeypatch):
    monkeypatch.setattr(synthesize, "_SAMPLE_CLIPS", 7)
    synthesize.main([str(tmp_path / "new.tar")])
    found = readers.read(tmp_path / "new.tar", "x", "x")
    assert len(found.clips) == 7 and {clip.text for clip in found.clips} == {sentence for _, sentence in voice}
    with soundfile.SoundFile(io.BytesIO(found.clips[0].audio.read())) as sound:
        assert (sound.format, sound.subtype, sound.samplerate) == ("OGG", "OPUS", 16_000)
    with tarfile.open(tmp_path / "new.tar") as tar:
        assert {member.mtime for member in tar} == {0}


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        ("a|b|c\n", 2, "has 1 transcripts, fewer than --count 2"),
        ("a|b|c\nd|e\n", 2, "row 2: found 2 fields"),
        ("../a|b|c\n", 1, "row 1: the id '../a' is not the name of a file"),
        ("a|b|boom\n", 1, "espeak-ng failed: no such voice"),
        ("a|b|c\n", 0, "--count: expected a whole number from 1"),
    ],
)
def test_bad_transcripts(tmp_path, voice, content, count, message):
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        synthesize.main([str(tmp_path / "out"), f"--transcripts={tmp_path / 'metadata.csv'}", f"--count={count}"])
    assert not (tmp_path / "out" / "metadata.csv").exists()


def test_existing_files_are_not_overwritten(tmp_path, voice):
    with pytest.raises(UserError, match="exists; choose a new name"):
        synthesize.main([str(tmp_path)])


def test_without_espeak(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="espeak-ng is not installed; on Debian: apt install espeak-ng"):
        synthesize.main([str(tmp_path / "x.tar")])
    assert list(tmp_path.iterdir()) == []
