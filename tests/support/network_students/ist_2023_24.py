"""What good students hand in for ist-2023-24-hw2, in two styles, with what public solutions get wrong."""

CNN = """
import torch, torch.nn as nn, torch.nn.functional as F
from torchvision import datasets
import utils

class CNN(nn.Module):
    def __init__(self, dropout_prob, no_maxpool=False):
        super(CNN, self).__init__()
        self.no_maxpool = no_maxpool
        if not no_maxpool:
            self.conv1 = nn.Conv2d(1, 8, 3, stride=1, padding=1)
            self.max_pool = nn.MaxPool2d(2, 2)
            self.conv2 = nn.Conv2d(8, 16, 3, stride=1, padding=0)
        else:
            self.conv1 = nn.Conv2d(1, 8, 3, padding=1, stride=2)
            self.conv2 = nn.Conv2d(8, 16, 3, padding=0, stride=2)
        self.fc1 = nn.Linear(16 * 6 * 6, 320)
        self.drop = nn.Dropout(p=dropout_prob)
        self.fc2 = nn.Linear(320, 120)
        self.fc3 = nn.Linear(120, 4)

    def forward(self, x):
        x = x.reshape((x.shape[0], 1, 28, 28))
        x = F.relu(self.conv1(x))
        if not self.no_maxpool:
            x = self.max_pool(x)
        x = F.relu(self.conv2(x))
        if not self.no_maxpool:
            x = self.max_pool(x)
        x = x.view(-1, x.shape[1] * x.shape[2] * x.shape[3])
        x = F.relu(self.fc1(x))
        x = self.drop(x)
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return F.log_softmax(x, dim=1)

def get_number_trainable_params(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
"""

OTHER_CNN = """
import numpy as np
import torch
from torch import nn
device = torch.device("cuda")

class CNN(nn.Module):
    def __init__(self, dropout_prob, no_maxpool=False):
        super().__init__()
        s = 2 if no_maxpool else 1
        pool = (lambda: nn.Identity()) if no_maxpool else (lambda: nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.LazyLinear(320), nn.ReLU(), nn.Dropout(dropout_prob), nn.LazyLinear(120),
                                  nn.ReLU(), nn.Linear(120, 4), nn.LogSoftmax(dim=-1))
        self.conv1 = nn.Conv2d(1, 8, 3, s, 1)
        self.conv2 = nn.Conv2d(8, 16, 3, s)
        self.body = nn.Sequential(self.conv1, pool(), nn.ReLU(), self.conv2, nn.ReLU(inplace=True), pool(),
                                  nn.Flatten())
        self.to(device)

    def forward(self, x):
        print("forward", x.shape)
        return self.head(self.body(x.view(-1, 1, 28, 28).to(device)))

def get_number_trainable_params(model):
    return sum([np.prod(p.size()) for p in filter(lambda p: p.requires_grad, model.parameters())])
"""

BLOCKS = """
import math, torch
from typing import Any

class Heads(torch.nn.Module):
    def __init__(self, hidden_dim, n_heads):
        super().__init__()
        self._n_heads = n_heads
        self._query = torch.nn.Linear(hidden_dim, hidden_dim)
        self._key = torch.nn.Linear(hidden_dim, hidden_dim, bias=False)
        self._value = torch.nn.Linear(hidden_dim, hidden_dim)
        self._out = torch.nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x, xa=None, mask=None):
        xa = x if xa is None else xa
        parts = self._query(x), self._key(xa), self._value(xa)
        q, k, v = (y.unflatten(2, (self._n_heads, -1)).transpose(1, 2) for y in parts)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores + mask[: x.shape[1], : x.shape[1]]
        return self._out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

class ResidualAttentionLayer(torch.nn.Module):
    def __init__(self, hidden_dim, n_heads, feed_fwd_dim):
        super().__init__()
        self._att_norm = torch.nn.LayerNorm(hidden_dim)
        self._att = Heads(hidden_dim, n_heads)

    def forward(self, x, mask=None):
        return x + self._att(self._att_norm(x), mask=mask)

class ResidualAttentionBlock(torch.nn.Module):
    def __init__(self, hidden_dim, n_heads, feed_fwd_dim):
        super().__init__()
        self._att_norm = torch.nn.LayerNorm(hidden_dim)
        self._att = Heads(hidden_dim, n_heads)
        self._mlp_norm = torch.nn.LayerNorm(hidden_dim)
        self._mlp = torch.nn.Sequential(torch.nn.Linear(hidden_dim, feed_fwd_dim), torch.nn.GELU(),
                                        torch.nn.Linear(feed_fwd_dim, hidden_dim))

    def forward(self, x, cross_x=None):
        x = x + self._att(self._att_norm(x), cross_x)
        return x + self._mlp(self._mlp_norm(x))
"""

