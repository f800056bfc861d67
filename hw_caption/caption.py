"""`python -m hw_caption.caption RUN image…`: captions image files with a finished run."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_LARGEST_BEAM = 1000
_DESCRIPTION = """\
Prints a caption for each image file, with the best weights of the run folder RUN.

  python -m hw_caption.caption results/hw_caption/sydney-attention-plain harbour.jpg fields.png
  python -m hw_caption.caption results/hw_caption/sydney-attention-plain harbour.jpg --beam 5 --json
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_caption.caption", _DESCRIPTION, usage="%(prog)s RUN IMAGE [IMAGE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files that Pillow reads")
    add_flag(flags, "beam", type=_beam, help="search with this beam (default: decode as the run does for itself)")
    add_flag(flags, "json", action="store_true", help="print one JSON list, as the run's own file of captions is")
    cli.add_kernels_flag(flags)
    return flags


def _beam(text: str) -> int:
    width = cli.positive_int(text)
    if width > _LARGEST_BEAM:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_LARGEST_BEAM}, got {text!r}")
    return width


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each image, or one JSON list."""
    arguments = parser().parse_args(argv)
    captions = caption(arguments.run, arguments.images, arguments.beam, arguments.kernels)
    if arguments.json:
        rows = [{"image_name": str(path), "caption": words} for path, words in captions]
        print(json.dumps(rows, indent=2))
        return
    for path, words in captions:
        print(f"{path}: {' '.join(words)}")


def caption(
    folder: Path, paths: Sequence[Path], beam: int | None = None, kernels: str = "fast"
) -> list[tuple[Path, list[str]]]:
    """Each image file with the words of its caption.

    Args:
        folder: of a finished run.
        paths: of the image files.
        beam: width of a beam search; None decodes as the run does for itself.
        kernels: "plain" or "fast", see `experiment.build_model`.

    Raises:
        UserError: `folder` is no finished run, or one of the files is no image.
    """
    from hw_caption.finished import open_finished  # imports torch, hence after the arguments are checked
    from hw_common.data.dataset_files import DatasetFile

    finished = open_finished(folder, beam, kernels)
    different = list(dict.fromkeys(paths))
    images = [DatasetFile.from_path(path, str(path)) for path in different]
    captions = finished.write(images, finished.way if beam is None else "beam")
    by_path = dict(zip(different, captions, strict=True))
    return [(path, by_path[path]) for path in paths]


if __name__ == "__main__":
    cli.run_command(main)
