"""A captioner's inputs: image features computed once with the frozen encoder, or pixels for training the encoder."""

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hw_caption import backbone
from hw_caption.images import VIEWS, decode_all, decode_bytes, turn
from hw_caption.models import Encoder
from hw_caption.presets import HOMEWORK
from hw_common.data.dataset_files import DatasetFile
from hw_common.data.feature_cache import FeatureCache
from hw_common.data.thread_map import thread_map
from hw_common.runs.errors import Stopped, UserError, signal_of

_BATCH = 16  # images that the encoder takes at once; larger batches are not faster on a CPU


class FeatureStore:
    """The features of images in memory-mapped files.

    Attributes:
        folder: folder of the features; the features of flipped and rotated images are in folders beside it.
        grid: rows and columns of the regions.
        views: 8 if features of flipped and rotated images are available, else 1.
        hashes: hashes of images and encoder, for config.json.
    """

    def __init__(
        self, caches: Sequence[FeatureCache], keys: Mapping[str, str], grid: tuple[int, int], hashes: Mapping[str, str]
    ) -> None:
        self.folder = caches[0].folder
        self._caches = caches
        self._keys = keys  # image name -> hash of the image, which is its key in the caches
        self.grid = grid
        self.views = len(caches)
        self.hashes = dict(hashes)

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Features (B, regions, 512) float32 of the images `names`.

        Args:
            names: names of the images, which may repeat.
            views: the view of each image (see `images.turn`); by default 0, the image itself.
        """
        views = views or [0] * len(names)
        chosen = [self._caches[view].take(self._keys[name]) for name, view in zip(names, views, strict=True)]
        return torch.from_numpy(np.stack(chosen)).float()


class Pixels:
    """The images themselves, decoded into memory (150 kB each), for training the encoder.

    Attributes:
        views: number of flips and rotations that are available.
    """

    views = VIEWS

    def __init__(self, images: Sequence[DatasetFile], size: int) -> None:
        self._pixels = decode_all(images, size, "reading images")
        self._rows = {image.name: row for row, image in enumerate(images)}

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Images (B, 3, size, size) float32, normalized for the encoder; arguments as in `FeatureStore.take`."""
        views = views or [0] * len(names)
        chosen = [turn(self._pixels[self._rows[name]], view) for name, view in zip(names, views, strict=True)]
        return backbone.to_input(np.stack(chosen))


def ensure(
    images: Sequence[DatasetFile],
    label: str,
    weights: str,
    *,
    results_dir: Path,
    data_dir: Path,
    size: int = 224,
    views: int = 1,
    seed: int = 42,
    device: torch.device | None = None,
) -> FeatureStore:
    """Opens the features of `images` after computing those that are missing or outdated.

    On a CPU, the features' bits depend only on images, weights and preprocessing, and not on the batches.

    Args:
        images: the image files.
        label: short name of the data set.
        weights: the encoder's weights, see `backbone.load_trunk`.
        results_dir: features are written to `results_dir/hw_caption/features/<label>-<weights>-<size>`.
        data_dir: folder that downloaded weights are kept in.
        size: images are resized to size×size pixels, which makes (size/32)² regions.
        views: 1, or 8 for all flips and rotations (one folder each).
        seed: seed of the random weights "none".
        device: device of the encoder; the CPU by default.

    Raises:
        UserError: an image or the weights cannot be read, or the folder cannot be written.
        Stopped: on SIGINT or SIGTERM, after saving.
    """
    device = device or torch.device("cpu")
    encoder = Encoder(backbone.load_trunk(weights, data_dir, seed).to(device))
    keys, hash_of_all = hash_images(images)
    by_key = {key: image for image, key in zip(images, keys.values(), strict=True)}  # without repeated images
    digest = backbone.weights_sha256(encoder.trunk)
    home = results_dir / HOMEWORK / "features" / f"{label}-{_weights_label(weights, seed)}-{size}"
    side = -(-size // backbone.STRIDE)
    caches = []
    for view in range(views):
        folder = home.with_name(f"{home.name}-view{view}") if view else home
        cache = FeatureCache(folder, _recipe(digest, size, view), backbone.REGION_SIZE)
        with cache.locked():
            missing = {key: image for key, image in by_key.items() if not cache.holds(key)}
            if damaged := len(cache.damaged):
                print(f"{folder}: the features of {damaged} images are damaged; they are computed again")
            if missing:
                _compute(cache, missing, encoder, size, view)
        caches.append(cache)
    return FeatureStore(caches, keys, (side, side), {"images": hash_of_all, "encoder": digest})


def hash_images(images: Sequence[DatasetFile]) -> tuple[dict[str, str], str]:
    """The SHA-256 of each image file by name, and one hash of all of them."""
    hashes = dict(zip((image.name for image in images), thread_map(_sha256, images), strict=True))
    return hashes, hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _sha256(image: DatasetFile) -> str:
    return hashlib.sha256(image.read()).hexdigest()


def _weights_label(weights: str, seed: int) -> str:
    if weights == "none":
        return f"none{seed}"
    return re.sub(r"[^\w.+]+", "_", Path(weights).stem)[:60]


def _recipe(encoder_sha256: str, size: int, view: int) -> dict[str, Any]:
    """Everything that the features depend on, except for the images."""
    return {
        "encoder": {"network": "resnet18 without its last two layers", "sha256": encoder_sha256},
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
    """Computes and writes the features of `missing`, image files by hash; threads decode the next images meanwhile."""
    device = next(encoder.parameters()).device

    def read(key: str) -> tuple[str, np.ndarray]:
        image = missing[key]
        content = image.read()
        if hashlib.sha256(content).hexdigest() != key:
            raise UserError(f"{image.where} was changed while it was read; start again")
        return key, turn(decode_bytes(content, image.where, size), view)

    started = time.monotonic()
    done = 0  # the progress bar does not count when it is not shown
    decoded = thread_map(read, missing, ahead=2 * _BATCH)
    bar = tqdm(desc=f"features of {cache.folder.name}", total=len(missing), leave=False, unit="image", disable=None)
    try:
        with contextlib.closing(decoded), bar, torch.inference_mode():
            while batch := list(itertools.islice(decoded, _BATCH)):
                keys, pixels = zip(*batch, strict=True)
                features = encoder(backbone.to_input(np.stack(pixels)).to(device)).half()
                if not features.isfinite().all():
                    name = missing[keys[0]].name
                    raise UserError(f"the features of {name} and others are not finite; choose other --weights")
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
    print(
        f"{cache.folder}: features of {len(missing)} images in {seconds:.1f} s ({len(missing) / seconds:.0f} a second)"
    )
