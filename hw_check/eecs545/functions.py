"""The functions that are graded (eecs545-w20-hw4), and how the sheet's points are spread over them.

The sheet gives points to whole questions only. In Q1, parts (a), (b) and (c) have 9, 5 and 11 points; in each part, the
backward function gets more of them than the forward function. Q2, Q3 and Q4 have 20 points each: 16 are spread over the
functions that the sheet asks for, and 4 are kept for the training in the last part, which this checker does not grade.
The recurrent layers and the word embedding came with the course's files: they are checked, for no points. LSTMs are
not asked for either; they are checked if the file has them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hw_check.eecs545 import layer_cases, layer_hints, model_cases, model_hints, rnn_cases, rnn_hints
from hw_check.eecs545.cases import Layer
from hw_check.eecs545.hints import Guess
from hw_check.eecs545.model_cases import Network


@dataclass(frozen=True)
class Function:
    """A function or method that is graded by itself."""

    name: str  # name in the file; a method's name includes its class
    file: str  # name of the student's file
    question: str  # question of the sheet, such as "1a"; empty if the sheet does not ask for the function
    points: float  # maximum number of points; 0 if the sheet does not ask for it
    spec: Layer | Network  # draws the test cases, and reads the answers to them
    uses: tuple[str, ...] = ()  # modules that the function uses; a function that fails is tried again with ours
    # Generates the wrong answers of typical mistakes from a case's inputs; None if there are none.
    guesses: Callable[..., Iterator[Guess]] | None = field(default=None, repr=False)

    @property
    def needs(self) -> str | None:
        """Name of the forward function whose cache this backward function takes; None for any other function."""
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
    "temporal_fc_forward": ("4a", 1.5),
    "temporal_fc_backward": ("4a", 2.5),
    "temporal_softmax_loss": ("4b", 4),
    "CaptioningRNN.loss": ("4c", 5),
    "CaptioningRNN.sample": ("4c", 3),
}
_GUESSES = {**layer_hints.GUESSES, **rnn_hints.GUESSES, **model_hints.GUESSES}


def _function(name: str, file: str, spec: Layer | Network, uses: tuple[str, ...] = ()) -> Function:
    question, points = _POINTS.get(name, ("", 0.0))
    return Function(name, file, question, points, spec, uses, _GUESSES.get(name))


def _functions_of(layers: tuple[Layer, ...], file: str) -> Iterator[Function]:
    for layer in layers:
        for name in filter(None, (layer.forward, layer.backward)):
            yield _function(name, file, layer)


_LAYERS, _BOTH = ("layers",), ("layers", "rnn_layers")
FUNCTIONS: tuple[Function, ...] = (
    *_functions_of(layer_cases.LAYERS, "layers.py"),
    _function("SoftmaxClassifier.__init__", "softmax.py", model_cases.SOFTMAX_INIT, _LAYERS),
    _function("SoftmaxClassifier.loss", "softmax.py", model_cases.SOFTMAX_LOSS, _LAYERS),
    _function("ConvNet.__init__", "cnn.py", model_cases.CNN_INIT, _LAYERS),
    _function("ConvNet.loss", "cnn.py", model_cases.CNN_LOSS, _LAYERS),
    *_functions_of(rnn_cases.LAYERS, "rnn_layers.py"),
    _function("CaptioningRNN.loss", "rnn.py", model_cases.CAPTION_LOSS, _BOTH),
    _function("CaptioningRNN.sample", "rnn.py", model_cases.CAPTION_SAMPLE, _BOTH),
    _function("CaptioningRNN.loss (lstm)", "rnn.py", model_cases.LSTM_LOSS, _BOTH),
    _function("CaptioningRNN.sample (lstm)", "rnn.py", model_cases.LSTM_SAMPLE, _BOTH),
)
"""All graded functions, file by file, in the order of the sheet."""

FILES = tuple(dict.fromkeys(function.file for function in FUNCTIONS))
