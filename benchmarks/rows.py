"""The rows of the table of `python -m benchmarks`. Imports no torch."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass
class Row:
    """A row of the table."""

    what: str  # what was measured
    value: float  # median over the rounds
    low: float  # least value
    high: float  # greatest value
    rounds: int  # number of values
    unit: str  # "" for ratios
    goal: str  # "at least 2", "at most 2", or "" if there is no goal
    reached: bool  # whether the median reaches the goal; True if there is none
    threads: int | str  # threads of torch, or "GPU"
    command: str = ""  # the benchmark's path and flags

    @classmethod
    def of(
        cls,
        what: str,
        values: Sequence[float],
        unit: str = "",
        at_least: float | None = None,
        at_most: float | None = None,
        threads: int | str = 1,
    ) -> Self:
        """Makes a row from the values of all rounds."""
        values = list(map(float, values))  # NumPy's numbers cannot be written as JSON
        value = statistics.median(values)
        goals = {"at least": at_least, "at most": at_most}
        goal = " ".join(f"{words} {limit:g}" for words, limit in goals.items() if limit is not None)
        reached = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        return cls(what, value, min(values), max(values), len(values), unit, goal, reached, threads)

    def __str__(self) -> str:
        spread = f" ({number(self.low)}–{number(self.high)} in {self.rounds} rounds)" if self.rounds > 1 else ""
        verdict = f"  goal {self.goal}: {'reached' if self.reached else 'MISSED'}" if self.goal else ""
        return f"{self.what}: {number(self.value)}{self.unit and ' '}{self.unit}{spread}{verdict}"

    def cells(self, link: bool) -> str:
        """The row in Markdown. `link`: whether its first cell is a link from docs/ to the benchmark."""
        spread = f"{number(self.low)}–{number(self.high)}" if self.rounds > 1 else ""
        verdict = ("reached" if self.reached else "**missed**") if self.goal else ""
        what = f"[{self.what}](../{self.command.split()[0]})" if link else self.what
        value = f"{number(self.value)} {self.unit}".strip()
        return f"| {what} | {self.threads} | {value} | {spread} | {self.rounds} | {self.goal} | {verdict} |"


def number(value: float) -> str:
    """Formats `value` with three significant digits; from 100 on, as a whole number."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
