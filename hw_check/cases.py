"""What is asked of a function: inputs drawn from a seed, and what a right answer to them is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from hw_check.process import Job
from hw_check.wire import Other

NUDGE = 1e-5  # step of the centred differences: both their errors are then about 1e-10
_RANDOM_CASES = 3


@dataclass(frozen=True)
class Case:
    """One call, or one forward and backward pass, of the function under test.

    Args:
        title: what is special about it, for people.
        plain: what the sheet asks for to begin with; a function that fails here gets no points.
        right: what a right answer holds, by name, in float64.
        request: inputs, for `child.py`.
        inputs: arguments of the forward function, then the gradients given to the backward function.
        sizes: what the letters in shapes stand for.
        dtype: of the inputs and of the arrays in a right answer.
        alternatives: other right answers, where mathematics leaves a choice.
        nudges: for centred differences: the name of a gradient and the direction in which its argument was moved.
    """

    title: str
    plain: bool
    right: Mapping[str, ndarray]
    request: Mapping[str, Any]
    inputs: tuple[Any, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float64"
    alternatives: tuple[Mapping[str, ndarray], ...] = ()
    nudges: tuple[tuple[str, ndarray], ...] = ()


@dataclass(frozen=True)
class Special:
    """A case beyond random shapes.

    Args:
        title: what is special, for people.
        make: as `Layer.make`; None for that of the layer.
        sizes: fixed sizes.
        plain: as in `Case`.
        smooth: the function can be differentiated there.
        alternatives: from the inputs of a backward case to other right answers.
    """

    title: str
    make: Callable[..., tuple[Any, ...]] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    plain: bool = False
    smooth: bool = True
    alternatives: Callable[..., Sequence[Mapping[str, ndarray]]] | None = None


@dataclass(frozen=True)
class Layer:
    """A forward function, the backward function that belongs to it, and how to draw inputs for them.

    Args:
        module: ours, whose functions are right.
        forward: its name.
        backward: its name; None where the forward function returns the gradient itself.
        inputs: names of the arguments; those that have a gradient called d… are differentiable.
        outputs: names of what the forward function returns, the cache apart.
        gradients: names of what the backward function returns.
        groups: letters of sizes with the lowest and highest value; within a group, no two are drawn equal.
        make: from a generator and sizes, as keywords, to the arguments.
        specials: further cases.
        one: letters of sizes that are 1 in a case each, and its title.
        replace: functions of the same file that they are built from.
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
        """The request to run `cases` on the function `name`, which is the forward or the backward one."""
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
        """The values in a child's answer by name, or what is wrong with its form."""
        returned, names = answer.get("returned"), list(case.right)
        if isinstance(returned, list) and len(returned) == len(names):
            return dict(zip(names, returned, strict=True))
        if names == list(self.outputs) and self.backward:
            names.append("cache")
        given = f"{len(returned)} values" if isinstance(returned, list) else describe_type(returned)
        return f"returns {given}, expected {', '.join(names)}"

    def sent(self, case: Case) -> list[tuple[str, ndarray]]:
        """The arrays that went in, which the function must leave alone, and their names."""
        named = [*zip(self.inputs, case.request["arguments"], strict=True)]
        named += [(f"d{name}", dout) for name, dout in zip(self.outputs, case.request["douts"], strict=False)]
        return [(name, value) for name, value in named if isinstance(value, ndarray)]

    def cases(self, name: str, rng: Generator) -> list[Case]:
        """The cases for the function `name`."""
        backward = name == self.backward
        cases = []
        for special, kind in self._specials():
            sizes = {**self._sizes(rng, kind), **special.sizes}
            cases.append(self._case(backward, special, sizes, rng))
        general = Special("float32"), Special("views with gaps")
        cases.append(self._case(backward, general[0], self._sizes(rng, "random"), rng, dtype="float32"))
        cases.append(self._case(backward, general[1], self._sizes(rng, "random"), rng, layout="strided"))
        return cases

    def _specials(self) -> Iterator[tuple[Special, str]]:
        for _ in range(_RANDOM_CASES):
            yield Special("random shapes", plain=True), "random"
        yield Special("equal sides", plain=True), "equal"
        for letter, title in self.one.items():
            yield Special(title, sizes={letter: 1}), "random"
        for special in self.specials:
            yield special, "random"

    def _sizes(self, rng: Generator, kind: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for letters, low, high in self.groups:
            if kind == "equal":
                sizes |= dict.fromkeys(letters, low + 1)
            else:
                values = rng.choice(np.arange(low, high + 1), len(letters), replace=False)
                sizes |= dict(zip(letters, values.tolist(), strict=True))
        return sizes

    def _case(
        self, backward: bool, special: Special, sizes: dict[str, int], rng: Generator, *, dtype: str = "float64",
        layout: str = "C",
    ) -> Case:  # fmt: skip
        arguments = tuple(as_type(a, dtype) for a in (special.make or self.make)(rng, **sizes))
        exact = tuple(as_type(a, "float64") for a in arguments)
        returned = getattr(self.module, self.forward)(*exact)
        outputs = returned if self.backward is None else returned[:-1]
        names, douts = self.outputs, ()
        if backward:
            douts = tuple(rng.normal(size=output.shape).astype(dtype) for output in outputs)
            result = getattr(self.module, self.backward)(*(as_type(d, "float64") for d in douts), returned[-1])
            names, outputs = self.gradients, result if isinstance(result, tuple) else (result,)
        nudges, pushed = (), []
        if (backward or self.backward is None) and special.smooth and dtype == "float64" and layout == "C":
            nudges, pushed = self._nudges(arguments, rng)
        return Case(
            title=special.title,
            plain=special.plain,
            right={name: np.asarray(value) for name, value in zip(names, outputs, strict=True)},
            request={"arguments": list(arguments), "douts": list(douts), "layout": layout, "nudged": pushed},
            inputs=(*exact, *douts),
            sizes=sizes,
            dtype=dtype,
            alternatives=tuple(special.alternatives(*exact, *douts)) if special.alternatives and backward else (),
            nudges=nudges,
        )

    def _nudges(self, arguments: tuple[Any, ...], rng: Generator) -> tuple[tuple[tuple[str, ndarray], ...], list[Any]]:
        """Random directions, one for each differentiable argument, and the arguments moved along them and back."""
        nudges, pushed = [], []
        for number, name in enumerate(self.inputs):
            gradient = f"d{name}"
            if gradient in (*self.gradients, *self.outputs):
                direction = rng.normal(size=arguments[number].shape)
                nudges.append((gradient, direction))
                pushed.append(
                    [
                        [*arguments[:number], arguments[number] + sign * NUDGE * direction, *arguments[number + 1 :]]
                        for sign in (1, -1)
                    ]
                )
        return tuple(nudges), pushed


def as_type(value: Any, dtype: str) -> Any:
    """An array of floating-point numbers as `dtype`; anything else as it is."""
    return value.astype(dtype) if isinstance(value, ndarray) and value.dtype.kind == "f" else value


def describe_type(value: Any) -> str:
    """What a child sent that is no array, for people."""
    if isinstance(value, Other):
        return value.name
    return {ndarray: "an array or number", dict: "a dictionary", list: "a tuple or list"}.get(type(value), "nothing")
