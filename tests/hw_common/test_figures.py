"""Figures: whole files, the same bytes for the same figure, and the given values."""

import re

import numpy as np
import pytest
from PIL import Image

from hw_common.runs import figures, image_grids

SERIES = {"training loss": ([1, 2, 3], [3.0, 2.0, 1.0]), "validation loss": ([1, 2, 3], [3.0, 2.5, 2.0])}


def small_figure():
    return figures.curves({"loss": SERIES, "accuracy": {"validation": ([1, 2], [0.5, 0.6])}}, "epoch", "sample")


def test_save_writes_a_whole_picture_and_page_with_the_same_bytes_each_time(tmp_path):
    paths = figures.save(small_figure(), tmp_path, "curves")
    assert [path.name for path in paths] == ["curves.png", "curves.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    Image.open(paths[0]).load()
    assert paths[1].read_bytes().startswith(b"%PDF") and paths[1].read_bytes().endswith(b"%%EOF\n")
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in figures.save(small_figure(), tmp_path, "curves")] == first


def test_curves_draws_every_line_distinguishable_in_grey():
    figure = small_figure()
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == list(SERIES)
    assert [line.get_ydata().tolist() for line in left.lines] == [y for _, y in SERIES.values()]
    assert left.get_xlabel() == "epoch" and (left.get_ylabel(), right.get_ylabel()) == ("loss", "accuracy")
    assert len({(line.get_linestyle(), line.get_marker()) for line in left.lines}) == 2
    assert left.get_legend() is not None and right.get_legend() is None
    assert figure.get_suptitle() == "sample"


def test_curves_over_seeds_draw_mean_and_standard_deviation():
    run, other = ([{"epoch": 1, "loss": a}, {"epoch": 2, "loss": b}] for a, b in ((3.0, 2.0), (1.0, 2.0)))
    [axes] = figures.curves_over_seeds({"two": [run, other], "one": [run]}, {"training loss": "loss"}, "sample").axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[2, 2], [3, 2]]
    assert axes.lines[0].get_xdata().tolist() == [1, 2] and axes.get_ylabel() == "training loss"
    [band] = axes.collections  # one run has no deviation
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2 - 2**0.5, 2 + 2**0.5))


def test_a_panel_over_seeds_can_show_several_metrics():
    run, panels = [{"epoch": 1, "cer": 0.1, "wer": 0.2}], {"error rate": {"of characters": "cer", "of words": "wer"}}
    labels = {("a",): ["of characters", "of words"]}
    labels["a", "b"] = [f"{network}, {label}" for network in "ab" for label in labels["a",]]
    for networks, expected in labels.items():
        [axes] = figures.curves_over_seeds({network: [run] for network in networks}, panels, "sample").axes
        assert [line.get_label() for line in axes.lines] == expected


def test_curves_draws_the_spread_as_a_band():
    spread = {"loss": {"training loss": ([1, 2, 3], [0.5, 0.5, 0.5])}}
    [axes] = figures.curves({"loss": SERIES}, "epoch", "sample", spread).axes
    [band] = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.5, 3.5)


def test_image_grid_shows_each_image_and_leaves_the_rest_empty():
    images = [np.full((2, 2), 0.5), np.zeros((2, 2, 3), dtype=np.uint8), np.eye(2)]
    figure = image_grids.image_grid(images, 2, title="sample", titles=["a", "b", "c"], row_labels=["first", "second"])
    shown = [axes.images[0].get_array().tolist() if axes.images else None for axes in figure.axes]
    assert shown == [image.tolist() for image in images] + [None]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["first", "", "second", ""]


def test_dollar_signs_are_no_formulas(tmp_path):
    name = "$5_or_$6"  # as a formula, it could not even be drawn
    grid = image_grids.image_grid([np.eye(2)], 1, title=name, titles=[name], row_labels=[name])
    lines = figures.curves({"loss": {"a": ([1, 2], [3, 4])}}, "epoch", name)
    for stem, figure in (("grid", grid), ("lines", lines)):
        assert len(figures.save(figure, tmp_path, stem)) == 2


def test_heatmap_grid_has_one_scale_for_all_maps():
    figure = image_grids.heatmap_grid([np.eye(2), 3 * np.eye(2)], 2, title="sample", colour_bar="weight")
    maps, bar = figure.axes
    assert [image.get_clim() for image in maps.images] == [(0, 3), (0, 3)]
    assert bar.get_ylabel() == "weight"
    [axes] = image_grids.heatmap_grid([np.eye(2)], 1, title="sample", limits=(-2, 2)).axes
    assert axes.images[0].get_clim() == (-2, 2)


def test_heatmap_grid_shows_each_map_in_its_place():
    maps = [np.full((2, 3), float(i)) for i in range(5)]
    [axes] = image_grids.heatmap_grid(maps, 3, title="sample").axes
    assert [image.get_array().tolist() for image in axes.images] == [m.tolist() for m in maps]
    boxes = [tuple(image.get_extent()) for image in axes.images]  # left, right, bottom, top; y grows downwards
    assert all(
        right - left == pytest.approx(3) and bottom - top == pytest.approx(2) for left, right, bottom, top in boxes
    )
    assert boxes[0] == (-0.5, 2.5, 1.5, -0.5)  # a single map's pixels stand at whole numbers
    assert boxes[1][0] > boxes[0][1] and boxes[3][3] > boxes[0][2] and boxes[3][0] == boxes[0][0]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert (left, top) == (-0.5, -0.5) and right == pytest.approx(boxes[2][1]) and bottom == pytest.approx(boxes[3][2])


def test_kernels_are_drawn_with_the_mean_of_their_input_channels(tmp_path, monkeypatch):
    saved = {}
    monkeypatch.setattr(figures, "save", lambda figure, folder, stem: saved.update({stem: figure}))
    weights = np.arange(24.0).reshape(2, 3, 2, 2)
    image_grids.kernels(tmp_path, "conv1", weights, "sample")
    assert saved.keys() == {"kernels-conv1-grey", "kernels-conv1-heat"}
    for figure in saved.values():
        images = figure.axes[0].images
        assert [image.get_array().tolist() for image in images] == [*weights[:, 0].tolist(), *weights.mean(1).tolist()]
        assert {image.get_clim() for image in images} == {(-19, 19)}
        assert (
            "2 kernels of conv1: input channel 0 above, mean of 3 input channels below"
            in figure.get_suptitle().replace("\n", " ")
        )
    assert [len(figure.axes) for figure in saved.values()] == [1, 2]  # the heat map has a colour bar
    image_grids.kernels(tmp_path, "conv1", weights[:, :1], "sample")
    assert len(saved["kernels-conv1-grey"].axes[0].images) == 2


def test_heatmap_grid_of_a_constant_map_can_be_drawn(tmp_path):
    figure = image_grids.heatmap_grid([np.zeros((2, 2))], 1, title="sample", colour_bar="weight")
    assert all(path.stat().st_size > 0 for path in figures.save(figure, tmp_path, "constant"))


@pytest.mark.parametrize(
    "width, size, message", [(7.0, 9, "wider than a page"), (4.0, 5, "too small to read: ['tiny']")]
)
def test_figures_that_a_report_cannot_show_readably_are_refused(tmp_path, width, size, message):
    figure = figures.new_figure(4, 2, "")
    figure.set_figwidth(width)
    figure.text(0, 0, "tiny", fontsize=size)
    with pytest.raises(AssertionError, match=re.escape(message)):
        figures.save(figure, tmp_path, "figure")
