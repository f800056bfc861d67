r"""Trains the NumPy networks of eecs545-w20-hw4 Q2c, Q3c and Q4d and draws all their figures.

Finished training runs are kept, and interrupted ones are resumed.

  python -m hw_numpy.reproduce                     on the built-in samples, a minute
  python -m hw_numpy.reproduce --profile full \
    --data_dir data --captions_dir data/flickr1k   on MNIST and caption files of hw_numpy.coco_build, 15 minutes
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hw_common.commands import cli, reproduce
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run
from hw_numpy import caption, train
from hw_numpy.presets import HOMEWORK

# The sample has a fiftieth of MNIST's images and needs more epochs.
_DIGITS: Mapping[str, Mapping[str, list[str]]] = {
    "sample": {
        "softmax": ["--dataset", "sample"],
        "cnn": ["--dataset", "sample", "--hidden_dims", "50", "100", "--epochs", "20"],
    },
    "full": {"softmax": [], "cnn": []},
}
_QUESTIONS = {"softmax": "Q2c, two-layer network", "cnn": "Q3c, convolutional network"}
_DIGITS_COLUMNS = {
    "question": "{question}",
    "data": "{data}",
    "hidden units": "{hidden_dim}",
    "filter size": "{filter_size}",
    "parameters": "{parameters}",
    "validation accuracy": "{validation_accuracy:.4f}",
    "test accuracy": "{test_accuracy}",
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
    flags = reproduce.parser(HOMEWORK, __doc__, jobs=False)
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
        digits: dict[str, Run] = {}
        for model, chosen in _DIGITS[made.profile].items():
            title = f"{_QUESTIONS[model]}: choice by validation accuracy"
            digits[model] = made.train(title, train.COMMAND, ["--model", model, *chosen, *made.given], model)
        chosen = ["--data_dir", str(captions_dir)] if full else ["--dataset", "sample"]
        captions = made.train("Q4d, captions", caption.COMMAND, chosen, "captions")
        summary = captions.summary()
        row = {**summary, "share": 100 * summary["training"]["word_for_word"]}
        digits_table = reproduce.markdown_table(_DIGITS_COLUMNS, _candidates(digits))
        made.write_numbers([digits_table, reproduce.markdown_table(_CAPTIONS_COLUMNS, [row])])
        made.results.extend(run.folder / "*.png" for run in [*digits.values(), captions])


def _candidates(digits: Mapping[str, Run]) -> Iterator[dict[str, Any]]:
    """The candidates' rows of the table; the networks that validation did not choose have no test accuracy."""
    for model, run in digits.items():
        summary = run.summary()
        best = summary["best"]
        for row in summary["candidates"]:
            chosen = all(row[name] == best[name] for name in ("hidden_dim", "filter_size") if name in row)
            test = format(best["test_accuracy"], ".4f") if chosen else ""
            added = {"question": _QUESTIONS[model], "data": summary["data"], "test_accuracy": test}
            yield {"filter_size": "", **row, **added}


if __name__ == "__main__":
    cli.run_command(main)
