"""Captions and images from their files: both formats, folders and archives, vocabulary and mini-batches."""

import csv
import io
import itertools
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

import caption_files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_caption import data, experiment, images
from hw_caption.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary
from hw_common.data import caption_table, captioned_images
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.words import EARLIER, UNICODE
from hw_common.runs import checkpoints
from hw_common.training import distributed

CPU = torch.device("cpu")
words = st.text(string.ascii_lowercase, min_size=1, max_size=3)
captions = st.lists(st.lists(words, min_size=1, max_size=5), min_size=1, max_size=6)


# Vocabulary


@given(captions, st.integers(1, 3))
def test_a_vocabulary_has_the_words_that_occur_often_enough_in_alphabetical_order(found, min_count):
    flat = list(itertools.chain.from_iterable(found))
    expected = sorted({word for word in flat if flat.count(word) >= min_count})
    assert Vocabulary.from_captions(found, min_count).words == (*SPECIALS, *expected)


@given(captions, st.lists(words, max_size=6))
def test_decoding_undoes_encoding_but_for_unknown_words(found, tokens):
    vocabulary = Vocabulary.from_captions(found)
    numbers = vocabulary.encode(tokens)
    assert (numbers[0], numbers[-1], len(numbers)) == (START, END, len(tokens) + 2)
    assert vocabulary.decode([*numbers, PAD, 5]) == [t if t in vocabulary else "<unk>" for t in tokens]


def test_the_special_symbols_have_the_first_numbers_and_are_no_words():
    vocabulary = Vocabulary.from_captions([["<pad>", "a", "<end_seq>"]])
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    assert vocabulary.words == ("<pad>", "<start_seq>", "<end_seq>", "<unk>", "a")
    assert vocabulary.encode(["<pad>", "a", "<end_seq>"]) == [START, UNKNOWN, 4, UNKNOWN, END]


def test_a_vocabulary_is_saved_and_told_apart_from_others(tmp_path):
    vocabulary = Vocabulary.from_captions([["é", "a"]])
    vocabulary.save(tmp_path / "vocabulary.json")
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert (again, again.sha256) == (vocabulary, vocabulary.sha256)
    assert Vocabulary.from_captions([["a", "b"]]).sha256 != vocabulary.sha256


# dataset.json


def load_both(tmp_path: Path, folder: Path) -> list[data.CaptionData]:
    """The data set in `folder`, read from there and from a tar archive of it."""
    archive = caption_files.pack(folder, tmp_path / f"{folder.name}.tar")
    return [data.load("sydney", tmp_path, path) for path in (folder, archive)]


def test_dataset_json_is_read_from_a_folder_and_from_an_archive(tmp_path):
    folder = caption_files.write_json(tmp_path / "tiny")
    for found in load_both(tmp_path, folder):
        assert (found.name, found.label) == ("Tiny", "tiny")
        assert [found.train.names, found.val.names, found.test.names] == [
            ["0.tif", "1.tif", "2.tif"], ["3.tif"], ["4.tif", "5.tif"]
        ]  # fmt: skip
        expected = (("a", "red", "house"), ("some", "houses"), ("many", "t-junctions", "and", "a", "road"))
        assert found.test.captions == (expected, expected)
        assert " ".join(found.vocabulary.words[4:]) == "a and house houses many red road some t-junctions"
        assert found.max_length == 7
        for image in found.images:
            assert image.read() == (folder / "images" / image.name).read_bytes()
        assert list(found.hashes) == ["tiny/dataset.json"]
    assert found.hashes == data.load("sydney", tmp_path, folder).hashes


def test_an_archive_is_read_in_place(tmp_path):
    inside = tmp_path / "deep" / "sydney_captions"
    archive = caption_files.pack(caption_files.write_json(inside).parent, tmp_path / "sydney_captions.tar")
    where = tmp_path / "read-only"
    where.mkdir()
    archive.rename(where / archive.name)
    where.chmod(0o500)
    before = caption_files.snapshot(where)
    found = data.load("sydney", where)
    assert images.decode(found.images[0], 8).shape == (8, 8, 3)
    assert caption_files.snapshot(where) == before


def test_a_folder_in_the_data_dir_is_preferred_to_an_archive(tmp_path):
    caption_files.write_json(tmp_path / "sydney_captions")
    (tmp_path / "sydney_captions.tar").write_bytes(b"no archive")
    assert len(data.load("sydney", tmp_path).train) == 3


@pytest.mark.parametrize("folder", ["images", "Images", "imgs", ""])
def test_the_image_folder_may_have_several_names(tmp_path, folder):
    caption_files.write_json(tmp_path, images=folder)
    assert data.load("sydney", tmp_path, tmp_path).images[0].where == str(tmp_path / folder / "0.tif")


