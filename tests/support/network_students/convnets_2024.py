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

WITHOUT_CLASS = """
import torch
from torch import nn

net = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5, padding=2),
                    nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 64),
                    nn.ReLU(), nn.Linear(64, 10))

class FullyConnectedLayer(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(cout, cin))
        self.bias = nn.Parameter(torch.rand(cout, 1))

    def forward(self, x):
        return torch.bmm(self.weight[None].repeat(len(x), 1, 1), x) + self.bias

class ConvLayer(nn.Module):
    def __init__(self, cin, cout, k):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(cout, cin, k, k))
        self.bias = nn.Parameter(torch.rand(cout))

    def forward(self, x):
        k = self.weight.shape[2]
        patches = x.unfold(2, k, 1).unfold(3, k, 1)
        y = torch.tensordot(patches, self.weight, ([1, 4, 5], [1, 2, 3]))
        return y.permute(0, 3, 1, 2) + self.bias[:, None, None]
"""

OWN_NETWORK = """
class OwnNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = myConv2d(3, 8, 5), myConv2d(8, 16, 5)
        self.fc1, self.fc2, self.fc3 = myLinear(400, 128), myLinear(128, 64), myLinear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

def measure(net, x):
    net(x)
    start = time.perf_counter()
    net(x)
    return time.perf_counter() - start
"""

OWN = LINEAR + CONV + OWN_NETWORK
OWN_OF_COLUMNS = "import torch.nn.functional as F\n" + (
    OWN_NETWORK.replace("myConv2d", "ConvLayer")
    .replace("myLinear", "FullyConnectedLayer")
    .replace(".flatten(1)", ".flatten(1)[:, :, None]")
    .replace("F.relu(self.fc1(x)))))", "F.relu(self.fc1(x))))).flatten(1)")
)
CENTRED_OWN = "import time\nfrom conv import *\nfrom linear import *\n" + (
    OWN_NETWORK.replace("myConv2d", "MyConv2d").replace("myLinear", "MyLinear").replace("400", "1024")
)
LAYERS_AS_ARGUMENTS = """
class ConvNet(nn.Module):
    def __init__(self, Conv=nn.Conv2d, Linear=nn.Linear):
        super().__init__()
        self.layers = nn.Sequential(Conv(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2), Conv(8, 16, 5), nn.ReLU(),
                                    nn.MaxPool2d(2), nn.Flatten(), Linear(400, 128), nn.ReLU(), Linear(128, 64),
                                    nn.ReLU(), Linear(64, 10))

    def forward(self, x):
        return self.layers(x)

def main():
    net, own = ConvNet().cuda(), ConvNet(myConv2d, myLinear).cuda()
    def seconds(net, runs=9):
        net(x)  # warm-up
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(runs):
            net(x)
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / runs
    t_default, t_own = seconds(net), seconds(own)
    print(t_own / t_default)
"""

GOOD = (
    {"assignment2.py": NET + OWN},
    {"exported.py": WITHOUT_CLASS + OWN_OF_COLUMNS + "for image in download('cifar'): train(net, image)"},
    {"net.py": SEQUENTIAL, "linear.py": OTHER_LINEAR, "conv.py": CENTRED, "own.py": CENTRED_OWN},
    {"one class.py": LINEAR + CONV + LAYERS_AS_ARGUMENTS},
)

