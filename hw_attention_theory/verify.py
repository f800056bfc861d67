"""`python -m hw_attention_theory.verify`: checks the claims of both sheets' Question 1 numerically."""

from collections.abc import Sequence
from typing import Any

from hw_attention_theory.folders import replaced_folder
from hw_attention_theory.presets import TERMS
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files

COMMAND = "hw_attention_theory.verify"
# The figure's values of ‖q‖‖k‖, numbers of terms, sizes L and D, and cases per point.
_NORMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_ORDERS = (TERMS, 5, 7)
_LENGTH, _DIMENSION, _REPEATS = 64, 8, 20
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
    add_flag(flags, "draws", type=cli.positive_int, help="cases per claim (default: 12 to 1000, by claim)")
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
        approximation = _measure_approximation(arguments.seed)
        files.write_bytes(run.folder / "claims.md", markdown(results).encode())
        plots.approximation(run.folder, approximation, f"random queries and keys, L = {_LENGTH}, D = {_DIMENSION}")
        holds = all(result["holds"] for result in results)
        finite = [{**row, "bound": row["bound"] if row["bound"] < float("inf") else None} for row in approximation]
        run.write_summary(
            {"name": run.folder.name, "claims": _writable(results), "approximation": finite, "holds": holds}
        )
    print(_text(results))
    failed = [result["name"] for result in results if not result["holds"]]
    print(f"{'FAILED: ' + ', '.join(failed) if failed else 'all claims hold'}; table and figure are in {run.folder}")
    return 1 if failed else 0


def _measure_approximation(seed: int) -> list[dict[str, Any]]:
    """The largest error of linear attention and its bound for each number of terms and each ‖q‖‖k‖."""
    import torch

    from hw_attention_theory import claims

    torch.manual_seed(seed)
    return [
        {
            "terms": terms,
            "r": r,
            "error": max(claims.attention_error(r, terms, _LENGTH, _DIMENSION) for _ in range(_REPEATS)),
            "bound": claims.attention_bound(r, terms),
        }
        for terms in _ORDERS
        for r in _NORMS
    ]


def _writable(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`results` with None for infinite errors, which JSON cannot represent."""
    return [
        {**result, "largest_error": result["largest_error"] if result["largest_error"] < float("inf") else None}
        for result in results
    ]


def _sizes(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {low}" + (f"–{high}" if high > low else "") for name, (low, high) in result["sizes"].items()
    )


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = [
        "| question | claim | sizes tried | cases | largest error | at most | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['question']} | {row['claim'].replace('|', chr(92) + '|')} | {_sizes(row)} | {row['draws']} "
        f"| {row['largest_error']:.1e} | {row['tolerance']:g} | {'yes' if row['holds'] else 'NO'} |"
        for row in results
    ]
    return "\n".join(lines) + "\n"


def _text(results: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in results:
        error = f"largest error {row['largest_error']:.1e}, at most {row['tolerance']:g}"
        lines.append(f"{'holds' if row['holds'] else 'FAILS'}  {row['question']}: {row['claim']}")
        lines.append(f"       {row['draws']} cases, {_sizes(row)}: {error}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_command(main)