RECURRENT = (
    BLOCKS
    + """
class TextDecoderRecurrent(torch.nn.Module):
    def __init__(self, n_layers=2, freq_dim=35, hidden_dim=64, n_heads=2, feed_fwd_dim=128, **kwargs):
        super().__init__()
        del kwargs
        self._embed = torch.nn.Embedding(freq_dim, hidden_dim)
        self._rnn_norm = torch.nn.LayerNorm(hidden_dim)
        self._rnn = torch.nn.LSTM(hidden_dim, hidden_dim, num_layers=n_layers, batch_first=True)
        self._cross_att = ResidualAttentionBlock(hidden_dim, n_heads, feed_fwd_dim)
        self._out_norm = torch.nn.LayerNorm(hidden_dim)
        self._classifier = torch.nn.Linear(hidden_dim, freq_dim)
        self._state = None

    def forward(self, x, latent, state: Any = None):
        return self._forward(x, latent, state)[0]

    def generate(self, x, latent, start_token=False):
        if start_token:
            self._state = None
        out, self._state = self._forward(x, latent, self._state)
        return out

    def _forward(self, x, latent, state):
        x = self._embed(x)
        x = self._rnn_norm(x)
        x, state = self._rnn(x, state)
        x = self._cross_att(x, latent)
        x = self._out_norm(x)
        logits = self._classifier(x)
        return logits.permute(0, 2, 1), state
"""
)

TRANSFORMER = (
    BLOCKS
    + """
class TextDecoderTransformer(torch.nn.Module):
    def __init__(self, freq_dim=35, time_dim=50, hidden_dim=64, n_heads=2, feed_fwd_dim=128, **kwargs):
        super().__init__()
        del kwargs
        self._embed = torch.nn.Embedding(freq_dim, hidden_dim)
        self._pos_embed = torch.nn.Parameter(torch.rand(time_dim - 1, hidden_dim))
        self._att = ResidualAttentionLayer(hidden_dim, n_heads, feed_fwd_dim)
        self._cross_att = ResidualAttentionBlock(hidden_dim, n_heads, feed_fwd_dim)
        self._out_norm = torch.nn.LayerNorm(hidden_dim)
        self._classifier = torch.nn.Linear(hidden_dim, freq_dim)
        self.register_buffer("_mask", torch.full((time_dim, time_dim), -math.inf).triu(1), persistent=False)

    def forward(self, x, latent):
        x = self._embed(x) + self._pos_embed[: x.shape[1]]
        x = self._att(x, self._mask)
        x = self._cross_att(x, latent)
        x = self._out_norm(x)
        return self._classifier(x).permute(0, 2, 1)

    def generate(self, x, latent, start_token=False):
        return self.forward(x, latent)
"""
)

# The sheet's text: LayerNorm after each sub-block, torch's own attention; own names and order of the layers.
SHEET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = nn.MultiheadAttention(width, heads, batch_first=True)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_before, self.mlp_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x, z):
        x = self.after(x + self.heads(self.before(x), z, z, need_weights=False)[0])
        return self.mlp_after(x + self.mlp(self.mlp_before(x)))

