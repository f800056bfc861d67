"""Reading letter.data, the sample, and mini-batches of letters and words."""

import functools
import gzip
import hashlib
import http.server
import random
import threading

import numpy as np
import ocr_files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_common.data.transfer import Download
from hw_common.runs.errors import UserError
from hw_ocr import data, readers
from hw_ocr.data import ALPHABET, Letters
from hw_ocr.sample import WORDS

CPU = torch.device("cpu")
LETTERS = sum(map(len, ocr_files.WORDS))


def spelled(letters: Letters) -> list[str]:
    """The words, as text."""
    text = "".join(ALPHABET[label] for label in letters.labels)
    ends = letters.lengths.cumsum(0).tolist()
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def words_of(table: readers.LetterTable) -> list[str]:
    return spelled(Letters(*map(torch.from_numpy, (table.images, table.labels, table.lengths))))


# Reading


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
def test_words_are_split_by_fold(tmp_path, gz):
    path = ocr_files.write(tmp_path, gz=gz)
    found = data.load("ocr", tmp_path, seed=0)
    expected = {split: [w for i, w in enumerate(ocr_files.WORDS) if i % 10 in folds] for split, folds in (
        ("train", range(8)), ("dev", [8]), ("test", [9])
    )}  # fmt: skip
    assert {split: spelled(getattr(found, split)) for split in expected} == expected
    assert found.name == "OCR letters"
    assert found.hashes == {f"ocr/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_pixels_are_16_rows_of_8(tmp_path):
    ocr_files.write(tmp_path)
    found = data.load("ocr", tmp_path, seed=0)
    ids = {letters: [10 + i for i, row in enumerate(ocr_files.rows()) if int(row[5]) in folds] for letters, folds in (
        ("train", range(8)), ("dev", [8]), ("test", [9])
    )}  # fmt: skip
    for split, numbers in ids.items():
        letters = getattr(found, split)
        assert (letters.images.dtype, letters.labels.dtype, letters.lengths.dtype) == (
            torch.uint8, torch.int64, torch.int64
        )  # fmt: skip
        assert len(letters) == len(numbers) == letters.lengths.sum()
        for image, label, number in zip(letters.images, letters.labels, numbers, strict=True):
            assert np.array_equal(image.numpy(), ocr_files.image(ALPHABET[label], number))


def test_an_unpacked_file_is_taken_first(tmp_path):
    ocr_files.write(tmp_path, b"broken")
    ocr_files.write(tmp_path, gz=False)
    assert len(data.load("ocr", tmp_path, seed=0).dev) == 3


def test_a_file_is_unpacked_if_it_is_packed_whatever_it_is_called(tmp_path):
    path = ocr_files.write(tmp_path, gz=True)
    path.rename(path.with_suffix(""))
    assert len(data.load("ocr", tmp_path, seed=0).dev) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\t\n", b"\n"),
        lambda content: content.replace(b"\t\n", b"\r\n"),
        lambda content: content.removesuffix(b"\n"),
        lambda content: content + b"\n \r\n\t\n",
        lambda content: b"\xef\xbb\xbf" + content,
    ],
    ids=["no tab at the end", "CRLF", "no newline at the end", "blank lines at the end", "a mark at the start"],
)
def test_ends_of_lines_do_not_matter(change):
    content = ocr_files.content(ocr_files.rows())
    expected, found = readers.parse(content, "file"), readers.parse(change(content), "file")
    assert np.array_equal(found.images, expected.images)
    assert words_of(found) == words_of(expected)