def test_only_training_captions_make_the_vocabulary(tmp_path):
    content = caption_files.description()
    content["images"][3]["sentences"] = [caption_files.sentence("a strange word")]
    found = data.load("sydney", tmp_path, caption_files.write_json(tmp_path, content))
    assert "strange" not in found.vocabulary
    assert found.val.captions == ((("a", "strange", "word"),),)
    content["images"][0]["sentences"] = [caption_files.sentence("rare")]
    caption_files.write_json(tmp_path, content)
    assert "rare" in data.load("sydney", tmp_path, tmp_path).vocabulary
    assert "rare" not in data.load("sydney", tmp_path, tmp_path, min_count=2).vocabulary


def test_raw_text_stands_in_for_tokens_and_restval_is_for_training(tmp_path):
    content = caption_files.description()
    content["images"][0] = {
        "filename": "sub/x.jpg", "split": "restval", "sentences": [{"raw": "Two men's dogs, running; (fast)!"}]
    }  # fmt: skip
    (tmp_path / "images" / "sub").mkdir(parents=True)
    found = data.load("sydney", tmp_path, caption_files.write_json(tmp_path, content))
    assert found.train.names[0] == "sub/x.jpg"
    assert found.train.captions[0] == (("two", "men's", "dogs", "running", "fast"),)


@pytest.mark.parametrize("name", ["valid", "validation", "dev", "Val", "VALIDATION "])
def test_the_validation_split_has_several_names(tmp_path, name):
    content = caption_files.description()
    content["images"][3]["split"] = name
    assert data.load("sydney", tmp_path, caption_files.write_json(tmp_path, content)).val.names == ["3.tif"]


# captions.txt


def flickr_lines(count: int) -> list[str]:
    return ["image,caption", *(f"{i:03}.jpg,A dog number {k} ." for i in range(count) for k in range(5))]


def test_captions_txt_is_split_80_10_10_whatever_the_seed(tmp_path):
    folder = caption_files.write_text(tmp_path / "flickr8k", flickr_lines(30))
    found = data.load("flickr", tmp_path)
    assert (found.name, found.label) == ("Flickr8k", "flickr8k")
    assert (len(found.train), len(found.val), len(found.test)) == (24, 3, 3)
    assert sorted(image.name for image in found.images) == [f"{i:03}.jpg" for i in range(30)]
    assert all(len(captions) == 5 for captions in found.train.captions)
    archive = data.load("flickr", tmp_path, caption_files.pack(folder, tmp_path / "other.tar"))
    assert archive.test.names == found.test.names


def test_captions_txt_keeps_what_belongs_to_a_word(tmp_path):
    lines = [
        "\ufeffimage,caption\r", 'a.jpg,"A man, a dog and a ""cat"" ."\r', "b.jpg,Two boys' T-shirts\r", "c.jpg,One\r",
        "a.jpg,Again , l'été 2 !\r", ""
    ]  # fmt: skip
    dataset = captioned_images.read(caption_files.write_text(tmp_path, lines))
    found = {image.file.name: image.captions for image in dataset.images}
    assert found == {
        "a.jpg": (("a", "man", "a", "dog", "and", "a", "cat"), ("again", "l'été", "2")),
        "b.jpg": (("two", "boys", "t-shirts"),),
        "c.jpg": (("one",),),
    }


ROWS = [("a,b.jpg", "A man, a dog"), ("c.jpg", 'Two "old" boys'), ("a,b.jpg", "One\nmore")]
WORDS = {"a,b.jpg": (("a", "man", "a", "dog"), ("one", "more")), "c.jpg": (("two", "old", "boys"),)}


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]], **options) -> str:
    text = io.StringIO()
    csv.writer(text, **{"lineterminator": "\n", **options}).writerows([header, *rows])
    return text.getvalue()