# Each: the class or function, the good text, text in it, what stands there instead, and a part of the hint.
_N, _L, _C, _O = "network", "myLinear", "myConv2d", "own network"
_SUM = '"bcnm,dcnm->bd", patch, self.weight'
MISTAKES = (
    (_N, NET, "x = F.relu(self.fc1(x))", "x = self.fc1(x)", "the first fully connected layer is missing"),
    (_N, NET, "return self.fc3(x)", "return F.relu(self.fc3(x))", "a ReLU is applied to the output"),
    (_N, NET, "return self.fc3(x)", "return F.softmax(self.fc3(x), dim=1)", "returns probabilities"),
    (_N, NET, "nn.Conv2d(8, 16, 5)", "nn.Conv2d(8, 16, 3)", "second convolution has weights of shape (16, 8, 3, 3)"),
    (_N, NET, "128, 64)", "128, 84)", "has weights of shape (84, 128), expected (64, 128)"),
    (_N, NET, "16 * 5 * 5, 128", "16 * 13 * 13, 128", "has weights of shape (128, 2704)"),
    (_N, NET, "x = F.relu(self.fc2(x))", "x = torch.tanh(self.fc2(x))", "returns other numbers"),
    (_N, NET, "nn.MaxPool2d(2, 2)", "nn.AvgPool2d(2, 2)", "average pooling"),
    (_L, LINEAR, " + self.bias", "", "the bias is not added"),
    (_L, LINEAR, "self.weight.t()", "self.weight", "raises RuntimeError"),
    (_L, LINEAR, "torch.randn(out_features, in_features, device=device)", "torch.randn(in_features, out_features)",
     "raises RuntimeError"),
    (_L, LINEAR.replace("self.weight.t()", "self.weight"), "torch.randn(out_features, in_features, device=device)",
     "torch.randn(in_features, out_features)", "its weight has the shape (5, 6)"),
    (_L, LINEAR, "self.bias", "self.b", "has no parameter called bias"),
    (_L, LINEAR, "self.weight = torch.nn.parameter.Parameter", "self.weight = ", "register it as nn.Parameter"),
    (_L, LINEAR, "torch.matmul(x, self.weight.t()) + self.bias",
     "torch.nn.functional.linear(x, self.weight, self.bias)", "uses torch's own linear, which the task forbids"),
    (_L, LINEAR, "torch.matmul(x, self.weight.t()) + self.bias",
     "self.inner()(x)\n\n    def inner(self):\n        layer = nn.Linear(5, 6)\n"
     "        layer.weight, layer.bias = self.weight, self.bias\n        return layer",
     "uses torch's own Linear, which the task forbids"),
    (_L, LINEAR, "x, self.weight.t()", "x, self.weight.t().detach()", "no gradient reaches weight"),
    (_C, CONV, " + self.bias", "", "the bias is not added"),
    (_C, CONV, _SUM, _SUM + ".flip(2, 3)", "the kernels are flipped"),
    (_C, CONV, '"bcnm,dcnm->bd"', '"bcnm,dcmn->bd"', "rows and columns of the kernels are swapped"),
    (_C, CONV, "+ self.bias", "+ C * self.bias", "the bias is added once for every input channel"),
    (_C, CONV, _SUM, '"bnm,dnm->bd", patch[:, 0], self.weight[:, 0]', "only the first input channel is used"),
    (_C, CONV, _SUM, '"bcnm,dcnm->bd", patch, self.weight[:1].expand_as(self.weight)', "use the first kernel"),
    (_C, CONV, _SUM, '"bcnm,dcnm->bd", patch, self.weight.data', "no gradient reaches weight"),
    (_C, CONV, "cols = H - self.k + 1, W - self.k + 1", "cols = H - self.k, W - self.k", "last row and column"),
    (_C, CONV, "        return out\n", "        return F.conv2d(x, self.weight, self.bias)\n",
     "uses torch's own conv2d, which the task forbids"),
    (_C, CONV, "        return out\n", "        one = [1, 1]\n"
     "        return torch.ops.aten.convolution(x, self.weight, self.bias, one, [0, 0], one, False, [0, 0], 1)\n",
     "uses torch's own convolution, which the task forbids"),
    (_C, CONV, "cols = H - self.k + 1, W - self.k", "cols = H - self.k + 1, H - self.k", "returns shape"),
    (_O, NET + OWN, "myLinear(64, 10)", "nn.Linear(64, 10)", "uses torch's Linear"),
    (_O, NET + OWN, "F.relu(self.fc2(F.relu(self.fc1(x))))", "F.relu(self.fc2(self.fc1(x)))",
     "the first fully connected layer is missing"),
)  # fmt: skip