@given(st.lists(st.text("abz", min_size=1, max_size=4), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_words_follow_next_id_in_whatever_order_rows_stand(words, generator: random.Random):
    rows = ocr_files.rows(words)
    ids = {row[0]: str(number) for row, number in zip(rows, generator.sample(range(1000), len(rows)), strict=True)}
    for row in rows:
        row[0], row[2] = ids[row[0]], ids.get(row[2], "-1")
    generator.shuffle(rows)
    table = readers.parse(ocr_files.content(rows), "file")
    firsts = [int(row[3]) for row in rows if row[4] == "1"]
    assert words_of(table) == [words[number] for number in firsts]
    assert table.folds.tolist() == [number % 10 for number in firsts]


# Files that are wrong


def changed(row: int, column: int, value: str) -> bytes:
    """A file whose row `row`, counted from 1, has another value in one column."""
    rows = ocr_files.rows()
    rows[row - 1][column] = value
    return ocr_files.content(rows)


def without(row: int, first: int, last: int | None) -> bytes:
    """A file whose row `row`, counted from 1, lacks some columns."""
    rows = ocr_files.rows()
    del rows[row - 1][first:last]
    return ocr_files.content(rows)


# The second word is row 3 to 5 with ids 12 to 14.
WRONG = {
    "too few pixels": (without(4, 100, 101), "row 4: it has 127 pixels, expected 128 .16 rows of 8."),
    "too many pixels": (changed(4, 100, "0\t1"), "row 4: it has 129 pixels"),
    "no pixels": (without(4, 6, None), "row 4: it has 1 pixels"),
    "cut short": (ocr_files.content(ocr_files.rows())[:-50], f"row {LETTERS}: it has 10. pixels"),
    "pixel 2": (changed(4, 6, "2"), "row 4: pixel '2', expected 0 or 1"),
    "grey pixel": (changed(4, 133, "0.5"), "row 4: pixel '0.5', expected 0 or 1"),
    "no pixel": (changed(4, 50, ""), "row 4: pixel '', expected 0 or 1"),
    "capital": (changed(5, 1, "A"), "row 5: letter 'A', expected one of a to z"),
    "umlaut": (changed(5, 1, "ä"), "row 5: letter 'ä', expected"),
    "two letters": (changed(5, 1, "ab"), "row 5: letter 'ab', expected"),
    "no letter": (changed(5, 1, ""), "row 5: letter '', expected"),
    "long letter": (changed(5, 1, "a" * 10_000), "row 5: letter 'a{16}…, expected"),
    "id": (changed(5, 0, "x"), "row 5: id, next_id and fold are 'x', '-1', '1', expected whole numbers"),
    "huge id": (changed(5, 0, "9" * 30), "row 5: id, next_id and fold are '9"),
    "negative id": (changed(5, 0, "-1"), "row 5: id -1, expected a number of 0 or more"),
    "next_id": (changed(5, 2, ""), "row 5: id, next_id and fold are '14', ''"),
    "fold": (changed(5, 5, "10"), "row 5: fold 10, expected 0 to 9"),
    "fold within a word": (changed(5, 5, "3"), "row 4: its fold is 1, but that of the next letter in its word is 3"),
    "blank line": (
        ocr_files.content(ocr_files.rows()).replace(b"\n", b"\n\n", 1),
        "row 2: it has 1 columns, expected id, letter, next_id, word_id, position, fold and 128 pixels",
    ),
    "the first of two": (changed(5, 1, "A").replace(b"\tb\t", b"\tB\t", 1), "row 2: letter 'B'"),
    "id twice": (changed(5, 0, "12"), "row 5: id 12 is already the id of row 3"),
    "next_id of nothing": (changed(4, 2, "99"), "row 4: next_id 99 is not the id of any letter; -1 ends a word"),
    "next_id of nothing, below all": (changed(4, 2, "0"), "row 4: next_id 0 is not the id of any letter"),
    "next_id twice": (changed(5, 2, "14"), "row 5: next_id 14 is already the next_id of row 4"),
    "next_id of itself": (changed(6, 2, "15"), "row 6: its word does not end within 100 letters"),
    "next_id back": (changed(5, 2, "12"), "row 3: its word does not end"),
    "no end": (
        ocr_files.content(ocr_files.rows(["a" * 101, *ocr_files.WORDS])),
        "row 101: its word does not end within 100 letters",
    ),
    "other file": (b"\x89PNG\r\n\x1a\n\0\0", "row 1: it has 1 columns"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named(tmp_path, name):
    content, message = WRONG[name]
    path = ocr_files.write(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        data.load("ocr", tmp_path, seed=0)
    assert str(error.value).startswith(f"{path}, row ")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("fold", [0, 8, 9])
def test_a_missing_fold_is_named(tmp_path, fold):
    others = [number for number in range(10) if number != fold]
    ocr_files.write(tmp_path, ocr_files.content(ocr_files.rows(["ab"] * 9, others)))
    with pytest.raises(UserError, match=f"letter.data.gz has no word of fold {fold}, expected"):
        data.load("ocr", tmp_path, seed=0)


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
def test_an_empty_file_is_refused(tmp_path, gz):
    ocr_files.write(tmp_path, b"", gz=gz)
    with pytest.raises(UserError, match="is empty"):
        data.load("ocr", tmp_path, seed=0)


def test_a_gzip_cut_short_names_the_last_whole_row(tmp_path):
    path = ocr_files.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])  # all rows, but not all of the checksum
    with pytest.raises(UserError, match=f"letter.data.gz is damaged or truncated after row {LETTERS}: "):
        data.load("ocr", tmp_path, seed=0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"is damaged or truncated after row \d"):
        data.load("ocr", tmp_path, seed=0)


@pytest.mark.parametrize("place", [4, 100, -6])
def test_a_damaged_gzip_is_refused(tmp_path, place):
    path = ocr_files.write(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    if place == 4:
        content[2] = 0  # no compression method
    path.write_bytes(content)
    with pytest.raises(UserError, match="letter.data.gz is damaged or truncated|letter.data.gz, row"):
        data.load("ocr", tmp_path, seed=0)


def test_a_file_that_unpacks_to_far_more_than_the_original_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_MAX_BYTES", 2**21)
    monkeypatch.setattr(readers, "_BLOCK", 2**18)
    ocr_files.write(tmp_path, bytes(2**23))
    with pytest.raises(UserError, match="more than 2097152 bytes"):
        data.load("ocr", tmp_path, seed=0)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = ocr_files.write(tmp_path)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="cannot read .*letter.data.gz: Permission denied"):
        data.load("ocr", tmp_path, seed=0)


# Downloading


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and prints no log."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A server in place of the data set's own server; returns the file that it sends."""
    path = ocr_files.write(tmp_path / "server")
    handler = functools.partial(Server, directory=path.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        monkeypatch.setattr(readers, "_ORIGINAL", Download(path.name, [url], md5=None))
        monkeypatch.setattr(readers, "_ORIGINAL_LETTERS", LETTERS)
        monkeypatch.setattr(readers, "_ORIGINAL_WORDS", len(ocr_files.WORDS))
        yield path
        server.shutdown()


def test_a_missing_file_is_downloaded_once(tmp_path, original):
    found = data.load("ocr", tmp_path / "data", seed=0)
    assert (tmp_path / "data" / "ocr" / "letter.data.gz").read_bytes() == original.read_bytes()
    original.unlink()
    assert data.load("ocr", tmp_path / "data", seed=0).hashes == found.hashes


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            ocr_files.content(ocr_files.rows()[:-3]),
            f"sent {LETTERS - 3} letters in 11 words, expected the published {LETTERS} in 12",
        ),
        (b"<html>moved</html>", "row 1"),
    ],
)
def test_another_file_than_the_original_is_not_kept(tmp_path, original, sent, message):
    original.write_bytes(gzip.compress(sent))
    with pytest.raises(UserError, match=message):
        data.load("ocr", tmp_path / "data", seed=0)
    assert not list((tmp_path / "data" / "ocr").iterdir())


def test_without_network_the_file_its_place_and_the_sample_are_named(tmp_path, original, monkeypatch):
    monkeypatch.setattr(readers, "_ORIGINAL", Download(original.name, ["http://127.0.0.1:1/x"], md5=None))
    with pytest.raises(UserError, match="ocr/letter.data.gz is missing .* --data_dir, or use --dataset sample"):
        data.load("ocr", tmp_path / "data", seed=0)
    assert not (tmp_path / "data").exists()


def test_files_at_hand_may_be_other_than_the_original(tmp_path, original):
    ocr_files.write(tmp_path / "data", ocr_files.content(ocr_files.rows(ocr_files.WORDS[:10])))
    assert len(data.load("ocr", tmp_path / "data", seed=0).test) == 3


# The sample


@pytest.fixture(scope="module")
def sample():
    return data.load("sample", None, seed=0)


def test_sample_has_words_of_every_letter(sample):
    words = [word for split in (sample.train, sample.dev, sample.test) for word in spelled(split)]
    assert 2000 <= sum(map(len, words)) <= 4000
    assert len(set(words)) >= 250
    assert sorted(words) == sorted(2 * WORDS)
    assert set("".join(words)) == set(ALPHABET)
    assert len(sample.dev) > len(sample.train) / 10
    assert "sample" in sample.name
    assert len(sample.hashes["sample"]) == 64


def test_sample_looks_like_letters(sample):
    images = sample.train.images.float()
    assert set(sample.train.images.unique().tolist()) == {0, 1}
    assert 0.1 < images.mean() < 0.3  # 0.22 in the real data
    assert (images.flatten(1).sum(1) >= 4).all()
    # The mean image of a letter is closer to others of that letter than to others of other letters.
    means = torch.stack([images[sample.train.labels == label].mean(0) for label in range(26)])
    nearest = torch.cdist(sample.test.images.float().flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == sample.test.labels).double().mean() > 0.4  # guessing finds 0.1


def test_no_two_letters_of_the_sample_are_written_alike(sample):
    every_e = sample.train.images[sample.train.labels == ALPHABET.index("e")].flatten(1)
    assert len(every_e.unique(dim=0)) > 0.9 * len(every_e)


def test_sample_is_a_function_of_its_seed(sample):
    again, other = data.load("sample", None, seed=0), data.load("sample", None, seed=1)
    assert again.hashes == sample.hashes != other.hashes
    assert torch.equal(again.test.images, sample.test.images)
    assert spelled(other.test) != spelled(sample.test)


# Batches


def letters_of(*lengths: int) -> Letters:
    """Words whose letters are all different images; label i stands for letter i modulo 26."""
    count = sum(lengths)
    bits = torch.arange(1, count + 1)[:, None] >> torch.arange(8) & 1
    images = bits[:, None].repeat(1, 16, 1).to(torch.uint8)
    return Letters(images, torch.arange(count) % 26, torch.tensor(lengths))


def test_letter_batches_come_in_order_as_floats_with_a_channel():
    letters = letters_of(3, 2)
    batches = data.letter_batches(letters, 2, CPU)
    images, labels = (torch.cat(part) for part in zip(*batches.epoch(0), strict=True))
    assert images.dtype == torch.float
    assert torch.equal(images, letters.images[:, None].float())
    assert torch.equal(labels, letters.labels)
    assert len(batches) == 3


def test_letter_batches_shuffled_have_every_letter_with_its_label():
    letters = letters_of(5, 20, 1)
    images, labels = (
        torch.cat(part) for part in zip(*data.letter_batches(letters, 4, CPU, 1, True).epoch(3), strict=True)
    )
    assert labels.tolist() != letters.labels.tolist()
    assert torch.equal(images[labels.argsort(), 0].to(torch.uint8), letters.images)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 4), st.booleans(), st.booleans())
