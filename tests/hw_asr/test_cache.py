"""Spectrograms are computed once, and only changed or damaged ones again."""

import dataclasses
import json

import asr_files
import numpy as np
import pytest

from hw_asr import audio, readers, spectrograms
from hw_asr.audio import SPECTROGRAMS
from hw_common.data.feature_cache import INDEX, ROWS
from hw_common.runs.errors import Stopped, Terminated, UserError

SHEET = SPECTROGRAMS["sheet"]


@pytest.fixture
def folder(tmp_path):
    """Eight clips."""
    return asr_files.write(tmp_path / "tiny")


@pytest.fixture
def computed(monkeypatch):
    """The paths of the sound files that were decoded."""
    seen = []
    decode = audio.decode
    monkeypatch.setattr(audio, "decode", lambda *arguments: (seen.append(arguments[1]), decode(*arguments))[1])
    return seen


def ensure(folder, results=None, settings=SHEET):
    clips = [clip.audio for clip in readers.read(folder, "tiny", "tiny").clips]
    return spectrograms.ensure(clips, "tiny", settings, results or folder.parent / "results")


def cache_of(folder, settings=SHEET):
    return folder.parent / "results" / "hw_asr" / "spectrograms" / f"tiny-{settings.label}"


def check(folder, found, settings=SHEET):
    """Checks that `found` are the spectrograms of the clips in `folder`; decodes all eight clips."""
    for number, clip in enumerate(readers.read(folder, "tiny", "tiny").clips):
        expected = audio.log_mel(audio.read(folder / "wavs" / f"{clip.name}.wav", 22_050), settings)
        assert found.take(number).dtype == np.float16 and len(found.take(number)) == found.frames[number]
        assert np.array_equal(found.take(number), expected.T.astype(np.float16))


def test_spectrograms_are_computed_once(folder, computed, capsys):
    first = ensure(folder)
    assert len(computed) == 8
    check(folder, first)
    before = asr_files.snapshot(cache_of(folder))
    assert sorted(before) == [INDEX, ROWS]
    index = json.loads(before[INDEX])
    assert index["settings"] == dataclasses.asdict(SHEET)
    assert len(index["items"]) == 8 and all(len(key) == 64 for key in index["items"])
    computed.clear()
    second = ensure(folder)
    assert computed == [] and asr_files.snapshot(cache_of(folder)) == before and second.sha256 == first.sha256
    assert capsys.readouterr().out == ""


def test_only_what_changed_is_computed_again(folder, computed):
    first = ensure(folder)
    old = [first.take(clip).copy() for clip in range(8)]
    computed.clear()
    (folder / "wavs" / "clip-3.wav").write_bytes(asr_files.encoded(asr_files.sound(99)))
    (folder / "wavs" / "clip-5.wav").write_bytes((folder / "wavs" / "clip-0.wav").read_bytes())
    second = ensure(folder)
    assert len(computed) == 1 and "clip-3" in computed[0]
    check(folder, second)
    assert first.sha256 != second.sha256
    assert all(np.array_equal(first.take(clip), old[clip]) for clip in range(8))  # as before, since they are mapped


def test_the_order_and_the_names_may_change(folder, computed):
    ensure(folder)
    lines = (folder / "metadata.csv").read_text().splitlines()
    (folder / "wavs" / "clip-1.wav").rename(folder / "wavs" / "new.wav")
    lines[1] = lines[1].replace("clip-1", "new")
    (folder / "metadata.csv").write_text("\n".join(reversed(lines)))
    computed.clear()
    found = ensure(folder)
    assert computed == []
    check(folder, found)


def test_equal_sounds_are_stored_once(folder):
    (folder / "wavs" / "clip-5.wav").write_bytes((folder / "wavs" / "clip-0.wav").read_bytes())
    found = ensure(folder)
    check(folder, found)
    rows = len((cache_of(folder) / ROWS).read_bytes()) // 160
    assert rows == sum(found.frames) - found.frames[0]


def test_settings_have_their_own_folders(folder, computed):
    ensure(folder)
    notebook = SPECTROGRAMS["notebook"]
    check(folder, ensure(folder, settings=notebook), notebook)
    assert len(computed) == 24 and cache_of(folder) != cache_of(folder, notebook)  # 8 of the 24 by `check`


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_is_noticed(folder, computed, capsys, place):
    ensure(folder)
    content = bytearray((cache_of(folder) / ROWS).read_bytes())
    content[place] ^= 1
    (cache_of(folder) / ROWS).write_bytes(content)
    computed.clear()
    check(folder, ensure(folder))
    assert len(computed) == 1 + 8
    assert "1 of 8 spectrograms were damaged and have been computed again\n" in capsys.readouterr().out
    computed.clear()
    ensure(folder)
    assert computed == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize("number", [0, 3, 7])
def test_an_interrupted_computation_resumes(folder, monkeypatch, number, error):
    ensure(folder, folder.parent / "other")
    monkeypatch.setattr(spectrograms, "thread_map", lambda work, items: (work(item) for item in items))
    decode, calls = audio.decode, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise error
        return decode(*arguments)

    monkeypatch.setattr(audio, "decode", interrupted)
    message = f"stopped after the spectrograms of {number} of 8 clips; they are saved"
    with pytest.raises(Stopped, match=message) as stopped:
        ensure(folder)
    assert stopped.value.signal_number == (15 if error is Terminated else 2)
    ensure(folder)
    assert len(calls) == number + 1 + (8 - number)
    assert asr_files.snapshot(folder.parent / "results") == asr_files.snapshot(folder.parent / "other")


def test_finished_spectrograms_survive_a_damaged_clip(folder, computed):
    (folder / "wavs" / "clip-6.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="clip-6.wav is damaged or not a sound file"):
        ensure(folder)
    (folder / "wavs" / "clip-6.wav").write_bytes(asr_files.encoded(asr_files.sound(6)))
    computed.clear()
    check(folder, ensure(folder))
    assert len(computed) == 2 + 8
