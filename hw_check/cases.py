"""Test cases: inputs drawn from a seed, and the right answers to them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.process import Job
from hw_check.wire import Other

STEP = 1e-5
"""Step h of the centred differences (f(x + h) − f(x − h)) / 2h: truncation and rounding errors are then about 1e-10."""

_RANDOM_CASES = 3
Directions = tuple[tuple[str, ndarray], ...]
"""For each gradient that is checked by centred differences: its name, and the direction in which its argument moves."""


@dataclass(frozen=True)
class Case:
    """One call of the function under test, or one forward and backward pass.

    Attributes:
        title: what is special about the case, for the report.
        basic: whether the sheet asks for this first of all; a function that fails a basic case gets no points.
        right: the right answer, by name, in float64.
        request: inputs for `child.py`.
        inputs: arguments of the forward function, followed by the gradients that the backward function gets.
        sizes: value of each letter in the shapes, such as N.
        dtype: type of the inputs, and of the arrays in a right answer.
        alternatives: other right answers, if mathematics allows several.
        directions: directions of the centred differences; empty if the function is not differentiated.
    """

    title: str
    basic: bool
    right: Mapping[str, ndarray]
    request: Mapping[str, Any]
    inputs: tuple[Any, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float64"
    alternatives: tuple[Mapping[str, ndarray], ...] = ()
    directions: Directions = ()


@dataclass(frozen=True)
class Special:
    """A kind of case besides random shapes.

    Attributes:
        title: what is special about it, for the report.
        make: draws the arguments, like `Layer.make`; None to use the layer's.
        sizes: sizes that are fixed.
        basic: as in `Case`.
        smooth: whether the function can be differentiated at these inputs.
        alternatives: computes further right answers from the inputs of a backward case.
    """

    title: str
    make: Callable[..., tuple[Any, ...]] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    basic: bool = False
    smooth: bool = True
    alternatives: Callable[..., Sequence[Mapping[str, ndarray]]] | None = None


@dataclass(frozen=True)
class Layer:
    """A forward function with its backward function, and how to draw inputs for them.

    Attributes:
        module: our module, whose functions give the right answers.
        forward: name of the forward function.
        backward: name of the backward function; None if the forward function returns the gradient itself.
        inputs: names of the forward function's arguments. An argument x is differentiable if there is a gradient dx.
        outputs: names of the forward function's results, without the cache.
        gradients: names of the backward function's results.
        groups: letters of the sizes with their lowest and highest value; the sizes in a group are all different.
        make: draws the arguments; takes a random generator and the sizes as keywords.
        specials: further cases.
        one: letters of the sizes that are 1 in a case of their own, with that case's title.
        replace: names of the functions in the same file that these two functions call.
    """

    module: Any
    forward: str
    backward: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    gradients: tuple[str, ...]
    groups: tuple[tuple[str, int, int], ...]
    make: Callable[..., tuple[Any, ...]]
    specials: tuple[Special, ...] = ()
    one: Mapping[str, str] = field(default_factory=lambda: {"N": "batch of one"})
    replace: tuple[str, ...] = ()

    def job(self, name: str, cases: Sequence[Case]) -> Job:
        """The request to run `cases` on the function `name`, which is the forward or the backward function."""
        backward = self.backward if name == self.backward else None
        request = {
            "forward": self.forward,
            "backward": backward,
            "needs": [self.forward, *([backward] if backward else [])],
            "outputs": len(self.outputs),
            "cache": self.backward is not None,
            "replace": list(self.replace),
            "cases": [dict(case.request) for case in cases],
        }
        return Job(name, request, self.forward if backward else None)

    def read(self, answer: Mapping[str, Any], case: Case) -> dict[str, Any] | str:
        """The values in the child's answer by name; if the answer has the wrong form, a message that says so."""
        returned, names = answer.get("returned"), list(case.right)
        if isinstance(returned, list) and len(returned) == len(names):
            return dict(zip(names, returned, strict=True))
        if names == list(self.outputs) and self.backward:
            names.append("cache")
        given = f"{len(returned)} values" if isinstance(returned, list) else describe_type(returned)
        return f"returns {given}, expected {', '.join(names)}"

    def sent(self, case: Case) -> list[tuple[str, ndarray]]:
        """Names and values of the arrays that the function gets and must not change."""
        named = [*zip(self.inputs, case.request["arguments"], strict=True)]
        named += [(f"d{name}", dout) for name, dout in zip(self.outputs, case.request["douts"], strict=False)]
        return [(name, value) for name, value in named if isinstance(value, ndarray)]

    def cases(self, name: str, rng: Generator) -> list[Case]:
        """The cases for the function `name`, drawn from `rng`."""
        backward = self.backward if name == self.backward else None
        cases = []
        for special, sides_equal in self._specials():
            sizes = {**self._sizes(rng, sides_equal), **special.sizes}
            cases.append(self._case(backward, special, sizes, rng))
        for special, form in (
            (Special("float32"), {"dtype": "float32"}),
            (Special("views with gaps"), {"layout": "strided"}),
        ):
            cases.append(self._case(backward, special, self._sizes(rng), rng, **form))
        return cases

    def _specials(self) -> Iterator[tuple[Special, bool]]:
        """The kinds of cases, and whether all sizes of a group are to be equal."""
        for _ in range(_RANDOM_CASES):
            yield Special("random shapes", basic=True), False
        yield Special("equal sides", basic=True), True
        for letter, title in self.one.items():
            yield Special(title, sizes={letter: 1}), False
        for special in self.specials:
            yield special, False

    def _sizes(self, rng: Generator, equal: bool = False) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for letters, low, high in self.groups:
            if equal:
                sizes |= dict.fromkeys(letters, low + 1)
            else:
                values = rng.choice(np.arange(low, high + 1), len(letters), replace=False)
                sizes |= dict(zip(letters, values.tolist(), strict=True))
        return sizes

    def _case(
        self, backward: str | None, special: Special, sizes: dict[str, int], rng: Generator, *, dtype: str = "float64",
        layout: str = "C",
    ) -> Case:  # fmt: skip
        arguments = tuple(as_type(a, dtype) for a in (special.make or self.make)(rng, **sizes))
        exact = tuple(as_type(a, "float64") for a in arguments)
        returned = getattr(self.module, self.forward)(*exact)
        outputs = returned if self.backward is None else returned[:-1]
        names, douts = self.outputs, tuple[ndarray, ...]()
        if backward:
            douts = tuple(rng.normal(size=output.shape).astype(dtype) for output in outputs)
            result = getattr(self.module, backward)(*(as_type(dout, "float64") for dout in douts), returned[-1])
            names, outputs = self.gradients, result if isinstance(result, tuple) else (result,)
        directions, moved = Directions(), list[Any]()
        if (backward or self.backward is None) and special.smooth and dtype == "float64" and layout == "C":
            directions, moved = self._move(arguments, rng)
        return Case(
            title=special.title,
            basic=special.basic,
            right={name: np.asarray(value) for name, value in zip(names, outputs, strict=True)},
            request={"arguments": list(arguments), "douts": list(douts), "layout": layout, "moved": moved},
            inputs=(*exact, *douts),
            sizes=sizes,
            dtype=dtype,
            alternatives=tuple(special.alternatives(*exact, *douts)) if special.alternatives and backward else (),
            directions=directions,
        )

    def _move(self, arguments: tuple[Any, ...], rng: Generator) -> tuple[Directions, list[Any]]:
        """A random direction for each differentiable argument, and all arguments after moving it along ±direction."""
        directions, moved = [], []
        for number, name in enumerate(self.inputs):
            if f"d{name}" in (*self.gradients, *self.outputs):
                direction = rng.normal(size=arguments[number].shape)
                directions.append((f"d{name}", direction))
                ends = (arguments[number] + sign * STEP * direction for sign in (1, -1))
                moved.append([[*arguments[:number], end, *arguments[number + 1 :]] for end in ends])
        return tuple(directions), moved


def as_type(value: Any, dtype: str) -> Any:
    """An array of floating-point numbers, converted to `dtype`; any other value is returned unchanged."""
    return value.astype(dtype) if isinstance(value, ndarray) and value.dtype.kind == "f" else value


def describe_type(value: Any) -> str:
    """The kind of a value that a child process sent, for messages."""
    if isinstance(value, Other):
        return value.name
    return {ndarray: "an array or number", dict: "a dictionary", list: "a tuple or list"}.get(type(value), "nothing")
