"""The same picture gives the same pixels in every homework, whatever format it has and however it gets there."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from picture_files import COLOUR, FORMATS, encoded

import hw_caption.images
import hw_cnn.images
import hw_ocr.images
import hw_transfer.images
from hw_common.data import class_folders, dataset_files
from hw_common.data.class_folders import ImageFile
from hw_common.data.dataset_files import DatasetFile
from hw_numpy.image_utils import image_from_url

SIZE = 8


def in_class_archive(path, tmp_path):
    """The file as a member of a zip archive with class folders."""
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"data/train/{name}/picture", path.read_bytes())
    return class_folders.list_archive(tmp_path / "data.zip", ["train"]).files["train"][1]


def in_captions_archive(path, tmp_path):
    """The file as a member of a compressed tar archive with captions."""
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        for name, content in (("captions.txt", b""), ("picture", path.read_bytes())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return dataset_files.file_finder(tmp_path / "data.tar.gz", ("captions.txt",))("picture")


WAYS = {
    "hw_cnn": lambda path, folder: hw_cnn.images.decode(ImageFile("picture", path), 3, SIZE),
    "hw_cnn, archive": lambda path, folder: hw_cnn.images.decode(in_class_archive(path, folder), 3, SIZE),
    "hw_transfer": lambda path, folder: hw_transfer.images.decode(ImageFile("picture", path)),
    "hw_transfer, archive": lambda path, folder: hw_transfer.images.decode(in_class_archive(path, folder)),
    "hw_caption": lambda path, folder: hw_caption.images.decode(DatasetFile.from_path(path), SIZE),
    "hw_caption, archive": lambda path, folder: hw_caption.images.decode(in_captions_archive(path, folder), SIZE),
    "hw_numpy": lambda path, folder: image_from_url(path.name, folder),
}


@pytest.mark.parametrize("name", FORMATS)
def test_all_homeworks_see_the_same_pixels(tmp_path, name):
    picture, path = FORMATS[name], tmp_path / "picture"
    path.write_bytes(picture.content)
    seen = {way: decode(path, tmp_path) for way, decode in WAYS.items()}
    for way, pixels in seen.items():
        assert pixels.shape == (SIZE, SIZE, 3), way
        assert np.abs(pixels.astype(int) - picture.rgb).max() <= picture.tolerance, way
        assert np.array_equal(pixels, seen["hw_cnn"]), way
    grey = hw_cnn.images.decode(ImageFile("picture", path), 1, SIZE)[:, :, 0]
    (tmp_path / "plain").write_bytes(encoded(seen["hw_cnn"], "PNG"))
    assert np.array_equal(grey, hw_cnn.images.decode(ImageFile("plain", tmp_path / "plain"), 1, SIZE)[:, :, 0])
    letters = hw_ocr.images.read_letters(path)
    assert np.array_equal(letters, hw_ocr.images.read_letters(tmp_path / "plain"))


def test_the_table_shows_a_picture_without_symmetry():
    turns = [np.rot90(turned, k).tobytes() for turned in (COLOUR, COLOUR[:, ::-1]) for k in range(4)]
    assert len(set(turns)) == 8
