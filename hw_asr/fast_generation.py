"""Fast generation: computes the logits of `hw_asr.models.Prefixes` without reading the text again for each character.

The keys and values of the audio and of the characters so far, and the state of the LSTM, are kept from one step to the
next. Shapes as in `hw_asr.models`; H heads, d_k = D / H.
"""

from torch import Tensor, nn

from hw_asr.attention import MultiHeadAttention, SubBlock
from hw_asr.fast_attention import cast_once, fast_attention, keys_and_values, use_fast_attention
from hw_asr.models import (
    AudioEncoder,
    Prefixes,
    SpeechToText,
    TextDecoder,
    TextDecoderRecurrent,
    TextDecoderTransformer,
)


class FastSpeechToText(SpeechToText):
    """`SpeechToText` with the same parameters, but with fast attention and fast generation."""

    def __init__(self, encoder: AudioEncoder, decoder: TextDecoder, ctc: nn.Linear | None = None) -> None:
        super().__init__(encoder, decoder, ctc)
        use_fast_attention(self)

    def begin(self, spectrograms: Tensor, frames: Tensor | None) -> Prefixes:
        """See `SpeechToText`."""
        audio, mask = self.encoder(spectrograms, frames)
        if isinstance(self.decoder, TextDecoderRecurrent):
            return _RecurrentPrefixes(self.decoder, audio, mask)
        assert isinstance(self.decoder, TextDecoderTransformer)
        return _TransformerPrefixes(self.decoder, audio, mask)


class _CachedPrefixes(Prefixes):
    """`Prefixes` with a cache of the audio's keys and values (B, H, T, d_k); the decoder must be in eval mode."""

    def __init__(self, decoder: TextDecoder, audio: Tensor, mask: Tensor | None) -> None:
        self.decoder, self.mask = decoder, mask
        self.audio_keys, self.audio_values = keys_and_values(decoder.cross_attention.attention.module, audio)

    def score(self, x: Tensor) -> Tensor:
        """The logits (B, V) after the last token, whose hidden representation is `x` (B, 1, D)."""
        block = self.decoder.cross_attention
        x = block.mlp(_attend(block.attention, x, self.audio_keys, self.audio_values, self.mask))
        return self.decoder.classifier(self.decoder.norm(x))[:, 0]

    def select(self, rows: Tensor) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])


class _RecurrentPrefixes(_CachedPrefixes):
    """`Prefixes` with a cache of the LSTM's hidden state and cell (B, D)."""

    decoder: TextDecoderRecurrent

    def __init__(self, decoder: TextDecoderRecurrent, audio: Tensor, mask: Tensor | None) -> None:
        super().__init__(decoder, audio, mask)
        self.hidden = self.cell = audio.new_zeros(len(audio), decoder.lstm.hidden_size)

    def step(self, tokens: Tensor) -> Tensor:
        x = self.decoder.embedding_norm(self.decoder.embedding(tokens[:, None]))
        x, (hidden, cell) = self.decoder.lstm(x, (self.hidden[None], self.cell[None]))
        self.hidden, self.cell = hidden[0], cell[0]
        return self.score(x)


class _TransformerPrefixes(_CachedPrefixes):
    """`Prefixes` with a cache (B, H, text_positions, d_k) of the keys and values of the characters so far."""

    decoder: TextDecoderTransformer

    def __init__(self, decoder: TextDecoderTransformer, audio: Tensor, mask: Tensor | None) -> None:
        super().__init__(decoder, audio, mask)
        batch, heads, _, d_k = self.audio_keys.shape
        self.keys = self.audio_keys.new_zeros(batch, heads, len(decoder.positions), d_k)
        self.values = self.keys.clone()
        self.length = 0

    def step(self, tokens: Tensor) -> Tensor:
        position, block = self.length, self.decoder.self_attention
        self.length += 1
        x = (self.decoder.embedding(tokens) + self.decoder.positions[position])[:, None]
        keys, values = keys_and_values(block.module, block.norm(x))
        self.keys[:, :, position], self.values[:, :, position] = keys[:, :, 0], values[:, :, 0]
        x = _attend(block, x, self.keys[:, :, : self.length], self.values[:, :, : self.length], None)
        return self.score(x)


def _attend(
    block: SubBlock[MultiHeadAttention], x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """Applies an attention sub-block to tokens `x` (B, 1, D), with cached keys and values."""
    layer = block.module
    queries = layer.split(layer.query(cast_once(block.norm(x))))
    heads = fast_attention(queries, keys, values, mask)
    return block.outer_norm(x + layer.out(layer.concatenate(heads)))
