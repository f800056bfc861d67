"""The report's networks, one line per item of its constructors, in its order and with its names."""

import torch
from torch import Tensor, nn

from hw_common.training.dropout import Dropout
from hw_common.training.lstm import LSTM
from hw_ocr.crf import LinearChainCRF

CLASSES = 26


class OcrCNN(nn.Module):
    """dsl-2019-hw3 Q1.2, with more layers Q1.4: 32 218 / 38 634 / 45 050 / 51 466 parameters for 2 to 5 layers.

    Args:
        conv_layers: how many convolutions, 2 or more; the first and the last are followed by pooling.
    """

    def __init__(self, conv_layers: int = 2) -> None:
        super().__init__()
        self.layers = conv_layers
        self.layer1 = nn.Sequential(nn.Conv2d(1, 16, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        for number in range(2, conv_layers):
            self.add_module(f"layer{number}", nn.Sequential(nn.Conv2d(16, 16, kernel_size=5, padding=2), nn.ReLU()))
        last = nn.Sequential(nn.Conv2d(16, 32, kernel_size=7, padding=3), nn.ReLU(), nn.MaxPool2d(2))
        self.add_module(f"layer{conv_layers}", last)
        self.output_layer = nn.Linear(4 * 2 * 32, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 1, 16, 8) float; returns scores (B, 26)."""
        x = images
        for number in range(1, self.layers + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.output_layer(x.flatten(1))  # (B, 32, 4, 2) to (B, 256)


class PerLetter(nn.Module):
    """Applies a network of single letters to each letter of a word: what a CRF on the CNN needs.

    Args:
        network: (N, 1, 16, 8) to (N, 26).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns scores (B, T, 26), 0 in the padding."""
        scores = self.network(images[mask][:, None])  # (letters, 26)
        return scores.new_zeros((*mask.shape, CLASSES)).masked_scatter(mask[:, :, None], scores)


class BidirectionalLSTM(nn.Module):
    """LSTMs that read a word from both ends, in layers; padding has no influence on what they read.

    nn.LSTM(bidirectional=True) starts its second direction in the padding, unless sequences are packed. Here each
    direction is an LSTM of its own and the second one gets the letters of each word in reverse, so that padding comes
    last for both: the same numbers as packed ones, in less time on a CPU, whose fast LSTM takes no packed sequences.

    Args:
        inputs: numbers per letter.
        hidden: units in each direction.
        layers: each reads both directions of the one before.
        dropout: probability, between the layers.
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [inputs] + [2 * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(LSTM(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(LSTM(size, hidden, batch_first=True) for size in sizes)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, T, inputs), mask: (B, T) bool; returns (B, T, 2 hidden), arbitrary in the padding."""
        order = _reversing_order(mask)
        for number, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if number > 0:
                x = self.dropout(x)
            ahead, _ = forwards(x)
            back, _ = backwards(_rearrange(x, order))
            x = torch.cat([ahead, _rearrange(back, order)], dim=2)
        return x


def _reversing_order(mask: Tensor) -> Tensor:
    """Where each place of the flattened (B, T) takes its letter from, so that words are reversed and padding stays."""
    lengths = mask.sum(1, keepdim=True)
    positions = torch.arange(mask.shape[1], device=mask.device)
    reversed_positions = torch.where(mask, lengths - 1 - positions, positions)
    first = mask.shape[1] * torch.arange(len(mask), device=mask.device)[:, None]
    return (first + reversed_positions).flatten()


def _rearrange(x: Tensor, order: Tensor) -> Tensor:
    return x.flatten(0, 1).index_select(0, order).view_as(x)


class BiLSTM(nn.Module):
    """dsl-2019-hw3 Q2.1; 287 386 parameters.

    Args:
        hidden: units of the linear layer, and of the LSTM in each direction.
        layers: of the LSTM.
        dropout: probability, on what goes into each layer of the LSTM and on what comes out of the last.
    """

    def __init__(self, hidden: int = 128, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(16 * 8, hidden), nn.Tanh())
        self.dropout = Dropout(dropout)
        self.layer2 = BidirectionalLSTM(hidden, hidden, layers, dropout)
        self.output_layer = nn.Linear(2 * hidden, CLASSES)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns scores (B, T, 26), arbitrary in the padding."""
        x = self.layer1(images.flatten(2))  # (B, T, hidden)
        x = self.layer2(self.dropout(x), mask)  # (B, T, 2 hidden)
        return self.output_layer(self.dropout(x))


class ConvBiLSTM(nn.Module):
    """dsl-2019-hw3 Q2.3; 336 954 parameters.

    Args:
        hidden: units of the linear layer, and of the LSTM in each direction.
        layers: of the LSTM.
        dropout: probability, on what goes into each layer of the LSTM and on what comes out of the last.
    """

    def __init__(self, hidden: int = 128, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 16, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(nn.Linear(8 * 4 * 16, hidden), nn.Tanh())
        self.dropout = Dropout(dropout)
        self.layer3 = BidirectionalLSTM(hidden, hidden, layers, dropout)
        self.output_layer = nn.Linear(2 * hidden, CLASSES)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns scores (B, T, 26), arbitrary in the padding."""
        x = self.layer1(images.flatten(0, 1)[:, None])  # (B * T, 16, 8, 4)
        x = self.layer2(x.flatten(1)).unflatten(0, mask.shape)  # (B, T, hidden)
        x = self.layer3(self.dropout(x), mask)  # (B, T, 2 hidden)
        return self.output_layer(self.dropout(x))


class WithCRF(nn.Module):
    """A network of words with a linear-chain CRF on top (dsl-2019-hw3 Q2.2). The network's scores are its emissions.

    Args:
        network: from images (B, T, 16, 8) and a mask (B, T) to scores (B, T, 26).
        crf: of 26 tags.
    """

    def __init__(self, network: nn.Module, crf: LinearChainCRF) -> None:
        super().__init__()
        self.network = network
        self.crf = crf

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns the emissions (B, T, 26) of `crf`."""
        return self.network(images, mask)
