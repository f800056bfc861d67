"""The sheet's speech recognizer: an encoder of spectrograms, and two decoders that write characters (Q3, Figure 1).

Shapes: B clips, F frames of a spectrogram, T positions behind the encoder (half as many, rounded up; a quarter if its
first convolution has stride 2), L characters, D the width, V characters of the alphabet. What lies behind a clip's end
never reaches its output: clips are padded with anything.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_asr.attention import CrossAttentionBlock, EncoderBlock, KeysAndValues, attention
from hw_asr.presets import PRESETS, Sizes
from hw_common.training.lstm import LSTM

_LONGEST_PERIOD = 3000  # positions, of the slowest sinusoid


class AudioEncoder(nn.Module):
    """Appendix B: two convolutions with GELU, the second halving time, sinusoidal positions, then attention blocks."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(sizes.mels, sizes.width, kernel_size=3, padding=1, stride=sizes.first_stride)
        self.conv2 = nn.Conv1d(sizes.width, sizes.width, kernel_size=3, padding=1, stride=2)
        self.blocks = nn.ModuleList(EncoderBlock(sizes) for _ in range(sizes.encoder_blocks))
        self.norm = nn.Identity() if sizes.outer_norm else nn.LayerNorm(sizes.width)

    def forward(self, spectrograms: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encodes clips.

        Args:
            spectrograms: (B, mels, F).
            frames: (B,) int64, of each clip; None if the padding is to be heard, as in the course.

        Returns:
            (B, T, D), and (B, 1, 1, T) bool, True where there is a clip; None if that is everywhere.
        """
        inside = _inside(frames, spectrograms.shape[2])
        # The padding has to be 0 before each convolution, as beyond the end of a clip that is alone.
        x = F.gelu(self.conv1(_clear(spectrograms, inside)))
        inside = None if inside is None else inside[:, :: self.conv1.stride[0]]
        x = F.gelu(self.conv2(_clear(x, inside))).transpose(1, 2)
        x = x + sinusoids(x.shape[1], x.shape[2], x.device)
        mask = None if inside is None else inside[:, None, None, ::2]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


def _inside(frames: Tensor | None, longest: int) -> Tensor | None:
    """(B, F) bool, True in a clip; None if all clips are equally long."""
    if frames is None or bool((frames == longest).all()):
        return None
    return torch.arange(longest, device=frames.device) < frames[:, None]


def _clear(x: Tensor, inside: Tensor | None) -> Tensor:
    """`x` (B, C, F) with 0 behind each clip's end, even where NaN stands there."""
    return x if inside is None else x.masked_fill(~inside[:, None], 0.0)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Absolute positions (length, width): sines of `width / 2` frequencies, then their cosines (Appendix B)."""
    frequencies = torch.exp(torch.arange(width // 2, device=device) * (-math.log(_LONGEST_PERIOD) / (width // 2 - 1)))
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass
class State:
    """What a decoder knows between two characters; batches come first in every tensor.

    Attributes:
        audio_keys: (B, H, T, D / H), of the cross-attention; these and the values stay as they are.
        audio_values: likewise.
        mask: (B, 1, 1, T), or None.
        first: the LSTM's hidden state (B, D), or the keys of the characters so far (B, H, text_positions, D / H).
        second: its cell, or the values.
        length: characters so far.
    """

    audio_keys: Tensor
    audio_values: Tensor
    mask: Tensor | None
    first: Tensor
    second: Tensor
    length: int = 0

    def select(self, rows: Tensor) -> "State":
        """The state of the clips `rows`, each as often as it is named."""
        values = (getattr(self, field.name) for field in fields(self))
        return State(*(value[rows] if isinstance(value, Tensor) else value for value in values))


class TextDecoder(nn.Module):
    """What both decoders have in common: embedding, cross-attention to the audio, norm and classifier (Figure 2)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.cross_attention = CrossAttentionBlock(sizes)
        self.norm = nn.LayerNorm(sizes.width)
        self.classifier = nn.Linear(sizes.width, sizes.vocabulary)

    def forward(self, tokens: Tensor, audio: Tensor, mask: Tensor | None) -> Tensor:
        """Scores of the character after each one, given those up to it.

        Args:
            tokens: (B, L) int64, beginning with START.
            audio: (B, T, D), the encoder's output.
            mask: (B, 1, 1, T) bool, True where there is a clip; None if that is everywhere.

        Returns:
            Logits (B, L, V).
        """
        return self._score(self.read(tokens), self.cross_attention.keys_and_values(audio), mask)

    def _score(self, x: Tensor, audio: KeysAndValues, mask: Tensor | None) -> Tensor:
        return self.classifier(self.norm(self.cross_attention(x, audio, mask)))

    def read(self, tokens: Tensor) -> Tensor:
        """What the decoder knows after each of `tokens` (B, L), before it looks at the audio: (B, L, D)."""
        raise NotImplementedError

    def begin(self, audio: Tensor, mask: Tensor | None) -> State:
        """The state before START."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The scores (B, V) after `tokens` (B,), and the new state; what is known is not recomputed."""
        raise NotImplementedError

    def align(self, tokens: Tensor, audio: Tensor, mask: Tensor | None) -> Tensor:
        """Where the decoder listens before it writes the character after each of `tokens`: (B, L, T)."""
        return self.cross_attention.weights(self.read(tokens), self.cross_attention.keys_and_values(audio)[0], mask)


class TextDecoderRecurrent(TextDecoder):
    """Question 1: an LSTM reads the text, and its output looks at the audio."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.embedding_norm = nn.LayerNorm(sizes.width)
        self.lstm = LSTM(sizes.width, sizes.width, batch_first=True)

    def read(self, tokens: Tensor) -> Tensor:
        """See `TextDecoder`."""
        return self.lstm(self.embedding_norm(self.embedding(tokens)))[0]

    def begin(self, audio: Tensor, mask: Tensor | None) -> State:
        """See `TextDecoder`."""
        nothing = audio.new_zeros(len(audio), self.lstm.hidden_size)
        return State(*self.cross_attention.keys_and_values(audio), mask, nothing, nothing)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `TextDecoder`."""
        embedded = self.embedding_norm(self.embedding(tokens[:, None]))
        x, (hidden, cell) = self.lstm(embedded, (state.first[None], state.second[None]))
        scores = self._score(x, (state.audio_keys, state.audio_values), state.mask)[:, 0]
        return scores, State(state.audio_keys, state.audio_values, state.mask, hidden[0], cell[0], state.length + 1)


class TextDecoderTransformer(TextDecoder):
    """Question 2: a residual attention layer reads the text, with a mask that hides the future."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.positions = nn.Parameter(torch.rand(sizes.text_positions, sizes.width))
        self.self_attention = attention(sizes)

    def read(self, tokens: Tensor) -> Tensor:
        """See `TextDecoder`."""
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        return self.self_attention(x, causal=True)

    def begin(self, audio: Tensor, mask: Tensor | None) -> State:
        """See `TextDecoder`."""
        keys, values = self.cross_attention.keys_and_values(audio)
        nothing = keys.new_zeros(*keys.shape[:2], len(self.positions), keys.shape[3])
        return State(keys, values, mask, nothing, nothing.clone())

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `TextDecoder`."""
        place, layer = state.length, self.self_attention
        x = (self.embedding(tokens) + self.positions[place])[:, None]
        keys, values = layer.module.keys_and_values(layer.norm(x))
        state.first[:, :, place], state.second[:, :, place] = keys[:, :, 0], values[:, :, 0]
        state.length += 1
        x = layer(x, (state.first[:, :, : place + 1], state.second[:, :, : place + 1]))
        return self._score(x, (state.audio_keys, state.audio_values), state.mask)[:, 0], state


class SpeechToText(nn.Module):
    """The whole network of Figure 1.

    Args:
        encoder: of spectrograms.
        decoder: of their text.
        ctc: a classifier of the encoder's positions, which only helps training; None as on the sheet.
    """

    def __init__(self, encoder: AudioEncoder, decoder: TextDecoder, ctc: nn.Linear | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.ctc = ctc

    def forward(self, spectrograms: Tensor, frames: Tensor | None, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Scores of the character after each one; see `AudioEncoder` and `TextDecoder` for the arguments.

        While a network with CTC is trained, the scores (B, T, V) of what is heard at each position come second.
        """
        audio, mask = self.encoder(spectrograms, frames)
        logits = self.decoder(tokens, audio, mask)
        return (logits, self.ctc(audio)) if self.ctc is not None and self.training else logits


def build_model(preset: str = "sheet", decoder: str = "lstm", sizes: Sizes | None = None) -> SpeechToText:
    """A network with new weights.

    Args:
        preset: "sheet", as the sheet prints it, or "notebook", as the course's notebook has it.
        decoder: "lstm" (Question 1) or "transformer" (Question 2).
        sizes: others than the preset's.
    """
    sizes = sizes or PRESETS[preset]
    kind = {"lstm": TextDecoderRecurrent, "transformer": TextDecoderTransformer}[decoder]
    ctc = nn.Linear(sizes.width, sizes.vocabulary) if sizes.ctc else None
    return SpeechToText(AudioEncoder(sizes), kind(sizes), ctc)
