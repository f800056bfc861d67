"""The sample: scenes are rendered reproducibly, show what their captions describe, and are read like any data set."""

import collections
import io
from pathlib import Path

import caption_files
import numpy as np
import pytest
from PIL import Image

from hw_caption import data, sample, scenes
from hw_caption.canvas import COLOURS, PICTURE, Canvas
from hw_caption.scenes import PAINTERS, Scene, render
from hw_common.runs.errors import UserError


@pytest.fixture(scope="module")
def found() -> data.CaptionData:
    return data.load("sample", Path("no such folder"))


def pixels(scene: Scene, seed: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(render(scene, seed))), dtype=int)


def test_it_has_120_images_with_five_captions_each(found):
    assert (found.name, found.label) == ("sample scenes", "sample")
    assert (len(found.train), len(found.val), len(found.test)) == (80, 20, 20)
    for split in (found.train, found.val, found.test):
        assert all(len(set(captions)) == len(captions) == 5 for captions in split.captions)
        kinds = collections.Counter(name[:-6] for name in split.names)
        assert kinds == dict.fromkeys(PAINTERS, len(split) // 10)


def test_every_word_can_be_learned(found):
    for split in (found.val, found.test):
        assert all(word in found.vocabulary for captions in split.captions for caption in captions for word in caption)


def test_it_is_the_same_each_time(found):
    sample.dataset.cache_clear()
    again = data.load("sample", Path())
    assert again is not found
    assert (again.train.captions, again.hashes) == (found.train.captions, found.hashes)
    assert [image.read() for image in again.val.images] == [image.read() for image in found.val.images]


@pytest.mark.parametrize("kind", PAINTERS)
def test_a_picture_depends_on_its_scene_and_its_seed(kind):
    scene = next(scene for scene, _ in sample._scenes()[1].values() if scene.kind == kind)
    assert pixels(scene, 1).shape == (PICTURE, PICTURE, 3)
    assert render(scene, 1) == render(scene, 1) != render(scene, 2)


def likeness(picture: np.ndarray, colour: str) -> float:
    """The share of a picture that has about that colour, or is a little lighter or darker."""
    wanted = np.array(COLOURS[colour])
    near = [np.abs(picture - wanted * shade).max(2) < 20 for shade in (0.78, 0.9, 1, 1.1)]
    return float(np.any(near, axis=0).mean())


def scenes_with(attribute: str) -> list[tuple[Scene, int]]:
    return [item for item in sample._scenes()[1].values() if getattr(item[0], attribute)]


def test_colours_are_those_that_the_captions_name():
    for scene, seed in scenes_with("colour")[::2]:
        picture = pixels(scene, seed)
        others = {s.colour for s, _ in scenes_with("colour") if s.kind == scene.kind} - {scene.colour}
        if scene.kind == "meadow":  # one of them is the colour of grass everywhere
            assert (likeness(picture, "yellow") > 0.5) == (scene.colour == "yellow")
        else:
            assert likeness(picture, scene.colour) > max(likeness(picture, other) for other in others), scene


def test_numbers_are_those_that_the_captions_name(monkeypatch):
    drawn = []
    monkeypatch.setattr(scenes, "_court", lambda canvas, x, y, colour: drawn.append((x, y)))
    for scene, seed in scenes_with("number"):
        if scene.kind == "tennis":
            drawn.clear()
            render(scene, seed)
            assert len(drawn) == {"two": 2, "four": 4}[scene.number]
    asphalt = {
        number: pixels(Scene("runway", number=number), 3) for number in ("a straight runway", "two parallel runways")
    }
    grey = [float((np.ptp(picture, 2) < 12).mean()) for picture in asphalt.values()]
    assert grey[1] > 1.6 * grey[0] > 0


def test_what_is_named_as_an_extra_is_in_the_picture(monkeypatch):
    """The extra objects of a scene are, at least in part, in the picture for every rotation of the canvas."""
    drawn = {}
    for name in ("car", "boat", "airplane", "tree", "road"):
        real = getattr(Canvas, name)

        def draw(canvas, x, y, *arguments, name=name, real=real, **options):
            drawn.setdefault(name, []).append(np.hypot(x - 184, y - 184))
            return real(canvas, x, y, *arguments, **options)

        monkeypatch.setattr(Canvas, name, draw)
    pieces = {"cars": "car", "boats": "boat", "airplane": "airplane", "airplanes": "airplane", "trees": "tree",
              "road": "road", "bridge": "road"}  # fmt: skip
    checked = set()
    for scene, seed in scenes_with("extra"):
        drawn.clear()
        render(scene, seed)
        if scene.extra in pieces:
            near = [distance for distance in drawn[pieces[scene.extra]] if distance < 110]
            count = {"airplane": 1, "airplanes": 3, "boats": 3}.get(scene.extra)
            assert len(near) == count if count and scene.kind != "river" else near, scene
            checked.add(scene.extra)
    assert checked == set(pieces)


def test_on_disk_it_is_a_data_set_like_any_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sample, "render", lambda scene, seed: f"{scene} {seed}".encode())  # quicker
    monkeypatch.setattr(sample, "dataset", sample.dataset.__wrapped__)
    found = data.load("sample", tmp_path)
    folder = tmp_path / "my scenes"
    sample.main([str(folder)])
    assert capsys.readouterr().out == f"120 images with their captions are in {folder}\n"
    again = data.load("sydney", tmp_path, folder)
    assert (again.name, again.label) == ("sample scenes", "my_scenes")
    assert again.test.captions == found.test.captions
    assert list(again.hashes.values()) == list(found.hashes.values())
    assert again.test.images[3].read() == found.test.images[3].read()
    before = caption_files.snapshot(folder)
    with pytest.raises(UserError, match="exists already"):
        sample.main([str(folder)])
    assert caption_files.snapshot(folder) == before
