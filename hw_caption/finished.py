"""Opens a finished run for captioning image files."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw_caption import backbone, train
from hw_caption.consensus import Consensus
from hw_caption.decoding import CaptionGenerator
from hw_caption.experiment import CONSENSUS, VOCABULARY, build_model, file_metadata, load_encoder
from hw_caption.feature_store import Pixels
from hw_caption.models import Encoder
from hw_caption.presets import Settings
from hw_caption.vocabulary import Vocabulary
from hw_common.commands.trained import open_trained
from hw_common.data.dataset_files import DatasetFile
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, Run
from hw_common.training.backbones import BACKBONES

_MAX_LENGTH = 1000  # words; a manipulated run folder must not make the search run for hours


class _FileInputs:
    """Image files as `data.Inputs`: their features, or their pixels if the model contains the encoder."""

    def __init__(self, pixels: Pixels, encoder: Encoder | None) -> None:
        self._pixels = pixels
        self._encoder = encoder

    def take(self, names: Sequence[str], views: Sequence[int] | None = None) -> Tensor:
        """See `data.Inputs`."""
        images = self._pixels.take(names, views)
        if self._encoder is None:
            return images
        features: Tensor = self._encoder(images)
        return features.half().float()  # rounded like the features in a FeatureStore


@dataclass(frozen=True)
class Finished:
    """A finished run with the weights of its best epoch."""

    run: Run
    generator: CaptionGenerator  # generates captions with the run's model
    decoding: str  # the decoding that the run used
    image_size: int  # height and width of the encoder's input, in pixels
    encoder: Encoder | None  # the frozen encoder; None if the encoder was trained and is part of the model

    def generate(self, images: Sequence[DatasetFile], decoding: str) -> list[list[str]]:
        """The words of a caption for each of `images`, whose names must differ.

        Raises:
            UserError: a file is not an image.
        """
        with torch.inference_mode():
            return self.generator.generate(self._inputs(images), [image.name for image in images], decoding)

    def attention_maps(self, image: DatasetFile, caption: Sequence[str]) -> np.ndarray | None:
        """The attention weights before each word of `caption`: (words, rows, columns); None without attention.

        Raises:
            UserError: the file is not an image.
        """
        with torch.inference_mode():
            return self.generator.attention_maps(self._inputs([image]), image.name, caption)

    def _inputs(self, images: Sequence[DatasetFile]) -> _FileInputs:
        return _FileInputs(Pixels(images, self.image_size), self.encoder)


def open_finished(folder: Path, beam: int | None = None, kernels: str = "fast") -> Finished:
    """Opens the folder of a finished run.

    Args:
        folder: the run folder.
        beam: width of the beam search; None for the width that the run used.
        kernels: "plain" or "fast", see `experiment.build_model`.

    Raises:
        UserError: the folder is not a finished run or is damaged, its weights do not fit its decoder or vocabulary, or
            the encoder's weights have changed since the training.
    """
    trained = open_trained(train.COMMAND, folder)
    run, settings = trained.run, Settings.from_arguments(trained.arguments)
    settings = dataclasses.replace(settings, kernels=kernels, beam=beam or settings.beam)
    max_length = trained.summary.get("longest")
    if not isinstance(max_length, int) or not 1 <= max_length <= _MAX_LENGTH:
        raise UserError(f"{folder} is damaged: its summary has no valid maximum length of a caption")
    vocabulary = Vocabulary.load(run.folder / VOCABULARY)
    if settings.finetune_encoder:
        # The weights of the encoder are replaced below by the trained ones in best.safetensors.
        encoder = load_encoder("none", settings.data_dir, settings.backbone)
        model = build_model(settings, len(vocabulary), encoder)
    else:
        encoder = load_encoder(settings.weights, settings.data_dir, settings.backbone)
        model = build_model(settings, len(vocabulary), torch.nn.Identity())
    trained.load(model, file_metadata(vocabulary, decoder=settings.decoder))
    digest = run.config.get("data", {}).get("encoder")
    if not settings.finetune_encoder and backbone.weights_sha256(encoder.trunk) != digest:
        raise UserError(f"--weights {settings.weights} in {run.folder / CONFIG} have changed since the training")
    consensus = None
    if settings.decoding == "consensus":
        channels = BACKBONES[settings.backbone].channels
        consensus = Consensus.load(run.folder / CONSENSUS, file_metadata(vocabulary), len(vocabulary), channels)
    generator = CaptionGenerator(model, vocabulary, max_length, settings.beam, consensus)
    frozen = None if settings.finetune_encoder else encoder
    return Finished(run, generator, settings.decoding, settings.image_size, frozen)
