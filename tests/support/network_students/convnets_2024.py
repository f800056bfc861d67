"""What good students hand in for convnets-2024-a2, in two styles, with what public solutions get wrong."""

NET = """
import torch, torch.nn as nn, torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)
"""

SEQUENTIAL = """
from torch import nn

class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
            nn.LogSoftmax(dim=1))

    def forward(self, x):
        return self.layers(x)
"""

LINEAR = """
import torch
from torch import nn

class myLinear(nn.Module):
    def __init__(self, in_features, out_features, device=None):
        super().__init__()
        self.weight = torch.nn.parameter.Parameter(torch.randn(out_features, in_features, device=device))
        self.bias = torch.nn.parameter.Parameter(torch.zeros(out_features, device=device))

    def forward(self, x):
        return torch.matmul(x, self.weight.t()) + self.bias
"""

OTHER_LINEAR = """
import torch

class MyLinear(torch.nn.Module):
    def __init__(self, in_features, out_features, device=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(out_features, in_features))
        self.bias = torch.nn.Parameter(torch.rand(1, out_features))

    def forward(self, x):
        return torch.einsum("...i,oi->...o", x, self.weight) + self.bias[0]
"""

CONV = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class myConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, device=None):
        super().__init__()
        self.k = kernel_size
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.randn(out_channels))

    def forward(self, x):
        B, C, H, W = x.shape
        rows, cols = H - self.k + 1, W - self.k + 1
        out = torch.zeros(B, len(self.weight), rows, cols)
        for i in range(rows):
            for j in range(cols):
                patch = x[:, :, i:i + self.k, j:j + self.k]
                out[:, :, i, j] = torch.einsum("bcnm,dcnm->bd", patch, self.weight) + self.bias
        return out
"""

CENTRED = """
import torch
from torch import nn
from torch.nn import functional as F

class MyConv2d(nn.Module):
    def __init__(self, cin, cout, k, stride=1):
        super().__init__()
        self.k, self.stride = k, stride
        self.weight = nn.Parameter(torch.randn(cout, cin, k, k))
        self.bias = nn.Parameter(torch.randn(cout, 1))

    def forward(self, x):
        x = F.pad(x, [self.k // 2] * 4)
        columns = F.unfold(x, self.k, stride=self.stride)
        out = self.weight.view(len(self.weight), -1) @ columns + self.bias
        rows = (x.shape[2] - self.k) // self.stride + 1
        return out.view(len(x), len(self.weight), rows, -1)
"""

GOOD = (
    {"assignment2.py": NET + LINEAR + CONV},
    {"net.py": SEQUENTIAL, "linear.py": OTHER_LINEAR, "conv.py": CENTRED},
)

# Each: the class or function, the good text, text in it, what stands there instead, and a part of the hint.
MISTAKES = (
    ("Net", NET, "x = F.relu(self.fc1(x))", "x = self.fc1(x)", "the first fully connected layer is missing"),
    ("Net", NET, "return self.fc3(x)", "return F.relu(self.fc3(x))", "a ReLU stands after the output layer"),
    ("Net", NET, "nn.Conv2d(8, 16, 5)", "nn.Conv2d(8, 16, 3)", "second convolution needs weights of shape"),
    ("Net", NET, "128, 64)", "128, 84)", "second fully connected layer needs weights of shape (64, 128)"),
    ("Net", NET, "x = F.relu(self.fc2(x))", "x = torch.tanh(self.fc2(x))", "returns other numbers"),
    ("myLinear", LINEAR, " + self.bias", "", "the bias is not added"),
    ("myLinear", LINEAR, "self.weight.t()", "self.weight", "raises RuntimeError"),
    ("myLinear", LINEAR, "torch.matmul(x, self.weight.t()) + self.bias",
     "torch.nn.functional.linear(x, self.weight, self.bias)", "uses torch's own linear, which the task forbids"),
    ("myLinear", LINEAR, "x, self.weight.t()", "x, self.weight.t().detach()", "weight gets no gradient"),
    ("myConv2d", CONV, " + self.bias", "", "the bias is not added"),
    ("myConv2d", CONV, '"bcnm,dcnm->bd", patch, self.weight', '"bcnm,dcnm->bd", patch, self.weight.flip(2, 3)',
     "the kernels are flipped"),
    ("myConv2d", CONV, '"bcnm,dcnm->bd"', '"bcnm,dcmn->bd"', "rows and columns of the kernels are swapped"),
    ("myConv2d", CONV, "        return out\n", "        return F.conv2d(x, self.weight, self.bias)\n",
     "uses torch's own conv2d, which the task forbids"),
    ("myConv2d", CONV, "cols = H - self.k + 1, W - self.k", "cols = H - self.k + 1, H - self.k", "returns shape"),
)  # fmt: skip