FILES = {
    "quoted as needed": as_csv(("image", "caption"), ROWS),
    "all quoted": as_csv(("image", "caption"), ROWS, quoting=csv.QUOTE_ALL),
    "with an index": as_csv(("", "image", "caption"), ((i, *row) for i, row in enumerate(ROWS))),
    "other names": as_csv(("File Name", "Comment"), ROWS),
    "numbered": as_csv(("image_name", "comment_number", "comment"), ((n, i, c) for i, (n, c) in enumerate(ROWS))),
    "captions first": as_csv(("caption", "image_id"), (row[::-1] for row in ROWS)),
    "semicolons": as_csv(("image", "caption"), ROWS, delimiter=";"),
    "tabs": as_csv(("image", "caption"), ROWS, delimiter="\t"),
    "bars": as_csv(("image_name", " comment_number", " comment"), ((n, " 0", f" {c}") for n, c in ROWS), delimiter="|"),
    "Windows": as_csv(("image", "caption"), ROWS, lineterminator="\r\n"),
    "blank lines": "\n" + as_csv(("image", "caption"), ROWS) + "\n \n,\n\n",
    "a mark at the start": "\ufeff" + as_csv(("image", "caption"), ROWS, quoting=csv.QUOTE_ALL),
    "no header": as_csv(*ROWS[:1], ROWS[1:]),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_captions_txt_is_read_as_pandas_and_spreadsheets_write_it(text, encoding):
    found: dict[str, list[tuple[str, ...]]] = {}
    for name, caption in caption_table.read(text.encode(encoding)):
        found.setdefault(name, []).append(tuple(UNICODE.tokenize(caption)))
    assert {name: tuple(captions) for name, captions in found.items()} == WORDS


def test_a_file_that_is_no_csv_is_read_line_by_line():
    lines = ['a.jpg,"A man with a 5" pipe, smoking', 'b.jpg,"Hello', '"c,d.jpg",One', "e.jpg,x, y"]
    rows = caption_table.read("\n".join(lines).encode())
    assert {name: " ".join(UNICODE.tokenize(caption)) for name, caption in rows} == {
        "a.jpg": "a man with a 5 pipe smoking", "b.jpg": "hello", "c,d.jpg": "one", "e.jpg": "x y"
    }  # fmt: skip


def test_captions_without_words_are_left_out_with_one_line(tmp_path, capsys):
    content = caption_files.description()
    content["images"][1]["sentences"] += [caption_files.sentence(" ."), {"tokens": []}]
    content["images"][2]["sentences"] = [{"raw": "…"}]
    found = data.load("sydney", tmp_path, caption_files.write_json(tmp_path / "tiny", content))
    assert found.train.names == ["0.tif", "1.tif"] and len(found.train.captions[1]) == 3
    assert capsys.readouterr().err == (
        f"{tmp_path}/tiny/dataset.json: captions without words are left out: 3; the first is for '1.tif'; images that "
        "have no other caption are left out too: 1\n"
    )


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("एक लाल घर नदी के पास है।", "एक|लाल|घर|नदी|के|पास|है"),  # Hindi: vowels are combining marks
        ("un cafe\u0301 pre\u0300s", "un|caf\u00e9|pr\u00e8s"),
        ("บ้านสีแดง ใกล้แม่น้ำ", "บ้านสีแดง|ใกล้แม่น้ำ"),
        ("اَلْبَيْتُ الأحمر،", "اَلْبَيْتُ|الأحمر"),
        ("می\u200cخواهم خانه\u200c", "می\u200cخواهم|خانه"),  # Persian: a joiner inside a word
        ("צה״ל \u200fבית־ספר", "צה״ל|בית־ספר"),
        ("红色的房子，", "红色的房子"),
        ("im\u00adpor\u00adtant İl", "important|i\u0307l"),
        ("Don't rock’n’roll, T-shirts' well‑known x_2 ½", "don't|rock’n’roll|t-shirts|well‑known|x_2|½"),
        ("👩\u200d👩\u200d👧 ❤️ ◌\u0301", ""),
    ],
)
def test_words_keep_their_marks_in_every_script(text, expected):
    assert UNICODE.tokenize(text) == [word for word in expected.split("|") if word]
    tokens = captioned_images._words_of({"tokens": text.split()}, "x")
    assert not expected.isascii() or list(tokens) == UNICODE.tokenize(text)
    assert captioned_images._words_of({"tokens": [], "raw": text}, "x") == tuple(UNICODE.tokenize(text))


def test_a_run_that_an_earlier_version_started_keeps_its_vocabulary(tmp_path):
    content = caption_files.description()
    for image in content["images"]:
        image["sentences"] = [{"raw": "एक लाल घर"}]
    folder = caption_files.write_json(tmp_path / "set", content)
    source = "sydney", tmp_path, folder, 1
    earlier = data.load("sydney", tmp_path, folder, rules=EARLIER).vocabulary
    now = experiment.load_data(*source, resume=None).vocabulary
    assert now.words[4:] == ("एक", "घर", "लाल") and earlier.words[4:] == ("एक", "घर", "ल")
    for vocabulary in (earlier, now):
        checkpoints.save_state(tmp_path / "last.pt", {"metadata": {"vocabulary": vocabulary.sha256}})
        assert experiment.load_data(*source, resume=tmp_path).vocabulary == vocabulary


@given(st.text(string.printable + "éÉßñ’", max_size=30))
def test_english_words_are_those_of_earlier_versions(text):
    assert UNICODE.tokenize(text) == EARLIER.tokenize(text)


# Mini-batches


class Names:
    """Inputs whose values identify the requested image and view."""

    def take(self, names, views=None):
        return torch.tensor([[float(name.split(".")[0]), view] for name, view in zip(names, views, strict=True)])


