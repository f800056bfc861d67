"""The networks of three sheets, with the layers in the order in which each sheet lists them.

FashionCNN: ist-2021-22-hw2, Question 2.2. OctCNN: ist-2023-24-hw2, Questions 2.1 and 2.2, and
`get_number_trainable_params`, Question 2.3. CifarCNN: convnets-2024-a2, Task 1.1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hw_cnn.layers import MyConv2d
from hw_common.training.dropout import Dropout  # nn.Dropout with the same masks for any number of processes


class FashionCNN(nn.Module):
    """ist-2021-22-hw2, Question 2.2: two convolution blocks and three affine layers.

    It has 769 930 parameters for ten classes. After 15 epochs of SGD on Fashion-MNIST, the learning rate 0.01 has a
    better validation accuracy than 0.001 and 0.1, in our runs as in the published report.

    Args:
        dropout: probability of the dropout layer.
        classes: number of outputs.
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
        """images: (B, 1, 28, 28) float; returns the input of the LogSoftmax, (B, classes)."""
        x = self.convblock1(images)  # (B, 16, 14, 14)
        x = self.convblock2(x).flatten(1)  # (B, 1152)
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc3(F.relu(self.fc2(x)))


class OctCNN(nn.Module):
    """ist-2023-24-hw2, Question 2.1; with `no_maxpool`, Question 2.2.

    Question 2.2 trains with the same settings as Question 2.1, including the learning rate that was best there.

    With and without `no_maxpool`, it has 224 892 parameters for four classes (Question 2.3): pooling has no parameters,
    and fc1 gets 16 × 6 × 6 inputs in either case. The published test accuracy is 0.830 with max-pooling and 0.022 lower
    without it. Capacity is not the reason, because the numbers of parameters are equal. The variants differ elsewhere:
    max-pooling keeps the largest of four neighbours, which is one more non-linearity, while a stride of 2 skips three
    of four positions. The strided convolutions need a quarter of the multiplications, and an input of fc1 depends on
    7×7 pixels, not on 10×10. Each of these can favour max-pooling; they were not measured one by one.

    Args:
        dropout: probability of the dropout layer.
        no_maxpool: whether convolutions of stride 2 replace the pooling layers.
        classes: number of outputs.
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
        """images: (B, 1, 28, 28) float; returns the input of the LogSoftmax, (B, classes)."""
        x = self.pool(F.relu(self.conv1(images)))  # (B, 8, 14, 14): side 28 → 28 → 14, or 28 → 14 by stride 2
        x = self.pool(F.relu(self.conv2(x))).flatten(1)  # (B, 576): side 14 → 12 → 6, or 14 → 6 by stride 2
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc3(F.relu(self.fc2(x)))


class CifarCNN(nn.Module):
    """convnets-2024-a2, Task 1.1: two convolutions with pooling, three fully connected layers.

    Without padding and for ten classes, it has 64 058 parameters.

    Args:
        padding: width of the border of zeros around each convolution's input. Task 1.1 does not mention padding, so the
            default is 0. Equation 4 of Task 3 implies 2, which keeps the size of the image and gives the network
            143 930 parameters.
        classes: number of outputs.
        convolution: class of the convolutions; `MyConv2d` in Task 3.2.
        linear: class of the fully connected layers; `MyLinear` in Task 3.2.
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
        side = 5 if padding == 0 else 8  # 32 → 28 → 14 → 10 → 5, or with padding 32 → 16 → 8
        self.conv1 = convolution(3, 8, kernel_size=5, padding=padding)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = convolution(8, 16, kernel_size=5, padding=padding)
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = linear(16 * side * side, 128)
        self.fc2 = linear(128, 64)
        self.fc3 = linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, 32, 32) float; returns scores (B, classes), to which the loss applies the softmax."""
        x = self.pool1(F.relu(self.conv1(images)))  # (B, 8, 14, 14), with padding (B, 8, 16, 16)
        x = self.pool2(F.relu(self.conv2(x))).flatten(1)  # (B, 400), with padding (B, 1024)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

    scores = forward  # the other networks have a LogSoftmax after their scores; here the softmax is in the loss


SheetCNN = FashionCNN | OctCNN | CifarCNN


def get_number_trainable_params(model: nn.Module) -> int:
    """Returns the number of parameters that training adjusts (ist-2023-24-hw2, Question 2.3)."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def sheet_name(path: str) -> str:
    """Writes a module's path as the sheets do: `convblock1.0` becomes `convblock1[0]`, `conv1` stays as it is."""
    owner, _, index = path.rpartition(".")
    return f"{owner}[{index}]" if index.isdigit() else path


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d | MyConv2d]:
    """Returns the convolutions of `model` in forward order, by the names that the sheets use."""
    return {
        sheet_name(path): module for path, module in model.named_modules() if isinstance(module, (nn.Conv2d, MyConv2d))
    }
