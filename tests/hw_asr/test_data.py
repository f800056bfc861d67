"""Datasets in LJSpeech's layout, their splits, and mini-batches."""

import shutil
import unicodedata
from pathlib import Path

import asr_files
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hw_asr import audio, data, readers, text
from hw_asr.spec_augment import spec_augment
from hw_common.commands import cli
from hw_common.runs.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of eight clips: six for training, one for validation, one for testing."""
    return asr_files.write(tmp_path_factory.mktemp("data") / "tiny set")


def load(folder, results, **options):
    options = {"settings": audio.SPECTROGRAMS["sheet"], **options}
    return data.load("ljspeech", folder.parent, folder, results_dir=results, **options)


@pytest.fixture(scope="module")
def tiny(folder, tmp_path_factory):
    """The dataset of `folder`, loaded."""
    return load(folder, tmp_path_factory.mktemp("results"))


def test_the_splits_of_ljspeech():
    assert [len(part) for part in data.split(13_100).values()] == [9825, 655, 2620]


@given(st.integers(5, 500))
@example(13_100)
def test_splits_follow_the_order_of_the_file(count):
    parts = data.split(count)
    assert list(parts) == ["train", "val", "test"] and min(map(len, parts.values())) > 0
    assert [*parts["train"], *parts["val"], *parts["test"]] == list(range(count))


@pytest.fixture
def an4(tmp_path):
    """Five speakers with two clips each, the official lists of AN4's layout, and one clip that no list names."""
    names = [*(f"an{i}-{speaker}-b" for i, speaker in enumerate("fash fash mblw mblw fjmd fjmd mrcb mrcb".split()))]
    names += ["cen1-mmxg-b", "cen2-mmxg-b", "cen3-unlisted-b"]
    folder = asr_files.write(tmp_path / "an4", len(names), [f"{name}|x|one two" for name in names])
    for number, name in enumerate(names):
        (folder / "wavs" / f"clip-{number}.wav").rename(folder / "wavs" / f"{name}.wav")
    (folder / "train.txt").write_text("\n".join(names[7::-1]))
    (folder / "test.txt").write_bytes(b"cen2-mmxg-b\r\n\r\ncen1-mmxg-b\r\n")
    return folder


