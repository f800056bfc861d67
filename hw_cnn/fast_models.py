"""The networks of `models.py` with pooling before the ReLU, which changes no bit and takes less time.

The ReLU is monotonic: the ReLU of a window's largest value is the largest of the ReLUs of its values, and the gradient
goes to the same pixel. After pooling, the ReLU is applied to a quarter of the values.
"""

import torch.nn.functional as F
from torch import Tensor

from hw_cnn.models import CifarCNN, FashionCNN, OctCNN


class FastFashionCNN(FashionCNN):
    """`FashionCNN`; see the module's docstring."""

    def scores(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns the input of the LogSoftmax, (B, classes)."""
        x = images
        for convolution, relu, pool in (self.convblock1, self.convblock2):
            x = relu(pool(convolution(x)))
        x = self.dropout(F.relu(self.fc1(x.flatten(1))))
        return self.fc3(F.relu(self.fc2(x)))


class FastOctCNN(OctCNN):
    """`OctCNN`; see the module's docstring."""

    def scores(self, images: Tensor) -> Tensor:
        """images: (B, 1, 28, 28) float; returns the input of the LogSoftmax, (B, classes)."""
        x = F.relu(self.pool(self.conv1(images)))
        x = F.relu(self.pool(self.conv2(x))).flatten(1)
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc3(F.relu(self.fc2(x)))


class FastCifarCNN(CifarCNN):
    """`CifarCNN`; see the module's docstring."""

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, 32, 32) float; returns scores (B, classes), to which the loss applies the softmax."""
        x = F.relu(self.pool1(self.conv1(images)))
        x = F.relu(self.pool2(self.conv2(x))).flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

    scores = forward
