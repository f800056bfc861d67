"""Applies the networks of finished runs to uploads.

For each homework, one function opens a run. It calls the same functions as the homework's own commands.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image

from hw_common.data.class_folders import ImageFile
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs import figures
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

UPLOAD = "the upload"  # name of the file in messages
MAX_SECONDS = 60.0  # longest sound
_SHOWN_CLASSES = 10
_SHOWN_CHANNELS = 8  # feature maps of each layer
_SHOWN_SEGMENTS = 4
_PICTURE_SIDE = 224  # height and width of a captioned picture, in pixels


@dataclass(frozen=True)
class Picture:
    """A picture in a result."""

    label: str  # text below the picture
    alt: str  # description for readers who cannot see it
    source: str  # the picture as a data URL


@dataclass(frozen=True)
class Result:
    """The answer to an upload."""

    text: str  # the answer in one line
    notes: Sequence[str] = ()  # further lines
    probabilities: Sequence[tuple[str, float]] = ()  # predictions with their probabilities
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)  # rows of pictures by their titles


@dataclass(frozen=True)
class Canvas:
    """A canvas on which a visitor draws."""

    width: int  # pixels
    height: int
    ink: str  # colour of the strokes
    paper: str
    # The empty border on each side of the drawing, as a fraction of the network's square image; the data set has the
    # same border. The page crops and centres the drawing to fit. If None, the page sends the drawing unchanged.
    margin: float | None = None


@dataclass(frozen=True)
class TryIt:
    """A finished run whose network can be applied to uploads."""

    title: str  # the run and its data
    questions: Sequence[tuple[str, str]]  # the sheets' questions that it belongs to: name of the sheet and question
    task: str  # instruction for the visitor
    kind: str  # "image" or "sound"
    answer: Callable[[bytes], Result]  # raises UserError if the upload is not such a file
    canvas: Canvas | None = None


def open_try_it(folder: Path) -> TryIt:
    """Opens a finished run.

    Raises:
        UserError: `folder` is not a finished run, is damaged, or belongs to a homework without such a function.
    """
    run = Run.open(folder)
    homework = run.config["homework"]
    if homework not in _OPEN:
        known = ", ".join(_OPEN)
        raise UserError(f"{folder} is a run of {homework}, which cannot answer uploads; expected a run of {known}")
    return _OPEN[homework](run)


def _cnn(run: Run) -> TryIt:
    from hw_cnn.data import to_input
    from hw_cnn.feature_maps import collect_maps, scale_to_unit, to_rgb
    from hw_cnn.finished import open_finished
    from hw_cnn.grad_cam import grad_cam, overlay

    finished = open_finished(run.folder)

    def answer(content: bytes) -> Result:
        images, [probabilities] = finished.classify([ImageFile(UPLOAD, content)])
        best = probabilities.argmax()
        name = finished.classes[best]
        inputs = to_input(images, finished.network)
        [heat] = grad_cam(finished.model, inputs, best[None])
        pictures = {
            f"The network's input and Grad-CAM: the regions that raise the score of «{name}»": [
                Picture("input", "the upload at the network's input size", _png(to_rgb(images[0]))),
                Picture("Grad-CAM", f"the regions that raise the score of {name}", _png(overlay(images[0], heat))),
            ]
        }
        for layer, maps in collect_maps(finished.model, inputs):
            title = f"{layer}: the first of {maps.shape[1]} feature maps, {maps.shape[2]}×{maps.shape[3]}"
            pictures[title] = [
                Picture(f"{channel}", f"feature map {channel} of {layer}", _png(_heat(scale_to_unit(values))))
                for channel, values in enumerate(maps[0, :_SHOWN_CHANNELS])
            ]
        return Result(name, (), _ranked(finished.classes, probabilities.tolist()), pictures)

    network, dataset = finished.settings.network, finished.settings.dataset
    questions = {
        "fashion": [("ist-2021-22-hw2", "2.2")],
        "oct": [("ist-2023-24-hw2", "2.2" if finished.settings.no_maxpool else "2.1")],
        "cifar": [("convnets-2024-a2", "1.1"), ("convnets-2024-a2", "3.3"), ("convnets-2024-a2", "3.4")],
    }[network]
    thing = {"fashion-mnist": "a garment", "mnist": "a digit", "sample": "a digit"}.get(dataset)
    if thing is None:
        return TryIt(_title(run), questions, "Choose an image.", "image", answer)
    task = f"Draw {thing}, or choose an image."
    return TryIt(_title(run), questions, task, "image", answer, _square_canvas(dataset))


def _numpy(run: Run) -> TryIt:
    from hw_numpy.finished import open_finished

    finished = open_finished(run.folder)

    def answer(content: bytes) -> Result:
        pixels, probabilities = finished.classify(ImageFile(UPLOAD, content))
        ranked = _ranked([str(digit) for digit in range(len(probabilities))], probabilities.tolist())
        picture = Picture(
            "input", "the upload at the network's input size", _png(np.repeat(pixels[:, :, None], 3, axis=2))
        )
        return Result(ranked[0][0], (), ranked, {"The network's input": [picture]})

    question = {"softmax": "2(c)", "cnn": "3(c)"}[finished.settings.model]
    canvas = _square_canvas(finished.settings.dataset)
    task = "Draw a digit, or choose an image."
    return TryIt(_title(run), [("eecs545-w20-hw4", question)], task, "image", answer, canvas)


def _transfer(run: Run) -> TryIt:
    from hw_transfer.finished import open_finished

    finished = open_finished(run.folder)

    def answer(content: bytes) -> Result:
        pixels, probabilities = finished.classify(ImageFile(UPLOAD, content))
        ranked = _ranked(finished.classes, probabilities.tolist())
        picture = Picture("input", "the middle of the upload", _png(pixels.permute(1, 2, 0).numpy()))
        return Result(ranked[0][0], (), ranked, {"The network's input": [picture]})

    question = {"finetune": "5(c)", "freeze": "5(d)"}[finished.settings.mode]
    questions = [("eecs545-w20-hw4", question), ("eecs545-w20-hw4", "5(b)")]
    task = f"Choose a picture of one of these: {', '.join(finished.classes)}."
    return TryIt(_title(run), questions, task, "image", answer)


def _ocr(run: Run) -> TryIt:
    from hw_ocr.images import decode_letters
    from hw_ocr.trained_network import open_trained

    trained = open_trained(run.folder)

    def answer(content: bytes) -> Result:
        letters = decode_letters(content, UPLOAD)
        text, probabilities = trained.read(torch.from_numpy(letters))
        pictures = [
            Picture(letter, f"letter {i}, read as {letter}", _png(np.repeat(255 - 255 * ink[:, :, None], 3, axis=2)))
            for i, (letter, ink) in enumerate(zip(text, letters, strict=True), 1)
        ]
        pairs = list(zip(text, probabilities.tolist(), strict=True))
        return Result(text, (), pairs, {"The letters as the network sees them, 16×8 pixels": pictures})

    settings = trained.settings
    question = {"pairwise": "1.1", "cnn": "1.2", "bilstm": "2.1", "conv-bilstm": "2.3"}[settings.model]
    questions = [("dsl-2019-hw3", question)] + ([("dsl-2019-hw3", "2.2")] if settings.crf else [])
    task = "Draw a letter or a word whose letters do not touch, or choose an image of one."
    return TryIt(_title(run), questions, task, "image", answer, Canvas(640, 160, "black", "white"))


def _caption(run: Run) -> TryIt:
    from hw_caption.finished import open_finished
    from hw_caption.images import decode_bytes
    from hw_caption.plots import highlight

    finished = open_finished(run.folder)

    def answer(content: bytes) -> Result:
        image = DatasetFile(UPLOAD, UPLOAD, lambda: content)
        [words] = finished.generate([image], finished.decoding)
        maps = finished.attention_maps(image, words) if words else None
        if maps is None:
            return Result(" ".join(words) or "(no words)")
        pixels = decode_bytes(content, UPLOAD, _PICTURE_SIDE)
        pictures = [Picture("input", "the uploaded image", _png(pixels))]
        for word, weights in zip(words, maps, strict=True):
            alt = f"the regions that the decoder attends to before «{word}»"
            pictures.append(Picture(f"{word} {weights.max():.0%}", alt, _png(highlight(pixels, weights))))
        title = "The attention before each word: brighter regions have larger weights; % is the largest weight"
        return Result(" ".join(words), (), (), {title: pictures})

    question = "3.1(b)" if run.config["arguments"].get("use_attention") else "3.1(a)"
    questions = [("ist-2021-22-hw2", question), ("ist-2021-22-hw2", "3.1(c)")]
    return TryIt(_title(run), questions, "Choose an aerial image.", "image", answer)


def _asr(run: Run) -> TryIt:
    from hw_asr import audio, plots
    from hw_asr.transcription import open_transcriber

    transcriber = open_transcriber(run.folder)

    def answer(content: bytes) -> Result:
        notes: list[str] = []
        samples, rate = audio.decode(content, UPLOAD, MAX_SECONDS, notes.append)
        found, segments = transcriber.transcribe(audio.resample(samples, rate, transcriber.rate))
        if not found["speech"]:
            written = " ".join(segment.text for segment in segments)
            return Result("no speech found", [*notes, f"What the network writes for this sound: «{written}»"])
        pictures = []
        for segment in segments[:_SHOWN_SEGMENTS]:
            name = f"{segment.begin:.1f} s to {segment.end:.1f} s"
            weights = transcriber.align(segment)
            clip = plots.Prediction(name, segment.text, segment.text, segment.spectrogram, weights)
            figure = plots.draw_alignment([clip], "spectrogram and cross-attention")
            alt = f"spectrogram of {name}, and the attention weights before each character of «{segment.text}»"
            pictures.append(Picture(name, alt, _data_url(figures.to_png(figure))))
        pairs = [
            (f"{piece['begin']:.1f} s to {piece['end']:.1f} s, average over the characters", piece["probability"])
            for piece in found["pieces"]
        ]
        return Result(found["text"], notes, pairs, {"Where the attention is before each character": pictures})

    question = "3.1" if transcriber.settings.decoder == "lstm" else "3.2"
    questions = [("ist-2023-24-hw2", question), ("ist-2023-24-hw2", "3.3")]
    task = f"Record speech, or choose a sound file of at most {MAX_SECONDS:g} seconds."
    return TryIt(_title(run), questions, task, "sound", answer)


_OPEN: Mapping[str, Callable[[Run], TryIt]] = MappingProxyType({
    "hw_cnn": _cnn, "hw_ocr": _ocr, "hw_caption": _caption, "hw_asr": _asr, "hw_numpy": _numpy,
    "hw_transfer": _transfer,
})  # fmt: skip


def _title(run: Run) -> str:
    return f"{run.config['homework']}/{run.folder.resolve().name}, trained on {run.summary().get('data')}"


def _square_canvas(dataset: str) -> Canvas:
    """A canvas for a drawing that looks like the images of `dataset`."""
    return Canvas(280, 280, "white", "black", margin=4 / 28 if dataset == "mnist" else 0.0)


def _ranked(classes: Sequence[str], probabilities: Sequence[float]) -> list[tuple[str, float]]:
    """The most probable classes with their probabilities, the most probable first."""
    return sorted(zip(classes, probabilities, strict=True), key=lambda pair: -pair[1])[:_SHOWN_CLASSES]


def _heat(values: torch.Tensor) -> np.ndarray:
    """Colours a map (H, W) of values from 0 to 1."""
    colours: np.ndarray = mpl.colormaps[figures.HEAT](values.numpy())[:, :, :3]
    return colours


def _png(pixels: np.ndarray) -> str:
    """A picture (H, W, 3), uint8 or floats from 0 to 1, as a data URL."""
    if pixels.dtype != np.uint8:
        pixels = (255 * pixels).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return _data_url(buffer.getvalue())


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
