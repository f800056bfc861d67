"""Bad input to hw_caption's data and features: each ends in one line and exit status 2, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import caption_files
import cnn_files
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from hw_caption import backbone, data, feature_store, features, images
from hw_caption.vocabulary import SPECIALS, Vocabulary
from hw_common.commands import cli
from hw_common.data import feature_cache
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs.errors import UserError

ON_CPU = ["--threads", "1", "--device", "cpu"]
REPOSITORY = Path(__file__).resolve().parents[2]


def refusal(dataset_dir: Path, **options) -> str:
    """Loads a data set, which must be refused; returns the message."""
    with pytest.raises(UserError) as caught:
        data.load("sydney", dataset_dir, dataset_dir, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


# dataset.json and captions.txt


def with_image(**changes) -> dict:
    """A dataset.json whose second image, 1.tif, is changed; a key whose new value is None is left out."""
    content = caption_files.description()
    changed = {**content["images"][1], **changes}
    content["images"][1] = {key: value for key, value in changed.items() if value is not None}
    return content


def with_sentence(value) -> dict:
    return with_image(sentences=[caption_files.sentence("a house"), value])


# content of dataset.json (bytes, or an object to be written as JSON) -> part of the message
BAD_JSON = [
    *((content, "dataset.json is damaged") for content in (b"", b"no json", b'{"images": [', b"\xff\xfe\x00")),
    *((content, "dataset.json is damaged") for content in (b"[" * 100_000, b'{"images": [' + b"9" * 5000 + b"]}")),
    ([], "the list images"),
    ({"images": {"a": 1}}, "the list images"),
    ({"images": ["1.tif"]}, "image 1 has no filename"),
    (with_image(filename=None), "image 2 has no filename"),
    (with_image(filename=3), "image 2 has no filename"),
    (with_image(filename=""), "image 2 has no filename"),
    (with_image(filename="a" * 300), "image 2 has no filename of at most 255 characters"),
    (with_image(filename="0.tif"), "'0.tif' occurs twice"),
    (with_image(split=None), "'1.tif' has the split None, expected train, val, test"),
    (with_image(split="training"), "has the split 'training'"),
    (with_image(split=["train"]), "has the split ['train']"),
    (with_image(sentences=None), "'1.tif' has no reference captions"),
    (with_image(sentences=[]), "'1.tif' has no reference captions"),
    (with_image(sentences="a house"), "'1.tif' has no reference captions"),
    (with_sentence("a house"), "a caption of '1.tif' has no tokens"),
    (with_sentence({"tokens": [1, 2]}), "a caption of '1.tif' has no tokens"),
    (with_sentence({"tokens": ["a"] * 501}), "has 501 words, more than the limit of 500"),
    (with_sentence({"tokens": ["\ud800a"]}), "surrogates not allowed"),
    *((with_image(filename=name), "which is not a path inside") for name in ("../x", "a/../../x", "/etc/passwd", "..")),
    *((with_image(filename=name), "which is not a path inside") for name in (".", "x\0", "a\nb", "\x1b[2J")),
    (with_image(filename="\ud800"), "images/\ud800 is missing: "),
    (with_image(filename="nothing.tif"), "images/nothing.tif is missing: "),
    *(
        (caption_files.description({**caption_files.SPLITS, split: 0}), f"no {title} images: no image has the split")
        for split, title in (("train", "training"), ("val", "validation"), ("test", "test"))
    ),
]
# content of captions.txt -> part of the message
BAD_TEXT = [
    (b"a.jpg,one\nb.jpg,caf\xe9", "captions.txt is damaged: line 2 is not UTF-8 (byte 0xe9)"),
    (b"\xef\xbb\xbfa.jpg,\xff\xff", "captions.txt is damaged: line 1 is not UTF-8 (byte 0xff)"),
    ("a.jpg,one\nb".encode("utf-16") + b"!", "captions.txt is damaged: line 2 is not UTF-16 (byte 0x21)"),
    (b"\xff\xfea", "captions.txt is damaged: line 1 is not UTF-16 (byte 0x61)"),
    (b"image,caption", "captions.txt names 0 images"),
    (b"a.jpg,one\nb.jpg two", "captions.txt is damaged: line 2 is not image,caption"),
    (b"a.jpg,one\n,two", "captions.txt is damaged: line 2 is not image,caption"),
    (b"file,comment_number,comment\na.jpg,0,one\nb.jpg,1", "line 3 is not file,comment_number,comment"),
    (b"caption,image\none,a.jpg\none, two,b.jpg", "captions.txt is damaged: line 3 is not caption,image"),
    (b"a.jpg,one\nb.jpg," + b"x" * 200_000, "captions.txt is damaged: line 2: field larger than field limit"),
    (b"a.jpg,\nb.jpg,. !", "captions.txt names 0 images"),
    (b"a.jpg,one\n../c.jpg,three", "captions.txt names the image '../c.jpg'"),
    (b"a.jpg,one\nb.jpg,two", "images/a.jpg is missing"),
]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(
    ("file", "content", "says"),
    [*(("dataset.json", *case) for case in BAD_JSON), *(("captions.txt", *case) for case in BAD_TEXT)],
)
def test_damaged_captions_are_refused(tmp_path, packed, file, content, says):
    folder = caption_files.write_json(tmp_path / "tiny")
    for path in (tmp_path / "x", folder / "x"):  # an image that no caption file may name
        path.write_bytes(caption_files.picture())
    (folder / "dataset.json").unlink()
    (folder / file).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert says in refusal(caption_files.pack(folder, tmp_path / "tiny.tar") if packed else folder)


def test_captions_made_of_unknown_words_are_refused(tmp_path):
    content = caption_files.description()
    content["images"][3]["sentences"] = [caption_files.sentence("völlig unbekannt")]
    caption_files.write_json(tmp_path, content)
    assert "no word of the validation captions is in the vocabulary" in refusal(tmp_path)
    caption_files.write_json(tmp_path)
    assert "no word of the training captions is in the vocabulary" in refusal(tmp_path, min_count=100)


def test_a_captions_txt_needs_an_image_for_each_split(tmp_path):
    caption_files.write_text(tmp_path, ["image,caption", "a.jpg,one", "b.jpg,two"])
    assert "captions.txt names 2 images, too few for train, val, test" in refusal(tmp_path)


# Places


def test_what_is_not_there_is_said(tmp_path):
    assert f"{tmp_path / 'nothing'} does not exist" in refusal(tmp_path / "nothing")
    assert f"{tmp_path} has no captions: expected dataset.json" in refusal(tmp_path)


def test_the_sample_reads_no_folder():
    with pytest.raises(UserError, match="--dataset sample reads no files"):
        features.resolve(features.parser().parse_args(["--dataset", "sample", "--dataset_dir", "x"]))


# Images


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an image"),
        (b"<html>not here</html>", "is not an image"),
        (caption_files.picture()[:60], "is damaged"),
        (caption_files.picture(suffix="JPEG")[:400], "is damaged"),
        (caption_files.picture(suffix="TIFF")[:60], "is"),
        (cnn_files.png_claiming(30_000, 30_000), "pixels"),
        (cnn_files.png_claiming(10_000, 6_000), "more than the limit of 50 million"),
        (cnn_files.png_claiming(2**31 - 1, 2**31 - 1), "x"),
        (cnn_files.png_claiming(0, 5), "x"),
    ],
    ids=["empty", "html", "cut short", "JPEG cut short", "TIFF cut short", "bomb", "small bomb", "huge", "no width"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_image_is_refused(tmp_path, content, says):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError) as caught:
        images.decode(DatasetFile.from_path(tmp_path / "x"), 32)
    assert str(tmp_path / "x") in str(caught.value) and says in str(caught.value)


# Vocabularies


@pytest.mark.parametrize(
    "content", ["{", "{}", "[1]", '["a", "b"]', json.dumps([*SPECIALS, "a", "a"]), json.dumps([*SPECIALS, ""])]
)
def test_a_damaged_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(UserError, match="vocabulary.json is damaged"):
        Vocabulary.load(tmp_path / "vocabulary.json")


# Weights


def weights_refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        backbone.load_trunk(str(path), path.parent)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return resnet18().state_dict()


def test_weights_that_do_not_fit_are_refused(tmp_path, state):
    assert "there is no such file; expected imagenet, none, or the path" in weights_refusal(tmp_path / "nothing")
    torch.save({**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    assert "conv1.weight: (64, 1, 7, 7), expected (64, 3, 7, 7)" in weights_refusal(tmp_path / "grey.pth")


# The command


def refused_by_command(capsys, *argv: str) -> str:
    """Runs the command, which has to end with status 2 and one line; returns the line."""
    with pytest.raises(SystemExit) as exit_status:
        cli.run_command(lambda: features.main([*argv, *ON_CPU]))
    error = capsys.readouterr().err
    assert exit_status.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--dataset", "coco"], "--dataset"),
        (["--image_size", "100"], "--image_size: expected a multiple of 32 from 32 to 1024, got '100'"),
        (["--image_size", "4096"], "got '4096'"),
        (["--image_size", "²24"], "got '²24'"),
        (["--views", "3"], "--views"),
        (["--seed", "-1"], "--seed"),
        (["--dataset_dir", "nothing"], "nothing does not exist"),
    ],
)
def test_wrong_flags_are_refused(capsys, flags, says):
    assert says in refused_by_command(capsys, *flags)


def test_a_results_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    caption_files.write_json(tmp_path / "tiny")
    flags = ["--dataset_dir", str(tmp_path / "tiny"), "--weights", "none", "--image_size", "32"]
    message = refused_by_command(capsys, *flags, "--results_dir", str(tmp_path / "file"))
    assert "cannot write to" in message and "--results_dir" in message


def test_weights_that_make_no_numbers_are_refused(tmp_path, capsys, state):
    caption_files.write_json(tmp_path / "tiny")
    path = tmp_path / "weights.safetensors"
    save_file({**state, "layer4.1.bn2.weight": torch.full((512,), 1e30)}, path)  # too much for float16
    flags = ["--dataset_dir", str(tmp_path / "tiny"), "--weights", str(path), "--image_size", "32"]
    message = refused_by_command(capsys, *flags, "--results_dir", str(tmp_path / "results"))
    assert "features of the batch that starts with 0.tif are not finite" in message


def test_a_full_disk_is_said_and_costs_nothing_that_was_done(tmp_path, capsys, monkeypatch):
    caption_files.write_json(tmp_path / "tiny")
    flags = ["--dataset_dir", str(tmp_path / "tiny"), "--weights", "none", "--image_size", "32"]
    flags += ["--results_dir", str(tmp_path / "results")]
    monkeypatch.setattr(feature_store, "_BATCH", 2)
    append, keys = feature_cache.FeatureCache.append, []

    def fill_up(self, key, rows):
        keys.append(key)
        with self._open_rows():
            if len(keys) == 4:
                raise OSError(28, os.strerror(28))
        append(self, key, rows)

    monkeypatch.setattr(feature_cache.FeatureCache, "append", fill_up)
    assert "rows.bin: No space left on device; free disk space" in refused_by_command(capsys, *flags)
    features.main([*flags, *ON_CPU])
    assert len(set(keys)) == 6 and keys[3] == keys[4]  # what was written before counts


def test_a_wrong_flag_is_answered_before_torch_is_imported():
    code = (
        "import sys; from hw_caption import features\n"
        "try: features.main(['--views', '3'])\n"
        "except Exception as error: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
