"""Finished runs, opened again to write captions of image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hw_caption import backbone, train
from hw_caption.consensus import Consensus
from hw_caption.experiment import (
    CONSENSUS,
    VOCABULARY,
    build_model,
    consensus_metadata,
    load_encoder,
    weights_metadata,
)
from hw_caption.feature_store import Pixels
from hw_caption.models import Encoder
from hw_caption.presets import HOMEWORK
from hw_caption.vocabulary import Vocabulary
from hw_caption.writing import Writer
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import BEST, CONFIG, Run

_LONGEST = 1000  # words: a run folder from elsewhere must not keep the machine busy for ever


class _Files:
    """Image files, as `data.Inputs`: their features, or their pixels if the captioner has an encoder of its own."""

    def __init__(self, pixels: Pixels, encoder: Encoder | None) -> None:
        self.views = pixels.views
        self._pixels = pixels
        self._encoder = encoder

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """See `data.Inputs`."""
        images = self._pixels.take(names, views)
        return images if self._encoder is None else self._encoder(images).half().float()  # as they are stored


@dataclass(frozen=True)
class Finished:
    """A finished run with its best weights.

    Attributes:
        run: the folder.
        writer: writes with the model.
        way: of decoding that the run was made for.
        size: of the images, in pixels.
        encoder: the frozen one; None if the model has one that was trained.
    """

    run: Run
    writer: Writer
    way: str
    size: int
    encoder: Encoder | None

    def write(self, images: Sequence[DatasetFile], way: str) -> list[list[str]]:
        """The words of a caption for each of `images`, which have different names.

        Raises:
            UserError: one of the files is no image.
        """
        inputs = _Files(Pixels(images, self.size), self.encoder)
        with torch.inference_mode():
            return self.writer.write(inputs, [image.name for image in images], way)


def open_finished(folder: Path, beam: int | None = None, kernels: str = "fast") -> Finished:
    """Opens a run folder for use.

    Args:
        folder: of the run.
        beam: width of the beam search; the run's own by default.
        kernels: "plain" or "fast", see `experiment.build_model`.

    Raises:
        UserError: it is not a run, is unfinished or damaged, its weights belong to another decoder or vocabulary, or
            the encoder's weights are not those that it was trained with.
    """
    run = Run.open(folder, HOMEWORK)
    arguments = train.COMMAND.parse_saved(run)
    arguments.kernels = kernels
    longest = run.summary().get("longest")
    if not isinstance(longest, int) or not 1 <= longest <= _LONGEST:
        raise UserError(f"{folder} is damaged: its summary does not say how long a caption can be")
    vocabulary = Vocabulary.load(run.folder / VOCABULARY)
    if arguments.finetune_encoder:
        arguments.weights = "none"  # whatever they were before: its own come with the decoder's
    encoder = load_encoder(arguments)
    model = build_model(arguments, len(vocabulary), encoder if arguments.finetune_encoder else torch.nn.Identity())
    path = run.folder / BEST
    checkpoints.load_into(model, checkpoints.load_weights(path, weights_metadata(arguments, vocabulary)), path)
    digest = run.config.get("data", {}).get("encoder")
    if not arguments.finetune_encoder and backbone.weights_sha256(encoder.trunk) != digest:
        raise UserError(
            f"--weights {arguments.weights} in {run.folder / CONFIG} are not those that it was trained with"
        )
    consensus = None
    if arguments.decoding == "consensus":
        path, whose = run.folder / CONSENSUS, consensus_metadata(vocabulary)
        consensus = Consensus.load(path, whose, len(vocabulary), backbone.REGION_SIZE)
    writer = Writer(model.eval(), vocabulary, longest, beam or arguments.beam, consensus)
    own = None if arguments.finetune_encoder else encoder
    return Finished(run, writer, arguments.decoding, arguments.image_size, own)
