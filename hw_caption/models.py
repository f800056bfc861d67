"""The sheet's encoder and its two decoders, one step at a time as it describes them, and whole captions at once.

Shapes: B images, R regions of an image (7·7), T words of a caption, V words of the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hw_caption.loop import AttentionLoop
from hw_common.training import lstm
from hw_common.training.dropout import Dropout


class Encoder(nn.Module):
    """A convolutional network whose last feature map is read region by region.

    It stays in eval mode: its batch normalization keeps the statistics that it was pretrained with, so that an image's
    features do not depend on the images beside it (REFERENCE.md, trap 7).

    Args:
        trunk: images (B, 3, H, W) to feature maps (B, encoder_dim, h, w).
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk.eval()

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float; returns regions (B, R, encoder_dim)."""
        return self.trunk(images).flatten(2).transpose(1, 2)

    def train(self, mode: bool = True) -> "Encoder":
        """Leaves the trunk in eval mode."""
        super().train(mode)
        self.trunk.eval()
        return self


class State(NamedTuple):
    """What a decoder knows between two words.

    Attributes:
        hidden: (B, decoder_dim).
        cell: (B, decoder_dim).
        regions: (B, R, encoder_dim).
        projected: (B, R, attention_dim), the regions as the attention sees them; None without attention.
    """

    hidden: Tensor
    cell: Tensor
    regions: Tensor
    projected: Tensor | None = None

    def select(self, rows: Tensor) -> "State":
        """The state of the images `rows`, each as often as it is named."""
        return State(*(tensor if tensor is None else tensor[rows] for tensor in self))


class Decoder(nn.Module):
    """ist-2021-22-hw2 Q3.1(a): an LSTM starts from the image and writes word by word; 697 078 parameters for Sydney.

    Args:
        vocab_size: words, with the special ones.
        embed_dim: size of a word's embedding.
        decoder_dim: size of the LSTM's states.
        encoder_dim: size of a region's features.
        dropout: probability, between the LSTM and the vocabulary.
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
        """regions: (B, R, encoder_dim); returns the LSTM's first hidden and cell state, (B, decoder_dim) each."""
        mean = regions.mean(dim=1)
        return self.init_h(mean), self.init_c(mean)

    def forward(self, word: Tensor, hidden: Tensor, cell: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step, as the sheet's hint describes it.

        Args:
            word: (B,) int64, the current words.
            hidden: (B, decoder_dim).
            cell: (B, decoder_dim).
            regions: (B, R, encoder_dim); this decoder has looked at them before the first word.

        Returns:
            Scores of the next words (B, V), and the new hidden and cell state.
        """
        hidden, cell = self.decode_step(self.embedding(word), (hidden, cell))
        return self.fc(self.dropout(hidden)), hidden, cell

    def begin(self, regions: Tensor) -> State:
        """regions: (B, R, encoder_dim); returns the state before the first word."""
        return State(*self.init_hidden_state(regions), regions)

    def step(self, word: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """`forward` for generation: what does not change from word to word is in `state`.

        Returns:
            Scores (B, V), the new state, and the attention's weights (B, R), None without attention.
        """
        scores, hidden, cell = self(word, state.hidden, state.cell, state.regions)
        return scores, state._replace(hidden=hidden, cell=cell), None

    def hidden_states(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """The hidden states after each of `words` (B, T), which are given: (B, T, decoder_dim).

        Args:
            regions: (B, R, encoder_dim).
            words: (B, T) int64.
            lengths: (B,), how many of the words count; the states after the others mean nothing.
        """
        # No words are left out: packed sequences would keep a CPU from its fast kernel.
        start = self.init_hidden_state(regions)
        return lstm.all_steps(self.decode_step, self.embedding(words), start, self.training)

    def teacher_forced(self, regions: Tensor, captions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """All steps over whole captions at once: the same numbers as `forward` word by word, several times as fast.

        Args:
            regions: (B, R, encoder_dim).
            captions: (B, T) int64, each START, words, END, padding.
            lengths: (B,) int64, without the padding.

        Returns:
            Scores (N, V) of the N words that follow a word, and those words (N,).
        """
        hidden = self.hidden_states(regions, captions[:, :-1], lengths - 1)
        hidden = self.dropout(hidden)  # before the selection, so that each process can draw the whole batch's mask
        counts = torch.arange(captions.shape[1] - 1, device=captions.device) < (lengths - 1)[:, None]
        places = counts.flatten().nonzero().squeeze(1)  # of the words that are followed by one, in all of them
        return self.fc(hidden.flatten(0, 1).index_select(0, places)), captions[:, 1:].flatten()[places]


class Attention(nn.Module):
    """Additive attention (Bahdanau et al. 2015): a small network scores each region for the next word.

    Args:
        encoder_dim: size of a region's features.
        decoder_dim: size of the LSTM's hidden state.
        attention_dim: size of the hidden layer.
    """

    def __init__(self, encoder_dim: int = 512, decoder_dim: int = 256, attention_dim: int = 100) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)

    def forward(self, regions: Tensor, hidden: Tensor, projected: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Looks at an image.

        Args:
            regions: (B, R, encoder_dim).
            hidden: (B, decoder_dim).
            projected: `encoder_att(regions)`, (B, R, attention_dim), where many words share it.

        Returns:
            The attention vector (B, encoder_dim), and the weights (B, R) with which it sums up the regions.
        """
        if projected is None:
            projected = self.encoder_att(regions)
        # tanh(x) is 2 sigmoid(2x) - 1, and on a CPU the sigmoid is three times as fast; the -1 is nothing to softmax.
        energy = (projected + self.decoder_att(hidden)[:, None]).mul_(2).sigmoid_()  # (B, R, attention_dim)
        weights = (2 * self.full_att(energy)).squeeze(2).softmax(dim=1)
        return torch.bmm(weights[:, None], regions).squeeze(1), weights


class DecoderWithAttention(Decoder):
    """ist-2021-22-hw2 Q3.1(b): the decoder looks at the image before each word; 1 298 467 parameters for Sydney.

    Args:
        vocab_size: see `Decoder`.
        embed_dim: see `Decoder`.
        decoder_dim: see `Decoder`.
        encoder_dim: see `Decoder`.
        dropout: see `Decoder`.
        attention_dim: see `Attention`.
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

    def forward(self, word: Tensor, hidden: Tensor, cell: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step, as the sheet's hint describes it; arguments and results as of `Decoder.forward`."""
        scores, state, _ = self.step(word, State(hidden, cell, regions))
        return scores, state.hidden, state.cell

    def begin(self, regions: Tensor) -> State:
        """See `Decoder.begin`."""
        return super().begin(regions)._replace(projected=self.attention.encoder_att(regions))

    def step(self, word: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        """See `Decoder.step`."""
        seen, weights = self.attention(state.regions, state.hidden, state.projected)
        inputs = torch.cat([self.embedding(word), seen], dim=1)
        hidden, cell = self.decode_step(inputs, (state.hidden, state.cell))
        return self.fc(self.dropout(hidden)), state._replace(hidden=hidden, cell=cell), weights

    def hidden_states(self, regions: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """See `Decoder.hidden_states`.

        A loop over the steps has to remain, since the attention asks with the state before. It keeps only what depends
        on that state, and leaves out the captions that have ended.
        """
        lengths, order = lengths.to(words.device).sort(descending=True, stable=True)
        steps, rows = (torch.arange(words.shape[1], device=words.device)[:, None] < lengths).nonzero(as_tuple=True)
        places = order[rows] * words.shape[1] + steps  # in the flattened captions, of the first words, the second, …
        regions = regions[order]
        hidden, cell = self.init_hidden_state(regions)
        attention, step = self.attention, self.decode_step
        projected = attention.encoder_att(regions) + attention.decoder_att.bias
        # Softmax takes no notice of the score's bias; but it is to have its gradient, 0, as it has word by word.
        score = attention.full_att.weight[0] + 0 * attention.full_att.bias
        low = hidden.dtype  # under autocast; what is summed up over the steps stays as precise as the weights
        numbers = (
            self.embedding(words.flatten()[places]), step.weight_ih, step.weight_hh, step.bias_ih + step.bias_hh,
            hidden, cell, regions, projected, attention.decoder_att.weight, score,
        )  # fmt: skip
        with torch.autocast(regions.device.type, enabled=False):
            exact = (tensor.to(step.weight_hh.dtype) for tensor in numbers)
            states = AttentionLoop.apply(*exact, torch.bincount(steps).tolist(), low)
        padded = states.new_zeros(words.numel(), states.shape[1]).index_copy(0, places, states)
        return padded.view(*words.shape, -1)


class Captioner(nn.Module):
    """An encoder, and the decoder that puts into words what it sees; or several decoders, trained side by side.

    Args:
        encoder: inputs to regions (B, R, encoder_dim); nn.Identity() where the inputs are regions already.
        decoders: they share the encoder and nothing else; `decoding` lets them write together.
    """

    def __init__(self, encoder: nn.Module, decoders: Sequence[Decoder]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleList(decoders)

    def forward(self, inputs: Tensor, captions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`Decoder.teacher_forced` of all decoders: scores (decoders · N, V), and the words that they should be for."""
        regions = self.encoder(inputs)
        scores, targets = zip(*(d.teacher_forced(regions, captions, lengths) for d in self.decoders), strict=True)
        return torch.cat(scores), torch.cat(targets)