class TextDecoderTransformer(nn.Module):
    def __init__(self, freq_dim=35, time_dim=50, hidden_dim=64, n_heads=2, feed_fwd_dim=128):
        super().__init__()
        self.embed = nn.Embedding(freq_dim, hidden_dim)
        self.pos = nn.Parameter(torch.rand(time_dim - 1, hidden_dim))
        self.norm1, self.norm2 = nn.LayerNorm(hidden_dim), nn.LayerNorm(hidden_dim)
        self.self_attention = nn.MultiheadAttention(hidden_dim, n_heads, batch_first=True)
        self.cross = Block(hidden_dim, n_heads, feed_fwd_dim)
        self.norm, self.head = nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, freq_dim)

    def forward(self, tokens, audio):
        length = tokens.shape[1]
        x = self.embed(tokens) + self.pos[None, :length]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        y = self.norm1(x)
        x = self.norm2(x + self.self_attention(y, y, y, attn_mask=later)[0])
        return self.head(self.norm(self.cross(x, audio)))

    def generate(self, tokens, audio, start_token=False):
        return self(tokens, audio)
"""

# The notebook's blocks, of which the last has the sheet's second LayerNorm, too.
_OUTER = """        self._mlp_after = torch.nn.LayerNorm(hidden_dim)

    def forward(self, x, cross_x=None):
        x = x + self._att(self._att_norm(x), cross_x)
        return self._mlp_after(x + self._mlp(self._mlp_norm(x)))
