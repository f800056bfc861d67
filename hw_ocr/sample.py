"""The sample: words in matplotlib's fonts, distorted to look handwritten, in the format of letter.data."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = """
    able about above acorn actor adjust advice afraid again agree airport album alive almond amaze amber anchor angle
    animal answer apple april arctic artist aunt autumn axis bacon badge baker ballot banjo barley basket beach beauty
    become before begin being bench better bicycle birch blanket blossom board bottle brave bread bridge bright bronze
    brother bubble bucket butter button cabin cable camel candle canvas carbon carpet castle catalog cello chalk chance
    change cheese cherry chess choose circle citizen city clever climb clock cloud clover coast coffee comet compass
    copper coral corner cotton cousin cricket crystal curve cushion daisy dance danger decade decide desert detail
    diamond dinner direct distance doctor dolphin double dragon dream during eager eagle early earth echo eclipse elbow
    electric elegant engine enjoy equal evening every exact example expert fabric falcon family famous father feather
    fiction field figure finger finish flavor flower forest forget fossil frozen future galaxy garage garden gather
    gentle giant ginger glacier globe golden grape gravity guitar hammer harbor harvest hazel helmet history hockey
    honest honey horizon husband icicle idea image improve index inject insect island ivory jacket jasmine jewel jigsaw
    journey judge juggle jungle justice kayak kernel kettle kitchen kiwi knight ladder lagoon language lantern laptop
    lemon letter library lizard lobster lunar magnet mango maple marble market mathematics meadow melody memory midnight
    mixture modern monkey morning mosaic museum mystery napkin nature needle neutral night nozzle number oasis object
    ocean october olive opera orange orbit orchard oxygen oyster paddle paper parade parent pebble pencil pepper physics
    piano picnic pirate planet pocket polar prize puzzle quality quartz queen question quick quiet quilt quiz rabbit
    radio raven recipe reflex relax rhythm ribbon river rocket saddle salad sandwich scarf science season shadow silver
    sixty sketch spider squid summer sunflower swim tailor taxi teacher temple thunder ticket timber tomato traffic
    triangle tulip turtle twelve umbrella uncle unique urban useful valley vanilla velvet village violin volcano voyage
    waffle walnut water weather whale whisper window winter wizard yellow yogurt young zebra zenith zigzag zipper
""".split()
_FONTS = (
    *("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_HEIGHT, _WIDTH, _FOLDS = 16, 8, 10
_TALL = 36  # height of an l on the canvas, in pixels; letters are scaled to the data set's size later
_CANVAS, _BASELINE = 64, 48
_COPIES = 2  # number of times that each word is written
_THINNEST = 8  # passes of thinning after which all strokes are one pixel wide


def render(seed: int) -> bytes:
    """Writes each of WORDS twice, each time with a random font, slant, thickness and size.

    Args:
        seed: seed of the handwritings, of the letters' distortions and shifts, and of the folds.

    Returns:
        The content of a letter.data file.
    """
    generator = np.random.default_rng(seed)
    glyphs = _glyphs()
    words = WORDS * _COPIES
    folds = generator.permutation(len(words)) % _FOLDS
    rows: list[str] = []
    for word_id, (word, fold) in enumerate(zip(words, folds, strict=True), start=1):
        images = _write(word, glyphs, generator)
        for position, (letter, image) in enumerate(zip(word, images, strict=True), start=1):
            id_ = len(rows) + 1
            next_id = id_ + 1 if position < len(word) else -1
            rows.append("\t".join(map(str, (id_, letter, next_id, word_id, position, fold, *image.flat))))
    return ("\n".join(rows) + "\n").encode()


def _write(word: str, glyphs: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """The letters of `word` in one random handwriting, (16, 8) uint8 each."""
    font, thinning = generator.integers(len(glyphs)), generator.integers(glyphs.shape[1])
    slant, height, width = generator.uniform(-0.2, 0.4), generator.uniform(9, 12), generator.uniform(0.75, 1.15)
    images = []
    for letter in word:
        rows, columns = np.nonzero(glyphs[font, thinning, _ALPHABET.index(letter)])
        y, x = rows - rows.mean(), columns - columns.mean()
        angle = generator.normal(0, 0.08)
        x, y = x - (slant + angle) * y, y + angle * x
        y, x = y * height / _TALL * generator.normal(1, 0.06), x * height * width / _TALL * generator.normal(1, 0.08)
        image = np.zeros((_HEIGHT, _WIDTH), dtype=np.uint8)
        image[_fit(y, _HEIGHT, generator), _fit(x, _WIDTH, generator)] = 1
        images.append(image)
    return images


def _fit(coordinates: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Shrinks coordinates to `size` pixels if they need more, centres them with a random shift, and rounds them."""
    extent = max(np.ptp(coordinates), 1)
    coordinates = coordinates * min(1, (size - 1) / extent)
    free = (size - 1 - np.ptp(coordinates)) / 2
    offset = (size - 1) / 2 - (coordinates.min() + coordinates.max()) / 2
    shift = np.clip(generator.uniform(-1, 1), -free, free)
    return np.rint(coordinates + offset + shift).astype(int).clip(0, size - 1)


@functools.cache
def _glyphs() -> np.ndarray:
    """Every letter in every font, thinned a little and thinned fully: (fonts, 2, 26, canvas, canvas) bool."""
    from matplotlib import get_data_path  # slow to import

    folder = Path(get_data_path()) / "fonts" / "ttf"
    glyphs = np.array([[_draw(folder / f"{name}.ttf", letter) for letter in _ALPHABET] for name in _FONTS])
    return np.stack([_thin(glyphs, 2), _thin(glyphs, _THINNEST)], axis=1)


def _draw(path: Path, letter: str) -> np.ndarray:
    """An image of a letter with its baseline at _BASELINE, (canvas, canvas) bool."""
    image = Image.new("L", (_CANVAS, _CANVAS))
    font = ImageFont.truetype(str(path), round(_TALL / 0.73))  # an l is about 0.73 of the font's size
    ImageDraw.Draw(image).text((_CANVAS / 2, _BASELINE), letter, fill=255, font=font, anchor="ms")
    return np.asarray(image) > 127


def _thin(glyphs: np.ndarray, passes: int) -> np.ndarray:
    """Thins the strokes of all glyphs without breaking them (Zhang and Suen, 1984).

    Args:
        glyphs: (…, H, W) bool, with blank edges.
        passes: number of passes; each removes at most one pixel from each side of a stroke.
    """
    for number in range(2 * passes):
        # The eight neighbours of each pixel, clockwise from the one above it.
        around = [
            np.roll(glyphs, (-row, -column), axis=(-2, -1))
            for row, column in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
        ]
        above, right, below, left = around[::2]
        inked = np.sum(around, axis=0)
        beginnings = sum(~one & following for one, following in zip(around, around[1:] + around[:1], strict=True))
        if number % 2 == 0:
            outside = ~(above & right & below) & ~(right & below & left)
        else:
            outside = ~(above & right & left) & ~(above & below & left)
        glyphs = glyphs & ~((inked >= 2) & (inked <= 6) & (beginnings == 1) & outside)
    return glyphs
