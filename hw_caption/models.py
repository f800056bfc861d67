"""The sheet's image captioner: an encoder, and a decoder that writes the caption word by word (ist-2021-22-hw2 Q3.1).

Read `Encoder`, `Decoder` (question a), `Attention` and `DecoderWithAttention` (question b) in this order.
`fast_attention.py` computes the same numbers faster.

Shapes: B images, R = 7·7 regions of an image, T words of a caption, V words of the vocabulary, D = decoder_dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hw_common.training.dropout import Dropout


class Encoder(nn.Module):
    """A pretrained convolutional network without its last layers: it turns an image into a vector for each region.

    It stays in eval mode: with batch normalization in training mode, an image's features would depend on the other
    images of the batch.

    Args:
        trunk: network from images (B, 3, H, W) to feature maps (B, encoder_dim, h, w).
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk.eval()

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float; returns regions (B, R, encoder_dim) with R = h·w."""
        return self.trunk(images).flatten(2).transpose(1, 2)

    def train(self, mode: bool = True) -> "Encoder":
        """Sets the mode, but leaves the trunk in eval mode."""
        super().train(mode)
        self.trunk.eval()
        return self


@dataclass
class State:
    """A decoder's state between two words."""

    hidden: Tensor  # (B, D), the LSTM's hidden state
    cell: Tensor  # (B, D), the LSTM's cell state
    regions: Tensor  # (B, R, encoder_dim), the images
    attention_weights: Tensor | None = None  # (B, R), from the latest step of a decoder with attention

    def select(self, rows: Tensor) -> "State":
        """The states of the captions with the indices `rows`, which may repeat, without attention weights."""
        return State(self.hidden[rows], self.cell[rows], self.regions[rows])


