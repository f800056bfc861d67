"""Feature maps: the outputs of every convolution and pooling layer (convnets-2024-a2, Task 3.3)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hw_cnn.data import Split, to_input
from hw_cnn.finished import Finished
from hw_cnn.models import convolutions, sheet_name
from hw_common.runs import figures, image_grids

_BLANK = np.full((1, 1), np.nan)
NamedMaps = list[tuple[str, Tensor]]  # name of the layer, output (B, channels, height, width)


def collect_maps(model: nn.Module, images: Tensor) -> NamedMaps:
    """Returns the name and output of every convolution and pooling layer, in order of computation.

    The output of a convolution is taken before its ReLU, so that negative values can be seen. `model` is one of the
    sheets' networks in eval mode, `images` its input, (B, C, H, W) float. A layer that is used twice appears twice.
    """
    outputs: NamedMaps = []
    names: dict[nn.Module, str] = {module: name for name, module in convolutions(model).items()}
    names |= {module: sheet_name(path) for path, module in model.named_modules() if isinstance(module, nn.MaxPool2d)}
    hooks = [
        module.register_forward_hook(lambda layer, inputs, output: outputs.append((names[layer], output)))
        for module in names
    ]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def scale_to_unit(values: Tensor) -> Tensor:
    """Scales `values` linearly to [0, 1]; returns zeros if all values are equal."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def draw_feature_maps(finished: Finished, test: Split, *, seed: int, images: int = 3, channels: int = 5) -> list[Path]:
    """Draws the first `channels` feature maps of every layer, each scaled to [0, 1], two layers per row.

    The inputs are `images` random test images, drawn with `seed`. Returns the paths of the figure in the run's folder.
    """
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:images]
    maps = collect_maps(finished.model, to_input(test.images[chosen], finished.network))
    columns = 1 + 2 * (1 + channels)  # the image, then a gap and the maps of each layer
    cells: list[np.ndarray] = []
    titles: list[str] = []
    rows: list[str] = []
    for i, index in enumerate(chosen.tolist()):
        for pair in (maps[first : first + 2] for first in range(0, len(maps), 2)):
            row = [to_rgb(test.images[index])]
            for _, output in pair:
                row += [_BLANK, *(scale_to_unit(channel).numpy() for channel in output[i, :channels])]
            cells += row + [_BLANK] * (columns - len(row))
            titles += [finished.classes[int(test.labels[index])]] + [""] * (columns - 1)
            rows.append(",\n".join(layer for layer, _ in pair))
    figure = image_grids.image_grid(
        cells,
        columns=columns,
        title=f"feature maps of channels 0 to {channels - 1}, each scaled to [0, 1]\n{finished.title}",
        titles=titles,
        row_labels=rows,
        colours=figures.HEAT,
    )
    return finished.add_figure("feature_maps", figure)


def to_rgb(image: Tensor) -> np.ndarray:
    """Turns an image (C, H, W) uint8, grey or RGB, into RGB (H, W, 3), so that figures draw grey images in grey."""
    return image.permute(1, 2, 0).expand(-1, -1, 3).numpy()
