"""Feature maps, Grad-CAM and the effect of a shift, drawn for a finished run."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from hw_cnn.data import Split, to_input
from hw_cnn.finished import Finished
from hw_cnn.models import convolutions, sheet_name
from hw_common.runs import figures, files

NamedMaps = list[tuple[str, Tensor]]


def collect_maps(model: nn.Module, images: Tensor) -> NamedMaps:
    """The output of every convolution and pooling layer for `images`, in the order of computation.

    Args:
        model: any of the sheets' networks.
        images: (B, C, H, W) float.

    Returns:
        (layer's name, output (B, channels, height, width)); a layer that is used twice appears twice.
    """
    outputs: NamedMaps = []
    names = {module: name for name, module in convolutions(model).items()}
    names |= {module: sheet_name(path) for path, module in model.named_modules() if isinstance(module, nn.MaxPool2d)}
    hooks = [
        module.register_forward_hook(lambda layer, inputs, output: outputs.append((names[layer], output.detach())))
        for module in names
    ]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def feature_maps(finished: Finished, test: Split, *, seed: int, images: int = 3, channels: int = 5) -> list[Path]:
    """Task 3.3: the first channels after every convolution (before its ReLU) and pooling, each scaled to [0, 1].

    Args:
        finished: the trained network.
        test: where the images come from.
        seed: picks them.
        images: how many.
        channels: how many of each layer.

    Returns:
        The figures' paths.
    """
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    maps = collect_maps(finished.model, to_input(test.images[chosen], finished.network))
    cells: list[np.ndarray] = []
    titles: list[str] = []
    rows: list[str] = []
    for i, index in enumerate(chosen.tolist()):
        for layer, output in maps:
            shown = [scale_to_unit(channel).numpy() for channel in output[i, :channels]]
            blank = [np.full((1, 1), np.nan)] * (channels - len(shown))
            cells += [_picture(test.images[index]), *shown, *blank]
            titles += [
                finished.classes[test.labels[index]],
                *(f"channel {c}" for c in range(len(shown))),
                *([""] * len(blank)),
            ]
            rows.append(layer)
    figure = figures.image_grid(
        cells,
        columns=channels + 1,
        title=f"feature maps, each channel scaled to [0, 1]\n{finished.title}",
        titles=titles,
        row_labels=rows,
        colours=figures.HEAT,
    )
    return figures.save(figure, finished.run.folder, finished.run.free_stem("feature_maps"))


def scale_to_unit(values: Tensor) -> Tensor:
    """`values` moved and stretched to [0, 1]; all zero where they are all equal."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def _picture(image: Tensor) -> np.ndarray:
    """(C, H, W) uint8 to (H, W, 3), so that grey images stay grey beside coloured maps."""
    return image.permute(1, 2, 0).expand(-1, -1, 3).numpy()


def grad_cam(finished: Finished, test: Split, *, seed: int, each: int = 10) -> list[Path]:
    """Task 3.4: Grad-CAM for the last convolution, for `each` right and `each` wrong predictions.

    The map explains the score of the predicted class before the softmax: where raising the last convolution's output
    would raise the score (Selvaraju et al. 2017). Negative parts are cut off, as there.

    Args:
        finished: the trained network.
        test: where the images come from.
        seed: picks them.
        each: how many of either kind, as far as there are as many.

    Returns:
        Paths of the figures and of grad_cam.json, which lists the images.
    """
    probabilities = finished.probabilities(test.images)
    predicted = probabilities.argmax(1)
    generator = torch.Generator().manual_seed(seed)
    groups = {}
    for kind, found in (("right", predicted == test.labels), ("wrong", predicted != test.labels)):
        candidates = torch.nonzero(found).flatten()
        groups[kind] = candidates[torch.randperm(len(candidates), generator=generator)[:each]].tolist()
        if len(groups[kind]) < each:
            print(f"only {len(groups[kind])} of the test images are classified {kind}")
    cells: list[np.ndarray] = []
    titles: list[str] = []
    records: list[dict[str, Any]] = []
    for kind, indices in groups.items():
        for index, heat in zip(
            indices, attribution_maps(finished, test.images[indices], predicted[indices]), strict=True
        ):
            true, guess = finished.classes[test.labels[index]], finished.classes[predicted[index]]
            probability = probabilities[index, predicted[index]].item()
            empty = bool((heat == 0).all())
            cells += [_picture(test.images[index]), _overlay(test.images[index], heat)]
            titles += [f"{kind}\ntrue: {true}", f"{'zero everywhere' if empty else ''}\n{guess} {probability:.2f}"]
            records.append({"image": index, "kind": kind, "true": true, "predicted": guess,
                            "probability": probability, "map_is_zero": empty})  # fmt: skip
    folder, stem = finished.run.folder, finished.run.free_stem("grad_cam")
    layer = list(convolutions(finished.model))[-1]
    title = f"Grad-CAM of {layer}: image with true class, map with predicted class and probability\n{finished.title}"
    paths = figures.save(figures.image_grid(cells, 8, title=title, titles=titles), folder, stem)
    files.write_json(folder / f"{stem}.json", {"layer": layer, "images": records})
    return [*paths, folder / f"{stem}.json"]


def attribution_maps(finished: Finished, images: Tensor, classes: Tensor) -> np.ndarray:
    """Grad-CAM maps of the last convolution for `classes`, resized to the images: (B, H, W), not negative."""
    if len(images) == 0:
        return np.empty((0, *images.shape[2:]))
    last = list(convolutions(finished.model).values())[-1]
    explainer = LayerGradCam(finished.model.scores, last)
    maps = explainer.attribute(to_input(images, finished.network), target=classes, relu_attributions=True)
    maps = LayerAttribution.interpolate(maps.detach(), tuple(images.shape[2:]), "bilinear")
    return maps[:, 0].clamp_(min=0).numpy()


def _overlay(image: Tensor, heat: np.ndarray) -> np.ndarray:
    """The map's colours over the greyed image; the grey image alone where the map is zero everywhere."""
    grey = np.repeat(_picture(image).mean(axis=2, keepdims=True), 3, axis=2) / 255
    if not heat.any():
        return grey
    strength = (heat / heat.max())[:, :, None]
    colours = mpl.colormaps["inferno"](strength[:, :, 0])[:, :, :3]
    return (1 - 0.65 * strength) * grey + 0.65 * strength * colours


def equivariance(finished: Finished, test: Split, *, seed: int, images: int = 200) -> list[Path]:
    """ist-2021-22-hw2 Q2.1: shifts images one pixel to the right and compares the feature maps before and after.

    Two numbers for each layer (convolutions after their ReLU), both relative to the maps' norm, means over the images:
    `change`, how much the maps differ at the same place, which pooling lessens; and for the first convolution
    `change_when_shifted_along`, how much they differ once the first maps are shifted too: zero up to rounding, since a
    convolution of a shifted image is the shifted convolution. Edges are left out, where pixels enter and leave.

    Args:
        finished: the trained network.
        test: where the images come from.
        seed: picks them.
        images: how many to measure on; the first is drawn.

    Returns:
        Paths of the figures and of equivariance.json.
    """
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    pixels = test.images[chosen]
    shifted = F.pad(pixels, (1, 0))[..., :-1]
    before, after = (
        [(layer, F.relu(maps)) for layer, maps in collect_maps(finished.model, to_input(x, finished.network))]
        for x in (pixels, shifted)
    )
    rows = []
    shifts_along = convolutions(finished.model)[before[0][0]].stride in (1, (1, 1))  # the first convolution's maps
    for (layer, first), (_, second) in zip(before, after, strict=True):
        row: dict[str, Any] = {"layer": layer, "change": _relative_change(first, second)}
        if layer == before[0][0] and shifts_along:
            row["change_when_shifted_along"] = _relative_change(first[..., 2:-3], second[..., 3:-2])
        rows.append(row)
        along = row.get("change_when_shifted_along")
        print(f"{layer}: change {row['change']:.4f}" + (f", shifted along {along:.2e}" if along is not None else ""))
    folder, stem = finished.run.folder, finished.run.free_stem("equivariance")
    drawn = _draw_shift(finished, pixels[0], shifted[0], before[:2], after[:2], shifts_along)
    paths = figures.save(drawn, folder, stem)
    files.write_json(
        folder / f"{stem}.json", {"images": len(chosen), "shift": "one pixel to the right", "layers": rows}
    )
    return [*paths, folder / f"{stem}.json"]


def _relative_change(first: Tensor, second: Tensor) -> float:
    """‖second − first‖ / ‖first‖ of each image's maps, edges left out, averaged over the images."""
    first, second = first[..., 1:-1, 1:-1].flatten(1), second[..., 1:-1, 1:-1].flatten(1)
    return ((second - first).norm(dim=1) / first.norm(dim=1).clamp(min=1e-12)).mean().item()


def _draw_shift(
    finished: Finished,
    image: Tensor,
    shifted: Tensor,
    before: NamedMaps,
    after: NamedMaps,
    shifts_along: bool,
) -> Any:
    along = "difference when\nshifted along"
    pictures = [x.permute(1, 2, 0).float().mean(dim=2) for x in (image, shifted)]
    rows = [("image", *pictures)]
    for (layer, first), (_, second) in zip(before, after, strict=True):
        strongest = int(first[0].var(dim=(1, 2)).argmax())
        rows.append((f"{layer}, channel {strongest}", first[0, strongest], second[0, strongest]))
    cells: list[np.ndarray] = []
    titles: list[str] = []
    for number, (_, first, second) in enumerate(rows):
        cells += [first.numpy(), second.numpy(), _on_common_scale(second - first, first)]
        titles += ["before", "after the shift", "difference"]
        # The image, and the first convolution if its stride is 1: pooling moves in steps of two pixels.
        if number == 0 or (number == 1 and shifts_along):
            cells.append(_on_common_scale(second[:, 1:] - first[:, :-1], first))
            titles.append(along)
        else:
            cells.append(np.full((1, 1), np.nan))
            titles.append("")
    return figures.image_grid(
        cells,
        columns=4,
        title=f"a shift by one pixel to the right\n{finished.title}",
        titles=titles,
        row_labels=[label for label, _, _ in rows],
        colours=figures.HEAT,
        cell=1.6,
    )


def _on_common_scale(difference: Tensor, values: Tensor) -> np.ndarray:
    """Colours (H, W, 3) for a difference: purple and orange at the span of `values`, white at zero."""
    span = float(values.max() - values.min()) or 1.0
    return mpl.colormaps[figures.SIGNED]((difference / span / 2 + 0.5).clamp(0, 1).numpy())[:, :, :3]
