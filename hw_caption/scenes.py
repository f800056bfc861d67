"""Draws aerial scenes. A scene's attributes determine the picture and appear in its captions."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hw_caption.canvas import ASPHALT, COLOURS, CONCRETE, GRASS, LEAVES, MIDDLE, REACH, SAND, SIDE, Canvas, shade


@dataclass(frozen=True)
class Scene:
    """The attributes of a scene; an attribute that its kind does not have is empty."""

    kind: str  # a key of `PAINTERS`
    colour: str = ""  # colour of roofs, water, grass or courts
    number: str = ""  # number of runways or courts, in words
    ground: str = ""  # the ground around rivers and crossroads, "meadow" or "forest"
    extra: str = ""  # further objects, such as "trees"


def render(scene: Scene, seed: int) -> bytes:
    """Returns the scene as a PNG file of PICTURE×PICTURE pixels; `seed` determines all random details."""
    rng = np.random.default_rng(seed)
    canvas = PAINTERS[scene.kind](scene, rng)
    buffer = io.BytesIO()
    canvas.picture(rng.uniform(0, 360)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _ground(rng: np.random.Generator, name: str) -> Canvas:
    """Returns a canvas with the ground of `Scene.ground`."""
    canvas = Canvas(rng, LEAVES if name == "forest" else GRASS)
    if name == "forest":
        canvas.trees(700)
    return canvas


def _positions(start: float, stop: float, step: float) -> list[float]:
    """Equally spaced coordinates from `start` up to, but not including, `stop`."""
    positions: list[float] = np.arange(start, stop, step).tolist()
    return positions


def _spots(rng: np.random.Generator, count: int, apart: float, reach: float = REACH) -> list[tuple[float, float]]:
    """`count` random points in the picture, at least `apart` pixels from one another."""
    found: list[tuple[float, float]] = []
    while len(found) < count:
        x, y = MIDDLE + rng.uniform(-reach, reach, 2) * 0.7  # a square inside the circle of radius `reach`
        if all(np.hypot(x - u, y - v) >= apart for u, v in found):
            found.append((x, y))
    return found


def _houses(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, shade(GRASS, 0.9))
    step = 74
    for row in _positions(MIDDLE % step, SIDE + step, step):
        canvas.road(MIDDLE, row, SIDE)
        for side in (-26, 26):
            for x in _positions(8, SIDE, 34):
                canvas.house(x, row + side, rng.uniform(24, 28), rng.uniform(20, 24), COLOURS[scene.colour])
                if scene.extra == "trees":
                    canvas.tree(x + 17, row + side * 1.25, rng.uniform(6, 8))
                elif scene.extra == "pools" and rng.random() < 0.6:
                    canvas.box(x + 17, row + side, 7, 12, (70, 190, 226))
        if scene.extra == "cars":
            for x in _positions(rng.uniform(5, 30), SIDE, 34):
                canvas.car(x, row + rng.choice([-4, 4]))
    return canvas


def _river(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = _ground(rng, scene.ground)
    path, width = canvas.curve(rng.uniform(28, 46), rng.uniform(0.8, 1.2)), rng.uniform(44, 56)
    canvas.ribbon(path, width + 10, shade(SAND, 0.75))
    canvas.ribbon(path, width, COLOURS[scene.colour])
    canvas.ribbon(path, width * 0.5, shade(COLOURS[scene.colour], 1.1))
    if scene.extra == "bridge":
        canvas.road(MIDDLE + rng.uniform(-30, 30), MIDDLE, SIDE, 16, upright=True)
    elif scene.extra == "boats":
        for x, y in path[65:145:26]:
            canvas.boat(x, y, 26, rng.uniform(-0.4, 0.4))
    return canvas


def _runway(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, GRASS)
    offsets = (-44, 44) if scene.number.startswith("two") else (0,)
    for offset in offsets:
        canvas.box(MIDDLE, MIDDLE + offset, SIDE, 40, shade(ASPHALT, 1.15))
        for x in _positions(0, SIDE, 30):
            canvas.box(x, MIDDLE + offset, 16, 3, COLOURS["white"])
        for y in range(-14, 15, 7):
            canvas.box(MIDDLE + 70, MIDDLE + offset + y, 22, 3, COLOURS["white"])
    if scene.extra == "airplane":
        canvas.airplane(MIDDLE - 20, MIDDLE + offsets[0], 62, rng.choice([0, np.pi]))
    elif scene.extra == "airplanes":
        for distance in (-54, 0, 54):
            canvas.airplane(MIDDLE + distance, MIDDLE + offsets[-1] + 48, 46, np.pi / 2)
    return canvas


def _forest(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = _ground(rng, "forest")
    if scene.extra == "road":
        canvas.road(MIDDLE, MIDDLE + rng.uniform(-40, 40), SIDE)
    elif scene.extra == "pond":
        [(x, y)] = _spots(rng, 1, 0, reach=80)
        canvas.disc(x, y, 42, shade(SAND, 0.6))
        canvas.disc(x, y, 37, COLOURS["blue"])
    return canvas


def _meadow(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, COLOURS["yellow"] if scene.colour == "yellow" else GRASS)
    if scene.extra == "path":
        canvas.ribbon(canvas.curve(20, 0.7), 12, SAND)
    elif scene.extra == "trees":
        for x, y in _spots(rng, 9, apart=40):
            canvas.tree(x, y, rng.uniform(9, 13))
    return canvas


def _harbour(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, COLOURS[scene.colour])
    shore = MIDDLE + 48
    canvas.surface(shore, SIDE, CONCRETE)
    for x in _positions(20, SIDE, 56):
        canvas.box(x, shore - 80, 8, 160, shade(SAND, 0.9))
        for y in _positions(shore - 150, shore - 8, 17):
            for side in (-1, 1):
                if rng.random() < 0.85:
                    canvas.boat(x + side * 16, y, rng.uniform(20, 25), 0 if side > 0 else np.pi)
    if scene.extra == "trees":
        for x in _positions(8, SIDE, 22):
            canvas.tree(x, shore + 22, rng.uniform(8, 10))
    elif scene.extra == "road":
        canvas.road(MIDDLE, shore + 28, SIDE)
    return canvas


def _tennis(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, GRASS)
    for x in (-58.0, 58.0):
        for y in (0.0,) if scene.number == "two" else (-62.0, 62.0):
            _court(canvas, MIDDLE + x, MIDDLE + y, scene.colour)
    if scene.extra == "trees":
        for y in _positions(10, SIDE, 19):
            canvas.tree(MIDDLE, y, rng.uniform(8, 10))
    elif scene.extra == "road":
        canvas.road(MIDDLE, MIDDLE, SIDE, 10, upright=True)
    return canvas


def _court(canvas: Canvas, x: float, y: float, colour: str) -> None:
    """A tennis court of 92×110 pixels with its margin; the net is horizontal."""
    canvas.box(x, y, 92, 110, shade(COLOURS[colour], 0.7))
    canvas.box(x, y, 52, 92, COLOURS[colour])
    for offset in (-26, -19, 19, 26):
        canvas.box(x + offset, y, 2.5, 92, COLOURS["white"])
    for offset in (-46, -24, 24, 46):
        canvas.box(x, y + offset, 52 if abs(offset) == 46 else 38, 2.5, COLOURS["white"])
    canvas.box(x, y, 2.5, 48, COLOURS["white"])
    canvas.box(x, y, 60, 3, shade(COLOURS["white"], 0.7))


def _factory(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, CONCRETE)
    for x in (-120, -40, 40, 120):
        for y in (-112, 0, 112):
            if (x, y) != (40, 0) or not scene.extra:
                canvas.hall(MIDDLE + x, MIDDLE + y, rng.uniform(58, 68), rng.uniform(80, 92), COLOURS[scene.colour])
    canvas.road(MIDDLE, MIDDLE + 56, SIDE)
    for column in range(5):
        for row in range(4):
            left, top = MIDDLE + 16 + column * 12, MIDDLE - 28 + row * 18
            if scene.extra == "cars":
                canvas.car(left, top, upright=True)
            elif scene.extra == "containers":
                canvas.box(left, top, 9, 16, COLOURS[rng.choice(["red", "orange", "blue", "green"])])
    return canvas


def _beach(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(rng, COLOURS[scene.colour])
    shore = MIDDLE + rng.uniform(-25, 25)
    canvas.surface(shore, SIDE, SAND)
    canvas.surface(shore + 64, SIDE, GRASS)
    if scene.extra == "waves":
        for distance in (4, 20, 38):
            line = [(x, y - MIDDLE + shore - distance) for x, y in canvas.curve(3, rng.uniform(2, 3))]
            canvas.ribbon(line, 5, COLOURS["white"])
    elif scene.extra == "boats":
        for x in (-70, -20, 40):
            canvas.boat(MIDDLE + x, shore - rng.uniform(30, 70), 34, rng.uniform(0, 6))
    return canvas


def _crossroad(scene: Scene, rng: np.random.Generator) -> Canvas:
    canvas = _ground(rng, scene.ground)
    x, y = MIDDLE + rng.uniform(-30, 30, 2)
    canvas.road(x, MIDDLE, SIDE, 26, upright=True)
    canvas.road(MIDDLE, y, SIDE, 26)
    canvas.box(x, y, 26, 26, ASPHALT)
    if scene.extra == "cars":
        for step in (-80, -46, 46, 80):
            canvas.car(x + step, y + rng.choice([-7, 7]))
            canvas.car(x + rng.choice([-7, 7]), y + step, upright=True)
    return canvas


_PAINTERS = (_houses, _river, _runway, _forest, _meadow, _harbour, _tennis, _factory, _beach, _crossroad)
PAINTERS: Mapping[str, Callable[[Scene, np.random.Generator], Canvas]] = MappingProxyType({
    painter.__name__.removeprefix("_"): painter for painter in _PAINTERS
})  # fmt: skip
