"""`python -m hw_report figures`: the figures of README.md, from records of runs on real data."""

import tempfile
from pathlib import Path

from hw_cnn.sweep_report import row_name
from hw_common.record import RUNS
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import METRICS, SUMMARY
from hw_report.collect import FIGURE_SUFFIX, NotThere, read_record
from hw_report.experiments import EXPERIMENTS
from hw_report.published import FASHION_BY_EPOCH
from hw_report.sheets import RECORDS, REPORT_FILES

FIGURES = REPORT_FILES / "figures"
_FASHION = EXPERIMENTS["fashion"].records[""]
_CAPTIONS = EXPERIMENTS["caption"].records[""]
_SPEECH = "hw_asr-compare-an4-best/runs/transformer-seed42"  # AN4, because its alignment shows more than one word
_AGAIN = "python -m hw_common.record RUN --overwrite"
_PIXELS_PER_INCH = 200


def write(folder: Path = FIGURES, records: Path = RECORDS) -> list[Path]:
    """Writes curves.png, attention.png and alignment.png into `folder` and returns their paths.

    Raises:
        UserError: a record or a figure in it is missing (all other figures are written), or a record is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    missing: list[str] = []
    for stem, draw in (("curves", _curves), ("attention", _attention), ("alignment", _alignment)):
        try:
            content = draw(records)
        except NotThere as error:
            missing.append(f"{stem}.png cannot be made: {error}")
            continue
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(
                f"{stem}.png cannot be made: its record in {records} has unexpected content ({type(error).__name__}: "
                f"{error}); make it again with: {_AGAIN}"
            ) from error
        paths.append(folder / f"{stem}.png")
        files.write_bytes(paths[-1], content)
    if missing:
        raise UserError("; ".join(missing))
    return paths


def _curves(records: Path) -> bytes:
    """Validation accuracy against the epoch on Fashion-MNIST, beside the published curve."""
    from hw_common.runs import figures  # imports Matplotlib, which is slow

    record = records / _FASHION
    summary = read_record(record)[SUMMARY]
    runs = {
        f"learning rate {lr:g}": [_epochs(record / RUNS / f"{row_name(lr)}-seed{seed}") for seed in summary["seeds"]]
        for lr in (row["lr"] for row in summary["table"])
    }
    published = [{"epoch": i, "validation_accuracy": value} for i, value in enumerate(FASHION_BY_EPOCH, start=1)]
    runs["learning rate 0.01, published"] = [published]
    title = f"{summary['data']}: mean and standard deviation over {len(summary['seeds'])} seeds"
    return figures.to_png(figures.curves_over_seeds(runs, {"validation accuracy": "validation_accuracy"}, title))


def _epochs(run: Path) -> list[dict[str, float]]:
    """The metrics of every epoch of a recorded training run."""
    path = run / METRICS
    if not path.is_file():
        raise NotThere(f"{path} is missing; record the sweep again with: {_AGAIN}")
    return files.read_csv(path)


def _attention(records: Path) -> bytes:
    """The regions of 219.tif to which the caption decoder attends before each word."""
    record = records / _CAPTIONS
    seed = read_record(record)[SUMMARY]["seeds"][0]
    return _to_png(record / RUNS / f"attention-seed{seed}" / f"attention-219.tif{FIGURE_SUFFIX}")


def _alignment(records: Path) -> bytes:
    """The parts of two clips to which the speech decoder attends before each character."""
    record = records / _SPEECH
    read_record(record)
    return _to_png(record / f"alignment{FIGURE_SUFFIX}")


def _to_png(path: Path) -> bytes:
    """A recorded figure as a PNG file."""
    import typst

    if not path.is_file():
        raise NotThere(f"the figure {path} is missing; record the run again with: {_AGAIN}")
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        (Path(folder) / path.name).write_bytes(path.read_bytes())
        source = Path(folder) / "page.typ"
        source.write_text(f'#set page(width: auto, height: auto, margin: 0pt)\n#image("{path.name}")', encoding="utf-8")
        try:
            content = typst.compile(source, format="png", ppi=_PIXELS_PER_INCH)
        except typst.TypstError as error:
            raise UserError(f"the figure {path} is damaged ({error}); record the run again with: {_AGAIN}") from error
    assert isinstance(content, bytes)  # a single page
    return content
