"""Sydney and Flickr8k: downloads from a server on loopback, after an interruption too; deleted images are restored."""

import hashlib
import io
import re
import shutil
import zipfile

import caption_files
import file_server
import pytest

from hw_caption import data, feature_store, fetch, train
from hw_common.data import transfer
from hw_common.data.transfer import Download
from hw_common.runs.errors import UserError


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a tiny Sydney, whose table of files takes the place of the published one."""
    folder = caption_files.write_json(tmp_path / "original")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
    monkeypatch.setattr(transfer, "_DELAY", 0)
    with file_server.serve({f"/owner/repository/commit/raw/{name}": files[name] for name in files}) as server:
        address = f"{server.url}/owner/repository/commit/raw"
        rows = [f"{name} {len(files[name])} {hashlib.sha256(files[name]).hexdigest()}" for name in files]
        (tmp_path / "files.txt").write_text("\n".join(["# a comment", address, *rows]))
        monkeypatch.setattr(fetch, "_SYDNEY_FILES", tmp_path / "files.txt")
        yield server


def test_the_published_table_names_every_file():
    address, files = fetch._sydney_files(fetch._SYDNEY_FILES)
    assert re.fullmatch(r"https://raw.githubusercontent.com/[\w-]+/[\w-]+/[0-9a-f]{40}/[\w/]+", address)
    assert set(files) == {"dataset.json", *(f"images/{n}.tif" for n in range(1, 614))}
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files.values())
    assert sum(file.size for file in files.values()) == 462_513_892
    assert fetch._page(address).startswith("https://github.com/seeeerju/Deep-Learning/tree/b3656f8c")


def test_the_headline_command_downloads_sydney(tmp_path, server, undrawn, capsys):
    flags = ["--data_dir", str(tmp_path / "data"), "--results_dir", str(tmp_path / "results"), "--weights", "none"]
    flags += ["--use_attention", "--image_size", "32", "--epochs", "1", "--threads", "1", "--device", "cpu"]
    train.main(flags)
    assert len(server.requests) == 7 and [path.name for path in (tmp_path / "data").iterdir()] == ["sydney_captions"]
    output = capsys.readouterr().out
    assert "downloading 7 files" in output and "you may delete" in output and output.count("features of 6 images") == 1
    shutil.rmtree(tmp_path / "data" / "sydney_captions" / "images")
    train.main([*flags, "--name", "again", "--show", "4.tif"])
    assert [path for path, _ in server.requests[7:]] == ["/owner/repository/commit/raw/images/4.tif"]
    assert "features of" not in capsys.readouterr().out
    first, second = (tmp_path / "results" / "hw_caption" / name for name in ("sydney-attention-plain", "again"))
    assert (first / "best.safetensors").read_bytes() == (second / "best.safetensors").read_bytes()


def test_an_interrupted_download_continues(tmp_path, server):
    lost = server.files.pop("/owner/repository/commit/raw/images/5.tif")
    with pytest.raises(
        UserError,
        match=r"5.tif is missing .*404.*continues the download; fetch https://github.com/owner/repository/tree",
    ):
        data.load("sydney", tmp_path)
    assert not (tmp_path / "sydney_captions").exists()
    complete = len(list((tmp_path / "sydney_captions.part").rglob("*.*")))
    server.files["/owner/repository/commit/raw/images/5.tif"] = lost
    server.requests.clear()
    assert len(data.load("sydney", tmp_path).images) == 6
    assert complete and len(server.requests) == 7 - complete


def test_deleted_images_are_downloaded_again_at_once(tmp_path, server, capsys):
    hashes = feature_store.hash_images(data.load("sydney", tmp_path).images)
    shutil.rmtree(tmp_path / "sydney_captions" / "images")
    again = data.load("sydney", tmp_path)
    assert feature_store.hash_images(again.images) == hashes
    capsys.readouterr()
    feature_store.Pixels(again.images, 32)
    assert capsys.readouterr().out.count("downloading 6 files") == 1
    shutil.rmtree(tmp_path / "sydney_captions" / "images")
    server.files.clear()
    with pytest.raises(UserError, match="404.*; this image was deleted; fetch https://github.com/owner"):
        again.images[0].read()


def test_folders_and_archives_at_hand_are_not_downloaded(tmp_path, server):
    caption_files.write_json(tmp_path / "a" / "Sydney_captions")
    packed = caption_files.write_json(tmp_path / "sydney_captions")
    (tmp_path / "b").mkdir()
    caption_files.pack(packed, tmp_path / "b" / "sydney_captions.tar")
    assert len(data.load("sydney", tmp_path / "a").images) == len(data.load("sydney", tmp_path / "b").images) == 6
    assert server.requests == []


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_flickr8k_gets_its_published_splits(tmp_path, server, monkeypatch):
    lines = [f"{n}.jpg#{i}\t{text}" for n in range(5) for i, text in enumerate(("A dog .", ".", "Two dogs run ."))]
    texts = {
        "Flickr8k.token.txt": "\n".join(lines),
        "Flickr_8k.trainImages.txt": "0.jpg\n1.jpg\n",
        "Flickr_8k.devImages.txt": "2.jpg\n",
        "Flickr_8k.testImages.txt": "3.jpg\n",
        "__MACOSX/._Flickr8k.token.txt": "\x00",
    }
    pictures = {f"Flicker8k_Dataset/{n}.jpg": caption_files.picture(n) for n in range(5)}
    pictures["__MACOSX/Flicker8k_Dataset/._0.jpg"] = pictures["__MACOSX/Flicker8k_Dataset/0.jpg"] = b"no picture"
    for name, content in (("_FLICKR_TEXTS", zipped(texts)), ("_FLICKR_IMAGES", zipped(pictures))):
        published = getattr(fetch, name)
        server.files[f"/{name}"] = content
        monkeypatch.setattr(
            fetch, name, Download(published.name, [f"{server.url}/{name}"], hashlib.md5(content).hexdigest())
        )
    found = data.load("flickr", tmp_path)
    assert (found.name, found.train.names, found.val.names, found.test.names) == (
        *("Flickr8k", ["0.jpg", "1.jpg"], ["2.jpg"], ["3.jpg"]),
    )
    assert found.train.captions[0] == (("a", "dog"), ("two", "dogs", "run"))
    assert found.train.images[0].read() == caption_files.picture(0)
    assert sorted(path.name for path in (tmp_path / "flickr8k").iterdir()) == ["dataset.json", "images"]
