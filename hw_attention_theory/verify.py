"""`python -m hw_attention_theory.verify`: checks the claims of both sheets' Question 1 numerically."""

import itertools
from collections.abc import Sequence
from typing import Any

from hw_attention_theory.folders import replaced_folder
from hw_attention_theory.presets import TERMS
from hw_common.commands import cli, over_seeds
from hw_common.commands.cli import add_flag
from hw_common.runs import files

COMMAND = "hw_attention_theory.verify"
# The points of the figure.
_NORMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # values of ‖q‖‖k‖
_ORDERS = (TERMS, 5, 7)  # numbers of terms
_LENGTH, _DIMENSION, _REPEATS = 64, 8, 20  # L, D, and random cases for each point
_DESCRIPTION = """\
Checks every claim of ist-2021-22-hw2 Q1.3 and ist-2023-24-hw2 Q1 numerically on inputs of random sizes, and measures
how the error of linear attention grows with ‖q‖‖k‖.

  python -m hw_attention_theory.verify

Prints a table and writes a run folder with the table and a figure; the next call replaces it. Exits with status 1 if a
claim fails.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION)
    add_flag(flags, "seed", type=cli.non_negative_int, default=42, help="seed of sizes and inputs (default: 42)")
    add_flag(flags, "draws", type=cli.positive_int, help="cases per claim (default: depends on it, 12 to 1000)")
    cli.add_results_dir_flag(flags)
    add_flag(flags, "name", type=cli.run_name, default="verify", help="name of the run folder (default: verify)")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and writes the run folder; returns 1 if a claim fails, else 0."""
    arguments = parser().parse_args(argv)
    from hw_attention_theory import claims, plots  # imports torch, hence after the arguments are checked

    given = {name: getattr(arguments, name) for name in ("seed", "draws", "name")}
    with replaced_folder(arguments.results_dir, arguments.name, COMMAND, given) as run:
        results = [claims.check(claim, arguments.seed, arguments.draws) for claim in claims.CLAIMS]
        failed = [result["name"] for result in results if not result["holds"]]
        approximation = _measure_approximation(arguments.seed)
        files.write_bytes(run.folder / "claims.md", markdown(results).encode())
        plots.approximation(run.folder, approximation, f"random queries and keys, L = {_LENGTH}, D = {_DIMENSION}")
        run.write_summary({
            "name": run.folder.name, "claims": _without_infinity(results),
            "approximation": _without_infinity(approximation), "holds": not failed,
        })  # fmt: skip
    print(_text(results))
    print(f"{'FAILED: ' + ', '.join(failed) if failed else 'all claims hold'}; table and figure are in {run.folder}")
    return 1 if failed else 0


def _measure_approximation(seed: int) -> list[dict[str, Any]]:
    """The largest error of linear attention and its bound for each number of terms and each ‖q‖‖k‖."""
    import torch

    from hw_attention_theory.claims import attention_bound, attention_error

    torch.manual_seed(seed)
    rows = []
    for terms, r in itertools.product(_ORDERS, _NORMS):
        error = max(attention_error(r, terms, _LENGTH, _DIMENSION) for _ in range(_REPEATS))
        rows.append({"terms": terms, "r": r, "error": error, "bound": attention_bound(r, terms)})
    return rows


def _without_infinity(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with None for infinite values, which JSON cannot represent."""
    return [{name: None if value == float("inf") else value for name, value in row.items()} for row in rows]


def _sizes(result: dict[str, Any]) -> str:
    ranges = result["sizes"].items()
    return ", ".join(f"{name} {low}" + (f"–{high}" if high > low else "") for name, (low, high) in ranges)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown."""
    rows = [
        (row["question"], row["claim"].replace("|", r"\|"), _sizes(row), str(row["draws"]),
         f"{row['largest_error']:.1e}", f"{row['tolerance']:g}", "yes" if row["holds"] else "NO")
        for row in results
    ]  # fmt: skip
    head = ("question", "claim", "sizes tried", "cases", "largest error", "tolerance", "holds")
    return over_seeds.markdown(head, rows)


def _text(results: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in results:
        error = f"largest error {row['largest_error']:.1e}, tolerance {row['tolerance']:g}"
        lines.append(f"{'holds' if row['holds'] else 'FAILS'}  {row['question']}: {row['claim']}")
        lines.append(f"       {row['draws']} cases, {_sizes(row)}: {error}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_command(main)
