"""What good students hand in for dsl-2019-hw3, in two styles, with what public solutions get wrong."""

CNN = """
import torch
import torch.nn as nn

class CNN(nn.Module):
    def __init__(self, n_classes, **kwargs):
        super(CNN, self).__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 16, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2, 2))
        self.layer2 = nn.Sequential(nn.Conv2d(16, 32, kernel_size=7, padding=3), nn.ReLU(), nn.MaxPool2d(2, 2))
        self.output_layer = nn.Linear(4 * 2 * 32, n_classes)

    def forward(self, x, **kwargs):
        out = self.layer1(x)
        out = self.layer2(out)
        out = out.reshape(out.size(0), -1)
        return self.output_layer(out)
"""

FLAT = """
import torch.nn.functional as F
from torch import nn

class CNN(nn.Module):
    def __init__(self, n_classes=26):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 5, 1, 2), nn.Conv2d(16, 32, 7, 1, "same")
        self.last = nn.Linear(256, n_classes)

    def forward(self, x):
        x = x.view(-1, 1, 16, 8)
        for layer in (self.first, self.second):
            x = F.relu(F.max_pool2d(layer(x), 2))
        return self.last(x.flatten(start_dim=1))
"""

BILSTM = """
import torch
import torch.nn as nn
from torch.autograd import Variable

class BILSTM(nn.Module):
    def __init__(self, input_size, output_size, batch_size=1, n_layers=1, **kwargs):
        super(BILSTM, self).__init__()
        self.hidden_size, self.batch_size, self.n_layers = input_size, batch_size, n_layers
        self.layer1 = nn.Sequential(nn.Linear(input_size, input_size), nn.Tanh())
        self.layer2 = nn.LSTM(input_size=input_size, hidden_size=input_size, bidirectional=True)
        self.output_layer = nn.Linear(input_size * 2, output_size)
        self.hidden = self.init_hidden()

    def forward(self, x, **kwargs):
        out = self.layer1(x)
        out = out.view(out.shape[0], self.batch_size, out.shape[1])
        out, lstm_hidden = self.layer2(out, self.hidden)
        out = out.view(out.shape[0], -1)
        return self.output_layer(out)

    def init_hidden(self):
        return tuple(Variable(torch.zeros(self.n_layers * 2, self.batch_size, self.hidden_size)) for _ in range(2))
"""

BATCH_FIRST = """
from torch import nn

class BiLSTM(nn.Module):
    def __init__(self, input_size=128, output_size=26):
        super().__init__()
        self.linear = nn.Linear(input_size, 128)
        self.lstm = nn.LSTM(128, 128, batch_first=True, bidirectional=True)
        self.scores = nn.Linear(256, output_size)

    def forward(self, letters):
        letters = letters.reshape(1, -1, 128)
        return self.scores(self.lstm(self.linear(letters).tanh())[0]).log_softmax(-1)
"""

CONV = """
import torch
import torch.nn as nn

class CNN_BILSTM(nn.Module):
    def __init__(self, input_size, output_size, batch_size=1, n_layers=1, **kwargs):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 16, kernel_size=5, stride=1, padding=2), nn.ReLU(), nn.MaxPool2d(2, 2))
        self.layer2 = nn.Sequential(nn.Linear(8 * 4 * 16, input_size), nn.Tanh())
        self.layer3 = nn.LSTM(input_size=input_size, hidden_size=input_size, bidirectional=True)
        self.output_layer = nn.Linear(input_size * 2, output_size)

    def forward(self, x, **kwargs):
        x = x.view(x.shape[0], 1, 16, 8)
        out = self.layer1(x)
        out = self.layer2(out.reshape(out.size(0), -1))
        out, _ = self.layer3(out.unsqueeze(1))
        return self.output_layer(out.squeeze(1))
"""

MIDDLE = "self.middle = nn.Sequential(nn.Conv2d(16, 16, 5, padding=2), nn.ReLU())"
DEEPER = CNN.replace("        self.layer2", f"        {MIDDLE}\n        self.layer2")
DEEPER = DEEPER.replace("self.layer2(out)", "self.layer2(self.middle(out))")
TURNED = CONV.replace("x.view(x.shape[0], 1, 16, 8)", "x.view(x.shape[0], 1, 16, 8).transpose(2, 3)")
SWAPPED = BILSTM.replace("self.output_layer(out)", "self.output_layer(out.roll(128, 1))")
TAGGERS = """
from torch import nn
import torch

class Tagger(nn.Module):
    def __init__(self, inputs=128):
        super().__init__()
        self.embed = nn.Linear(inputs, 128)
        self.lstm = nn.LSTM(128, 128, bidirectional=True)
        self.out = nn.Linear(256, 26)

    def encode(self, letters):
        return letters

    def forward(self, letters):
        return self.out(self.lstm(torch.tanh(self.embed(self.encode(letters))))[0])

class ConvTagger(Tagger):
    def __init__(self):
        super().__init__(512)
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))

    def encode(self, letters):
        return self.conv(letters.view(-1, 1, 16, 8)).flatten(1)
"""

DEEPER_BY_INHERITANCE = f"""{CNN}
class CNN5(CNN):
    def __init__(self, n_classes=26):
        super().__init__(n_classes)
        self.middle = nn.Sequential(*[part for _ in range(3) for part in (nn.Conv2d(16, 16, 5, padding=2), nn.ReLU())])

    def forward(self, x):
        return self.output_layer(self.layer2(self.middle(self.layer1(x))).flatten(1))
"""

