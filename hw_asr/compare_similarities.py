"""`python -m hw_asr.compare_similarities`: the similarities of chosen pairs of texts (ist-2023-24-hw2 Q3.4)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_asr import similarity, text
from hw_asr.presets import HOMEWORK
from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

COMMAND = "hw_asr.compare_similarities"
_DESCRIPTION = """\
Prints the three similarities of Question 3.4 and the error rates of pairs of texts, and explains why they differ.

  python -m hw_asr.compare_similarities
  python -m hw_asr.compare_similarities "no one came" "noone came"   your own pairs of texts

Texts are compared as in training: as lists of tokens that include START and STOP. The first text of each pair is the
reference of the error rates. Files are only written with --results_dir.
"""
NAME = "similarities"
_HEADS = ("", "one", "other", "Jaccard", "cosine", "Damerau-Lev.", "CER", "WER")


@dataclass(frozen=True)
class Pair:
    """Two texts to compare."""

    name: str  # how the second text differs from the first
    one: str  # the reference
    other: str  # the text that is compared with it
    why: str = ""  # an explanation of the differences between the similarities


PAIRS = (
    Pair("nothing", "birds sing here", "birds sing here",
         "All similarities of equal texts are 1."),
    Pair("anagram", "listen", "silent",
         "Jaccard and cosine ignore the order of the characters; the edit distance is 4."),
    Pair("words reordered", "cats sing and bees wait", "bees wait and cats sing",
         "Jaccard and cosine are 1 because the characters are the same; most of the text has to be edited."),
    Pair("one deletion", "the cat sleeps", "the cat sleep",
         "One of 16 tokens is missing: Jaccard and Damerau-Levenshtein are 15/16; cosine is 15 / sqrt(16 x 15)."),
    Pair("two letters swapped", "come from here", "come form here",
         "Jaccard and cosine ignore the order; Damerau-Levenshtein counts the swap as one edit, CER as two."),
    Pair("one letter replaced", "the bees jump", "the bees dump",
         "One edit; Jaccard drops most, since the intersection loses a letter and the union gains one."),
    Pair("a word repeated", "wait outside", "wait wait outside",
         "The extra word lowers all three, cosine least, since it divides by the geometric mean of the lengths."),
    Pair("only the beginning", "fish jump again today", "fish",
         "Jaccard and Damerau-Levenshtein are the share of the tokens that is present; cosine is its square root."),
    Pair("only letters right", "cats sing today", "eeaaotns  tihds",
         "Jaccard and cosine are high because the letters are right; the edit distance shows a useless text."),
)  # fmt: skip


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser(f"python -m {COMMAND}", _DESCRIPTION, usage=f"python -m {COMMAND} [ONE OTHER ...] [flags]")
    flags.add_argument("texts", nargs="*", metavar="ONE OTHER", help="pairs of texts (default: nine examples)")
    add_flag(flags, "json", action="store_true", help="print JSON instead of a table")
    meaning = f"also write the run folder RESULTS_DIR/{HOMEWORK}/{NAME}, replacing it"
    cli.add_place(flags, "results_dir", help=meaning)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the comparison; raises UserError for an odd number of texts, a blank reference or a failed write."""
    arguments, _ = cli.parse(parser(), argv)
    rows = [compare(pair) for pair in _pairs(arguments.texts)]
    if arguments.results_dir is not None:
        _write(rows, arguments.results_dir)
    print(json.dumps(rows, indent=2, ensure_ascii=False) if arguments.json else as_table(rows))


def _pairs(texts: Sequence[str]) -> Sequence[Pair]:
    if not texts:
        return PAIRS
    if len(texts) % 2:
        found = f"got {len(texts)} texts: no text follows {texts[-1]!r}"
        raise UserError(f"expected pairs of texts, {found}; quote texts with spaces")
    for one in texts[::2]:
        if not one.split():
            raise UserError(f"expected a text that is not blank as the first of each pair, got {one!r}")
    return [Pair("", one, other) for one, other in zip(texts[::2], texts[1::2], strict=True)]


def compare(pair: Pair) -> dict[str, Any]:
    """Similarities and error rates of a pair, its explanation, and its texts as the recognizer represents them."""
    tokens = [text.encode(pair.one), text.encode(pair.other)]
    one, other = map(text.decode, tokens)
    return {
        "name": pair.name,
        "one": one,
        "other": other,
        **{name: like(*tokens) for name, like in similarity.SIMILARITIES.items()},
        "cer": similarity.error_rate([(one, other)]),
        "wer": similarity.error_rate([(one.split(), other.split())]),
        "why": pair.why,
    }


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """A text table; each pair is followed by a line with its explanation."""
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
    config = describe(HOMEWORK, COMMAND, {"results_dir": results_dir, "name": NAME}, cli.roles_of(parser()), {}, {})
    run = Run.create(results_dir, config, NAME, overwrite=True)
    try:
        run.write_summary({"name": NAME, "homework": HOMEWORK, "pairs": list(rows)})
    finally:
        run.close()


if __name__ == "__main__":
    cli.run_command(main)
