"""`python -m hw_asr.compare_similarities`: what each similarity sees, on pairs of texts (ist-2023-24-hw2 Q3.4)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_asr import similarity, text
from hw_asr.presets import HOMEWORK
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import run_folder
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

COMMAND = "hw_asr.compare_similarities"
_DESCRIPTION = """\
Shows the three similarities of Question 4 and the error rates for chosen pairs of texts, and why they differ.

  python -m hw_asr.compare_similarities
  python -m hw_asr.compare_similarities "no one came" "noone came"   a pair of your own, or several

Texts are compared as in training: lists of characters with start and stop. The error rates take the first text of a
pair as the truth. Nothing is written but with --results_dir.
"""
NAME = "similarities"
_HEADS = ("", "one", "other", "Jaccard", "cosine", "Damerau-Lev.", "CER", "WER")


@dataclass(frozen=True)
class Pair:
    """Two texts to compare.

    Attributes:
        name: what happened to the first one.
        one: the truth.
        other: what was written instead.
        why: the similarities differ.
    """

    name: str
    one: str
    other: str
    why: str = ""


PAIRS = (
    Pair("nothing", "birds sing here", "birds sing here", "All agree on what is equal."),
    Pair(
        "anagram",
        "listen",
        "silent",
        "Jaccard and cosine count characters and are blind to their order; an edit distance needs four steps.",
    ),
    Pair(
        "words reordered",
        "cats sing and bees wait",
        "bees wait and cats sing",
        "The same characters: still perfect for both counts, while most of it has to be edited.",
    ),
    Pair(
        "one deletion",
        "the cat sleeps",
        "the cat sleep",
        "One of 16 tokens is missing: Jaccard and the edits give 15/16; cosine divides by less, sqrt(16 x 15).",
    ),
    Pair(
        "two letters swapped",
        "come from here",
        "come form here",
        "Counts do not see it; Damerau-Levenshtein takes a swap of neighbours as one edit, CER as two.",
    ),
    Pair(
        "one letter replaced",
        "the bees jump",
        "the bees dump",
        "One edit; Jaccard loses twice, by the letter that is gone and by the one that came.",
    ),
    Pair(
        "a word repeated",
        "wait outside",
        "wait wait outside",
        "What is too much counts against all; cosine forgives it most, as one length only enters by its root.",
    ),
    Pair(
        "only the beginning",
        "fish jump again today",
        "fish",
        "What is missing: cosine is the root of the share that is there, Jaccard and the edits are the share itself.",
    ),
    Pair(
        "only letters right",
        "cats sing today",
        "eeaaotns  tihds",
        "Frequent letters are in every text: counts praise what nobody can read, edits do not.",
    ),
)


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION, usage=f"python -m {COMMAND} [ONE OTHER ...] [flags]")
    flags.add_argument("texts", nargs="*", metavar="ONE OTHER", help="pairs of texts (default: chosen ones)")
    add_flag(flags, "json", action="store_true", help="print JSON instead of a table")
    add_flag(
        flags, "results_dir", type=Path, help=f"also write the run folder RESULTS_DIR/{HOMEWORK}/{NAME}, replacing it"
    )
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the comparison.

    Raises:
        UserError: a text has no partner or no characters, or the run folder cannot be written.
    """
    arguments, _ = cli.parse(parser(), argv)
    rows = [compare(pair) for pair in _pairs(arguments.texts)]
    if arguments.results_dir is not None:
        _write(rows, arguments.results_dir)
    print(json.dumps(rows, indent=2, ensure_ascii=False) if arguments.json else as_table(rows))


def _pairs(texts: Sequence[str]) -> Sequence[Pair]:
    if not texts:
        return PAIRS
    if len(texts) % 2:
        raise UserError(
            f"expected pairs of texts, got {len(texts)}: {texts[-1]!r} has no other; quote texts with spaces"
        )
    for one in texts[::2]:
        if not one.split():
            raise UserError(f"expected a text with characters to compare others with, got {one!r}")
    return [Pair("", one, other) for one, other in zip(texts[::2], texts[1::2], strict=True)]


def compare(pair: Pair) -> dict[str, Any]:
    """Texts, similarities and error rates of `pair` by name; `one` and `other` as the networks' alphabet has them."""
    ids = [text.encode(pair.one), text.encode(pair.other)]
    one, other = map(text.decode, ids)
    return {
        "name": pair.name,
        "one": one,
        "other": other,
        **{name: like(*ids) for name, like in similarity.SIMILARITIES.items()},
        "cer": similarity.error_rate([(one, other)]),
        "wer": similarity.error_rate([(one.split(), other.split())]),
        "why": pair.why,
    }


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns under one another, and below each pair why."""
    cells = [_HEADS, *([_cell(row[name]) for name in row if name != "why"] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line, why in zip(cells, ["", *(row["why"] for row in rows)], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        lines += [f"    {why}"] if why else []
    return "\n".join(lines)


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"


def _write(rows: Sequence[dict[str, Any]], results_dir: Path) -> None:
    config = run_folder.describe(HOMEWORK, COMMAND, {"results_dir": results_dir, "name": NAME}, {}, {})
    run = Run.create(results_dir, config, NAME, overwrite=True)
    try:
        run.write_summary({"name": NAME, "homework": HOMEWORK, "pairs": list(rows)})
    finally:
        run.close()


if __name__ == "__main__":
    cli.run_command(main)
