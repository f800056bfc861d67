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
"""Step h of the centred differences (f(x + h) − f(x − h)) / 2h, whose errors are then about 1e-10."""

_RANDOM_CASES = 3
Directions = tuple[tuple[str, ndarray], ...]
"""For each gradient that is checked by centred differences: its name, and the direction in which its argument moves."""


@dataclass(frozen=True)
class Case:
    """One call of the function under test, or one forward and backward pass."""

    title: str  # the kind of case, for the report
    basic: bool  # whether a function that fails this case gets no points at all
    right: Mapping[str, ndarray]  # right answer by name, in float64
    request: Mapping[str, Any]  # inputs for `child.py`
    inputs: tuple[Any, ...]  # the forward function's arguments; in a backward case, also the gradients of its outputs
    sizes: Mapping[str, int] = field(default_factory=dict)  # value of each letter in the shapes, such as N
    dtype: str = "float64"  # type of the inputs; the function's results must have the same type
    alternatives: tuple[Mapping[str, ndarray], ...] = ()  # other right answers, if mathematics allows several
    directions: Directions = ()  # empty if no gradient is checked by centred differences


@dataclass(frozen=True)
class Special:
    """A kind of case, such as large scores."""

    title: str  # name of the kind, for the report
    make: Callable[..., tuple[Any, ...]] | None = None  # draws the arguments; None to use `Layer.make`
    sizes: Mapping[str, int] = field(default_factory=dict)  # sizes that are fixed; the others are drawn
    basic: bool = False  # whether a function that fails these cases gets no points at all
    smooth: bool = True  # whether the function can be differentiated at these inputs
    # Computes further right answers from the inputs of a backward case.
    alternatives: Callable[..., Sequence[Mapping[str, ndarray]]] | None = None


@dataclass(frozen=True)
class Layer:
    """A forward function and its backward function; draws the cases for both."""

    module: Any  # our module, whose functions give the right answers
    forward: str  # name of the forward function
    backward: str | None  # name of the backward function; None if the forward function returns the gradient itself
    inputs: tuple[str, ...]  # names of the forward function's arguments; w has a gradient if dw is in `gradients`
    outputs: tuple[str, ...]  # names of the forward function's results, without the cache
    gradients: tuple[str, ...]  # names of the backward function's results
    # Each group: letters of sizes, and their lowest and highest value. Random sizes of a group are all different.
    groups: tuple[tuple[str, int, int], ...]
    make: Callable[..., tuple[Any, ...]]  # draws the arguments; takes a random generator and the sizes as keywords
    specials: tuple[Special, ...] = ()  # further kinds of cases
    # Further cases in which one size is 1: the letter of this size → the title of the case.
    one: Mapping[str, str] = field(default_factory=lambda: {"N": "batch of one"})
    replace: tuple[str, ...] = ()  # functions that both call; a failed function is retried with ours in their place

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
        """The arrays, with their names, that the function gets and must not change."""
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
        cases.append(self._case(backward, Special("float32"), self._sizes(rng), rng, dtype="float32"))
        cases.append(self._case(backward, Special("non-contiguous arrays"), self._sizes(rng), rng, layout="strided"))
        return cases

    def _specials(self) -> Iterator[tuple[Special, bool]]:
        """Yields the kinds of cases, and whether all sizes in a group are equal."""
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
        """For each argument with a gradient: a random direction, and all arguments after a ±STEP move of this one."""
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
    """The type of a value that a child process sent, for messages."""
    if isinstance(value, Other):
        return value.name
    return {ndarray: "an array or number", dict: "a dictionary", list: "a tuple or list"}.get(type(value), "nothing")
