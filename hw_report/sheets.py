"""The five sheets: the homeworks that answer them, their experiments and the records of measured runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hw_common.runs.errors import UserError
from hw_report.experiments import EXPERIMENTS, Experiment

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT_FILES = REPOSITORY / "reports"
RECORDS = REPOSITORY / "results" / "record"


@dataclass(frozen=True)
class Sheet:
    """A homework sheet."""

    name: str  # name of the sheet's file
    title: str  # title of the report
    course: str  # course and year
    packages: tuple[str, ...]  # homeworks that answer the sheet
    experiments: tuple[str, ...]  # names of the experiments that the report describes
    # Scripts at the top of a submission, which have the names on the sheet, and the module that each runs.
    scripts: tuple[tuple[str, str], ...] = ()
    tools: tuple[str, ...] = ()  # further packages that the scripts need
    note: str = ""  # note in the README of a submission
    notebook: str = ""  # path of a notebook that is turned in with its outputs; "" if there is none
    notebook_shows: str = ""  # key of the run that the notebook shows

    @property
    def report_file(self) -> Path:
        """The typst file with the text of the report."""
        return REPORT_FILES / f"{self.name}.typ"

    def its_experiments(self) -> list[Experiment]:
        """The experiments that the report describes."""
        return [EXPERIMENTS[name] for name in self.experiments]

    def records(self) -> list[Path]:
        """The folders of the records of the homeworks."""
        return sorted(path for package in self.packages for path in RECORDS.glob(f"{package}-*/"))


SHEETS: Mapping[str, Sheet] = MappingProxyType({
    sheet.name: sheet
    for sheet in (
        Sheet(
            "convnets-2024-a2",
            "Assignment 2: Convolutional Networks",
            "convnets, 2024",
            ("hw_cnn",),
            ("cifar",),
            notebook="notebooks/convnets_2024_a2.ipynb",
            notebook_shows="cifar.best",
        ),
        Sheet("dsl-2019-hw3", "Homework 3", "Deep Structured Learning, IST, 2019", ("hw_ocr",), ("ocr",)),
        Sheet(
            "eecs545-w20-hw4",
            "Homework 4",
            "EECS 545 Machine Learning, Winter 2020",
            ("hw_numpy", "hw_transfer"),
            ("digits", "captions", "transfer"),
            scripts=(
                ("autograder.py", "hw_check"),
                ("digit_classification.py", "hw_numpy.train"),
                ("image_captioning.py", "hw_numpy.caption"),
            ),
            tools=("hw_check",),
            note="`autograder.py`, `digit_classification.py` and `image_captioning.py` run from this folder; `--help` "
            "explains their flags. The other files of the starter code are in `hw_numpy/` and `hw_transfer/` "
            "under their own names.",
        ),
        Sheet(
            "ist-2021-22-hw2",
            "Homework 2",
            "Deep Learning, IST, 2021-22",
            ("hw_attention_theory", "hw_cnn", "hw_caption"),
            ("theory", "fashion", "caption"),
        ),
        Sheet(
            "ist-2023-24-hw2",
            "Homework 2",
            "Deep Learning, IST, 2023-24",
            ("hw_attention_theory", "hw_cnn", "hw_asr"),
            ("theory", "oct", "asr"),
        ),
    )
})  # fmt: skip


def records_of(experiment: Experiment) -> dict[str, Path]:
    """The folders of an experiment's records, by the suffix or name of the run folder that was recorded."""
    return {suffix: RECORDS / path for suffix, path in experiment.records.items()}


def choose(names: Sequence[str]) -> list[Sheet]:
    """The sheets of these names; all sheets if `names` is empty.

    Raises:
        UserError: there is no such sheet.
    """
    for name in names:
        if name not in SHEETS:
            raise UserError(f"there is no sheet {name!r}; python -m hw_report list shows them: {', '.join(SHEETS)}")
    return [SHEETS[name] for name in names or SHEETS]
