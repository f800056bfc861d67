"""The functions that eecs545-w20-hw4 asks for, and how its points are spread over them.

The sheet gives points to questions alone. We give Q1's parts (a) 9, (b) 5 and (c) 11 to their functions, more to the
backward than to the forward one; of the 20 points of each of Q2, Q3 and Q4 we leave 4 to the training that the last
part asks for, which no function shows, and spread 16 over the functions of the other parts. LSTMs are not in the sheet:
they are checked where they are written, for no points.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hw_check import layer_cases, layer_hints, model_cases, model_hints, rnn_cases, rnn_hints
from hw_check.cases import Layer
from hw_check.hints import Guess
from hw_check.model_cases import Network

POINTS_ELSEWHERE = 12
"""Q2c, Q3c and Q4d, 4 points each: trainings, for a person to grade."""


@dataclass(frozen=True)
class Function:
    """A function that is graded on its own.

    Args:
        name: as in the file; of a method, with its class.
        file: the student's file that holds it.
        question: of the sheet.
        points: the most it can get; 0 where the sheet does not ask for it.
        spec: draws its cases and reads its answers.
        uses: what it may be built from, by people's names: where it fails, it is tried again with ours of these.
    """

    name: str
    file: str
    question: str
    points: float
    spec: Layer | Network
    uses: str = ""
    guesses: Callable[..., Iterator[Guess]] | None = field(default=None, repr=False)

    @property
    def needs(self) -> str | None:
        """The function whose cache this one takes."""
        return self.spec.forward if isinstance(self.spec, Layer) and self.name == self.spec.backward else None


_POINTS: Mapping[str, tuple[str, float]] = {
    "fc_forward": ("1a", 3),
    "fc_backward": ("1a", 6),
    "relu_forward": ("1b", 2),
    "relu_backward": ("1b", 3),
    "conv_forward": ("1c", 4),
    "conv_backward": ("1c", 7),
    "softmax_loss": ("2a", 8),
    "SoftmaxClassifier.__init__": ("2b", 2),
    "SoftmaxClassifier.loss": ("2b", 6),
    "max_pool_forward": ("3a", 4),
    "max_pool_backward": ("3a", 6),
    "ConvNet.__init__": ("3b", 2),
    "ConvNet.loss": ("3b", 4),
    "temporal_fc_forward": ("4a", 1),
    "temporal_fc_backward": ("4a", 2),
    "temporal_softmax_loss": ("4b", 3),
    "rnn_step_forward": ("4c", 1),
    "rnn_step_backward": ("4c", 1),
    "rnn_forward": ("4c", 1),
    "rnn_backward": ("4c", 2),
    "word_embedding_forward": ("4c", 1),
    "word_embedding_backward": ("4c", 1),
    "CaptioningRNN.loss": ("4c", 2),
    "CaptioningRNN.sample": ("4c", 1),
}
_GUESSES = {**layer_hints.GUESSES, **rnn_hints.GUESSES, **model_hints.GUESSES}


def _function(name: str, file: str, spec: Any, uses: str = "") -> Function:
    question, points = _POINTS.get(name, ("", 0.0))
    return Function(name, file, question, points, spec, uses, _GUESSES.get(name))


def _of_layer(layer: Layer, file: str) -> Iterator[Function]:
    uses = " and ".join(layer.replace)
    for name in (layer.forward, layer.backward):
        if name is not None:
            yield _function(name, file, layer, uses)


_BOTH = "layers.py and rnn_layers.py"
FUNCTIONS: tuple[Function, ...] = (
    *(function for layer in layer_cases.LAYERS for function in _of_layer(layer, "layers.py")),
    _function("SoftmaxClassifier.__init__", "softmax.py", model_cases.SOFTMAX_INIT, "layers.py"),
    _function("SoftmaxClassifier.loss", "softmax.py", model_cases.SOFTMAX_LOSS, "layers.py"),
    _function("ConvNet.__init__", "cnn.py", model_cases.CNN_INIT, "layers.py"),
    _function("ConvNet.loss", "cnn.py", model_cases.CNN_LOSS, "layers.py"),
    *(function for layer in rnn_cases.LAYERS for function in _of_layer(layer, "rnn_layers.py")),
    _function("CaptioningRNN.loss", "rnn.py", model_cases.CAPTION_LOSS, _BOTH),
    _function("CaptioningRNN.sample", "rnn.py", model_cases.CAPTION_SAMPLE, _BOTH),
    _function("CaptioningRNN.loss (lstm)", "rnn.py", model_cases.LSTM_LOSS, _BOTH),
    _function("CaptioningRNN.sample (lstm)", "rnn.py", model_cases.LSTM_SAMPLE, _BOTH),
)
"""In the order of the sheet, file by file."""

FILES = tuple(dict.fromkeys(function.file for function in FUNCTIONS))
