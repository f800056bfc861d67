"""The built-in sample: small painted pictures, drawn at random from a fixed seed, which need no download.

There are two data sets: ten shapes for pretraining, and a few pictures of two kinds of insects for transfer learning.
Colours, backgrounds, sizes and angles are random; only the form depends on the class.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

_SIDE = 80  # pixels of a finished picture
_SCALE = 2  # pictures are painted larger by this factor and then reduced, which smooths the edges
_SEED = 545

Point = tuple[float, float]


class _Canvas:
    """A picture to paint on. Coordinates are randomly rotated, scaled and shifted; length 1 is about 0.4 of a side."""

    def __init__(self, random: np.random.Generator) -> None:
        side = _SIDE * _SCALE
        self.random = random
        # The background is 3×3 random colours, enlarged smoothly.
        chequer = random.uniform(80, 175, 3) + random.uniform(-30, 30, (3, 3, 3))
        self.image = Image.fromarray(chequer.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        self.draw = ImageDraw.Draw(self.image)
        self._angle = random.uniform(0, 2 * math.pi)
        self._size = side * random.uniform(0.34, 0.46)
        self._centre = side / 2 + random.uniform(-0.05, 0.05, 2) * side

    def at(self, x: float, y: float) -> Point:
        cos, sin = math.cos(self._angle), math.sin(self._angle)
        return (
            float(self._centre[0] + self._size * (cos * x - sin * y)),
            float(self._centre[1] + self._size * (sin * x + cos * y)),
        )

    def colour(self) -> tuple[int, ...]:
        """Returns a random colour that stands out from the background: each channel is low or high."""
        low = self.random.integers(0, 60, 3)
        return tuple(np.where(self.random.random(3) < 0.5, low, 255 - low).tolist())

    def polygon(self, points: list[Point], fill: tuple[int, ...]) -> None:
        self.draw.polygon([self.at(*point) for point in points], fill)

    def ellipse(self, x: float, y: float, a: float, b: float, fill: tuple[int, ...], turn: float = 0) -> None:
        angles = [2 * math.pi * i / 24 for i in range(24)]
        cos, sin = math.cos(turn), math.sin(turn)
        outline = [(a * math.cos(t), b * math.sin(t)) for t in angles]
        self.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in outline], fill)

    def line(self, points: list[Point], fill: tuple[int, ...], width: float = 0.07) -> None:
        thick = max(1, round(width * self._size))
        self.draw.line([self.at(*point) for point in points], fill, thick, joint="curve")

    def finish(self) -> np.ndarray:
        noise = self.random.normal(0, 12, (_SIDE, _SIDE, 3))
        pixels = np.asarray(self.image.reduce(_SCALE), dtype=np.float64)
        return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _ant(canvas: _Canvas) -> None:
    """Paints an ant: thin waist, bent antennae, long legs."""
    body, dark = canvas.colour(), canvas.colour()
    for x, reach in ((-0.12, -0.45), (0.05, 0.05), (0.2, 0.5)):
        for side in (-1, 1):
            canvas.line([(x, 0), ((x + reach) / 2, 0.45 * side), (reach, 0.72 * side)], dark)
    for side in (-1, 1):
        canvas.line([(0.62, 0.05 * side), (0.85, 0.3 * side), (1.05, 0.22 * side)], dark)
    canvas.ellipse(-0.62, 0, 0.42, 0.28, body)
    canvas.ellipse(0.05, 0, 0.3, 0.13, body)
    canvas.ellipse(0.52, 0, 0.22, 0.2, body)


def _bee(canvas: _Canvas) -> None:
    """Paints a bee: plump striped body, two wings."""
    body, stripes, wings = canvas.colour(), canvas.colour(), canvas.colour()
    for side in (-1, 1):
        canvas.ellipse(-0.05, 0.55 * side, 0.5, 0.2, wings, turn=-0.6 * side)
    canvas.ellipse(-0.15, 0, 0.7, 0.38, body)
    _stripes(canvas, stripes, -0.15, 0.7, 0.38)
    canvas.ellipse(0.62, 0, 0.2, 0.22, body)


def _stripes(canvas: _Canvas, fill: tuple[int, ...], x: float, a: float, b: float) -> None:
    """Paints three stripes across an ellipse with centre (x, 0) and half axes a and b."""
    for along in (-0.55, 0.0, 0.5):
        edges = [(along + step, math.sqrt(1 - (along + step) ** 2)) for step in (-0.1, 0.1)]
        (left, low), (right, high) = edges
        outline = [(left, -low), (right, -high), (right, high), (left, low)]
        canvas.polygon([(x + a * u, b * v) for u, v in outline], fill)


def _corners(count: int, inner: float = 1.0) -> list[Point]:
    """Returns the corners of a regular polygon, or of a star with inner corners at radius `inner` if that is not 1."""
    radii = [1.0, inner] if inner != 1 else [1.0]
    total = count * len(radii)
    angles = [2 * math.pi * i / total for i in range(total)]
    return [(radii[i % len(radii)] * math.cos(t), radii[i % len(radii)] * math.sin(t)) for i, t in enumerate(angles)]


def _ring(canvas: _Canvas) -> None:
    fill = canvas.colour()
    for i in range(24):
        start, end = (2 * math.pi * (i + step) / 24 for step in (0, 1.2))
        outline = [(r * math.cos(t), r * math.sin(t)) for r, t in ((1, start), (1, end), (0.65, end), (0.65, start))]
        canvas.polygon(outline, fill)


def _cross(canvas: _Canvas) -> None:
    fill = canvas.colour()
    canvas.polygon([(-1, -0.25), (1, -0.25), (1, 0.25), (-1, 0.25)], fill)
    canvas.polygon([(-0.25, -1), (0.25, -1), (0.25, 1), (-0.25, 1)], fill)


def _striped_disc(canvas: _Canvas) -> None:
    canvas.ellipse(0, 0, 0.9, 0.9, canvas.colour())
    _stripes(canvas, canvas.colour(), 0, 0.9, 0.9)


def _chain(canvas: _Canvas) -> None:
    fill = canvas.colour()
    for x in (-0.65, 0.0, 0.65):
        canvas.ellipse(x, 0, 0.33, 0.33, fill)


def _comb(canvas: _Canvas) -> None:
    fill = canvas.colour()
    canvas.line([(-0.9, 0), (0.9, 0)], fill, 0.2)
    for x in (-0.8, -0.4, 0.0, 0.4, 0.8):
        canvas.line([(x, 0), (x, 0.8)], fill, 0.12)


def _leaves(canvas: _Canvas) -> None:
    fill = canvas.colour()
    for side in (-1, 1):
        canvas.ellipse(0, 0.45 * side, 0.75, 0.25, fill, turn=0.6 * side)


Kinds = dict[str, Callable[[_Canvas], None]]  # name of the class → function that paints one picture of it
INSECTS: Kinds = {"ants": _ant, "bees": _bee}
SHAPES: Kinds = {
    "chain": _chain,
    "comb": _comb,
    "cross": _cross,
    "disc": lambda canvas: canvas.ellipse(0, 0, 0.9, 0.9, canvas.colour()),
    "leaves": _leaves,
    "ring": _ring,
    "square": lambda canvas: canvas.polygon(_corners(4), canvas.colour()),
    "star": lambda canvas: canvas.polygon(_corners(5, inner=0.45), canvas.colour()),
    "striped disc": _striped_disc,
    "triangle": lambda canvas: canvas.polygon(_corners(3), canvas.colour()),
}


def paint(kinds: Kinds, counts: dict[str, int]) -> dict[str, list[np.ndarray]]:
    """Paints `counts[split]` pictures (80, 80, 3) uint8 of each kind for each split, one kind after the other."""
    random = np.random.default_rng(_SEED)
    pictures: dict[str, list[np.ndarray]] = {}
    for split, count in counts.items():
        pictures[split] = []
        for painter in kinds.values():
            for _ in range(count):
                canvas = _Canvas(random)
                painter(canvas)
                pictures[split].append(canvas.finish())
    return pictures
