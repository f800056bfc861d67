"""The networks of dsl-2019-hw3. Their layers have the names and the order of the published report."""

import torch
from torch import Tensor, nn

from hw_common.training.dropout import Dropout
from hw_common.training.lstm import LSTM
from hw_ocr.crf import LinearChainCRF

CLASSES = 26


class OcrCNN(nn.Module):
    """The CNN of dsl-2019-hw3 Q1.2 and, with more layers, of Q1.4.

    It has 32 218, 38 634, 45 050 or 51 466 parameters with 2, 3, 4 or 5 convolutions.

    Args:
        conv_layers: number of convolutions, at least 2; pooling follows the first and the last.
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


class PairwiseClassifier(nn.Module):
    """The linear classifier of pixel pairs with which dsl-2019-hw3 Q1.1 compares the CNN; it has 214 682 parameters.

    Each pair of positions has its own weight, so what is learned about a letter does not carry over to a shifted copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.output_layer = nn.Linear(128 * 129 // 2, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 1, 16, 8) float; returns scores (B, 26)."""
        return self.output_layer(pairwise_products(images.flatten(1)))


def pairwise_products(pixels: Tensor) -> Tensor:
    """The products of every two pixels and the square of every pixel, (B, n (n + 1) / 2), from pixels (B, n)."""
    first, second = torch.triu_indices(pixels.shape[1], pixels.shape[1], device=pixels.device)
    return pixels.index_select(1, first) * pixels.index_select(1, second)  # pixels[:, first] takes 5 times as long


class PerLetter(nn.Module):
    """Applies a network of single letters to each letter of a word, so that a CRF can be put on the CNN.

    Args:
        network: from images (N, 1, 16, 8) to scores (N, 26).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns scores (B, T, 26), 0 in the padding."""
        scores = self.network(images[mask][:, None])  # (letters, 26)
        return scores.new_zeros((*mask.shape, CLASSES)).masked_scatter(mask[:, :, None], scores)


class BidirectionalLSTM(nn.Module):
    """Layers of two LSTMs each: one reads a word from left to right, the other from right to left.

    The second LSTM gets the letters of each word in reverse order, with the padding still at the end, so the padding
    does not affect the letters. The outputs equal those of nn.LSTM(bidirectional=True) on packed sequences.

    Args:
        inputs: features of each letter.
        hidden: units of each LSTM.
        layers: number of layers; each reads the outputs of both LSTMs of the layer below.
        dropout: probability of dropout between the layers.
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
            left_to_right, _ = forwards(x)  # (B, T, hidden)
            right_to_left, _ = backwards(_rearrange(x, order))  # (B, T, hidden), in reverse order
            x = torch.cat([left_to_right, _rearrange(right_to_left, order)], dim=2)  # (B, T, 2 hidden)
        return x


def _reversing_order(mask: Tensor) -> Tensor:
    """The indices into the flattened (B, T) that reverse each word and leave the padding in place, (B·T,)."""
    lengths = mask.sum(1, keepdim=True)
    positions = torch.arange(mask.shape[1], device=mask.device)
    reversed_positions = torch.where(mask, lengths - 1 - positions, positions)
    first = mask.shape[1] * torch.arange(len(mask), device=mask.device)[:, None]  # flat index of each word's position 0
    return (first + reversed_positions).flatten()


def _rearrange(x: Tensor, order: Tensor) -> Tensor:
    return x.flatten(0, 1).index_select(0, order).view_as(x)


class BiLSTM(nn.Module):
    """The BiLSTM of dsl-2019-hw3 Q2.1, with 287 386 parameters.

    The scores of each letter depend on the images of the whole word. The loss is the mean cross-entropy of the letters;
    the padding at the end of short words does not count. Both LSTMs begin with zero states.

    Args:
        hidden: units of the linear layer, and of the LSTM in each direction.
        layers: layers of the LSTM.
        dropout: probability of dropout on the input of each LSTM layer and on the output of the last one.
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
    """The BiLSTM of dsl-2019-hw3 Q2.3 after a convolution, with 336 954 parameters. Arguments are those of `BiLSTM`."""

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
    """A network of words whose scores are the emissions of a linear-chain CRF (dsl-2019-hw3 Q2.2).

    Args:
        network: from images (B, T, 16, 8) and a mask (B, T) to scores (B, T, 26).
        crf: a CRF with 26 tags.
    """

    def __init__(self, network: nn.Module, crf: LinearChainCRF) -> None:
        super().__init__()
        self.network = network
        self.crf = crf

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """images: (B, T, 16, 8) float, mask: (B, T) bool; returns the emissions (B, T, 26) of `crf`."""
        return self.network(images, mask)
