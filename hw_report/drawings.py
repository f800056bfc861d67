"""Records what the drawings of networks show: the layers of a module with their shapes, in a forward pass.

This module imports torch, so it is imported only when a report is built.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from hw_asr.models import AudioEncoder, TextDecoderRecurrent, TextDecoderTransformer
from hw_asr.presets import PRESETS
from hw_attention_theory import parameter_counts
from hw_caption.models import Decoder, DecoderWithAttention, State
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN
from hw_numpy.cnn import ConvNet
from hw_numpy.rnn import CaptioningRNN
from hw_numpy.softmax import SoftmaxClassifier
from hw_ocr.crf import LinearChainCRF
from hw_ocr.models import CLASSES, BiLSTM, ConvBiLSTM, OcrCNN, WithCRF
from hw_transfer.models import ResNet18

_VOCABULARY = 190  # words of the Sydney captions, with the special ones
_NUMPY_VOCABULARY = 1000  # words of the captions in the drawing of the NumPy networks
_TEXT, _SOUND = 12, 100  # lengths of the text and of the encoded sound in the drawings
_SUB_BLOCKS = ("SubBlock",)
_KINDS = {
    "MaxPool2d": "max-pooling", "Linear": "linear", "MyLinear": "linear", "Embedding": "embedding", "ReLU": "ReLU",
    "LayerNorm": "layer norm", "Dropout": "dropout", "GELU": "GELU", "Tanh": "tanh", "LSTMCell": "LSTM cell",
    "SubBlock": "residual sub-block", "EncoderBlock": "encoder block", "BasicBlock": "residual block",
    "BatchNorm2d": "batch norm", "AdaptiveAvgPool2d": "average pooling", "Conv2d": "convolution",
    "Conv1d": "convolution", "BidirectionalLSTM": "bidirectional LSTM", "MultiHeadAttention": "multi-head attention",
    "Flatten": "flatten", "Softmax": "softmax", "_Viterbi": "linear-chain CRF, most probable word",
}  # fmt: skip
_NUMPY_KINDS = {
    "fc": "fully connected", "conv": "convolution", "relu": "ReLU", "max_pool": "max-pooling", "rnn": "RNN",
    "lstm": "LSTM", "word_embedding": "word embedding", "temporal_fc": "fully connected, at each step",
}  # fmt: skip
_NUMPY_WINDOWS: Mapping[str, Callable[..., tuple[int, ...]]] = MappingProxyType({  # arguments → height, width
    "conv": lambda x, w: w.shape[2:],
    "max_pool": lambda x, pool_param: (pool_param["pool_height"], pool_param["pool_width"]),
})  # fmt: skip


def layers(network: nn.Module, inputs: Sequence[Tensor], whole: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The layers of `network` in the order in which they compute, recorded by hooks during a forward pass.

    Args:
        network: any module with submodules. A submodule without submodules of its own is a layer.
        inputs: its inputs, with a batch of one.
        whole: names of classes whose modules are one layer although they have submodules.

    Returns:
        A dict for each layer: `name` in the network, `kind` in words, `shape` of its output without the batch, and
        `parameters`. Modules that only pass their input on (`Identity`) are left out.
    """
    found: list[dict[str, Any]] = []
    hooks = []
    inside: tuple[str, ...] = ()  # prefixes of the layers found so far; their submodules are not layers themselves
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


