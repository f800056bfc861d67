"""Describes the mistakes in a function: the first guess that explains its numbers, or the error that it raised."""

from collections.abc import Iterator, Sequence

import numpy as np

from hw_check.eecs545 import hints
from hw_check.eecs545.cases import Layer
from hw_check.eecs545.compare import Result
from hw_check.eecs545.functions import Function


def complaints(function: Function, results: Sequence[Result]) -> list[str]:
    """A description of each mistake in a function; those whose reason is known come first."""
    known: list[str] = []
    unknown: list[str] = []
    reasons: dict[tuple[str, bool], list[str]] = {}
    for name in dict.fromkeys(name for result in results for name in result.wrong):
        reasons.setdefault(_reason(function, name, results), []).append(name)
    for (reason, is_known), names in reasons.items():
        (known if is_known else unknown).append(f"{', '.join(names)}: {reason}")
    broken = [result for result in results if result.problem]
    passing = [r for r in results if not r.problem and not r.wrong] or [r for r in results if not r.problem]
    raised = [broken[0].problem + _where(broken, passing)] if broken else []
    return [*known, *raised, *unknown]


def remarks(results: Sequence[Result]) -> Iterator[str]:
    """Yields remarks about outputs that are unusual but not wrong, and about changed arguments and parameters."""
    texts: dict[str, dict[str, None]] = {}
    wrong = {name for result in results for name in result.wrong}
    for result in results:
        for text, names in result.remarks.items():
            texts.setdefault(text, {}).update(dict.fromkeys(name for name in names if name not in wrong))
    for text, found in texts.items():
        if found:
            yield f"{', '.join(found)}: {text}"
    changed = dict.fromkeys(name for result in results for name in result.changed)
    if changed:
        cost = "a little" if any(not name.startswith("d") for name in changed) else "nothing"
        yield f"changes {', '.join(changed)} in place: work on a copy (costs {cost})"
    params = dict.fromkeys(name for result in results for name in result.changed_params)
    if params:
        yield f"changes the parameters {', '.join(params)}: only the optimizer may do that (costs half)"


def _where(failing: Sequence[Result], passing: Sequence[Result]) -> str:
    """Names what all failing cases share and no passing case has; empty if nothing, or if a main case fails."""
    right = dict.fromkeys(result.case.title for result in passing if result.case.cost is None)
    if not right or any(result.case.cost is None for result in failing):
        return ""
    passed = {trait for result in passing for trait in _traits(result)}
    traits = [[trait for trait in _traits(result) if trait not in passed] for result in failing]
    named = [trait for trait in traits[0] if all(trait in others for others in traits)][:1]
    if not named:  # a function that fails where any size is 1
        single = [[trait for trait in found if trait.startswith("one ")] for found in traits]
        named = list(dict.fromkeys(trait for found in single for trait in found)) if all(single) else []
    if not named:
        return ""
    advice = f": {hints.ADVICE[named[0]]}" if named[0] in hints.ADVICE else ""
    return f" (right for {', '.join(right)}; wrong only with {', '.join(named)}{advice})"


def _traits(result: Result) -> Iterator[str]:
    """Yields what is special about a case: its title, and the shapes that were drawn for it."""
    sizes = result.case.sizes
    yield result.case.title
    if {"h", "w"} <= sizes.keys():  # convolution and pooling
        if sizes["H"] != sizes["W"]:
            yield "images that are not square"
        if sizes["h"] != sizes["w"]:
            yield "windows that are not square" if "s" in sizes else "kernels that are not square"
    if len(out := result.case.right.get("out", np.empty(0)).shape) == 4 and out[2] != out[3]:
        yield "outputs that are not square"


