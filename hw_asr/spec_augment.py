"""Augmentation of spectrograms: SpecAugment (Park et al., 2019) without time warping, and changes of tempo."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPO = 0.15  # largest relative change of a clip's duration
# Largest sizes of the masks. The course's notebook defines these values and does not use them.
MEL_BANDS, FRAMES = 27, 80
LARGEST_SHARE = 0.2  # largest masked share of a clip's frames (p in the paper); a mask of 80 frames could hide a word


def spec_augment(spectrograms: Tensor, frames: Tensor, generator: torch.Generator) -> Tensor:
    """Sets one random band of mels and one random span of frames to 0 in a copy of each spectrogram.

    The width of each mask is drawn uniformly from 0 to its largest size, then its position.

    Args:
        spectrograms: (B, mels, F), with padding; their mean is about 0.
        frames: (B,), number of frames of each clip.
        generator: generator of the random numbers.
    """
    batch, mels, max_frames = spectrograms.shape
    draws = torch.rand(4, batch, 1, generator=generator)
    widths = torch.minimum(torch.tensor(FRAMES), frames * LARGEST_SHARE)[:, None]
    in_span = _masked(max_frames, widths, frames[:, None], draws[:2])
    in_band = _masked(mels, torch.tensor(MEL_BANDS), torch.tensor(mels), draws[2:])
    return spectrograms.masked_fill((in_band[:, :, None] | in_span[:, None, :]).to(spectrograms.device), 0)


def change_tempo(spectrograms: Tensor, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Stretches or shortens all clips of a batch by one random factor; see `spec_augment` for the arguments.

    Returns:
        The spectrograms (B, mels, new F), and the number of frames (B,) of each clip.
    """
    factor = 1 + TEMPO * (2 * torch.rand(1, generator=generator).item() - 1)
    max_frames = max(1, round(spectrograms.shape[2] * factor))
    stretched = F.interpolate(spectrograms, max_frames, mode="linear")
    frames = (frames * factor).long().clamp(1, max_frames)
    inside = torch.arange(max_frames, device=frames.device) < frames[:, None]
    return stretched * inside[:, None], frames


def _masked(size: int, max_width: Tensor, length: Tensor, draws: Tensor) -> Tensor:
    """(B, size) bool, True in a random span of up to `max_width` positions within the first `length`.

    `max_width` and `length` are (B, 1) or (). `draws` (2, B, 1) are uniform numbers for width and first position.
    """
    width = (draws[0] * max_width).long()
    first = (draws[1] * (length - width)).long()
    positions = torch.arange(size)
    return (positions >= first) & (positions < first + width)
