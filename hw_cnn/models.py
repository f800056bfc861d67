"""The three sheets' networks. Each is written in the order of its sheet's list, one line per item."""

import torch.nn.functional as F
from torch import Tensor, nn

from hw_common.training.dropout import Dropout


class FashionCNN(nn.Module):
    """ist-2021-22-hw2 Q2.2: two convolution blocks, three affine layers; 769 930 parameters for ten classes.

    Args:
        dropout: probability of the one dropout layer.
        classes: outputs.
    """

    criterion = nn.NLLLoss()

    def __init__(self, dropout: float = 0.3, classes: int = 10) -> None:
        super().__init__()
        self.convblock1 = nn.Sequential(nn.Conv2d(1, 16, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.convblock2 = nn.Sequential(nn.Conv2d(16, 32, kernel_size=3), nn.ReLU(), nn.MaxPool2d(2))
        self.fc1 = nn.Linear(32 * 6 * 6, 600)
        self.dropout = Dropout(dropout)
        self.fc2 = nn.Linear(600, 120)
        self.fc3 = nn.Linear(120, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns log-probabilities (B, classes)."""
        return F.log_softmax(self.scores(images), dim=1)

    def scores(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns what goes into the LogSoftmax, (B, classes)."""
        x = self.convblock1(images)  # (B, 16, 14, 14)
        x = self.convblock2(x).flatten(1)  # (B, 1152)
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc3(F.relu(self.fc2(x)))


class OctCNN(nn.Module):
    """ist-2023-24-hw2 Q2.1, and with `no_maxpool` Q2.2; 224 892 parameters for four classes either way.

    Args:
        dropout: probability of the one dropout layer.
        no_maxpool: convolutions of stride 2 in place of the pooling layers.
        classes: outputs.
    """

    criterion = nn.NLLLoss()

    def __init__(self, dropout: float = 0.7, no_maxpool: bool = False, classes: int = 4) -> None:
        super().__init__()
        stride = 2 if no_maxpool else 1
        self.conv1 = nn.Conv2d(1, 8, kernel_size=3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3, stride=stride)
        self.pool = nn.Identity() if no_maxpool else nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 6 * 6, 320)
        self.dropout = Dropout(dropout)
        self.fc2 = nn.Linear(320, 120)
        self.fc3 = nn.Linear(120, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns log-probabilities (B, classes)."""
        return F.log_softmax(self.scores(images), dim=1)

    def scores(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns what goes into the LogSoftmax, (B, classes)."""
        x = self.pool(F.relu(self.conv1(images)))  # (B, 8, 14, 14)
        x = self.pool(F.relu(self.conv2(x))).flatten(1)  # (B, 576)
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc3(F.relu(self.fc2(x)))


class CifarCNN(nn.Module):
    """convnets-2024-a2 Task 1.1; 64 058 parameters for ten classes.

    Args:
        padding: 0 as Task 1 has it; 2 keeps the image's size, as Equation 4 reads (143 930 parameters).
        classes: outputs.
        convolution: makes the convolutions; `MyConv2d` in Task 3.2.
        linear: makes the fully connected layers; `MyLinear` in Task 3.2.
    """

    criterion = nn.CrossEntropyLoss()

    def __init__(
        self,
        padding: int = 0,
        classes: int = 10,
        convolution: type[nn.Module] = nn.Conv2d,
        linear: type[nn.Module] = nn.Linear,
    ) -> None:
        super().__init__()
        side = 5 if padding == 0 else 8
        self.conv1 = convolution(3, 8, kernel_size=5, padding=padding)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = convolution(8, 16, kernel_size=5, padding=padding)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = linear(16 * side * side, 128)
        self.fc2 = linear(128, 64)
        self.fc3 = linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, 32, 32) float; returns scores (B, classes), to which the loss applies the softmax."""
        x = self.pool1(F.relu(self.conv1(images)))
        x = self.pool2(F.relu(self.conv2(x))).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

    scores = forward


SheetCNN = FashionCNN | OctCNN | CifarCNN


def get_number_trainable_params(model: nn.Module) -> int:
    """How many numbers training adjusts (ist-2023-24-hw2 Q2.3)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def sheet_name(path: str) -> str:
    """A module's path as the sheets write it: `convblock1[0]` for `convblock1.0`, `conv1` as it is."""
    owner, _, index = path.rpartition(".")
    return f"{owner}[{index}]" if index.isdigit() else path


def convolutions(model: nn.Module) -> dict[str, nn.Module]:
    """The convolutions of `model` in forward order, under the names that the sheets use."""
    return {
        sheet_name(path): module
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d) or type(module).__name__ == "MyConv2d"
    }