def _reason(function: Function, name: str, results: Sequence[Result]) -> tuple[str, bool]:
    """What is wrong with the output `name`, and whether the reason is known.

    A reason must fit all failing cases, or at least all main ones; if none does, the numbers are described.
    """
    failing = [result for result in results if name in result.wrong]
    where = _where([r for r in results if r.failed(name)], [r for r in results if not r.failed(name)])
    for result in failing:
        if name in result.not_arrays:
            return result.not_arrays[name] + where, True
    swapped = _swapped(name, failing)
    if swapped:
        return f"holds {swapped}: the results are returned in another order than expected{where}", True
    specific = _specific_guess(function, name, results)
    if specific:
        return specific + where, True
    lists = [list(hints.general(r.values[name], r.right[name], r.case.sizes)) for r in failing]
    main = [texts for texts, result in zip(lists, failing, strict=True) if result.case.cost is None]
    for chosen in (lists, main):
        common = [text for text in chosen[0] if all(text in other for other in chosen)] if chosen else []
        if common:
            return common[0] + where, True
    shape = lists[0][0] if lists[0] and "has shape" in lists[0][0] else ""
    related = "" if ": " in shape else _related_to_input(function, name, failing)
    if related or shape:
        return (related or shape) + where, True
    return _numbers(failing[0], name) + where, False


def _swapped(name: str, failing: Sequence[Result]) -> str:
    """Name of another output whose right value is returned as the output `name` in all failing cases."""
    others = [other for other in failing[0].right if other != name and failing[0].right[other].ndim]
    for other in others:
        if all(hints.equal(r.values[name], r.right[other]) and r.right[other].any() for r in failing):
            return other
    return ""


def _related_to_input(function: Function, name: str, failing: Sequence[Result]) -> str:
    """Names an input if the output has its shape, or is off by a multiple of that input, in all failing cases."""
    failing = [result for result in failing if result.case.dtype == "float64"] or failing
    inputs = [_inputs(function, result) for result in failing]
    for other in inputs[0]:
        pairs = [(r.values[name], r.right[name], found[other]) for r, found in zip(failing, inputs, strict=True)]
        if all(value.shape == given.shape != right.shape for value, right, given in pairs):
            return f"has the shape of {other}, {pairs[0][0].shape}, expected {pairs[0][1].shape}"
        if all(
            value.shape == right.shape == given.shape and _is_off_by(value - right, given)
            for value, right, given in pairs
        ):
            return f"is off by a multiple of {other}, such as a term of regularization"
    return ""


def _is_off_by(difference: np.ndarray, given: np.ndarray) -> bool:
    square = float((given * given).sum())
    factor = float((difference * given).sum()) / square if square else 0.0
    return bool(factor) and hints.equal(difference, factor * given)


def _inputs(function: Function, result: Result) -> dict[str, np.ndarray]:
    """The arrays that the function got, by name."""
    given = result.case.inputs
    if isinstance(function.spec, Layer):
        named = dict(zip((*function.spec.inputs, *(f"d{o}" for o in function.spec.outputs)), given, strict=False))
    else:
        named = {**(given[1] if len(given) > 1 else {}), **dict(zip(("X", "y"), given[2:], strict=False))}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}


def _numbers(result: Result, name: str) -> str:
    value, right = result.values[name], result.right[name]
    if right.ndim == 0 and value.ndim == 0:
        return f"is {float(value):.6g}, expected {float(right):.6g}"
    return "differs for an unknown reason"


def _specific_guess(function: Function, name: str, results: Sequence[Result]) -> str:
    """The text of the first guess for this function that equals the output `name` in all cases in double precision."""
    fitting: dict[str, None] = {}
    refuted: set[str] = set()
    for result in results:
        if name not in result.values or result.case.dtype != "float64":
            continue
        fits: dict[str, bool] = {}
        for text, guess in _guesses(function, name, result):
            fits[text] = fits.get(text, False) or hints.equal(result.values[name], guess)
        refuted.update(text for text, fit in fits.items() if not fit)
        fitting.update((text, None) for text, fit in fits.items() if fit and name in result.wrong)
    return next((text for text in fitting if text not in refuted), "")


def _guesses(function: Function, name: str, result: Result) -> Iterator[tuple[str, np.ndarray]]:
    """The guesses for this function's output `name`: each mistake as text, and the output that it would give."""
    if function.guesses is None:
        return
    with np.errstate(all="ignore"):
        for output, text, compute in function.guesses(*result.case.inputs):
            if output == name:
                try:
                    guess = np.asarray(compute())
                    value = result.values[name]
                    yield text, guess.reshape(value.shape) if guess.size == value.size else guess
                except (ValueError, IndexError):  # with these shapes, the mistake raises an error
                    continue