class Decoder(nn.Module):
    """Q3.1(a): an LSTM that starts from the image and reads the caption.

    Args:
        vocab_size: number of words with the special ones; the 190 words of the Sydney data set give 697 078 parameters.
        embed_dim: dimension of a word's embedding.
        decoder_dim: dimension of the LSTM's states.
        encoder_dim: dimension of a region's features.
        dropout: probability of dropout between the LSTM and the last layer.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 100,
        decoder_dim: int = 256,
        encoder_dim: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.decode_step = nn.LSTMCell(embed_dim, decoder_dim)
        self.dropout = Dropout(dropout)
        self.fc = nn.Linear(decoder_dim, vocab_size)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)

    def init_hidden_state(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """regions: (B, R, encoder_dim); returns the LSTM's first hidden and cell state, (B, D) each."""
        mean = regions.mean(dim=1)  # (B, encoder_dim)
        return self.init_h(mean), self.init_c(mean)

    def forward(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of the decoder, as the sheet's hint describes it: reads a word and scores the next one.

        Args:
            word: (B,) int64, the current words.
            state: the hidden and cell state before this step, and the images.

        Returns:
            Scores of the next words (B, V), and the state after this step.
        """
        state = self.next_state(word, state)
        return self.fc(self.dropout(state.hidden)), state

    def next_state(self, word: Tensor, state: State) -> State:
        """The state after reading `word` (B,): the LSTM reads the word's embedding."""
        hidden, cell = self.decode_step(self.embedding(word), (state.hidden, state.cell))
        return State(hidden, cell, state.regions)

    def begin(self, regions: Tensor) -> State:
        """regions: (B, R, encoder_dim); returns the state before the first word."""
        return State(*self.init_hidden_state(regions), regions)

    def hidden_states(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """Reads given captions word by word.

        Args:
            regions: (B, R, encoder_dim).
            words: (B, T) int64.
            lengths: (B,) int64, the number of words of each caption; only a faster subclass needs them.

        Returns:
            The hidden state after each word, (B, T, D); callers must ignore the states after a caption's end.
        """
        state, hidden = self.begin(regions), []
        for word in words.unbind(dim=1):
            state = self.next_state(word, state)
            hidden.append(state.hidden)
        return torch.stack(hidden, dim=1)

    def teacher_forced(self, regions: Tensor, captions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores every next word of given captions (teacher forcing), as training does.

        Dropout and the last layer are applied to all steps at once. Without dropout, the scores are those of `forward`.

        Args:
            regions: (B, R, encoder_dim).
            captions: (B, T) int64; a row is START, words, END, padding.
            lengths: (B,) int64, the captions' lengths without padding.

        Returns:
            Scores (N, V) and the words themselves (N,), for the N words after START in all captions.
        """
        hidden = self.hidden_states(regions, captions[:, :-1], lengths - 1)
        # Padding is removed only after dropout, whose mask is drawn for the whole batch, a row for each caption.
        hidden = self.dropout(hidden)
        is_word = torch.arange(captions.shape[1] - 1, device=captions.device) < (lengths - 1)[:, None]
        positions = is_word.flatten().nonzero().squeeze(1)  # (N,), the words among the B · (T-1) positions
        return self.fc(hidden.flatten(0, 1).index_select(0, positions)), captions[:, 1:].flatten()[positions]


class Attention(nn.Module):
    """Additive attention (Bahdanau et al. 2015): a small network scores each region for the next word.

    Args:
        encoder_dim: dimension of a region's features.
        decoder_dim: dimension of the LSTM's hidden state.
        attention_dim: dimension of the hidden layer.
    """

    def __init__(self, encoder_dim: int = 512, decoder_dim: int = 256, attention_dim: int = 100) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)

    def forward(self, regions: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the attention vector: a weighted sum of the regions whose weights sum to 1.

        Args:
            regions: (B, R, encoder_dim).
            hidden: (B, D), the LSTM's hidden state.

        Returns:
            The attention vector (B, encoder_dim) and the weights (B, R).
        """
        keys = self.encoder_att(regions)  # (B, R, attention_dim)
        query = self.decoder_att(hidden)[:, None]  # (B, 1, attention_dim)
        energies = self.full_att(torch.tanh(keys + query)).squeeze(2)  # (B, R)
        weights = energies.softmax(dim=1)
        return (weights[:, :, None] * regions).sum(dim=1), weights


class DecoderWithAttention(Decoder):
    """Q3.1(b): before each word, the decoder attends to the image.

    The arguments are those of `Decoder`, and the attention_dim of `Attention`. The 190 words of the Sydney data set
    give 1 298 467 parameters.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int = 100,
        decoder_dim: int = 256,
        encoder_dim: int = 512,
        dropout: float = 0.5,
        attention_dim: int = 100,
    ) -> None:
        super().__init__(vocab_size, embed_dim, decoder_dim, encoder_dim, dropout)
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim)

    def next_state(self, word: Tensor, state: State) -> State:
        """The state after reading `word` (B,): the LSTM reads the word's embedding and the attention vector."""
        context, weights = self.attention(state.regions, state.hidden)
        inputs = torch.cat([self.embedding(word), context], dim=1)  # (B, embed_dim + encoder_dim)
        hidden, cell = self.decode_step(inputs, (state.hidden, state.cell))
        return State(hidden, cell, state.regions, weights)


class Captioner(nn.Module):
    """An encoder with one decoder, or with several decoders that are trained together.

    Args:
        encoder: network from inputs to regions (B, R, encoder_dim); nn.Identity() if the inputs are regions already.
        decoders: the decoders, each with weights of its own; `decoding` combines their predictions.
    """

    def __init__(self, encoder: nn.Module, decoders: Sequence[Decoder]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleList(decoders)

    @property
    def ensemble(self) -> list[Decoder]:
        """The decoders as a list."""
        return [decoder for decoder in self.decoders if isinstance(decoder, Decoder)]

    def forward(self, inputs: Tensor, captions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Applies `Decoder.teacher_forced` of each decoder: scores (decoders · N, V), and words (decoders · N,)."""
        regions = self.encoder(inputs)
        pairs = [decoder.teacher_forced(regions, captions, lengths) for decoder in self.ensemble]
        scores, words = zip(*pairs, strict=True)
        return torch.cat(scores), torch.cat(words)