FLAG = """
import torch
from torch import nn

class BILSTM(nn.Module):
    def __init__(self, input_size, output_size, batch_size=1, conv=False):
        super().__init__()
        self.conv = nn.Identity()
        if conv:
            self.conv = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.embed = nn.Linear(512 if conv else input_size, 128)
        self.lstm = nn.LSTM(128, 128, bidirectional=True)
        self.out = nn.Linear(256, output_size)

    def forward(self, letters):
        letters = self.conv(letters.view(-1, 1, 16, 8)).flatten(1)
        return self.out(self.lstm(torch.tanh(self.embed(letters)))[0])
"""

GOOD = (
    {"hw3-q1.py": CNN, "hw3-q2.py": BILSTM, "hw3-q2-3.py": CONV},
    {"a.py": CNN, "b.py": DEEPER, "c.py": BILSTM, "d.py": CONV.replace("CNN_BILSTM", "BILSTM")},  # the report's names
    {"a.py": CNN, "b.py": SWAPPED, "c.py": TURNED},
    {"cnn.py": FLAT, "lstm.py": BATCH_FIRST, "both.py": CONV.replace("class CNN_BILSTM", "class ConvBiLSTM")},
    {"cnn.py": DEEPER_BY_INHERITANCE, "taggers.py": TAGGERS},
    {"cnn.py": CNN, "lstm.py": FLAG},
    {"cnn.py": CNN, "lstm.py": FLAG.replace("conv=False", "*, plain=True").replace(" if conv", " if not plain")},
)

# Each: the class or function, the good text, text in it, what stands there instead, and a part of the hint.
_C = "BILSTM with a convolution"
MISTAKES = (
    ("CNN", CNN, "return self.output_layer(out)", "return torch.softmax(self.output_layer(out), 1)",
     "returns probabilities"),
    ("CNN", CNN, "kernel_size=7, padding=3", "kernel_size=5, padding=2",
     "second convolution has weights of shape (32, 16, 5, 5)"),
    ("CNN", CNN, "nn.Conv2d(16, 32, kernel_size=7, padding=3), nn.ReLU()", "nn.Conv2d(16, 32, 7, padding=3)",
     "the ReLU after the second convolution is missing"),
    ("CNN", CNN, "return self.output_layer(out)", "return torch.relu(self.output_layer(out))",
     "a ReLU is applied to the output"),
    ("CNN", CNN, "out = self.layer1(x)", "out = self.layer1(x).detach()", "no gradient reaches"),
    ("BILSTM", BILSTM, ", nn.Tanh()", "", "the tanh after the linear layer is missing"),
    ("BILSTM", BILSTM, "out, lstm_hidden = self.layer2", "out, self.hidden = self.layer2", "the hidden state is kept"),
    ("BILSTM", BILSTM, "return self.output_layer(out)", "return self.output_layer(out).log_softmax(dim=0)",
     "the log-softmax runs over the letters"),
    ("BILSTM", BILSTM, "out = out.view(out.shape[0], -1)",
     "out = torch.cat([out[:, 0, :128], out[:, 0, 128:].flip(0)], dim=1)", "are in reverse order"),
    ("BILSTM", BILSTM, "out = out.view(out.shape[0], -1)",
     "out = lstm_hidden[0].reshape(1, -1).expand(out.shape[0], -1)", "last states are used for all letters"),
    ("BILSTM", BILSTM, "bidirectional=True", "bidirectional=False", "raises RuntimeError"),
    ("BILSTM", BILSTM.replace("input_size * 2, ", "input_size, ").replace("n_layers * 2, ", "n_layers, "),
     "bidirectional=True", "bidirectional=False", "in one direction only"),
    ("BILSTM", BILSTM, "self.layer1(x)", "self.layer1(x.flip(0))", "the letters are read in reverse order"),
    ("BILSTM", BILSTM, "return self.output_layer(out)", "return self.output_layer(out).flip(0)",
     "the scores are in reverse order"),
    (_C, CONV, "nn.Linear(8 * 4 * 16, input_size), nn.Tanh()", "nn.Linear(512, input_size), nn.ReLU()",
     "the tanh after the linear layer is a ReLU"),
    (_C, CONV, "nn.ReLU(), nn.MaxPool2d(2, 2)", "nn.MaxPool2d(2, 2)", "the ReLU after the convolution is missing"),
    (_C, CONV, "x.shape[0], 1, 16, 8)", "x.shape[0], 1, 8, 16)", "8 rows × 16 columns, expected 16 × 8"),
    (_C, CONV, "out.unsqueeze(1)", "out.unsqueeze(0)", "every letter is read alone"),
    ("CNN", FLAT, "-1, 1, 16, 8)", "-1, 1, 8, 16)", "8 rows × 16 columns, expected 16 × 8"),
    ("CNN", CNN, "nn.Linear(4 * 2 * 32, n_classes)", "nn.Linear(4 * 2 * 32, 10)", "(10, 256), expected (26, 256)"),
    ("BILSTM", BILSTM, "nn.Tanh()", "nn.ReLU()", "the tanh after the linear layer is a ReLU"),
    ("BILSTM", BILSTM, "return self.output_layer(out)", "return self.output_layer(out).softmax(0)", "over the letters"),
    (_C, CONV, "hidden_size=input_size", "hidden_size=64", "the LSTM needs weights of shape (512, 128)"),
)  # fmt: skip
