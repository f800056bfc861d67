"""Describes the mistakes in a function: the error that it raised, or the first guess that explains its numbers."""

from collections.abc import Iterator, Sequence

import numpy as np

from hw_check import hints
from hw_check.compare import Result
from hw_check.sheet import Function


def complaints(function: Function, results: Sequence[Result]) -> Iterator[str]:
    """Yields a description of each mistake in a function, the most important one first."""
    broken = [result for result in results if result.problem]
    if broken:
        yield broken[0].problem + _where(broken, results)
    wrong = dict.fromkeys(name for result in results for name in result.wrong)
    reasons: dict[str, list[str]] = {}
    for name in wrong:
        reasons.setdefault(_reason(function, name, results), []).append(name)
    for reason, names in reasons.items():
        yield f"{', '.join(names)}: {reason}"
    if wrong:
        return  # wrong numbers come first; other faults are reported once the numbers are right
    wrong_type = dict.fromkeys(name for result in results for name in result.wrong_type)
    if wrong_type:
        listed = ", ".join(wrong_type)
        yield f"{listed}: not of the input's type (float32 must stay float32: zeros_like, or dtype=x.dtype)"
    changed = dict.fromkeys(name for result in results for name in result.changed)
    if changed:
        yield f"changes its argument {', '.join(changed)} in place: work on a copy"


def _where(failing: Sequence[Result], results: Sequence[Result]) -> str:
    """Text that names the special cases in `failing`; empty if basic cases or all cases fail."""
    if len(failing) == len(results) or any(result.case.basic for result in failing):
        return ""
    titles = list(dict.fromkeys(result.case.title for result in failing))
    advice = f": {hints.ADVICE[titles[0]]}" if len(titles) == 1 and titles[0] in hints.ADVICE else ""
    return f" (only with {', '.join(titles)}{advice})"


def _reason(function: Function, name: str, results: Sequence[Result]) -> str:
    """Explains what is wrong with the output `name`: in all failing cases if possible, otherwise in one of them."""
    failing = [result for result in results if name in result.wrong]
    for result in failing:
        if name in result.not_arrays:
            return result.not_arrays[name] + _where(failing, results)
    specific = _specific_guess(function, name, results)
    if specific:
        return specific
    lists = [list(hints.general(r.values[name], r.right[name], r.case.sizes)) for r in failing]
    common = [text for text in lists[0] if all(text in other for other in lists)]
    if common:
        return common[0] + _where(failing, results)
    if lists[0] and any("shape" in text for text in lists[0]):
        return lists[0][0] + _where(failing, results)
    return _numbers(failing[0], name) + _where(failing, results)


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
    for output, text, compute in function.guesses(*result.case.inputs):
        if output == name:
            try:
                yield text, np.asarray(compute())
            except ValueError:  # with these shapes, the mistake raises an error
                continue
