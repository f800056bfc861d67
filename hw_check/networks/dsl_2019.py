"""The sheet dsl-2019-hw3: CNNs for letters (Q1.2, Q1.4), BiLSTMs for words (Q2.1, and Q2.3 with a convolution).

The published report gives no points; we give 10 to each network but that of Q1.4, which is only checked.
"""

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator
from torch import Tensor

from hw_check.definitions import write_definitions
from hw_check.networks.checks import TORCH, Check, Finding, Probe, definitions, grade_checks
from hw_check.networks.classifiers import classifier_probes
from hw_check.networks.observed import (
    LOG_PROBABILITIES,
    Answer,
    a_run,
    explained,
    fitted,
    gradients,
    observation,
    output,
    weights_of,
)
from hw_check.networks.plans import Classifier, Design, Plan
from hw_check.rows import Row, Sheet
from hw_check.sandbox import Sandbox
from hw_ocr.models import BiLSTM, ConvBiLSTM, OcrCNN

_TITLES = ("first convolution", "second convolution", "third convolution", "fourth convolution", "fifth convolution")


def _cnn(convolutions: tuple[int, ...]) -> Callable[[Generator], list[Probe]]:
    """The probes of a CNN with one of these numbers of convolutions; the first and the last are followed by pooling."""

    def design(count: int) -> Design:
        middle = count - 2
        plan = Plan(
            (2,) * (count - 1) + (3,), (1,) * count, (True, *(False,) * middle, True), "scores", linear=1
        )  # fmt: skip
        shapes = ((16, 1, 5, 5), *((16, 16, 5, 5),) * middle, (32, 16, 7, 7), (26, 256))
        return Design(plan, lambda: OcrCNN(count), (*_TITLES[:count], "output layer"), shapes)

    def probes(rng: Generator) -> list[Probe]:
        what = Classifier(
            designs=tuple(design(count) for count in convolutions),
            options={"n_classes": 26, "num_classes": 26, "output_size": 26},
            arguments=(26,),
            images=lambda rng: rng.random((4, 1, 16, 8), dtype=np.float32),
            forms=lambda images: [[images.reshape(4, 128)], [images], [images[:, 0]]],
            or_log_probabilities=True,
            wrong_images={
                "the pixels are read as 8 rows × 16 columns, expected 16 × 8": lambda x: x.reshape(-1, 1, 8, 16),
            },
        )
        return classifier_probes(what, rng)

    return probes


# The arguments of a BiLSTM's class by their usual names.
_OPTIONS = {
    "input_size": 128,
    "output_size": 26,
    "hidden_size": 128,
    "n_classes": 26,
    "batch_size": 1,
    "n_layers": 1,
}
_ARGUMENTS = [128, 26]  # numbers of pixels and of letters, for a class whose arguments have other names


def _words(kind: type[BiLSTM] | type[ConvBiLSTM]) -> Callable[[Generator], list[Probe]]:
    """The probes of a network that reads words."""

    def probes(rng: Generator) -> list[Probe]:
        words = [rng.random((length, 16, 8), dtype=np.float32) for length in (5, 7)]
        seed = int(rng.integers(2**31))
        first, second = (a_run(*_forms(word)) for word in words)
        request = observation(seed, [first, second, first], options=_OPTIONS, arguments=_ARGUMENTS)
        padded = np.stack([np.concatenate([words[0], rng.random((2, 16, 8), dtype=np.float32)]), words[1]])
        batch = observation(seed, [a_run(*_padded(padded), optional=True)], options=_OPTIONS, arguments=_ARGUMENTS)
        gradient = {**request, "runs": [{**first, "gradient": True}]}

        def layers(answer: Answer) -> Finding:
            return Finding(_wrong_layers(kind, answer))

        def outputs(answer: Answer) -> Finding:
            return _judge_word(kind, answer, torch.from_numpy(words[0]))

        def independent(answer: Answer) -> Finding:
            before, after = output(answer, 0), output(answer, 2)
            is_same = isinstance(before, ndarray) and np.allclose(before, after, atol=1e-5)
            return Finding(
                "" if is_same else "the scores of a word depend on the previous word: the hidden state is kept"
            )

        def padding(answer: Answer) -> Finding:
            return _judge_padding(kind, answer, [torch.from_numpy(word) for word in words])

        return [
            Probe("layers", {**request, "runs": [], "lazy": first}, layers, 0.4),
            Probe("a word with the same weights as ours", request, outputs, 0.4),
            Probe("the same word after another one", request, independent, 0.1),
            Probe("words of different lengths in a batch", batch, padding, 0.0),
            Probe("gradients", gradient, gradients, 0.1),
        ]

    return probes