"""
MIXED = (RECURRENT + TRANSFORMER.removeprefix(BLOCKS)).replace(
    BLOCKS, BLOCKS.rpartition("\n    def forward")[0] + _OUTER
)

GOOD = (
    {"hw2-q2.py": CNN, "hw2-q3.py": RECURRENT + TRANSFORMER},
    {"hw2-q2.py": CNN, "hw2-q3.py": MIXED},
    {"q2.py": OTHER_CNN, "decoders/a.py": SHEET, "decoders/b.py": RECURRENT.replace("n_layers=2", "n_layers=1")},
)

_R, _T, _C = "TextDecoderRecurrent", "TextDecoderTransformer", "CNN"
_P = "get_number_trainable_params"
MISTAKES = (
    (_C, CNN, "self.fc3 = nn.Linear(120, 4)", "self.fc3 = nn.Linear(120, 10)", "(10, 120), expected (4, 120)"),
    (_C, CNN, "return F.log_softmax(x, dim=1)", "return x", "the LogSoftmax is missing"),
    (_C, CNN, "F.log_softmax(x, dim=1)", "F.log_softmax(x, dim=0)", "over the batch, expected over the classes"),
    (_C, CNN, "F.log_softmax(x, dim=1)", "F.softmax(x, dim=1)", "a softmax"),
    (_C, CNN, "        x = F.relu(self.fc2(x))", "        x = self.fc2(x)", "ReLU after the second affine"),
    (_C, CNN, "x = self.drop(x)", "pass", "dropout has no effect in training mode"),
    (_C, CNN, "x = self.drop(x)", "x = F.dropout(x, 0.7)", "dropout is active there, too"),
    (_C, CNN, "x = F.relu(self.fc1(x))\n        x = self.drop(x)\n        x = F.relu(self.fc2(x))",
     "x = F.relu(self.fc1(x))\n        x = F.relu(self.fc2(x))\n        x = self.drop(x)",
     "dropout comes after the second affine transformation"),
    (_C, CNN, "x = F.relu(self.conv2(x))", "x = self.conv2(x)", "ReLU after the second convolution is missing"),
    (_C, CNN, "nn.MaxPool2d(2, 2)", "nn.AvgPool2d(2, 2)", "average pooling"),
    (_C, CNN, "x = self.fc3(x)", "x = F.relu(self.fc3(x))", "a ReLU precedes the LogSoftmax"),
    ("CNN(no_maxpool=True)", CNN, "padding=0, stride=2", "padding=0", "mat1 and mat2 shapes cannot be multiplied"),
    ("CNN(no_maxpool=True)", CNN, "3, padding=0, stride=2)", "4, padding=0, stride=2)",
     "(16, 8, 4, 4), expected (16, 8, 3, 3)"),
    (_P, CNN, " if p.requires_grad", "", "counts frozen parameters"),
    (_P, CNN, "p.numel()", "1", "counts tensors"),
    (_P, CNN, "sum(p.numel() for p in model.parameters() if p.requires_grad)", "0", "not written yet"),
    (_R, RECURRENT, "        x = self._rnn_norm(x)\n", "", "not normalized before the LSTM"),
    (_R, RECURRENT, "self._rnn(x, state)", "self._rnn(x)", "the state must be passed on"),
    (_R, RECURRENT, "self._cross_att(x, latent)", "self._cross_att(x)", "does not get the encoder's output"),
    (_R, RECURRENT, "self._cross_att(x, latent)", "self._cross_att(latent, x)", "returns shape (3, 11, 6)"),
    (_R, RECURRENT, "        x = self._out_norm(x)\n", "", "normalization before the classifier is missing"),
    (_R, RECURRENT, "x = self._cross_att(x, latent)", "x = x + self._cross_att(x, latent)", "a residual connection"),
    (_R, RECURRENT, "logits.permute(0, 2, 1)", "logits.reshape(len(x), -1, logits.shape[1])", "a reshape is used"),
    (_R, RECURRENT, "logits.permute(0, 2, 1)", "2 * logits", "returns other numbers than expected"),
    (_R, RECURRENT, "logits.permute(0, 2, 1)", "logits.permute(0, 2, 1).softmax(1)", "returns probabilities"),
    (_R, RECURRENT, "self._rnn(x, state)", "self._rnn(x, self._state)", "the state that generate has left"),
    (_R, RECURRENT, "batch_first=True", "batch_first=False", "the LSTM runs over the batch"),
    (_T, TRANSFORMER, "self._att(x, self._mask)", "self._att(x)", "the mask of the self-attention is missing"),
    (_T, TRANSFORMER, "self._att(x, self._mask)", "self._att(x, self._mask.T)", "hides the earlier characters"),
    (_T, TRANSFORMER, " + self._pos_embed[: x.shape[1]]", "", "the position embeddings are missing"),
    (_T, TRANSFORMER, "self._pos_embed[: x.shape[1]]", "self._pos_embed[x.shape[1]]", "the same position embedding"),
    (_T, TRANSFORMER, "self._pos_embed[: x.shape[1]]", "self._pos_embed", "raises RuntimeError"),
    (_T, TRANSFORMER, "-math.inf).triu(1)", "-math.inf).triu(2)", "depends on the next character"),
    (_T, TRANSFORMER, "self._pos_embed[: x.shape[1]]", "self._pos_embed[x.shape[1] - 1]", "last position embedding"),
    (_C, CNN, "nn.Dropout(p=dropout_prob)", "nn.Dropout(p=1 - dropout_prob)", "dropout gets 1 - p"),
    (_T, TRANSFORMER, "self._cross_att(x, latent)", "self._cross_att(x)", "does not get the encoder's output"),
    (_T, TRANSFORMER, "        x = self._att(x, self._mask)\n", "", "the self-attention is missing"),
    (_T, TRANSFORMER, "x = self._att(x, self._mask)", "x = x + self._att(x, self._mask)", "a residual connection"),
    (_T, TRANSFORMER, "        x = self._out_norm(x)\n", "", "normalization before the classifier is missing"),
    (_T, TRANSFORMER, ".permute(0, 2, 1)\n\n", ".permute(0, 2, 1)[:, :, -1]\n\n", "the last character alone"),
)  # fmt: skip
