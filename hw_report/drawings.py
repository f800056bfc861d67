"""Records what the drawings of networks show: the layers of a module with their shapes, in a forward pass.

This module imports torch, so it is imported only when a report is built.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from hw_asr.models import AudioEncoder, TextDecoderRecurrent, TextDecoderTransformer
from hw_asr.presets import PRESETS
from hw_caption.models import Decoder, DecoderWithAttention
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN
from hw_ocr.models import BiLSTM, ConvBiLSTM, OcrCNN
from hw_transfer.models import ResNet18

_VOCABULARY = 190  # words of the Sydney captions, with the special ones
_TEXT, _SOUND = 12, 100  # lengths of the text and of the encoded sound in the drawings
_SUB_BLOCKS = ("SubBlock",)
_KINDS = {
    "MaxPool2d": "max-pooling", "Linear": "linear", "MyLinear": "linear", "Embedding": "embedding", "ReLU": "ReLU",
    "LayerNorm": "layer norm", "Dropout": "dropout", "GELU": "GELU", "Tanh": "tanh", "LSTMCell": "LSTM cell",
    "SubBlock": "residual sub-block", "EncoderBlock": "encoder block", "BasicBlock": "residual block",
    "BatchNorm2d": "batch norm", "AdaptiveAvgPool2d": "average pooling", "Conv2d": "convolution",
    "Conv1d": "convolution", "BidirectionalLSTM": "bidirectional LSTM", "MultiHeadAttention": "multi-head attention",
}  # fmt: skip


def layers(network: nn.Module, inputs: Sequence[Tensor], whole: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The layers of `network` in the order in which they compute, recorded by hooks during a forward pass.

    Args:
        network: any module. A module without submodules is a layer.
        inputs: its inputs, with a batch of one.
        whole: names of classes whose modules are one layer although they have submodules.

    Returns:
        A dict for each layer: `name` in the network, `kind` in words, `shape` of its output without the batch, and
        `parameters`. Modules that only pass their input on (`Identity`) are left out.
    """
    found: list[dict[str, Any]] = []
    hooks = []
    inside: tuple[str, ...] = ()  # prefixes of the layers found so far; their submodules are no layers of their own
    for name, module in network.named_modules():
        is_whole = type(module).__name__ in whole
        if inside and name.startswith(inside):
            continue
        if is_whole:
            inside += (f"{name}.",)
        if (is_whole or not list(module.children())) and not isinstance(module, nn.Identity) and name:
            hooks.append(module.register_forward_hook(_recorder(found, name)))
    with torch.no_grad():
        network.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def _recorder(found: list[dict[str, Any]], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, _: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        parameters = sum(parameter.numel() for parameter in module.parameters())
        found.append({"name": name, "kind": _kind(module), "shape": list(first.shape[1:]), "parameters": parameters})

    return record


def _kind(module: nn.Module) -> str:
    words = _KINDS.get(type(module).__name__, type(module).__name__)
    kernel, stride = (getattr(module, name, None) for name in ("kernel_size", "stride"))
    if isinstance(kernel, int | tuple) and kernel:
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        words += " " + " × ".join(map(str, sides))
    steps = {stride} if isinstance(stride, int) else set(stride or ())
    return words + (f", stride {min(steps)}" if steps and steps != {1} else "")


def _images(*shape: int) -> tuple[Tensor, ...]:
    return (torch.zeros(1, *shape),)


def _words() -> tuple[Tensor, ...]:
    return torch.zeros(1, 5, 16, 8), torch.ones(1, 5).bool()


def _caption_step() -> tuple[Tensor, ...]:
    return torch.zeros(1).long(), torch.zeros(1, 256), torch.zeros(1, 256), torch.zeros(1, 49, 512)


def _text() -> tuple[Any, ...]:
    return torch.zeros(1, _TEXT).long(), torch.zeros(1, _SOUND, PRESETS["sheet"].width), None


# For each sheet: key of the drawing, network, inputs, and the classes that are drawn as one layer.
_Drawing = tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]], tuple[str, ...]]
NETWORKS: Mapping[str, Mapping[str, _Drawing]] = MappingProxyType({
    "ist-2021-22-hw2": {
        "fashion": (FashionCNN, lambda: _images(1, 28, 28), ()),
        "vanilla": (lambda: Decoder(_VOCABULARY), _caption_step, ()),
        "attention": (lambda: DecoderWithAttention(_VOCABULARY), _caption_step, ()),
    },
    "ist-2023-24-hw2": {
        "oct": (OctCNN, lambda: _images(1, 28, 28), ()),
        "oct.no-maxpool": (lambda: OctCNN(no_maxpool=True), lambda: _images(1, 28, 28), ()),
        "encoder": (lambda: AudioEncoder(PRESETS["sheet"]), lambda: _images(80, 2 * _SOUND), ("EncoderBlock",)),
        "lstm": (lambda: TextDecoderRecurrent(PRESETS["sheet"]), _text, _SUB_BLOCKS),
        "transformer": (lambda: TextDecoderTransformer(PRESETS["sheet"]), _text, _SUB_BLOCKS),
    },
    "convnets-2024-a2": {"cifar": (CifarCNN, lambda: _images(3, 32, 32), ())},
    "eecs545-w20-hw4": {
        "resnet": (lambda: ResNet18(2), lambda: (torch.zeros(1, 3, 224, 224).byte(),), ("BasicBlock",)),
    },
    "dsl-2019-hw3": {
        "cnn": (OcrCNN, lambda: _images(1, 16, 8), ()),
        "bilstm": (BiLSTM, _words, ("BidirectionalLSTM",)),
        "conv-bilstm": (ConvBiLSTM, _words, ("BidirectionalLSTM",)),
    },
})  # fmt: skip


def networks(sheet: str) -> dict[str, list[dict[str, Any]]]:
    """The layers of every network that a sheet describes, by the key of the drawing."""
    return {key: layers(make(), inputs(), whole) for key, (make, inputs, whole) in NETWORKS.get(sheet, {}).items()}
