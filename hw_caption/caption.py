"""`python -m hw_caption.caption RUN image…`: captions image files with a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path

from hw_caption.presets import MAX_BEAM
from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Prints a caption for each image file, generated with the weights of the best epoch of the run folder RUN.

  python -m hw_caption.caption results/hw_caption/sydney-attention-plain harbour.jpg fields.png
  python -m hw_caption.caption results/hw_caption/sydney-attention-plain harbour.jpg --beam 5 --json
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_caption.caption", _DESCRIPTION, usage="%(prog)s RUN IMAGE [IMAGE …] [flags]")
    flags.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    flags.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files that Pillow reads")
    add_flag(
        flags,
        "beam",
        type=cli.int_up_to(MAX_BEAM),
        help="width of a beam search (default: the decoding that the run used)",
    )
    add_flag(
        flags,
        "json",
        action="store_true",
        help='print one JSON list in the course\'s format: [{"image_name": …, "caption": [words]}, …]',
    )
    cli.add_kernels_flag(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line with the caption of each image, or one JSON list."""
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
    """Generates a caption for each image file with a finished run.

    Args:
        folder: the run folder.
        paths: the image files.
        beam: width of a beam search; None for the decoding that the run used.
        kernels: "plain" or "fast", see `experiment.build_model`.

    Returns:
        Each path with the words of its caption.

    Raises:
        UserError: `folder` is not a finished run, or a file is not an image.
    """
    from hw_caption.finished import open_finished  # imports torch
    from hw_common.data.dataset_files import DatasetFile

    finished = open_finished(folder, beam, kernels)
    unique = list(dict.fromkeys(paths))
    images = [DatasetFile.from_path(path, str(path)) for path in unique]
    captions = finished.generate(images, finished.decoding if beam is None else "beam")
    by_path = dict(zip(unique, captions, strict=True))
    return [(path, by_path[path]) for path in paths]


if __name__ == "__main__":
    cli.run_command(main)
