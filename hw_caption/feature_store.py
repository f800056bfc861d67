"""What is known of a data set's images: features computed once with the frozen encoder, or pixels for training it."""

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from hw_caption import backbone
from hw_caption.feature_file import FeatureFile
from hw_caption.images import VIEWS, decode_all, decode_bytes, turn
from hw_caption.models import Encoder
from hw_common import files
from hw_common.errors import Stopped, UserError, signal_of
from hw_common.images import in_parallel
from hw_common.source_files import SourceFile

HOMEWORK = "hw_caption"
_BATCH = 16  # images through the encoder at once; more are no faster on a CPU
_SAVE_EVERY = 2.0  # seconds: what a kill can cost


class FeatureStore:
    """The features of images, memory-mapped; what is asked for is read.

    Attributes:
        folder: where they are; those of other views are in folders beside it.
        grid: rows and columns of the regions.
        views: 8 if features of the flipped and rotated images are there too, else 1.
        hashes: of the images and of the encoder, for config.json.
    """

    def __init__(
        self,
        folder: Path,
        arrays: Sequence[np.ndarray],
        names: Sequence[str],
        grid: tuple[int, int],
        hashes: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self._arrays = arrays
        self._rows = {name: row for row, name in enumerate(names)}
        self.grid = grid
        self.views = len(arrays)
        self.hashes = dict(hashes)

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Features (B, regions, 512) float32 of the images `names`.

        Args:
            names: of images, each as often as it is needed.
            views: which symmetry of the square each is seen in (see `images.turn`); as they are by default.
        """
        views = views or [0] * len(names)
        chosen = [self._arrays[view][self._rows[name]] for name, view in zip(names, views, strict=True)]
        return torch.from_numpy(np.stack(chosen)).float()


class Pixels:
    """The images themselves, decoded into memory (150 kB each), for training the encoder.

    Attributes:
        views: all symmetries of the square can be asked for.
    """

    views = VIEWS

    def __init__(self, images: Sequence[SourceFile], size: int) -> None:
        self._pixels = decode_all(images, size, "reading images")
        self._rows = {image.name: row for row, image in enumerate(images)}

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """Images (B, 3, size, size) float32, normalized for the encoder; arguments as of `FeatureStore.take`."""
        views = views or [0] * len(names)
        chosen = [turn(self._pixels[self._rows[name]], view) for name, view in zip(names, views, strict=True)]
        return backbone.to_input(np.stack(chosen))


def ensure(
    images: Sequence[SourceFile],
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
    """Opens the features of `images`, after computing those that are missing or stale.

    On a CPU, the same images, weights and preprocessing give the same bits, in whatever batches they were computed.

    Args:
        images: in the order of the rows.
        label: short name of the data set.
        weights: as of `backbone.load_trunk`.
        results_dir: features go to `results_dir/hw_caption/features/<label>-<weights>-<size>`.
        data_dir: where downloaded weights are kept.
        size: images are resized to size×size pixels, which makes (size/32)² regions.
        views: 1, or 8 for all flips and rotations (one folder each).
        seed: of the weights "none".
        device: where to compute.

    Raises:
        UserError: an image or the weights cannot be read, or the folder cannot be written.
        Stopped: on SIGINT or SIGTERM, after saving.
    """
    device = device or torch.device("cpu")
    encoder = Encoder(backbone.load_trunk(weights, data_dir, seed).to(device))
    wanted = dict(zip((i.name for i in images), in_parallel(_sha256, images), strict=True))
    digest = backbone.weights_sha256(encoder.trunk)
    home = results_dir / HOMEWORK / "features" / f"{label}-{_weights_label(weights, seed)}-{size}"
    side = -(-size // backbone.STRIDE)
    arrays = []
    for view in range(views):
        folder = home.with_name(f"{home.name}-view{view}") if view else home
        file = FeatureFile(folder, _recipe(digest, size, view), (side**2, backbone.REGION_SIZE))
        with _locked(folder):
            file.prepare(wanted)
            missing = set(file.missing)
            if missing:
                _compute(file, [image for image in images if image.name in missing], encoder, size, view)
            arrays.append(file.array())
    together = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
    return FeatureStore(home, arrays, list(wanted), (side, side), {"images": together, "encoder": digest})


def _sha256(image: SourceFile) -> str:
    return hashlib.sha256(image.read()).hexdigest()


def _weights_label(weights: str, seed: int) -> str:
    if weights == "none":
        return f"none{seed}"
    return re.sub(r"[^\w.+]+", "_", Path(weights).stem)[:60]


def _recipe(encoder_sha256: str, size: int, view: int) -> dict[str, Any]:
    """All that decides what the features are, but the images."""
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


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While inside, no other process writes `folder`; waits for one that does."""
    lock = FileLock(folder / ".lock")  # an OS lock: it dies with its process
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"{folder}: waiting for another process that computes these features", flush=True)
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --results_dir") from error
    try:
        files.remove_stale(folder)
        yield
    finally:
        lock.release()


def _compute(file: FeatureFile, images: Sequence[SourceFile], encoder: Encoder, size: int, view: int) -> None:
    """Computes and writes the features of `images`: while the network has a batch, the next ones are decoded."""
    device = next(encoder.parameters()).device

    def read(image: SourceFile) -> tuple[str, str, np.ndarray]:
        content = image.read()
        return image.name, hashlib.sha256(content).hexdigest(), turn(decode_bytes(content, image.where, size), view)

    started = saved = time.monotonic()
    done = 0  # the bar does not count where it is not shown
    decoded = in_parallel(read, images, ahead=2 * _BATCH)
    bar = tqdm(desc=f"features of {file.folder.name}", total=len(images), leave=False, unit="image", disable=None)
    try:
        with contextlib.closing(decoded), bar, torch.inference_mode():
            while batch := list(itertools.islice(decoded, _BATCH)):
                names, digests, pixels = zip(*batch, strict=True)
                features = encoder(backbone.to_input(np.stack(pixels)).to(device)).half()
                if not features.isfinite().all():
                    raise UserError(
                        f"the features of {names[0]} and others are not finite; these weights are of no use"
                    )
                file.write(names, digests, features.cpu().numpy())
                bar.update(len(names))
                done += len(names)
                if time.monotonic() - saved > _SAVE_EVERY:
                    file.commit()
                    saved = time.monotonic()
    except KeyboardInterrupt as interrupt:
        what = f"stopped after {done} of {len(images)} images; saved, and the same command goes on"
        raise Stopped(signal_of(interrupt), what) from None
    finally:
        file.commit()
    seconds = time.monotonic() - started
    print(f"{file.folder}: features of {len(images)} images in {seconds:.1f} s ({len(images) / seconds:.0f} a second)")
