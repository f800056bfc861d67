"""`python -m hw_report figures`: the figures of README.md come from records, and missing records are named."""

import io

import pytest
from PIL import Image

from hw_common.runs import figures, files
from hw_common.runs.errors import UserError
from hw_report import front_page
from hw_report.__main__ import main
from hw_report.published import FASHION_BY_EPOCH, PUBLISHED

SWEEP, CAPTIONS, SPEECH = "hw_cnn-toy", "hw_caption-toy", "hw_asr-toy"
SUMMARIES = {
    SWEEP: {"data": "Fashion-MNIST", "seeds": [1, 2], "table": [{"lr": 0.1}, {"lr": 0.01}]},
    CAPTIONS: {"seeds": [3, 4]},
    SPEECH: {},
}
PICTURES = (f"{CAPTIONS}/runs/attention-seed3/attention-219.tif.pdf", f"{SPEECH}/alignment.pdf")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A figure that a run has drawn."""
    _, pdf = figures.save(figures.new_figure(3, 1, "drawn by a run"), tmp_path_factory.mktemp("run"), "picture")
    return pdf.read_bytes()


@pytest.fixture
def records(tmp_path, monkeypatch, picture):
    for name, summary in SUMMARIES.items():
        (tmp_path / name).mkdir()
        config = {"schema": 1, "homework": name.partition("-")[0], "arguments": {}}
        files.write_json(tmp_path / name / "config.json", config)
        files.write_json(tmp_path / name / "summary.json", {"schema": 1, **summary})
    for run in ("lr0.1-seed1", "lr0.1-seed2", "lr0.01-seed1", "lr0.01-seed2"):
        (tmp_path / SWEEP / "runs" / run).mkdir(parents=True)
        rows = [{"epoch": epoch, "validation_accuracy": 0.8 + epoch / 100} for epoch in (1, 2)]
        files.write_csv(tmp_path / SWEEP / "runs" / run / "metrics.csv", rows)
    for place in PICTURES:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    for constant, name in (("_FASHION", SWEEP), ("_CAPTIONS", CAPTIONS), ("_SPEECH", SPEECH)):
        monkeypatch.setattr(front_page, constant, name)
    return tmp_path


def test_the_three_figures_come_from_records(records, tmp_path, monkeypatch, capsys):
    drawn = {}
    monkeypatch.setattr(figures, "to_png", lambda figure: drawn.update(figure=figure) or b"drawn")
    made = front_page.write
    monkeypatch.setattr(front_page, "write", lambda: made(tmp_path / "new", records))
    main(["figures"])
    paths = [tmp_path / "new" / f"{stem}.png" for stem in ("curves", "attention", "alignment")]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert paths[0].read_bytes() == b"drawn"
    for path in paths[1:]:
        assert Image.open(io.BytesIO(path.read_bytes())).width == 3 * 200
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn["figure"].axes[0].lines}
    ours = pytest.approx([0.81, 0.82])
    assert lines == {
        "learning rate 0.1": ours, "learning rate 0.01": ours, "learning rate 0.01, published": list(FASHION_BY_EPOCH),
    }  # fmt: skip


def test_the_published_curve_ends_at_the_published_number():
    assert f"{FASHION_BY_EPOCH[-1]:.4f}" == PUBLISHED["fashion.lr0.01"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (f"{SWEEP}/config.json", r"hw_cnn-toy is not a run folder: it has no config\.json; make it again with"),
        (f"{SWEEP}/runs/lr0.1-seed2/metrics.csv", r"curves.png cannot be made: .*metrics\.csv is missing; record the"),
        (PICTURES[0], r"attention.png cannot be made: the figure .*219\.tif\.pdf is missing; record the run again"),
        (PICTURES[1], r"alignment.png cannot be made: the figure .*alignment\.pdf is missing; record the run again"),
    ],
)
def test_a_missing_part_of_a_record_is_named_in_one_line(records, tmp_path, missing, message):
    (records / missing).unlink()
    with pytest.raises(UserError, match=message) as caught:
        front_page.write(tmp_path / "new", records)
    assert "\n" not in str(caught.value)


def test_missing_records_are_named_together_and_the_other_figure_is_written(records, tmp_path):
    for name in (CAPTIONS, SPEECH):
        (records / name).rename(records / f"{name}-elsewhere")
    with pytest.raises(
        UserError, match=f"attention.png .*{CAPTIONS} is missing.*; alignment.png .*{SPEECH} is missing"
    ):
        front_page.write(tmp_path / "new", records)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curves.png"]


@pytest.mark.parametrize("summary", [{}, {"seeds": [1], "table": [{}]}, {"seeds": 1, "table": [{"lr": 0.1}]}])
def test_a_damaged_record_gets_one_line(records, tmp_path, summary):
    files.write_json(records / SWEEP / "summary.json", {"schema": 1, **summary})
    with pytest.raises(UserError, match=r"curves.png cannot be made: its record in .* has unexpected content"):
        front_page.write(tmp_path / "new", records)


def test_a_damaged_figure_gets_one_line(records, tmp_path):
    (records / PICTURES[1]).write_bytes(b"%PDF-1.4")
    with pytest.raises(
        UserError, match=r"the figure .*alignment\.pdf is damaged \(.*\); record the run again with: python"
    ):
        front_page.write(tmp_path / "new", records)