def test_lists_name_the_splits_and_validation_gets_whole_speakers(an4, tmp_path):
    found = load(an4, tmp_path)
    assert found.test.names == ("cen1-mmxg-b", "cen2-mmxg-b") and len(found.train) == 6
    speakers = [{name.split("-")[1] for name in part.names} for part in (found.train, found.val)]
    assert len(speakers[0]) == 3 and len(speakers[1]) == 1 and not speakers[0] & speakers[1]
    assert {"an4/train.txt", "an4/test.txt"} < found.hashes.keys()
    (an4 / "val.txt").write_text("cen3-unlisted-b\n")
    found = load(an4, tmp_path)
    assert (len(found.train), found.val.names) == (8, ("cen3-unlisted-b",))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"test.txt": None}, "train.txt lists a split, but test.txt is missing"),
        ({"test.txt": "an0-fash-b"}, "test.txt, line 1: 'an0-fash-b' is listed twice"),
        ({"test.txt": "\nan99-fash-b"}, "test.txt, line 2: 'an99-fash-b' is not the id of a clip in"),
        ({"val.txt": "\n"}, "val.txt lists no clip"),
        ({"train.txt": "an0-fash-b\nan1-fash-b"}, "all clips have one speaker"),
        ({"test.txt": b"\xff"}, "test.txt is damaged: line 1 is not UTF-8"),
    ],
)
def test_wrong_lists_are_refused(an4, files, says):
    for name, content in files.items():
        if content is None:
            (an4 / name).unlink()
        else:
            (an4 / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        readers.read(an4, "an4", "an4")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_without_known_speakers_val_txt_is_asked_for(tmp_path):
    folder = asr_files.write(tmp_path / "set", 4)
    (folder / "train.txt").write_text("clip-0\nclip-1\n")
    (folder / "test.txt").write_text("clip-2\n")
    with pytest.raises(UserError, match="the speaker of 'clip-0' is not known .* write a val.txt"):
        readers.read(folder, "set", "set")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_clips_may_have_names_in_any_script(tmp_path, encoding):
    names = ("קול", "at 9.41\u202fAM", "caf\u00e9", "👩\u200d👧", "एक")
    asr_files.write(tmp_path, len(names))
    for number, name in enumerate(names):
        file = tmp_path / "wavs" / f"clip-{number}.wav"
        file.rename(file.with_stem(unicodedata.normalize("NFD", name)))  # as some systems store it
    (tmp_path / "metadata.csv").write_bytes("\r\n".join(f"{name}|x|one" for name in names).encode(encoding))
    assert tuple(clip.name for clip in readers.read(tmp_path, "set", "set").clips) == names


def test_a_dataset(tiny, folder):
    assert (tiny.name, tiny.label) == ("tiny_set", "tiny_set")
    assert [len(part) for part in (tiny.train, tiny.val, tiny.test)] == [6, 1, 1]
    assert tiny.val.names == ("clip-6",) and tiny.train.names[:2] == ("clip-0", "clip-1")
    assert tiny.train.texts[2] == "no. # # was it?" and tiny.train.tokens[1] == text.encode("one two")
    assert tiny.hashes.keys() == {"tiny_set/metadata.csv", "tiny_set/wavs"}
    for part, clip, number in ((tiny.train, 3, 3), (tiny.test, 0, 7)):
        samples = audio.read(folder / "wavs" / f"clip-{number}.wav", 22_050)
        expected = audio.log_mel(samples, audio.SPECTROGRAMS["sheet"])
        assert part.spectrogram(clip).shape == expected.shape == (80, part.frames[clip])
        assert np.abs(part.spectrogram(clip) - expected).max() < 1e-3  # float16


def test_transcripts_are_truncated(folder, tmp_path):
    assert load(folder, tmp_path, max_text=3).train.texts[:3] == ("pri", "one", "no.")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_contain_the_same(tiny, folder, tmp_path, mode):
    found = load(asr_files.pack(folder, tmp_path / "tiny set.tar.gz", mode), tmp_path)
    assert found.label == "tiny_set" and found.hashes == tiny.hashes and found.train.texts == tiny.train.texts


def test_the_outer_folder_is_accepted(tiny, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "LJSpeech-1.1")
    assert load(tmp_path, tmp_path).hashes.values() != tiny.hashes.values()  # another label
    found = data.load("ljspeech", tmp_path, None, results_dir=tmp_path, settings=audio.SPECTROGRAMS["sheet"])
    assert found.name == "LJSpeech" and list(found.hashes.values()) == list(tiny.hashes.values())


@pytest.mark.parametrize("name", ["spoken_digits", "spoken_digits.tar.gz"])
def test_spoken_digits(folder, tmp_path, name):
    if name.endswith("gz"):
        asr_files.pack(folder, tmp_path / name, "w:gz")
    else:
        shutil.copytree(folder, tmp_path / name / "LJSpeech-1.1")
    found = readers.read_dataset("digits", tmp_path, None)
    assert (found.name, found.label, len(found.clips)) == ("spoken digits", "digits", 8)


def test_flac_files_and_the_line_ends_of_windows_are_accepted(tiny, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "wavs" / "clip-2.wav").unlink()
    (copy / "wavs" / "clip-2.flac").write_bytes(asr_files.encoded(asr_files.sound(2), kind="FLAC"))
    content = (folder / "metadata.csv").read_text()
    (copy / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode() + b"\r\n")
    found = load(copy, tmp_path).train
    assert found.names == tiny.train.names and found.frames[2] == 1 + 2205 // 160


def test_ljspeech_is_downloaded_once(folder, tmp_path, monkeypatch):
    asked = []

    def place(data_dir, wanted):
        asked.extend(wanted)
        data_dir.mkdir()
        copy = shutil.copytree(folder, tmp_path / "LJSpeech-1.1")
        return [asr_files.pack(copy, data_dir / wanted[0].name, "w:bz2")]

    monkeypatch.setattr(readers.download, "place", place)
    for _ in range(2):
        found = readers.read_dataset("ljspeech", tmp_path / "data", None)
        assert (found.name, len(found.clips)) == ("LJSpeech", 8)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LJSpeech-1.1"]
    published = torchaudio.datasets.ljspeech._RELEASE_CONFIGS["release1"]
    assert [(*wanted.urls, wanted.sha256) for wanted in asked] == [(published["url"], published["checksum"])]


def test_an_archive_in_the_data_folder_is_unpacked(folder, tmp_path):
    asr_files.pack(shutil.copytree(folder, tmp_path / "LJSpeech-1.1"), tmp_path / "LJSpeech-1.1.tar.bz2", "w:bz2")
    shutil.rmtree(tmp_path / "LJSpeech-1.1")
    assert len(readers.read_dataset("ljspeech", tmp_path, None).clips) == 8


def test_flags():
    flags = cli.Parser("x", "y")
    readers.add_data_flags(flags)
    assert flags.parse_args([]).dataset == "ljspeech"
    assert flags.parse_args(["--dataset-dir", "x"]).dataset_dir == Path("x")
    with pytest.raises(UserError, match="--dataset sample is built in; leave --dataset_dir out"):
        readers.check("sample", Path("x"))
    readers.check("ljspeech", Path("x"))


def rows_of(batches, epoch=0):
    """The clips of an epoch without their padding, which is checked."""
    for pictures, frames, tokens, lengths in batches.epoch(epoch):
        assert pictures.shape[2] == frames.max() and tokens.shape[1] == lengths.max()
        for picture, count, numbers, length in zip(pictures, frames, tokens, lengths, strict=True):
            assert (picture[:, count:] == 0).all() and (numbers[length:] == text.EMPTY).all()
            yield picture[:, :count], numbers[:length].tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 99])