def tiny_batches(tmp_path: Path, batch_size: int = 4, **options) -> data.CaptionBatches:
    found = data.load("sydney", tmp_path, caption_files.write_json(tmp_path))
    return data.caption_batches(found.train, found.vocabulary, Names(), batch_size, device=CPU, **options)


def as_lists(batches) -> list:
    return [[tensor.tolist() for tensor in batch] for batch in batches]


def test_batches_have_a_row_for_each_caption(tmp_path):
    found = data.load("sydney", tmp_path, caption_files.write_json(tmp_path))
    batches = tiny_batches(tmp_path)
    rows = []
    for inputs, numbers, lengths in batches.epoch(0):
        assert (inputs.dtype, numbers.dtype, lengths.dtype) == (torch.float32, torch.int64, torch.int64)
        assert numbers.shape == (len(inputs), max(lengths.tolist()))
        for (image, view), row, length in zip(inputs.tolist(), numbers.tolist(), lengths.tolist(), strict=True):
            assert (view, row[length:], row[length - 1]) == (0, [PAD] * (len(row) - length), END)
            rows.append((int(image), tuple(found.vocabulary.decode(row))))
    expected = [(i, caption) for i, captions in enumerate(found.train.captions) for caption in captions]
    assert sorted(rows) == sorted(expected)
    assert len(batches) == 3


def test_captions_of_similar_length_come_together():
    lengths = [4, 9, 4, 9, 20, 9, 4, 20, 4, 9, 20, 20]
    split = data.Split(
        tuple(DatasetFile(f"{i}.png", f"{i}.png", bytes) for i in range(len(lengths))),
        tuple((("a",) * (length - 2),) for length in lengths),
    )
    vocabulary = Vocabulary.from_captions(sum(split.captions, ()))
    batches = data.caption_batches(split, vocabulary, Names(), 4, device=CPU, seed=1)
    for epoch in range(5):
        found = [set(lengths.tolist()) for _, _, lengths in batches.epoch(epoch)]
        assert sorted(map(min, found)) == [4, 9, 20] and all(len(of_batch) == 1 for of_batch in found)


@settings(max_examples=20, deadline=None)
@given(batch_size=st.integers(1, 10), seed=st.integers(0, 5), epoch=st.integers(0, 3), start=st.integers(0, 9))
def test_the_order_depends_on_seed_and_epoch_alone(tmp_path_factory, batch_size, seed, epoch, start):
    make = lambda seed: tiny_batches(  # noqa: E731
        tmp_path_factory.mktemp("tiny"), batch_size, seed=seed, augment=True
    )
    batches = make(seed)
    whole = as_lists(batches.epoch(epoch))
    assert len(whole) == len(batches)
    assert as_lists(make(seed).epoch(epoch, start)) == whole[start:]
    images_seen = sorted(row[0] for inputs, _, _ in whole for row in inputs)
    assert images_seen == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert whole != as_lists(batches.epoch(epoch + 1)) and whole != as_lists(make(seed + 1).epoch(epoch))


def test_augmentation_draws_all_views(tmp_path):
    batches = tiny_batches(tmp_path, 9, augment=True)
    seen = [int(view) for epoch in range(20) for inputs, _, _ in batches.epoch(epoch) for _, view in inputs]
    assert set(np.bincount(seen, minlength=8) > 5) == {True}
    plain = tiny_batches(tmp_path, 9)
    assert {int(view) for inputs, _, _ in plain.epoch(0) for _, view in inputs} == {0}


def test_two_processes_share_each_batch_at_its_full_width(tmp_path, monkeypatch):
    whole = as_lists(tiny_batches(tmp_path, 5).epoch(0))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "share", lambda count, r=rank: slice(count * r // 2, count * (r + 1) // 2))
        shares.append(as_lists(tiny_batches(tmp_path, 5).epoch(0)))
    joined = [[a + b for a, b in zip(first, second, strict=True)] for first, second in zip(*shares, strict=True)]
    assert joined == whole


# Images


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "PNG"), ("L", "JPEG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("I;16", "PNG"),
     ("RGB", "TIFF"), ("RGB", "WEBP"), ("1", "PNG")]
)  # fmt: skip
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    (tmp_path / "x").write_bytes(caption_files.picture(mode=mode, suffix=suffix))
    image = images.DatasetFile.from_path(tmp_path / "x")
    assert images.decode(image, 32).shape == (32, 32, 3)
    assert images.decode(image, 32).dtype == np.uint8


def test_the_views_are_the_symmetries_of_the_square():
    square = np.arange(27).reshape(3, 3, 3)
    seen = [images.turn(square, view) for view in range(images.VIEWS)]
    assert np.array_equal(seen[0], square)
    as_bytes = {view.tobytes() for view in seen}
    assert len(as_bytes) == 8
    assert {images.turn(view, k).tobytes() for view in seen for k in range(8)} == as_bytes