def _forms(word: ndarray) -> list[list[Any]]:
    """The forms in which a forward may take a word (L, 16, 8): alone, with a batch axis, with its length or a mask."""
    flat, length = word.reshape(len(word), 128), np.array([len(word)])
    mask = np.ones((1, len(word)), bool)
    return [[flat], [flat[:, None]], [flat[None]], [flat[None], length], [word[None], mask], [flat[None], mask]]


def _padded(words: ndarray) -> list[list[Any]]:
    """The forms of a batch of two words, of which the first has 5 letters and the second 7."""
    flat, lengths = words.reshape(2, 7, 128), np.array([5, 7])
    mask = np.arange(7) < lengths[:, None]
    return [[flat, lengths], [words, mask], [flat, mask], [words, lengths]]


def _wrong_layers(kind: type[BiLSTM] | type[ConvBiLSTM], answer: Answer) -> str:
    """Describes how the student's parameters differ from those of our networks."""
    shapes = [tuple(weight.numbers.shape) for weight in weights_of(answer)]
    if not shapes:
        return "has no layers with weights: the constructor must make them"
    expected = {
        **({"convolution": (16, 1, 5, 5)} if kind is ConvBiLSTM else {}),
        "linear layer before the LSTM": (128, 512 if kind is ConvBiLSTM else 128),
        "LSTM": (512, 128),
        "output layer": (26, 256),
    }
    if expected["LSTM"] in shapes and shapes.count((512, 128)) == 2 and (26, 128) in shapes:
        return "the LSTM reads the word in one direction only: it must be bidirectional"
    if shapes.count((512, 128)) == 4 and (26, 128) in shapes:
        return "the output layer has 128 inputs, expected 256: the outputs of both directions must be concatenated"
    if kind is ConvBiLSTM and (128, 2048) in shapes:
        return "the linear layer has 2048 inputs, expected 512: the max-pooling after the convolution is missing"
    for name, shape in expected.items():
        if shape not in shapes:
            like = next((other for other in shapes if len(other) == len(shape) and other[0] == shape[0]), None)
            instead = f"; the nearest is {like}" if like else ""
            return f"the {name} needs weights of shape {shape}, which are missing{instead}"
    ours = sum(p.numel() for p in kind().parameters())
    theirs = sum(weight.numbers.numel() for weight in weights_of(answer))
    return "" if ours == theirs else f"has {theirs} parameters, expected {ours}"


def _judge_word(kind: type[BiLSTM] | type[ConvBiLSTM], answer: Answer, word: Tensor) -> Finding:
    model = kind().eval()
    if not fitted(model, weights_of(answer)):
        return Finding("not compared with ours, because its layers differ")
    value = output(answer)
    with torch.no_grad():
        right = _scores(model, word)
        if isinstance(value, ndarray) and value.size == right.numel():
            value = value.reshape(right.shape)  # an axis of length 1 for the batch may be anywhere
        if explained(value, right.log_softmax(dim=1), iter(())) == "":
            return Finding(remark=LOG_PROBABILITIES)
        for text, equivalent in _equivalent_scores(model, word):
            if explained(value, equivalent, iter(())) == "":
                return Finding(remark=text)
        wrong = list(_wrong_scores(model, word))
        wrong += [(text, scores.log_softmax(dim=1)) for text, scores in wrong]  # the network may end in a LogSoftmax
        return Finding(explained(value, right, iter(wrong)))


def _scores(model: BiLSTM | ConvBiLSTM, word: Tensor) -> Tensor:
    return model(word[None], torch.ones(1, len(word), dtype=torch.bool))[0]