def test_an_epoch_contains_every_clip_once_with_minimal_padding(tiny, batch_size):
    part = tiny.train
    batches = data.speech_batches(part, batch_size, CPU, seed=3)
    found = list(rows_of(batches))
    assert len(found) == 6 and len(batches) == -(-6 // batch_size)
    expected = {part.spectrogram(i).tobytes(): part.tokens[i] for i in range(6)}
    assert {np.ascontiguousarray(p.numpy()).tobytes(): tokens for p, tokens in found} == expected


def test_the_order_changes_from_epoch_to_epoch(tiny):
    batches = data.speech_batches(tiny.train, 2, CPU, seed=3)
    assert len({tuple(picture.shape[1] for picture, _ in rows_of(batches, epoch)) for epoch in range(5)}) > 1


def test_the_notebook_s_padding(tiny):
    pictures, frames, tokens, lengths = data.pad([tiny.train.example(i) for i in range(6)], (10, 12))
    assert pictures.shape == (6, 80, 10) and tokens.shape == (6, 12)
    assert frames.tolist() == [min(10, count) for count in tiny.train.frames]
    assert lengths.tolist() == [min(12, len(one)) for one in tiny.train.tokens]
    for clip, row in enumerate(pictures):
        picture = tiny.train.spectrogram(clip)[:, :10]
        assert np.array_equal(row[:, : picture.shape[1]], picture) and (row[:, picture.shape[1] :] == 0).all()
        assert tokens[clip].tolist() == (tiny.train.tokens[clip] + [text.EMPTY] * 12)[:12]


def test_augmentation_depends_only_on_seed_epoch_and_step(tiny):
    def drawn(seed, epoch):
        batches = data.speech_batches(tiny.train, 3, CPU, seed=seed, augment=True)
        return torch.cat([batch[0].flatten() for batch in batches.epoch(epoch)])

    assert torch.equal(drawn(1, 2), drawn(1, 2))
    assert not torch.equal(drawn(1, 2), drawn(1, 3)) and not torch.equal(drawn(1, 2), drawn(2, 2))
    second = list(data.speech_batches(tiny.train, 3, CPU, seed=1, augment=True).epoch(2))[1]
    resumed = next(data.speech_batches(tiny.train, 3, CPU, seed=1, augment=True).epoch(2, start=1))
    assert all(torch.equal(a, b) for a, b in zip(second, resumed, strict=True))


@settings(deadline=None, max_examples=30)
@given(frames=st.lists(st.integers(1, 500), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_a_band_and_a_span_are_masked(frames, seed):
    ones = torch.ones(len(frames), 80, max(frames))
    found = spec_augment(ones, torch.tensor(frames), torch.Generator().manual_seed(seed))
    assert (ones == 1).all() and found.shape == ones.shape
    for picture, count in zip(found, frames, strict=True):
        bands = (picture[:, 0] == 0) if picture[:, 0].any() else (picture[:, -1] == 0)
        kept = picture[~bands]
        assert bands.sum() < 27 and is_one_span(bands)
        span = (kept == 0).all(0)
        assert torch.equal(kept == 0, span.expand_as(kept)) and is_one_span(span)
        assert span.sum() <= min(79, 0.2 * count) and not span[count:].any()


def is_one_span(marks):
    return (marks[1:] & ~marks[:-1]).sum() + marks[0] <= 1


def test_masks_are_as_large_as_torchaudio_s():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(600, 80, 400)
    found = spec_augment(ones, torch.full((600,), 400), generator)
    time, band = torchaudio.transforms.TimeMasking(80, True), torchaudio.transforms.FrequencyMasking(27, True)
    expected = (time(ones[:, None]) * band(ones[:, None]))[:, 0]
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=0.02)
    assert torch.allclose(found.mean((0, 1)), expected.mean((0, 1)), atol=0.06)
    assert torch.allclose(found.mean((0, 2)), expected.mean((0, 2)), atol=0.06)
    widths = torch.stack([1 - found.amax(1).mean(1), 1 - found.amax(2).mean(1)])
    assert abs(torch.corrcoef(widths)[0, 1].item()) < 0.2  # bands and spans are independent


def test_loud_clips_are_counted_in_one_line(tmp_path, capsys):
    folder = asr_files.write(tmp_path / "set")
    for i in range(3):
        loud = asr_files.encoded(asr_files.sound(i) * 6, subtype="FLOAT")  # up to 3
        (folder / "wavs" / f"clip-{i}.wav").write_bytes(loud)
    load(folder, tmp_path / "results")
    [line] = capsys.readouterr().err.splitlines()
    assert "samples up to 3, expected -1 to 1; all samples were divided by 3; other clips that were scaled: 2" in line
