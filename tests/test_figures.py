"""Figures: whole files, the same bytes for the same figure, and what they show is what they were given."""

import numpy as np
from PIL import Image

from hw_common import figures

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


def test_curves_draws_the_spread_as_a_band():
    spread = {"loss": {"training loss": ([1, 2, 3], [0.5, 0.5, 0.5])}}
    [axes] = figures.curves({"loss": SERIES}, "epoch", "sample", spread).axes
    [band] = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.5, 3.5)


def test_image_grid_shows_each_image_and_leaves_the_rest_empty():
    images = [np.full((2, 2), 0.5), np.zeros((2, 2, 3), dtype=np.uint8), np.eye(2)]
    figure = figures.image_grid(images, 2, title="sample", titles=["a", "b", "c"], row_labels=["first", "second"])
    shown = [axes.images[0].get_array().tolist() if axes.images else None for axes in figure.axes]
    assert shown == [image.tolist() for image in images] + [None]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["first", "", "second", ""]


def test_heatmap_grid_has_one_scale_for_all_maps():
    figure = figures.heatmap_grid([np.eye(2), 3 * np.eye(2)], 2, title="sample", colour_bar="weight")
    *maps, bar = figure.axes
    assert [axes.images[0].get_clim() for axes in maps] == [(0, 3), (0, 3)]
    assert bar.get_ylabel() == "weight"
    [axes] = figures.heatmap_grid([np.eye(2)], 1, title="sample", limits=(-2, 2)).axes
    assert axes.images[0].get_clim() == (-2, 2)


def test_heatmap_grid_of_a_constant_map_can_be_drawn(tmp_path):
    figure = figures.heatmap_grid([np.zeros((2, 2))], 1, title="sample", colour_bar="weight")
    assert all(path.stat().st_size > 0 for path in figures.save(figure, tmp_path, "constant"))