def _equivalent_scores(model: Any, word: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields scores of networks that can learn the same as ours, because only the order of some weights differs."""
    swapped = _features(model, word, change=lambda x: x.roll(128, dims=1))
    yield "the direction from right to left comes first", swapped
    yield "the letters are read in reverse order, which exchanges the directions", _scores(model, word.flip(0)).flip(0)
    if isinstance(model, ConvBiLSTM):
        yield "reads the images with rows and columns swapped", _features(model, word.transpose(1, 2))


def _wrong_scores(model: Any, word: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields typical mistakes and the scores (L, 26) that they give."""
    right = _scores(model, word)
    yield "returns probabilities, expected scores", right.softmax(dim=1)
    yield "a softmax over the letters of the word", right.softmax(dim=0)
    yield "the log-softmax runs over the letters, expected over the 26 classes", right.log_softmax(dim=0)
    yield "a ReLU is applied to the output", right.relu()
    yield "the letters are read in reverse order", _scores(model, word.flip(0))
    yield "the scores are in reverse order", right.flip(0)
    alone = torch.cat([_scores(model, letter[None]) for letter in word])
    yield "every letter is read alone: the LSTM must run over the letters of the word, not over a batch", alone
    convolves = isinstance(model, ConvBiLSTM)
    if convolves:
        yield "the pixels are read as 8 rows × 16 columns, expected 16 × 8", _features(model, word.reshape(-1, 8, 16))
        yield "the ReLU after the convolution is missing", _features(model, word, rectified=False)
    for name, activation in {"missing": None, "a ReLU": torch.relu, "a sigmoid": torch.sigmoid}.items():
        text = f"the tanh after the linear layer is {name}"
        yield text, _features(model, word, activation=activation)

    def last_output(x: Tensor) -> Tensor:
        return x[-1:].expand_as(x)

    def last_states(x: Tensor) -> Tensor:
        return torch.cat([x[-1:, :128], x[:1, 128:]], dim=1).expand_as(x)

    def not_turned_back(x: Tensor) -> Tensor:
        return torch.cat([x[:, :128], x[:, 128:].flip(0)], dim=1)

    yield "the LSTM's last output is used for all letters", _features(model, word, change=last_output)
    yield (
        "the LSTM's last states are used for all letters, expected its outputs",
        _features(model, word, change=last_states),
    )
    yield (
        "the outputs of the direction from right to left are in reverse order",
        _features(model, word, change=not_turned_back),
    )


def _features(
    model: Any, word: Tensor, *, rectified: bool = True, activation: Any = torch.tanh,
    change: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:  # fmt: skip
    """The scores, computed step by step with one step changed."""
    if isinstance(model, ConvBiLSTM):
        convolution, relu, pool = model.layer1
        x = convolution(word[:, None])
        x = pool(relu(x) if rectified else x).flatten(1)
        linear, lstm = model.layer2[0], model.layer3
    else:
        x, linear, lstm = word.flatten(1), model.layer1[0], model.layer2
    x = linear(x)
    x = activation(x) if activation is not None else x
    x = lstm(x[None], torch.ones(1, len(word), dtype=torch.bool))[0]
    scores: Tensor = model.output_layer(change(x))
    return scores


def _judge_padding(kind: type[BiLSTM] | type[ConvBiLSTM], answer: Answer, words: list[Tensor]) -> Finding:
    """Judges a batch of words, for a network that takes lengths or a mask; the sheet's network takes single words."""
    value, model = output(answer), kind().eval()
    if not isinstance(value, ndarray) or value.ndim != 3 or not fitted(model, weights_of(answer)):
        return Finding()
    value = value if value.shape[:2] == (2, 7) else np.moveaxis(value, 1, 0)
    with torch.no_grad():
        for row, word in zip(value, words, strict=True):
            if not np.allclose(row[: len(word)], _scores(model, word), atol=1e-4):
                return Finding(remark="in a batch, the padding after a word changes the scores of its letters")
    return Finding()


def _has(*, lstm: bool, counts: tuple[int, ...]) -> Any:
    """Recognizes a class by whether it has an LSTM, and by the number of its convolutions."""

    def is_like(node: ast.AST) -> bool:
        text = ast.unparse(node)
        return ("LSTM(" in text) == lstm and text.count("Conv2d(") in counts

    return is_like


CHECKS = (
    Check("CNN", "hw3-q1.py", "1.2", 10, _cnn((2,)), like=_has(lstm=False, counts=(2,))),
    Check("CNN with more layers", "hw3-q1-4.py", "1.4", 0, _cnn((4, 3, 5)), like=_has(lstm=False, counts=(3, 4, 5))),
    Check("BILSTM", "hw3-q2.py", "2.1", 10, _words(BiLSTM), like=_has(lstm=True, counts=(0,))),
    Check("BILSTM with a convolution", "hw3-q2-3.py", "2.3", 10, _words(ConvBiLSTM), like=_has(lstm=True, counts=(1,))),
)


def _networks_with_a_flag(folder: Path) -> dict[str, str]:
    """The places of both BiLSTMs, as "file.py:call", if one class builds both: BILSTM(128, 26, conv=True)."""
    write_definitions(folder)
    defined = definitions(folder)
    builders = {"Conv2d", *(name for _, name, node in defined if "Conv2d(" in ast.unparse(node))}
    is_separate = _has(lstm=True, counts=(1,))
    for path, name, node in defined:
        parts = node.body if isinstance(node, ast.ClassDef) and "LSTM(" in ast.unparse(node) else []
        for made in (part for part in parts if isinstance(part, ast.FunctionDef) and part.name == "__init__"):
            flag, value = _convolution_flag(made, builders)
            if flag and not any(other != name and is_separate(code) for _, other, code in defined):
                file = path.relative_to(folder)
                return {
                    "BILSTM": f"{file}:{name}({_arguments(made, flag, not value)})",
                    "BILSTM with a convolution": f"{file}:{name}({_arguments(made, flag, value)})",
                }
    return {}


def _convolution_flag(made: ast.FunctionDef, builders: Collection[str]) -> tuple[str, bool]:
    """The constructor's flag for a convolution, and the value that adds one; an empty name if there is no such flag."""
    given = made.args
    flags = {part.arg for part in [*given.args[len(given.args) - len(given.defaults) :], *given.kwonlyargs]}
    for node in ast.walk(made):
        if not isinstance(node, ast.If | ast.IfExp):
            continue
        test, value = node.test, True
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, value = test.operand, False
        flag = ast.unparse(test).removeprefix("self.")
        for branch, is_body in ((node.body, True), (node.orelse, False)):
            code = branch if isinstance(branch, list) else [branch]
            calls = [part for one in code for part in ast.walk(one) if isinstance(part, ast.Call)]
            if flag in flags and any(ast.unparse(call.func).rpartition(".")[2] in builders for call in calls):
                return flag, value == is_body
    return "", False


def _arguments(made: ast.FunctionDef, flag: str, value: bool) -> str:
    """The arguments of a call of a BiLSTM's class with this value of the flag."""
    names = [part.arg for part in made.args.args[1:]]
    required = names[: len(names) - len(made.args.defaults)]
    options: dict[str, int] = {name: _OPTIONS[name] for name in names if name in _OPTIONS} | {flag: value}
    first = [] if options.keys() >= set(required) else _ARGUMENTS[: len(required)]
    named = [f"{name}={option}" for name, option in options.items() if name not in required[: len(first)]]
    return ", ".join([*map(str, first), *named])


def _grade(
    folder: Path, seed: int, seconds: float, sandbox: Sandbox, names: Mapping[str, str]
) -> Iterator[Row]:  # fmt: skip
    return grade_checks(CHECKS, folder, seed, seconds, sandbox, {**_networks_with_a_flag(folder), **names})


SHEET = Sheet(
    name="dsl-2019-hw3",
    files=("hw3-q1.py", "hw3-q2.py", "hw3-q2-3.py"),
    points=sum(check.points for check in CHECKS),
    elsewhere="the points are ours, since the sheet has none; a person grades the texts, the CRF and the training",
    runner="hw_check.networks.observe",
    grade=_grade,
    preload=TORCH,
    anywhere=True,
)
