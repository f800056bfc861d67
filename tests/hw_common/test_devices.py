"""Networks put what they create onto the device of their inputs; the tensors have a GPU's device and no values."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
from hw_attention_theory.models import PixelClassifier, SoftmaxSelfAttention, TaylorLinearAttention
from hw_ocr.models import OcrCNN, PairwiseClassifier, PerLetter
from hw_report import drawings


def pixel_classifier(attention):
    return PixelClassifier(length=49, classes=10, n=8, d=4, heads=2, blocks=1, attention=attention)


NETWORKS = {
    **{
        f"{sheet}, {key}": drawing[:2]
        for sheet, drawn in drawings.NETWORKS.items()
        for key, drawing in drawn.items()
        if key != "bilstm-crf" and not sheet.startswith("eecs545")  # Viterbi needs values; NumPy has no devices
    },
    "eecs545-w20-hw4, resnet": drawings.NETWORKS["eecs545-w20-hw4"]["resnet"][:2],
    "pixel pairs": (PairwiseClassifier, lambda: (torch.zeros(2, 1, 16, 8),)),
    "letters of words": (lambda: PerLetter(OcrCNN()), lambda: (torch.zeros(2, 5, 16, 8), torch.ones(2, 5).bool())),
    "softmax attention": (lambda: pixel_classifier(SoftmaxSelfAttention()), lambda: (torch.zeros(2, 49),)),
    "linear attention": (lambda: pixel_classifier(TaylorLinearAttention(4)), lambda: (torch.zeros(2, 49),)),
    "linear attention in chunks": (
        lambda: pixel_classifier(FastTaylorLinearAttention(4, chunk=16)),
        lambda: (torch.zeros(2, 49),),
    ),
}


def run(make, inputs, training):
    with torch.backends.cudnn.flags(enabled=False), FakeTensorMode(shape_env=ShapeEnv()):  # cuDNN looks for a GPU
        with torch.device("cuda"):
            network, tensors = make(), inputs()
        return network.train(training)(*tensors)


# nn.LSTM compares the addresses of its weights.
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_network_uses_no_tensor_of_another_device(name, training):
    outputs = run(*NETWORKS[name], training)
    tensors = [x for x in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(x, torch.Tensor)]
    assert tensors and all(x.device.type == "cuda" for x in tensors)


def test_a_tensor_of_another_device_is_found():
    class AddsIndices(nn.Module):
        def forward(self, x):
            return x + torch.arange(3)

    with pytest.raises(RuntimeError, match=r"cpu"):
        run(AddsIndices, lambda: (torch.zeros(3),), training=False)
