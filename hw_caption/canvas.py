"""Draws aerial pictures: ground, trees, houses, roads, boats and airplanes as seen from above.

Coordinates and sizes are in pixels of the canvas, which is larger than the finished picture. The finished picture is a
square around the middle of the rotated canvas.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 368  # height and width of the canvas, a little more than the diagonal of the square that is cut out of it
MIDDLE = SIDE / 2
REACH = 120  # points up to this distance from the middle are in the picture for every angle of rotation
_WINDOW = 256  # height and width of the square that is cut out of the rotated canvas
PICTURE = 128  # height and width of the finished picture; reducing the cut-out to this size smooths the edges

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (170, 62, 48),
    "orange": (212, 128, 62),
    "grey": (140, 142, 146),
    "white": (228, 228, 224),
    "blue": (52, 100, 160),
    "green": (62, 112, 84),
    "dark": (28, 52, 66),
    "brown": (124, 106, 76),
    "yellow": (186, 172, 96),
}
GRASS: Colour = (112, 146, 72)
LEAVES: Colour = (38, 74, 38)
SAND: Colour = (214, 192, 142)
CONCRETE: Colour = (176, 172, 164)
ASPHALT: Colour = (98, 98, 100)
_SHADOW = (30, 34, 32)


def shade(colour: Colour, factor: float) -> Colour:
    """Returns a lighter (factor above 1) or darker colour."""
    red, green, blue = (min(255, max(0, round(part * factor))) for part in colour)
    return red, green, blue


class Canvas:
    """A picture that is being drawn.

    Args:
        rng: random generator for details such as the positions of trees and the shades of roofs.
        ground: colour of the ground.
    """

    def __init__(self, rng: np.random.Generator, ground: Colour) -> None:
        self.rng = rng
        self.image = Image.fromarray(self._rough(ground))
        self.pen = ImageDraw.Draw(self.image)

    def _rough(self, colour: Colour) -> np.ndarray:
        """An uneven surface: an image (SIDE, SIDE, 3) uint8 with lighter and darker patches, and with noise."""
        patches = Image.fromarray(self.rng.standard_normal((14, 14), np.float32)).resize((SIDE, SIDE))
        grain = self.rng.integers(-10, 11, (SIDE, SIDE), np.int16)
        height = (7 * np.asarray(patches)).astype(np.int16) + grain
        return (np.array(colour, np.int16) + height[:, :, None]).clip(0, 255).astype(np.uint8)

    def picture(self, angle: float) -> Image.Image:
        """The middle of the canvas, rotated by `angle` degrees, as PICTURE×PICTURE pixels."""
        turned = self.image.rotate(angle, Image.Resampling.BILINEAR)
        edge = (SIDE - _WINDOW) // 2
        window = turned.crop((edge, edge, edge + _WINDOW, edge + _WINDOW))
        return window.resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A rectangle around (x, y)."""
        self.pen.rectangle((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle around (x, y)."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def shape(self, x: float, y: float, angle: float, points: Sequence[Point], colour: Colour) -> None:
        """A polygon whose `points` are relative to (x, y), rotated by `angle` radians."""
        cos, sin = math.cos(angle), math.sin(angle)
        self.pen.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in points], fill=colour)

    def surface(self, top: float, bottom: float, colour: Colour) -> None:
        """A strip of ground in another colour, between the heights `top` and `bottom`, across the whole canvas."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).rectangle((0, top, SIDE, bottom), fill=255)
        self.image.paste(Image.fromarray(self._rough(colour)), mask=mask)

    def tree(self, x: float, y: float, radius: float) -> None:
        """A tree's crown with its shadow and a bright side."""
        green = shade(LEAVES, self.rng.uniform(0.8, 1.35))
        self.disc(x + radius * 0.4, y + radius * 0.4, radius, _SHADOW)
        self.disc(x, y, radius, green)
        self.disc(x - radius * 0.3, y - radius * 0.3, radius * 0.55, shade(green, 1.35))

    def trees(self, count: int, radii: tuple[float, float] = (6, 10)) -> None:
        """`count` trees at random positions."""
        for x, y in self.rng.uniform(0, SIDE, (count, 2)):
            self.tree(x, y, self.rng.uniform(*radii))

    def house(self, x: float, y: float, width: float, height: float, roof: Colour) -> None:
        """A gable roof with one bright half and a shadow."""
        roof = shade(roof, self.rng.uniform(0.9, 1.1))
        self.box(x + 4, y + 4, width, height, _SHADOW)
        self.box(x, y, width, height, roof)
        self.box(x, y + height / 4, width, height / 2, shade(roof, 0.78))

    def hall(self, x: float, y: float, width: float, height: float, roof: Colour) -> None:
        """A large flat roof with ribs."""
        self.box(x + 5, y + 5, width, height, _SHADOW)
        self.box(x, y, width, height, roof)
        for rib in np.arange(x - width / 2 + 8, x + width / 2 - 4, 10):
            self.box(rib, y, 1.5, height - 6, shade(roof, 0.86))

    def road(self, x: float, y: float, length: float, width: float = 14, *, upright: bool = False) -> None:
        """A straight road around (x, y) with a dashed line in its middle."""
        self._strip(x, y, length, width + 4, shade(CONCRETE, 0.95), upright)
        self._strip(x, y, length, width, ASPHALT, upright)
        for dash in np.arange(-length / 2, length / 2, 16):
            along = (x, y + dash) if upright else (x + dash, y)
            self._strip(*along, 7, 1.5, COLOURS["white"], upright)

    def _strip(self, x: float, y: float, length: float, width: float, colour: Colour, upright: bool) -> None:
        self.box(x, y, *((width, length) if upright else (length, width)), colour)

    def car(self, x: float, y: float, *, upright: bool = False) -> None:
        """A small car."""
        colour = COLOURS[self.rng.choice(["white", "red", "blue", "white"])]
        self._strip(x + 1, y + 1, 11, 6, _SHADOW, upright)
        self._strip(x, y, 11, 6, colour, upright)
        self._strip(x, y, 4, 5, shade(colour, 0.5), upright)

    def boat(self, x: float, y: float, length: float, angle: float = 0) -> None:
        """A boat with a white hull."""
        half, width = length / 2, length / 6
        hull = [(-half, -width), (half * 0.3, -width), (half, 0), (half * 0.3, width), (-half, width)]
        self.shape(x, y, angle, hull, COLOURS["white"])
        self.shape(x, y, angle, [(0.45 * u - 2, 0.5 * v) for u, v in hull], COLOURS["brown"])

    def airplane(self, x: float, y: float, size: float, angle: float) -> None:
        """A white airplane with its shadow."""
        wing: list[Point] = [(0.1, 0), (-0.2, 0.55), (-0.3, 0.55), (-0.12, 0)]
        tail: list[Point] = [(-0.35, 0), (-0.5, 0.22), (-0.55, 0.2), (-0.48, 0)]
        body = [(0.55, 0), (0.42, 0.07), (-0.5, 0.05), (-0.5, -0.05), (0.42, -0.07)]
        for offset, colour in ((4, _SHADOW), (0, (244, 244, 246))):
            for part in (wing, tail, [(u, -v) for u, v in wing], [(u, -v) for u, v in tail], body):
                scaled = [(size * u, size * v) for u, v in part]
                self.shape(x + offset, y + offset, angle, scaled, colour)

    def curve(self, bend: float, waves: float) -> list[Point]:
        """Points of a sine wave across the canvas, with an amplitude of `bend` pixels and `waves` periods."""
        phase = self.rng.uniform(0, 2 * math.pi)
        steps = np.linspace(-20, SIDE + 20, 200)
        return [(t, MIDDLE + bend * math.sin(phase + 2 * math.pi * waves * t / SIDE)) for t in steps]

    def ribbon(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A line of the given width along `points`, which must be close together."""
        for x, y in points:
            self.disc(x, y, width / 2, colour)
