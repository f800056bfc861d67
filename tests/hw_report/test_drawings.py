"""The drawings of networks: their boxes come from a forward pass of the networks themselves."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from hw_numpy import softmax
from hw_numpy.softmax import SoftmaxClassifier
from hw_report import drawings
from hw_report.sheets import SHEETS


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        self.unused = nn.Linear(5, 5)
        self.head = nn.Linear(3, 3)
        self.none = nn.Identity()

    def forward(self, x):
        return self.head(self.none(self.head(self.block(x))))


def test_layers_come_in_the_order_of_computation_and_once_for_each_call():
    found = drawings.layers(Twice(), (torch.zeros(1, 4, 2),))
    assert [layer["name"] for layer in found] == ["block.0", "block.1", "head", "head"]
    assert found[0] == {"name": "block.0", "kind": "linear", "shape": [4, 3], "parameters": 9}
    [block, *_] = drawings.layers(Twice(), (torch.zeros(1, 4, 2),), ("Sequential",))
    assert block == {"name": "block", "kind": "Sequential", "shape": [4, 3], "parameters": 9}


@pytest.mark.parametrize("sheet", SHEETS)
def test_every_drawing_is_in_its_report_and_has_all_parameters(sheet):
    text = SHEETS[sheet].report_file.read_text()
    assert set(re.findall(r'#network-drawing\("([^"]+)"', text)) == set(drawings.NETWORKS[sheet])
    for key, drawing in drawings.NETWORKS[sheet].items():
        network = drawing[0]()
        found = {layer["name"]: layer["parameters"] for layer in drawings.drawn(*drawing)}
        if not isinstance(network, nn.Module):
            assert sum(found.values()) == sum(value.size for value in network.params.values()), key
            continue
        loose = ("init_h", "init_c", "positions")  # layers before the first step, and bare parameters
        rest = sum(p.numel() for name, p in network.named_parameters() if name.startswith(loose))
        assert sum(found.values()) + rest == sum(p.numel() for p in network.parameters()), key


def test_layers_of_a_numpy_network_are_its_functions_with_their_parameters():
    found = drawings.numpy_layers(SoftmaxClassifier(6, 4, 3), (np.zeros((1, 6)),))
    assert found == [
        {"name": "W1, b1", "kind": "fully connected", "shape": [4], "parameters": 28},
        {"name": "relu_forward", "kind": "ReLU", "shape": [4], "parameters": 0},
        {"name": "W2, b2", "kind": "fully connected", "shape": [3], "parameters": 15},
    ]
    assert not isinstance(softmax.layers, drawings._Recorder)  # only while it draws