def numpy_layers(network: Any, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """The layers of a NumPy network, like `layers`: its calls of functions `<kind>_forward` during `loss`.

    The name of a layer is that of its parameters or, if it has none, that of the function. Axes of length 1 are left
    out of the shapes.
    """
    found: list[dict[str, Any]] = []
    module = sys.modules[type(network).__module__]
    own = {name: _Recorder(getattr(module, name), network.params, found) for name in ("layers", "rnn_layers")
           if hasattr(module, name)}  # fmt: skip
    with mock.patch.dict(vars(module), own):
        network.loss(*inputs)
    return found


class _Recorder:
    """Stands in for a module of layers, and adds each call of a function `<kind>_forward` to `found`."""

    def __init__(self, module: ModuleType, params: Mapping[str, np.ndarray], found: list[dict[str, Any]]) -> None:
        self._module, self._params, self._found = module, params, found

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        kind = name.removesuffix("_forward")
        if kind == name:
            return function

        def recorded(*arguments: Any) -> Any:
            output = function(*arguments)
            own = {key: value for key, value in self._params.items() if any(value is given for given in arguments)}
            window = _NUMPY_WINDOWS[kind](*arguments) if kind in _NUMPY_WINDOWS else ()
            self._found.append(
                {
                    "name": ", ".join(own) or name,
                    "kind": " ".join([_NUMPY_KINDS[kind], " × ".join(map(str, window))]).strip(),
                    "shape": list(output[0].squeeze().shape),
                    "parameters": sum(value.size for value in own.values()),
                }
            )
            return output

        return recorded


class _Viterbi(LinearChainCRF):
    """A CRF that finds the most probable word when it is called."""

    def forward(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return self.decode(emissions, mask)


class _WordReader(WithCRF):
    """The whole network from images to letters; `WithCRF.forward` alone computes only the emissions."""

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        letters: Tensor = self.crf(super().forward(images, mask), mask)
        return letters


def _images(*shape: int) -> tuple[Tensor, ...]:
    return (torch.zeros(1, *shape),)


def _words() -> tuple[Tensor, ...]:
    return torch.zeros(1, 5, 16, 8), torch.ones(1, 5).bool()


def _caption_step() -> tuple[Any, ...]:
    return torch.zeros(1).long(), State(torch.zeros(1, 256), torch.zeros(1, 256), torch.zeros(1, 49, 512))


def _text() -> tuple[Any, ...]:
    return torch.zeros(1, _TEXT).long(), torch.zeros(1, _SOUND, PRESETS["sheet"].width), None


def _captioning(cell_type: str) -> CaptioningRNN:
    words = ("<NULL>", "<START>", "<END>", *map(str, range(_NUMPY_VOCABULARY - 3)))
    return CaptioningRNN({word: number for number, word in enumerate(words)}, cell_type=cell_type)


def _caption() -> tuple[Any, ...]:
    return np.zeros((1, 512)), np.ones((1, _TEXT + 1), int)


# For each sheet: key of the drawing, network, inputs, and the classes that are drawn as one layer.
_Drawing = tuple[Callable[[], Any], Callable[[], tuple[Any, ...]], tuple[str, ...]]
NETWORKS: Mapping[str, Mapping[str, _Drawing]] = MappingProxyType({
    "ist-2021-22-hw2": {
        "counts.convolutional": (lambda: parameter_counts.build()["Q1.1"], lambda: _images(3, 28, 28), ()),
        "counts.connected": (lambda: parameter_counts.build()["Q1.2"], lambda: _images(3, 28, 28), ()),
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
        "softmax": (SoftmaxClassifier, lambda: (np.zeros((1, 784)),), ()),
        "cnn": (ConvNet, lambda: (np.zeros((1, 1, 28, 28)),), ()),
        "rnn": (lambda: _captioning("rnn"), _caption, ()),
        "lstm": (lambda: _captioning("lstm"), _caption, ()),
        "resnet": (lambda: ResNet18(2), lambda: (torch.zeros(1, 3, 224, 224).byte(),), ("BasicBlock",)),
    },
    "dsl-2019-hw3": {
        "cnn": (OcrCNN, lambda: _images(1, 16, 8), ()),
        "bilstm": (BiLSTM, _words, ("BidirectionalLSTM",)),
        "bilstm-crf": (lambda: _WordReader(BiLSTM(), _Viterbi(CLASSES)), _words, ("BidirectionalLSTM",)),
        "conv-bilstm": (ConvBiLSTM, _words, ("BidirectionalLSTM",)),
    },
})  # fmt: skip


def networks(sheet: str) -> dict[str, list[dict[str, Any]]]:
    """The layers of every network that a sheet describes, by the key of the drawing."""
    return {key: drawn(*drawing) for key, drawing in NETWORKS.get(sheet, {}).items()}


def drawn(
    make: Callable[[], Any], inputs: Callable[[], tuple[Any, ...]], whole: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The layers of one of NETWORKS."""
    network = make()
    return layers(network, inputs(), whole) if isinstance(network, nn.Module) else numpy_layers(network, inputs())
