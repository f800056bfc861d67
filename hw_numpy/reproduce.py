r"""Trains the NumPy networks of eecs545-w20-hw4 Q2c, Q3c and Q4d and draws all their figures.

Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_numpy.reproduce                     on the built-in samples, a minute
  python -m hw_numpy.reproduce --profile full \
    --data_dir data --captions_dir data/flickr1k   on MNIST and caption files of hw_numpy.coco_build, an hour
"""

from collections.abc import Mapping, Sequence

from hw_common.commands import cli, reproduce
from hw_common.runs.errors import UserError
from hw_numpy import caption, compare
from hw_numpy.presets import HOMEWORK

# The sample has a fiftieth of MNIST's images and needs more epochs.
_DIGITS: Mapping[str, list[str]] = {
    "sample": ["--dataset", "sample", "--hidden_dims", "50", "100", "--epochs", "20"],
    "full": ["--seeds", "42", "43", "44", "--grow", "3"],
}
_CAPTIONS_COLUMNS = {
    "question": "Q4d, captioning network",
    "data": "{data}",
    "captions": "{training_captions}",
    "loss of the first step": "{first_loss:.2f}",
    "mean loss of the last epoch": "{last_epoch_loss:.4f}",
    "word for word": "{share:.0f} %",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the networks that are not trained yet, then lists tables and figures."""
    flags = reproduce.parser(HOMEWORK, __doc__)
    captions_help = "caption files for --profile full: the course's coco_captioning, or a folder made by coco_build"
    cli.add_place(flags, "captions_dir", help=captions_help)
    arguments = flags.parse_args(argv)
    full, captions_dir = arguments.profile == "full", arguments.captions_dir
    if full and (captions_dir is None or not captions_dir.is_dir()):
        raise UserError(
            f"--captions_dir {captions_dir}: --profile full needs a folder of caption files: the course's "
            "coco_captioning, or one made by python -m hw_numpy.coco_build"
        )
    with reproduce.start(HOMEWORK, arguments) as made:
        digits = compare.parse([*_DIGITS[made.profile], *made.given, *made.where, "--name", made.profile])
        made.compare(digits, ("table.md", "*.png"), ["*.png"])
        chosen = ["--data_dir", str(captions_dir)] if full else ["--dataset", "sample"]
        captions = made.train("Q4d, captions", caption.COMMAND, chosen, "captions")
        summary = captions.summary()
        row = {**summary, "share": 100 * summary["training"]["word_for_word"]}
        made.write_numbers([reproduce.markdown_table(_CAPTIONS_COLUMNS, [row])])
        made.results.append(captions.folder / "*.png")


if __name__ == "__main__":
    cli.run_command(main)
