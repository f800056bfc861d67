"""`python -m hw_cnn.predict RUN image…`: classifies image files with a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Prints the most probable class of each image file and its probability, with the best weights of the run folder RUN.

  python -m hw_cnn.predict results/hw_cnn/fashion-mnist-fashion-plain-lr0.01 shirt.png shoe.jpg

Images are resized to the network's size and converted to grey or RGB. The images of Fashion-MNIST and MNIST show bright
objects on black, so yours should too.
"""


def parser() -> cli.Parser:
    """Declares the flags."""
    flags = cli.Parser("python -m hw_cnn.predict", _DESCRIPTION, usage="%(prog)s RUN IMAGE [IMAGE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files that Pillow reads")
    add_flag(flags, "json", action="store_true", help="print one JSON list with the probabilities of all classes")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each image, or one JSON list."""
    arguments = parser().parse_args(argv)
    results = predict(arguments.run, arguments.images)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(f"{result['file']}: {result['class']} {result['probability']:.4f}")


def predict(folder: Path, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Classifies image files with the network of a finished run.

    Returns:
        For each file, the most probable class, its probability, and the probabilities of all classes.

    Raises:
        UserError: `folder` is not a finished run, or a file is not an image.
    """
    from hw_cnn.finished import open_finished  # imports torch, which is slow, so the arguments are checked first
    from hw_common.data.class_folders import ImageFile

    finished = open_finished(folder)
    _, probabilities = finished.classify([ImageFile(str(path), path) for path in paths])
    results = []
    for path, row in zip(paths, probabilities.tolist(), strict=True):
        by_class = dict(zip(finished.classes, row, strict=True))
        best = max(by_class, key=by_class.__getitem__)
        results.append({"file": str(path), "class": best, "probability": by_class[best], "probabilities": by_class})
    return results


if __name__ == "__main__":
    cli.run_command(main)
