"""`python -m hw_ocr.read RUN image…`: reads letters or words from image files with a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Reads the letter or word in each image file, with the best weights of the run folder RUN.

  python -m hw_ocr.read results/hw_ocr/ocr-conv-bilstm-crf-best word.png other.jpg
  python -m hw_ocr.read results/hw_ocr/ocr-cnn2-plain --word o.png c.png r.png

A word is cut into letters at the columns of pixels without ink, so its letters must not touch. Each letter is scaled to
the 16×8 pixels of the data set. Images may have any size, be grey or in colour, and be dark on bright or bright on
dark: the median grey level is taken for paper. The data set has small and capital letters; the labels of both are a to
z. It consists of 55 different words without their first letters, and BiLSTMs and CRFs learn which letters follow each
other in these words.
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_ocr.read", _DESCRIPTION, usage="%(prog)s RUN IMAGE [IMAGE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files that Pillow reads")
    add_flag(flags, "word", action="store_true", help="the files together are one word, in this order")
    add_flag(flags, "json", action="store_true", help="print one JSON list with the probability of each letter")
    cli.add_kernels_flag(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one line per word, or one JSON list."""
    arguments = parser().parse_args(argv)
    results = read(arguments.run, arguments.images, arguments.word, arguments.kernels)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        lowest = min(result["probabilities"])
        print(f"{', '.join(result['files'])}: {result['text']} (least sure letter {lowest:.4f})")


def read(folder: Path, paths: Sequence[Path], one_word: bool = False, kernels: str = "fast") -> list[dict[str, Any]]:
    """The text in each image file and the probability of each of its letters.

    Args:
        folder: a finished run.
        paths: image files.
        one_word: whether all files together are one word; otherwise each file is a word.
        kernels: "plain" decodes with the CRF of `crf.py`, "fast" with that of `fast_crf.py`.

    Raises:
        UserError: `folder` is not a finished run, or one of the files is not an image of letters.
    """
    import numpy as np
    import torch  # slow, hence after the arguments are checked

    from hw_ocr.images import read_letters
    from hw_ocr.trained_network import open_trained

    trained = open_trained(folder, kernels)
    letters = [read_letters(path) for path in paths]
    words = [(paths, np.concatenate(letters))] if one_word else [([p], w) for p, w in zip(paths, letters, strict=True)]
    results = []
    for files, word in words:
        text, probabilities = trained.read(torch.from_numpy(word))
        results.append({"files": [str(path) for path in files], "text": text, "probabilities": probabilities.tolist()})
    return results


if __name__ == "__main__":
    cli.run_command(main)
