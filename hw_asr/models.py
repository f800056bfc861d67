"""The sheet's speech recognizer: an encoder of spectrograms and two decoders of text (ist-2023-24-hw2 Q3, Figure 1).

Shapes: B clips, F frames of a spectrogram, T positions of the encoder's output (half of F, rounded up, or a quarter if
the first convolution has stride 2), L characters, D the hidden dimension (`width`), V characters in the vocabulary.
Spectrograms of different lengths share a batch; the padding of a clip does not influence the output for the clip.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_asr.attention import CrossAttentionBlock, EncoderBlock, MultiHeadAttention, SubBlock
from hw_asr.presets import Sizes
from hw_common.training.lstm import LSTM

_SLOWEST_SCALE = 3000  # positions; the slowest sinusoid is sin(position / _SLOWEST_SCALE)


class AudioEncoder(nn.Module):
    """Appendix B: two convolutions with GELU, the second with stride 2, sinusoidal positions, then encoder blocks."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(sizes.mels, sizes.width, kernel_size=3, padding=1, stride=sizes.first_stride)
        self.conv2 = nn.Conv1d(sizes.width, sizes.width, kernel_size=3, padding=1, stride=2)
        self.blocks = nn.ModuleList(EncoderBlock(sizes) for _ in range(sizes.encoder_blocks))
        # Without the blocks' outer norms, one LayerNorm follows after all blocks, as in the notebook.
        self.norm = nn.Identity() if sizes.outer_norm else nn.LayerNorm(sizes.width)

    def forward(self, spectrograms: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encodes a batch of clips.

        Args:
            spectrograms: (B, mels, F).
            frames: (B,) int64, number of frames of each clip; None to process padding like sound, as in the notebook.

        Returns:
            The hidden representation (B, T, D), and a mask (B, 1, 1, T) bool that is True for the positions of a clip
            and False for padding; the mask is None if there is no padding.
        """
        inside = _inside(frames, spectrograms.shape[2])
        # A convolution pads a single clip with 0. Setting the padding in the batch to 0 gives the same output.
        x = F.gelu(self.conv1(_clear(spectrograms, inside)))  # (B, D, F), or F/2 with stride 2
        inside = None if inside is None else inside[:, :: self.conv1.stride[0]]
        x = F.gelu(self.conv2(_clear(x, inside))).transpose(1, 2)  # (B, T, D)
        x = x + sinusoids(x.shape[1], x.shape[2], x.device)
        mask = None if inside is None else inside[:, None, None, ::2]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


def _inside(frames: Tensor | None, max_frames: int) -> Tensor | None:
    """(B, F) bool, True for the frames of a clip and False for padding; None if there is no padding."""
    if frames is None or bool((frames == max_frames).all()):
        return None
    return torch.arange(max_frames, device=frames.device) < frames[:, None]


def _clear(x: Tensor, inside: Tensor | None) -> Tensor:
    """`x` (B, C, F) with padding set to 0, even where it is NaN."""
    return x if inside is None else x.masked_fill(~inside[:, None], 0.0)


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Absolute position embeddings (length, width): sines of width/2 frequencies, then their cosines (Appendix B)."""
    frequencies = torch.exp(torch.arange(width // 2, device=device) * (-math.log(_SLOWEST_SCALE) / (width // 2 - 1)))
    angles = torch.arange(length, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TextDecoder(nn.Module):
    """The layers that both decoders share: embedding, cross-attention block, normalization, classifier (Figure 2).

    The decoders differ in `hidden` (Question 3.3): an LSTM or self-attention turns the preceding text into the queries
    with which the cross-attention finds the sound of the next character. The test loss is computed with the true
    preceding text. The published values for LJSpeech are almost equal: 1.18 with the LSTM and 1.16 with attention. For
    the similarities, a decoder continues its own text, errors included, and has to keep its position in the sound. The
    Damerau-Levenshtein similarities are far apart: 0.51 with the LSTM, 0.63 with attention. The classes below say how
    each mechanism can lead to this; these explanations are hypotheses. With little training, the ranking is different:
    on the recordings of spoken digits, the LSTM makes fewer errors.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.cross_attention = CrossAttentionBlock(sizes)
        self.norm = nn.LayerNorm(sizes.width)
        self.classifier = nn.Linear(sizes.width, sizes.vocabulary)

    def forward(self, tokens: Tensor, audio: Tensor, mask: Tensor | None) -> Tensor:
        """Computes the logits (B, L, V) of the character that follows each token, given that token and those before it.

        Args:
            tokens: (B, L) int64, beginning with START.
            audio: (B, T, D), the encoder's output.
            mask: (B, 1, 1, T) bool, the encoder's mask; None if there is no padding.
        """
        x = self.hidden(tokens)  # (B, L, D)
        x = self.cross_attention(x, audio, mask)
        return self.classifier(self.norm(x))

    def hidden(self, tokens: Tensor) -> Tensor:
        """The representation (B, L, D) of `tokens` (B, L) from which the cross-attention computes its queries."""
        raise NotImplementedError

    def alignment(self, tokens: Tensor, audio: Tensor, mask: Tensor | None) -> Tensor:
        """The cross-attention weights (B, L, T), averaged over the heads, for the arguments of `forward`.

        They show which sound the decoder uses for which character: row i holds the weights that predict the character
        after token i, and column t stands for encoder position t. The figure `alignment` draws them.
        """
        return self.cross_attention.weights(self.hidden(tokens), audio, mask)


class TextDecoderRecurrent(TextDecoder):
    """Question 3.1 (Figure 2a): an LSTM processes the text.

    It processes one character after another. Information about the earlier ones reaches it only through its state of
    2 D units, which each character changes; so the result depends on the order of the characters. A wrong character
    therefore changes every later query, and the decoder can lose its position in the sound (Question 3.3). The order is
    built in and need not be learned, which helps if there are few training clips.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.embedding_norm = nn.LayerNorm(sizes.width)
        self.lstm = LSTM(sizes.width, sizes.width, batch_first=True)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Embeds and normalizes the tokens and runs the LSTM on them; see `TextDecoder`."""
        return self.lstm(self.embedding_norm(self.embedding(tokens)))[0]  # the output of every step


class TextDecoderTransformer(TextDecoder):
    """Question 3.2 (Figure 2b): a residual attention layer with a causal mask processes the text.

    The output for a character is computed from a weighted sum over all characters up to it, near or far. The sum
    ignores their order, so position embeddings are learned, for at most `text_positions` characters. Each query
    contains its own position and depends on each character directly, so after a wrong character the decoder can still
    find its position in the sound (Question 3.3). Learning the position embeddings takes many training steps.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.positions = nn.Parameter(torch.rand(sizes.text_positions, sizes.width))  # learned; L ≤ text_positions
        self.self_attention = SubBlock(MultiHeadAttention(sizes.width, sizes.heads), sizes)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Adds position embeddings to the token embeddings and applies causal self-attention; see `TextDecoder`."""
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        return self.self_attention(x, causal=True)  # padding follows the text, so the causal mask hides it


class SpeechToText(nn.Module):
    """The encoder-decoder network of Figure 1.

    For a CTC loss in training, which the sheet does not have, `ctc` classifies each encoder position (D to V).
    """

    def __init__(self, encoder: AudioEncoder, decoder: TextDecoder, ctc: nn.Linear | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.ctc = ctc

    def forward(self, spectrograms: Tensor, frames: Tensor | None, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Computes the decoder's logits (B, L, V); see `AudioEncoder` and `TextDecoder` for the arguments.

        In training mode, a network with a CTC classifier also returns the classifier's logits (B, T, V).
        """
        audio, mask = self.encoder(spectrograms, frames)
        logits = self.decoder(tokens, audio, mask)
        return (logits, self.ctc(audio)) if self.ctc is not None and self.training else logits

    def begin(self, spectrograms: Tensor, frames: Tensor | None) -> "Prefixes":
        """Encodes clips to generate their texts; see `AudioEncoder` for the arguments."""
        return Prefixes(self.decoder, *self.encoder(spectrograms, frames))


class Prefixes:
    """The characters generated so far for a batch of clips, with the encoder's output (B, T, D) and mask."""

    def __init__(self, decoder: TextDecoder, audio: Tensor, mask: Tensor | None) -> None:
        self.decoder, self.audio, self.mask = decoder, audio, mask
        self.tokens = torch.empty(len(audio), 0, dtype=torch.int64, device=audio.device)

    def step(self, tokens: Tensor) -> Tensor:
        """Appends `tokens` (B,) and returns the logits (B, V) of the characters that follow."""
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        return self.decoder(self.tokens, self.audio, self.mask)[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keeps only the rows with the indices `rows`, in this order; an index may occur several times."""
        self.tokens, self.audio = self.tokens[rows], self.audio[rows]
        self.mask = None if self.mask is None else self.mask[rows]
