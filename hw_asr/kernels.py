"""Builds the network, either from `models.py` and `attention.py` alone or with faster code for the same numbers."""

from torch import nn

from hw_asr.fast_generation import FastSpeechToText
from hw_asr.models import AudioEncoder, SpeechToText, TextDecoderRecurrent, TextDecoderTransformer
from hw_asr.presets import PRESETS, Sizes


def build_model(
    preset: str = "sheet", decoder: str = "lstm", sizes: Sizes | None = None, kernels: str = "fast"
) -> SpeechToText:
    """A network with new weights.

    Args:
        preset: a name in `hw_asr.presets.PRESETS`.
        decoder: "lstm" (Question 3.1) or "transformer" (Question 3.2).
        sizes: sizes of the network; None for the preset's sizes.
        kernels: "plain" to compute with `hw_asr.models` and `hw_asr.attention` alone; "fast" to compute the same
            numbers faster, with the same weights.
    """
    sizes = sizes or PRESETS[preset]
    network = {"plain": SpeechToText, "fast": FastSpeechToText}[kernels]
    text_decoder = {"lstm": TextDecoderRecurrent, "transformer": TextDecoderTransformer}[decoder]
    ctc = nn.Linear(sizes.width, sizes.vocabulary) if sizes.ctc else None
    return network(AudioEncoder(sizes), text_decoder(sizes), ctc)
