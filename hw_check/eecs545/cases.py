"""Test cases: inputs drawn from a seed, and the right answers to them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.sandbox import Job
from hw_check.wire import Other

STEP = 1e-5
"""Step h of the centred differences (f(x + h) − f(x − h)) / 2h, whose errors are then about 1e-10."""

EPSILON = 1e-6
"""Largest ε that a student may add to a probability before the logarithm, or to the sum of a softmax."""

Directions = tuple[tuple[str, ndarray], ...]
"""For each gradient that is checked by centred differences: its name, and the direction in which its argument moves."""


@dataclass(frozen=True)
class Case:
    """One call of the function under test, or one forward and backward pass."""

    title: str  # the kind of case, for the report
    cost: float | None  # share of the points that a wrong answer costs; None if it costs all of them
    right: Mapping[str, ndarray]  # right answer by name, in float64
    request: Mapping[str, Any]  # inputs for `inside.py`
    inputs: tuple[Any, ...]  # the forward function's arguments; in a backward case, also the gradients of its outputs
    sizes: Mapping[str, int] = field(default_factory=dict)  # value of each letter in the shapes, such as N
    dtype: str = "float64"  # type of the inputs
    alternatives: tuple[Mapping[str, ndarray], ...] = ()  # other right answers, if mathematics allows several
    tolerated: tuple[Mapping[str, ndarray], ...] = ()  # answers that get a remark and cost a little
    slack: Mapping[str, float] = field(default_factory=dict)  # the error of each output that a small ε may cause
    directions: Directions = ()  # empty if no gradient is checked by centred differences


@dataclass(frozen=True)
class Special:
    """A kind of case, such as large scores."""

    title: str  # name of the kind, for the report
    make: Callable[..., tuple[Any, ...]] | None = None  # draws the arguments; None to use `Layer.make`
    sizes: Mapping[str, int] = field(default_factory=dict)  # sizes that are fixed; the others are drawn
    cost: float | None = 0.25  # share of the points that a wrong answer costs, as in `Case`
    equal: tuple[str, ...] = ()  # groups of sizes that are equal, such as height and width
    scale: float = 1.0  # factor of all real numbers that are drawn
    dtype: str = "float64"
    layout: str = "C"
    # Compute further right answers, and answers that are nearly right, from the inputs of a backward case.
    alternatives: Callable[..., Sequence[Mapping[str, ndarray]]] | None = None
    tolerated: Callable[..., Sequence[Mapping[str, ndarray]]] | None = None


RANDOM = (Special("random shapes", cost=None),) * 3
COMMON = (
    Special("large numbers", scale=1e3),
    Special("float32", dtype="float32"),
    Special("non-contiguous arrays", layout="strided", cost=0.1),
)
"""Further kinds of cases; a layer may leave some of them out."""


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
    specials: tuple[Special, ...] = ()  # the kinds of cases besides RANDOM and COMMON
    random: tuple[Special, ...] = RANDOM
    common: tuple[Special, ...] = COMMON
    # Computes, from the arguments, the errors that a small ε may cause in the outputs.
    slack: Callable[..., Mapping[str, float]] | None = None
    # Makes the documented cache, and other usual forms of it, from the arguments and the output.
    caches: Callable[..., list[Any]] | None = None

    def job(self, name: str, cases: Sequence[Case]) -> Job:
        """The request to run `cases` on the function `name`, which is the forward or the backward function."""
        backward = self.backward if name == self.backward else None
        needs = [self.forward] if any("caches" not in case.request for case in cases) else []
        request = {
            "forward": self.forward,
            "backward": backward,
            "needs": [*needs, *([backward] if backward else [])],
            "outputs": len(self.outputs),
            "cache": self.backward is not None,
            "cases": [dict(case.request) for case in cases],
        }
        return Job(name, request, self.forward if backward and needs else None)

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

    def combine(self, shares: Mapping[str, float]) -> float:
        """The share of the points, from the share of each output."""
        return sum(shares.values()) / len(shares)

    def cases(self, name: str, rng: Generator) -> list[Case]:
        """The cases for the function `name`, drawn from `rng`."""
        specials = (*self.random, *self.specials, *self.common)
        return [self._case(name == self.backward, special, rng) for special in specials]

    def with_cache(self, case: Case) -> Case:
        """A backward case that gets documented caches instead of the cache of the student's forward function."""
        arguments, douts = case.request["arguments"], case.request["douts"]
        out = getattr(self.module, self.forward)(*case.inputs[: len(self.inputs)])[0]
        caches = self.caches(*arguments, out) if self.caches else []
        return _changed(case, request={"arguments": arguments, "douts": douts, "caches": caches})

    def with_moved(self, case: Case, rng: Generator) -> Case:
        """A backward case that also calls the forward function with arguments moved by ±STEP, one after the other."""
        arguments = case.request["arguments"]
        directions, moved = [], []
        for number, name in enumerate(self.inputs):
            if f"d{name}" in self.gradients and case.dtype == "float64":
                direction = rng.normal(size=arguments[number].shape)
                directions.append((f"d{name}", direction))
                ends = (arguments[number] + sign * STEP * direction for sign in (1, -1))
                moved.append([[*arguments[:number], end, *arguments[number + 1 :]] for end in ends])
        return _changed(case, request={**case.request, "moved": moved}, directions=tuple(directions))

    def _sizes(self, rng: Generator, equal: tuple[str, ...]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for letters, low, high in self.groups:
            values = rng.choice(np.arange(low, high + 1), len(letters), replace=False)
            same = letters in equal
            sizes |= {letter: int(values[0 if same else n]) for n, letter in enumerate(letters)}
        return sizes

    def _case(self, backward: bool, special: Special, rng: Generator) -> Case:
        sizes = {**self._sizes(rng, special.equal), **special.sizes}
        drawn = (special.make or self.make)(rng, **sizes)
        arguments = tuple(as_type(a, special.dtype, special.scale) for a in drawn)
        exact = tuple(as_type(a, "float64") for a in arguments)
        returned = getattr(self.module, self.forward)(*exact)
        outputs = returned if self.backward is None else returned[:-1]
        names, douts = self.outputs, tuple[ndarray, ...]()
        if backward:
            assert self.backward
            douts = tuple(as_type(rng.normal(size=o.shape), special.dtype, special.scale) for o in outputs)
            result = getattr(self.module, self.backward)(*(as_type(d, "float64") for d in douts), returned[-1])
            names, outputs = self.gradients, result if isinstance(result, tuple) else (result,)
        request = {"arguments": list(arguments), "douts": list(douts), "layout": special.layout, "moved": []}
        more = (special.alternatives, special.tolerated) if backward else (None, None)
        alternatives, tolerated = (tuple(make(*exact, *douts)) if make else () for make in more)
        return Case(
            special.title, special.cost, dict(zip(names, map(np.asarray, outputs), strict=True)), request,
            (*exact, *douts), sizes, special.dtype, alternatives, tolerated,
            self.slack(*exact) if self.slack else {},
        )  # fmt: skip


def _changed(case: Case, **fields: Any) -> Case:
    return Case(**{**vars(case), **fields})


def smallest_probability(x: ndarray, y: ndarray, counts: ndarray) -> tuple[float, float]:
    """Errors of loss and dx that an ε of EPSILON may cause, for scores x (…, C), classes y and weights `counts` (…)."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    p = np.take_along_axis(shifted / shifted.sum(axis=-1, keepdims=True), y[..., None], -1)[..., 0]
    return float((counts * np.log1p(EPSILON / p)).sum()), float((counts * 2 * EPSILON / (p + EPSILON)).max())


def as_type(value: Any, dtype: str, scale: float = 1.0) -> Any:
    """An array of floating-point numbers, times `scale` and of type `dtype`; other values are returned unchanged."""
    return (value * scale).astype(dtype) if isinstance(value, ndarray) and value.dtype.kind == "f" else value


def describe_type(value: Any) -> str:
    """The type of a value that a child process sent, for messages."""
    if isinstance(value, Other):
        return value.name
    return {ndarray: "an array or number", dict: "a dictionary", list: "a tuple or list"}.get(type(value), "nothing")


def kinds(cases: Sequence[Case]) -> Iterator[str]:
    """The titles of the cases, with their counts, for the report."""
    titles = [case.title for case in cases]
    for title in dict.fromkeys(titles):
        count = titles.count(title)
        yield f"{count} × {title}" if count > 1 else title