@settings(deadline=None)
def test_word_batches_have_every_word_once_and_blank_padding(lengths, size, shuffle, augment):
    letters = letters_of(*lengths)
    batches = data.word_batches(letters, size, CPU, seed=1, shuffle=shuffle, augment=augment)
    found = list(batches.epoch(2))
    assert len(found) == len(batches) == -(-len(lengths) // size)
    words = []
    for images, labels, mask in found:
        assert images.shape == (*mask.shape, 16, 8)
        assert (images.dtype, labels.dtype, mask.dtype) == (torch.float, torch.int64, torch.bool)
        assert mask.any(0).all() and mask[:, 0].all()  # no longer than the longest, no word without a letter
        assert not images[~mask].any() and not labels[~mask].any()
        for word, own in zip(labels, mask, strict=True):
            assert own.tolist() == sorted(own.tolist(), reverse=True)
            words.append(word[own].tolist())
        if not augment:
            assert all(letters.images.eq(image).all((1, 2)).any() for image in images[mask])
    assert sorted(words) == sorted(word.tolist() for word in letters.labels.split(lengths))
    if not shuffle:
        assert list(map(len, words)) == sorted(lengths)


def test_word_batches_put_words_of_similar_length_together():
    letters = letters_of(*[1, 9] * 8)
    masks = [mask for _, _, mask in data.word_batches(letters, 4, CPU, shuffle=True).epoch(0)]
    assert [mask.shape[1] for mask in masks].count(1) == 2
    assert all(mask.all() for mask in masks)


def test_word_batches_taken_up_in_the_middle_go_on_with_the_same():
    batches = data.word_batches(letters_of(*[3, 4, 2, 6] * 3), 2, CPU, seed=5, shuffle=True, augment=True)
    whole, rest = list(batches.epoch(1)), list(batches.epoch(1, start=3))
    assert len(rest) == len(whole) - 3
    for batch, again in zip(whole[3:], rest, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    other = next(iter(batches.epoch(2)))
    assert other[0].shape != whole[0][0].shape or not torch.equal(other[0], whole[0][0])


# Augmentation


def test_letters_are_shifted_by_up_to_a_pixel_each_way():
    image = torch.from_numpy(ocr_files.image("q"))
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    shifts = [padded[row : row + 16, column : column + 8] for row in range(3) for column in range(3)]
    shifted = data.shift(image.repeat(500, 1, 1), torch.Generator().manual_seed(0))
    which = torch.stack([shifted.eq(one).all(2).all(1) for one in shifts])
    assert (which.sum(0) == 1).all()
    assert (which.sum(1) > 25).all()  # all nine, about equally often


def test_augmented_batches_repeat_and_change_from_epoch_to_epoch():
    letters = letters_of(*[4] * 6)
    for make in (data.letter_batches, data.word_batches):
        batches = make(letters, 100, CPU, seed=3, augment=True)
        first, again, other = (next(iter(batches.epoch(epoch)))[0] for epoch in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
