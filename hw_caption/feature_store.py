"""A captioner's inputs: image features computed once with the frozen encoder, or pixels for training the encoder."""

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hw_caption import backbone, fetch
from hw_caption.images import decode_all, decode_bytes, turn
from hw_caption.models import Encoder
from hw_caption.presets import HOMEWORK
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.feature_cache import FeatureCache
from hw_common.data.images import DECODER
from hw_common.data.thread_map import thread_map
from hw_common.runs.errors import Stopped, UserError, signal_of
from hw_common.training.backbones import BACKBONES

_BATCH = 16  # images in a batch of the encoder; larger batches are not faster on a CPU


@dataclass(frozen=True)
class FeatureStore:
    """The features of images in memory-mapped files."""

    caches: Sequence[FeatureCache]  # a cache for each view, see `images.turn`; the first view is the image itself
    keys: Mapping[str, str]  # image name -> SHA-256 of the image file, which is the image's key in the caches
    hashes: dict[str, str]  # hashes of images and encoder, for config.json

    @property
    def folder(self) -> Path:
        """Folder of the features; the features of flipped and rotated images are in folders beside it."""
        return self.caches[0].folder

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Returns features, (B, regions, channels) float32; see `data.Inputs.take`."""
        pairs = zip(names, views or [0] * len(names), strict=True)
        return torch.from_numpy(np.stack([self.caches[view].take(self.keys[name]) for name, view in pairs])).float()


class Pixels:
    """The images themselves, decoded into memory (150 kB each), for training the encoder."""

    def __init__(self, images: Sequence[DatasetFile], size: int) -> None:
        fetch.restore(images)
        self._pixels = decode_all(images, size, "reading images")
        self._rows = {image.name: row for row, image in enumerate(images)}

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Returns images, (B, 3, size, size) float32, normalized for the encoder; see `data.Inputs.take`."""
        pairs = zip(names, views or [0] * len(names), strict=True)
        return backbone.to_input(np.stack([turn(self._pixels[self._rows[name]], view) for name, view in pairs]))


def ensure(
    images: Sequence[DatasetFile],
    label: str,
    weights: str,
    *,
    results_dir: Path,
    data_dir: Path,
    device: torch.device,
    size: int = 224,
    views: int = 1,
    seed: int = 42,
    network: str = "resnet18",
    keep: bool = True,
) -> FeatureStore:
    """Opens the features of `images`; missing and outdated features are computed first.

    On a CPU, the features' bits depend only on images, weights and preprocessing, and not on the batches.

    Args:
        images: the image files.
        label: short name of the data set.
        weights: the encoder's weights, see `backbone.load_trunk`.
        results_dir: features are written to `results_dir/hw_caption/features/<label>-<weights>-<size>`. If a GPU
            computes them or `network` is not ResNet-18, the folder's name says this too.
        data_dir: folder for downloaded weights.
        device: device of the encoder.
        size: height and width to which images are resized, in pixels.
        views: 1, or 8 for all flips and rotations, each in a folder of its own.
        seed: seed of the random weights "none".
        network: the encoder, a key of BACKBONES.
        keep: whether the features are written; otherwise, missing ones are computed in memory.

    Raises:
        UserError: an image or the weights cannot be read, an image changes meanwhile, its features are not finite, or
            the folder cannot be written.
        Stopped: SIGINT or SIGTERM arrived; the features computed before it are saved.
    """
    encoder = Encoder(backbone.load_trunk(weights, data_dir, seed, network).to(device))
    keys, hash_of_all = hash_images(images)
    by_key = {key: image for image, key in zip(images, keys.values(), strict=True)}  # equal images share a key
    digest = backbone.weights_sha256(encoder.trunk)
    weights_label = f"none{seed}" if weights == "none" else re.sub(r"[^\w.+]+", "_", Path(weights).stem)[:60]
    kind = "" if device.type == "cpu" else f"-{device.type}"
    encoder_label = weights_label if network == "resnet18" else f"{network}-{weights_label}"
    home = results_dir / HOMEWORK / "features" / f"{label}-{encoder_label}-{size}{kind}"
    caches = []
    for view in range(views):
        folder = home.with_name(f"{home.name}-view{view}") if view else home
        cache = FeatureCache(folder, _recipe(network, digest, size, view, device), BACKBONES[network].channels, keep)
        with cache.locked():
            missing = {key: image for key, image in by_key.items() if not cache.holds(key)}
            if damaged := len(cache.damaged):
                print(f"{folder}: the features of {damaged} images are damaged; they are computed again")
            if missing:
                _compute(cache, missing, encoder, size, view)
        caches.append(cache)
    return FeatureStore(caches, keys, {"images": hash_of_all, "encoder": digest})


def hash_images(images: Sequence[DatasetFile]) -> tuple[dict[str, str], str]:
    """Returns the SHA-256 of each image file by the image's name, and one hash of all images."""
    hashes = dict(zip((image.name for image in images), thread_map(_sha256, images), strict=True))
    return hashes, hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _sha256(image: DatasetFile) -> str:
    return image.sha256 or hashlib.sha256(image.read()).hexdigest()


def _recipe(network: str, encoder_sha256: str, size: int, view: int, device: torch.device) -> dict[str, Any]:
    """Describes everything that the features depend on, except the images."""
    layers = "its last two layers" if network == "resnet18" else "its last layers"
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "decoder": DECODER,
        "encoder": {"network": f"{network} without {layers}", "sha256": encoder_sha256},
        "preprocessing": {
            "size": [size, size],
            "resize": "Pillow, bilinear with antialiasing, proportions not kept",
            "scale": 255,
            "mean": list(backbone.PIXEL_MEAN),
            "std": list(backbone.PIXEL_STD),
            "view": view,
        },
    }


def _compute(cache: FeatureCache, missing: Mapping[str, DatasetFile], encoder: Encoder, size: int, view: int) -> None:
    """Computes and writes the features of `missing`, a map from SHA-256 to image file."""
    device = next(encoder.parameters()).device
    fetch.restore(missing.values())

    def read(key: str) -> tuple[str, np.ndarray]:
        image = missing[key]
        content = image.read()
        if hashlib.sha256(content).hexdigest() != key:
            raise UserError(f"{image.where} was changed while the features were computed; start again")
        return key, turn(decode_bytes(content, image.where, size), view)

    started = time.monotonic()
    done = 0  # counted here, because a hidden progress bar does not count
    decoded = thread_map(read, missing, ahead=2 * _BATCH)  # threads decode images while the encoder runs
    bar = tqdm(desc=f"features of {cache.folder.name}", total=len(missing), leave=False, unit="image", disable=None)
    try:
        with contextlib.closing(decoded), bar, torch.inference_mode():
            while batch := list(itertools.islice(decoded, _BATCH)):
                keys, pixels = zip(*batch, strict=True)
                features = encoder(backbone.to_input(np.stack(pixels)).to(device)).half()
                if not features.isfinite().all():
                    name = missing[keys[0]].name
                    raise UserError(
                        f"features of the batch that starts with {name} are not finite; choose other --weights"
                    )
                for key, rows in zip(keys, features.cpu().numpy(), strict=True):
                    cache.append(key, rows)
                bar.update(len(keys))
                done += len(keys)
    except KeyboardInterrupt as interrupt:
        message = f"stopped after {done} of {len(missing)} images; they are saved, and the same command continues"
        raise Stopped(signal_of(interrupt), message) from None
    finally:
        cache.commit()
    seconds = time.monotonic() - started
    rate = len(missing) / seconds
    print(f"{cache.folder}: features of {len(missing)} images in {seconds:.1f} s ({rate:.0f} per second)")
