"""Grad-CAM: the image regions that raise the score of the predicted class (convnets-2024-a2, Task 3.4)."""

from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor

from hw_cnn.data import Split, to_input
from hw_cnn.feature_maps import to_rgb
from hw_cnn.finished import Finished
from hw_cnn.models import SheetCNN, convolutions
from hw_common.runs import image_grids


def grad_cam(model: SheetCNN, images: Tensor, classes: Tensor) -> np.ndarray:
    """Computes the Grad-CAM maps of the last convolution (Selvaraju et al. 2017).

    The weight of a channel is the gradient of the class score (before the softmax) with respect to that channel of the
    convolution's output, averaged over the pixels. The map is the ReLU of the weighted sum of the channels, enlarged
    to the size of the images.

    Args:
        model: trained network.
        images: input of the network, (B, C, H, W) float.
        classes: class whose score is explained for each image, (B,) int64.

    Returns:
        The maps, (B, H, W) float, not negative.
    """
    if len(images) == 0:
        return np.empty((0, *images.shape[2:]))
    last = list(convolutions(model).values())[-1]
    maps = LayerGradCam(model.scores, last).attribute(images, target=classes, relu_attributions=True)
    maps = LayerAttribution.interpolate(maps.detach(), tuple(images.shape[2:]), "bilinear")
    return maps[:, 0].clamp_(min=0).numpy()


def draw_grad_cam(finished: Finished, test: Split, *, seed: int, each: int = 10) -> list[Path]:
    """Draws the Grad-CAM maps of the predicted classes for up to `each` right and up to `each` wrong predictions.

    The predictions are chosen at random from `test` with `seed`, as evenly over the true classes as possible. Returns
    the paths of the new files in the run's folder: the figure, and grad_cam.json, which lists the images.
    """
    probabilities = finished.probabilities(test.images)
    predicted = probabilities.argmax(1)
    cells: list[np.ndarray] = []
    titles: list[str] = []
    records: list[dict[str, Any]] = []
    for kind, indices in _choose(predicted == test.labels, test.labels, each, seed).items():
        maps = grad_cam(finished.model, to_input(test.images[indices], finished.network), predicted[indices])
        for index, heat in zip(indices, maps, strict=True):
            true, guess = finished.classes[int(test.labels[index])], finished.classes[int(predicted[index])]
            probability = probabilities[index, predicted[index]].item()
            empty = bool((heat == 0).all())
            cells += [to_rgb(test.images[index]), overlay(test.images[index], heat)]
            titles += [f"{kind}:\n{true}", f"{probability:.2f}{', zero map' if empty else ''}\n{guess}"]
            records.append({"image": index, "kind": kind, "true": true, "predicted": guess,
                            "probability": probability, "map_is_zero": empty})  # fmt: skip
    layer = list(convolutions(finished.model))[-1]
    title = f"Grad-CAM of {layer}: image with true class, map with probability and predicted class\n{finished.title}"
    figure = image_grids.image_grid(cells, 10, title=title, titles=titles)
    return finished.add_figure("grad_cam", figure, {"layer": layer, "images": records})


def _choose(is_right: Tensor, labels: Tensor, each: int, seed: int) -> dict[str, list[int]]:
    """Returns the positions of up to `each` right and up to `each` wrong predictions, chosen at random.

    The true classes occur equally often if there are enough such predictions of each class.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, list[int]] = {}
    for kind, found in (("right", is_right), ("wrong", ~is_right)):
        candidates = torch.nonzero(found).flatten()
        seen: Counter[int] = Counter()  # candidates of each class so far
        numbered: list[tuple[int, int]] = []  # (number within its class, position) of each candidate
        for position in candidates[torch.randperm(len(candidates), generator=generator)].tolist():
            label = int(labels[position])
            numbered.append((seen[label], position))
            seen[label] += 1
        chosen[kind] = [position for _, position in sorted(numbered, key=lambda pair: pair[0])[:each]]
        if len(chosen[kind]) < each:
            print(f"only {len(chosen[kind])} of the test images are classified {kind}")
    return chosen


def overlay(image: Tensor, heat: np.ndarray) -> np.ndarray:
    """Lays the map's colours over the grey image; returns only the grey image if the map is zero everywhere."""
    grey = np.repeat(to_rgb(image).mean(axis=2, keepdims=True), 3, axis=2) / 255
    if not heat.any():
        return grey
    strength = (heat / heat.max())[:, :, None]
    colours = mpl.colormaps["inferno"](strength[:, :, 0])[:, :, :3]
    return (1 - 0.65 * strength) * grey + 0.65 * strength * colours
