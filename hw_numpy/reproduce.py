"""`python -m hw_numpy.reproduce`: makes every figure and table of eecs545-w20-hw4 Q2 to Q4."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.commands.cli import add_flag
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.roles import Role
from hw_common.runs.run_folder import Run
from hw_numpy import caption, train
from hw_numpy.presets import HOMEWORK

_DESCRIPTION = """\
Trains the NumPy networks of eecs545-w20-hw4 Q2c, Q3c and Q4d and draws all their figures.
Finished trainings are kept, and interrupted ones are resumed.

  python -m hw_numpy.reproduce                     on the built-in samples, a minute
  python -m hw_numpy.reproduce --profile full \\
    --data_dir data --captions_dir data/flickr1k   on MNIST and caption files of hw_numpy.coco_build, 15 minutes
"""
# The sample has a fiftieth of MNIST's images and needs more epochs.
_DIGITS: Mapping[str, Mapping[str, list[str]]] = {
    "sample": {
        "softmax": ["--dataset", "sample"],
        "cnn": ["--dataset", "sample", "--hidden_dims", "50", "100", "--epochs", "20"],
    },
    "full": {"softmax": [], "cnn": []},
}
_QUESTIONS = {"softmax": "Q2c, two-layer network", "cnn": "Q3c, convolutional network"}


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_numpy.reproduce", _DESCRIPTION)
    add_flag(flags, "profile", choices=tuple(_DIGITS), default="sample", help="default: sample")
    data_help = "folder with MNIST for --profile full, or to download it to"
    add_flag(flags, "data_dir", role=Role.PLACE, type=Path, help=data_help)
    captions_help = "caption files for --profile full: the course's coco_captioning, or a folder made by coco_build"
    add_flag(flags, "captions_dir", role=Role.PLACE, type=Path, help=captions_help)
    cli.add_results_dir_flag(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Trains the networks that are not trained yet, and prints where all results are."""
    arguments = parser().parse_args(argv)
    profile, captions_dir = arguments.profile, arguments.captions_dir
    if profile == "full" and (captions_dir is None or not captions_dir.is_dir()):
        raise UserError(
            f"--captions_dir {captions_dir}: --profile full needs a folder of caption files: the course's "
            "coco_captioning, or one made by python -m hw_numpy.coco_build"
        )
    started = time.monotonic()
    data = ["--data_dir", str(arguments.data_dir)] if arguments.data_dir else []
    digits: dict[str, Run] = {}
    for model, flags in _DIGITS[profile].items():
        print(f"\n== {_QUESTIONS[model]}: choice on validation", flush=True)
        flags = ["--model", model, *flags, *data]
        digits[model] = train.COMMAND.train_once(flags, arguments.results_dir, f"{profile}-{model}")
    print("\n== Q4d, captions", flush=True)
    flags = ["--dataset", "sample"] if profile == "sample" else ["--data_dir", str(captions_dir)]
    captions = caption.COMMAND.train_once(flags, arguments.results_dir, f"{profile}-captions")
    path = arguments.results_dir / HOMEWORK / f"{profile}-numbers.md"
    table = f"{_digits_table(digits)}\n{_captions_table(captions)}"
    files.write_bytes(path, table.encode())
    print(f"\n{table}\nfinished in {time.monotonic() - started:.0f} s; tables and figures:\n  {path}")
    for run in [*digits.values(), captions]:
        print(f"  {run.folder}/*.png")


def _digits_table(digits: Mapping[str, Run]) -> str:
    """A Markdown table with every candidate's validation accuracy and the test accuracy of the chosen ones."""
    lines = [
        "| question | data | hidden units | filter size | parameters | validation accuracy | test accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, run in digits.items():
        summary = run.summary()
        best = summary["best"]
        for row in summary["candidates"]:
            chosen = all(row[name] == best[name] for name in ("hidden_dim", "filter_size") if name in row)
            lines.append(
                f"| {_QUESTIONS[model]} | {summary['data']} | {row['hidden_dim']} | {row.get('filter_size', '')} "
                f"| {row['parameters']} | {row['validation_accuracy']:.4f} "
                f"| {format(best['test_accuracy'], '.4f') if chosen else ''} |"
            )
    return "\n".join(lines) + "\n"


def _captions_table(run: Run) -> str:
    """A Markdown table with the loss before and after training, and the share of captions reproduced word for word."""
    summary = run.summary()
    return (
        "| question | data | captions | loss of the first step | mean loss of the last epoch | word for word |\n"
        "|---|---|---|---|---|---|\n"
        f"| Q4d, captioning network | {summary['data']} | {summary['training_captions']} | {summary['first_loss']:.2f} "
        f"| {summary['last_epoch_loss']:.4f} | {100 * summary['training']['word_for_word']:.0f} % |\n"
    )


if __name__ == "__main__":
    cli.run_command(main)
