"""SpecAugment (Park et al., 2019) without its warping: parts of a spectrogram that a network has to do without."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPO = 0.15  # largest change of speed
# The widths in the course's notebook, which defines them and never uses them.
MEL_BANDS, FRAMES = 27, 80
# Of a clip's frames: the course's 80 are half a second, in a clip of one word all there is. The paper's p.
LARGEST_SHARE = 0.2


def spec_augment(spectrograms: Tensor, frames: Tensor, generator: torch.Generator) -> Tensor:
    """Sets a band of mels and a span of time to 0 in each of `spectrograms` (B, mels, T), anew.

    Widths are drawn from 0 up to the course's (of time, up to a fifth of the clip if that is less), then the places.

    Args:
        spectrograms: padded; 0 is about their mean.
        frames: (B,) of each clip.
        generator: draws.
    """
    batch, mels, longest = spectrograms.shape
    draws = torch.rand(4, batch, 1, generator=generator)
    widths = torch.minimum(torch.tensor(FRAMES), frames * LARGEST_SHARE)[:, None]
    in_span = _masked(longest, widths, frames[:, None], draws[:2])
    in_band = _masked(mels, torch.tensor(MEL_BANDS), torch.tensor(mels), draws[2:])
    return spectrograms.masked_fill((in_band[:, :, None] | in_span[:, None, :]).to(spectrograms.device), 0)


def change_tempo(spectrograms: Tensor, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Makes all of `spectrograms` (B, mels, T), and `frames` (B,) of each, longer or shorter by one factor."""
    factor = 1 + TEMPO * (2 * torch.rand(1, generator=generator).item() - 1)
    longest = max(1, round(spectrograms.shape[2] * factor))
    stretched = F.interpolate(spectrograms, longest, mode="linear")
    frames = (frames * factor).long().clamp(1, longest)
    inside = torch.arange(longest, device=frames.device) < frames[:, None]
    return stretched * inside[:, None], frames


def _masked(size: int, widest: Tensor, room: Tensor, draws: Tensor) -> Tensor:
    """(B, size) bool, True in a span of up to `widest` places in the first `room`, as torchaudio draws it."""
    width = (draws[0] * widest).long()
    first = (draws[1] * (room - width)).long()
    places = torch.arange(size)
    return (places >= first) & (places < first + width)
