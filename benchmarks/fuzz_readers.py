"""The readers of untrusted files that `fuzz.py` tests, with small valid files for each."""

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import asr_files
import caption_files
import cnn_files
import numpy as np
import numpy_files
import ocr_files
import picture_files
import safetensors.torch
import soundfile
import torch
import transfer_files
from fuzz_files import (
    Seed,
    npy,
    npz,
    npz_with_member,
    pickle_of,
    png_with_checksums,
    tar,
    tar_gz_with_checksums,
    tar_with_checksums,
    unchanged,
    zipped,
)
from torch import nn

from hw_asr import audio
from hw_asr import readers as speech
from hw_cnn import readers as cnn_readers
from hw_common.data import captioned_images, class_folders, idx, images
from hw_common.runs import checkpoints
from hw_common.training import pretrained
from hw_numpy import coco_files, coco_utils
from hw_ocr import readers as letters


@dataclass(frozen=True)
class Reader:
    """A reader of files: `read` reads a file, given an empty folder for it, its name and its content."""

    seeds: Callable[[], Sequence[Seed]]
    read: Callable[[Path, str, bytes], object]


def _place(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Pictures and sound


def _pictures() -> list[Seed]:
    pictures = {f"{name.replace(' ', '_')}.img": picture.content for name, picture in picture_files.FORMATS.items()}
    valid_sums = [
        Seed(name, content, png_with_checksums) for name, content in pictures.items() if name.startswith("png")
    ]
    return [*(Seed(name, content) for name, content in pictures.items()), *valid_sums]


def _read_picture(folder: Path, name: str, content: bytes) -> None:
    images.decode(content, name).load()


def _sounds() -> list[Seed]:
    forms = [
        *(("WAV", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610")),
        *(("RF64", None), ("W64", None), ("AIFF", None), ("AU", None), ("CAF", None), ("FLAC", None)),
        *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("NIST", None)),
    ]
    seeds = []
    for kind, subtype in forms:
        if kind in soundfile.available_formats() and (subtype is None or soundfile.check_format(kind, subtype)):
            rate = 48_000 if subtype == "OPUS" else asr_files.RATE
            content = asr_files.encoded(asr_files.sound(seconds=0.2, rate=rate), rate, kind, subtype)
            seeds.append(Seed(f"{kind}_{subtype}.wav", content))
    return seeds


def _read_sound(folder: Path, name: str, content: bytes) -> None:
    samples, rate = audio.decode(content, name, note=lambda line: None)
    audio.resample(samples, rate, 22_050)


# Texts


def _captions() -> list[Seed]:
    lines = [f'{n}.tif,"{text}"' for n in range(6) for text in caption_files.CAPTIONS]
    return [
        Seed("dataset.json", json.dumps(caption_files.description()).encode()),
        Seed("captions.txt", "\n".join(["image,caption", *lines]).encode()),
        Seed("captions.txt", "\r\n".join(line.replace('"', "") for line in lines).encode()),
    ]


def _read_captions(folder: Path, name: str, content: bytes) -> None:
    for number in range(6):
        _place(folder / "images" / f"{number}.tif", b"")
    _place(folder / name, content)
    captioned_images.read(folder)


def _metadata() -> list[Seed]:
    return [Seed("metadata.csv", "\n".join(asr_files.rows(8)).encode())]


def _read_metadata(folder: Path, name: str, content: bytes) -> None:
    for number in range(8):
        _place(folder / "wavs" / f"clip-{number}.wav", b"")
    _place(folder / name, content)
    speech.read(folder, "name", "label")


def _letters() -> list[Seed]:
    content = ocr_files.content(ocr_files.rows())
    return [Seed("letter.data", content), Seed("letter.data.gz", content, gzip.compress),
            Seed("letter.data.gz", gzip.compress(content))]  # fmt: skip


def _read_letters(folder: Path, name: str, content: bytes) -> None:
    _place(folder / "ocr" / name, content)
    letters.READERS["ocr"](folder, 0)


# Arrays


def _npzs() -> list[Seed]:
    first = next(iter(cnn_files.npz_arrays().values()))
    return [
        Seed("octmnist.npz", npz(zipfile.ZIP_STORED)),
        Seed("octmnist.npz", npz(zipfile.ZIP_DEFLATED)),
        Seed("octmnist.npz", npy(first), npz_with_member),
    ]


def _read_npz(folder: Path, name: str, content: bytes) -> None:
    _place(folder / name, content)
    cnn_readers.READERS["octmnist"](folder)


def _idx_files() -> list[Seed]:
    arrays = cnn_files.idx_arrays()
    return [
        Seed(f"{name}{suffix}", cnn_files.idx(array), pack)
        for name, array in arrays.items()
        for suffix, pack in (("", unchanged), (".gz", gzip.compress))
    ]


def _read_idx(folder: Path, name: str, content: bytes) -> None:
    raw = folder / "MNIST" / "raw"
    for other, array in cnn_files.idx_arrays().items():
        _place(raw / other, cnn_files.idx(array))
    (raw / name.removesuffix(".gz")).unlink()
    _place(raw / name, content)
    idx.check_labels(idx.load("MNIST", folder))


def _hdf5() -> list[Seed]:
    import tempfile

    import h5py

    with tempfile.TemporaryDirectory() as name:
        folder = numpy_files.write_course_files(Path(name))
        with h5py.File(folder / "packed.h5", "w") as file:
            features = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
            file.create_dataset("features", data=features, chunks=(2, 2), compression="gzip", shuffle=True)
        return [
            Seed(coco_files.CAPTIONS, (folder / coco_files.CAPTIONS).read_bytes()),
            Seed(numpy_files.FEATURES, (folder / numpy_files.FEATURES).read_bytes()),
            Seed(numpy_files.FEATURES, (folder / "packed.h5").read_bytes()),
            Seed(coco_files.VOCABULARY, (folder / coco_files.VOCABULARY).read_bytes()),
        ]


def _read_hdf5(folder: Path, name: str, content: bytes) -> None:
    numpy_files.write_course_files(folder)
    _place(folder / name, content)
    coco_utils.load_coco_data(folder)


# Weights


def _weights() -> list[Seed]:
    tensors = nn.Linear(3, 4).state_dict()
    state = io.BytesIO()
    torch.save({**tensors, "epoch": 3}, state)
    plain = io.BytesIO()
    torch.save(tensors, plain)
    old = io.BytesIO()
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    return [
        Seed("a.safetensors", safetensors.torch.save(tensors)),
        Seed("own.safetensors", safetensors.torch.save(tensors, {"written for": '{"homework": "x"}'})),
        *(Seed("a.pth", content.getvalue()) for content in (plain, old)),
        Seed("a.pth", *pickle_of(plain.getvalue())),
        Seed("last.pt", *pickle_of(state.getvalue())),
        Seed("last.pt", state.getvalue()),
    ]


def _read_weights(folder: Path, name: str, content: bytes) -> None:
    path = _place(folder / name, content)
    if name == "last.pt":
        checkpoints.load_state(path)
    elif name == "own.safetensors":
        checkpoints.load_into(nn.Linear(3, 4), checkpoints.load_weights(path, {"homework": "x"}), path)
    elif (found := pretrained.load_pretrained(str(path), folder)) is not None:
        pretrained.load_backbone(nn.Linear(3, 4), found)


# Archives


@cache
def _members() -> Mapping[str, bytes]:
    small = {"train": 2, "val": 2}
    return transfer_files.members(small)


def _archives() -> list[Seed]:
    pictures = {f"hymenoptera_data/{name}": content for name, content in _members().items()}
    long_names = {name.replace(".png", f"é{'x' * 120}.png"): content for name, content in pictures.items()}
    captioned = {"x/dataset.json": json.dumps(caption_files.description()).encode(),
                 **{f"x/images/{n}.tif": caption_files.picture(n) for n in range(6)}}  # fmt: skip
    return [
        *(Seed("classes.zip", zipped(pictures, kind)) for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
        Seed("classes.tar", tar(pictures)),
        Seed("classes.tar", tar(long_names, tarfile.PAX_FORMAT), tar_with_checksums),
        Seed("classes.tar", tar(long_names, tarfile.GNU_FORMAT), tar_with_checksums),
        Seed("classes.tar.gz", tar(pictures), tar_gz_with_checksums),
        Seed("captions.tar", tar(captioned), tar_with_checksums),
        Seed("captions.tar.gz", tar(captioned), tar_gz_with_checksums),
        Seed("classes.tar.gz", tar(pictures), gzip.compress),
        Seed("classes.tar.gz", gzip.compress(tar(pictures))),
        Seed("captions.tar", tar(captioned)),
        Seed("captions.tar.gz", tar(captioned), gzip.compress),
        Seed("captions.tar.bz2", bz2.compress(tar(captioned))),
    ]


def _read_archive(folder: Path, name: str, content: bytes) -> None:
    path = _place(folder / name, content)
    if name.startswith("classes"):
        listed = class_folders.list_archive(path, ("train", "val"))
        for files in listed.files.values():
            for file in files:
                file.decode()
    else:
        for image in captioned_images.read(path).images:
            images.decode(image.file.read(), image.file.name)


READERS: Mapping[str, Reader] = MappingProxyType({
    "pictures": Reader(_pictures, _read_picture),
    "sound": Reader(_sounds, _read_sound),
    "captions": Reader(_captions, _read_captions),
    "metadata": Reader(_metadata, _read_metadata),
    "letters": Reader(_letters, _read_letters),
    "npz": Reader(_npzs, _read_npz),
    "idx": Reader(_idx_files, _read_idx),
    "hdf5": Reader(_hdf5, _read_hdf5),
    "weights": Reader(_weights, _read_weights),
    "archives": Reader(_archives, _read_archive),
})  # fmt: skip
