"""Records: folders with everything that was measured, without paths of the machine, written whole or not at all."""

import pytest

from hw_common import record as module
from hw_common.record import command_line, main, record
from hw_common.runs import files
from hw_common.runs.config import git_revision
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, METRICS, SUMMARY, TABLE, Run

ARGUMENTS = {"data_dir": "/home/me/data", "weights": "/home/me/w.safetensors", "lr": 0.5}
ROLES = {"data_dir": "place", "weights": "input"}
ARGV = [
    "--data_dir",
    "/home/me/data",
    "-lrs",
    "0.5",
    "-1e-3",
    "--weights=/home/me/w.safetensors",
    "--results_dir",
    "/r",
]


def make(results, name, more_arguments=None, **more):
    config = {"schema": 1, "homework": "hw_toy", "command": "hw_toy.train", "data": {"a": "hash"}, "roles": ROLES}
    config |= {"arguments": {**ARGUMENTS, **(more_arguments or {})}, "argv": ARGV, "git": git_revision()}
    run = Run.create(results, {**config, **more}, name)
    run.write_metrics([{"epoch": 1, "loss": 0.5}])
    run.write_summary({"accuracy": 0.5})
    for file in ("curves.pdf", "curves.png", "weights.pdf"):
        (run.folder / file).write_bytes(b"xxxxx")
    files.write_json(run.folder / "grad_cam.json", {"layer": "conv2"})
    files.write_json(run.folder / "vocabulary.json", ["a"])
    run.close()
    return run.folder


@pytest.fixture
def comparison(tmp_path):
    """A comparison of one row with two seeds."""
    trained = {f"a-seed{seed}": f"both-a-seed{seed}" for seed in (2, 1)}
    for seed in (1, 2):
        make(tmp_path, f"both-a-seed{seed}", {"seed": seed})
    return make(tmp_path, "both", {"seeds": [1, 2]}, command="hw_toy.compare", trained=trained)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_comparison_is_recorded_with_its_runs_and_the_figures_of_the_first_seed(tmp_path, comparison, capsys):
    into = tmp_path / "record"
    main([str(comparison), "--into", str(into)])
    folder = into / "hw_toy-both"
    whole = sorted([CONFIG, SUMMARY, METRICS, "curves.pdf", "weights.pdf", "grad_cam.json"])
    numbers = sorted([CONFIG, SUMMARY, METRICS])
    first, second = ([f"runs/a-seed{seed}/{name}" for name in part] for seed, part in ((1, whole), (2, numbers)))
    assert names(folder) == sorted([*whole, *first, *second])
    assert str(folder) in capsys.readouterr().out
    assert Run.open(folder / "runs" / "a-seed2", "hw_toy").summary()["accuracy"] == 0.5
    assert "/home" not in "".join(path.read_text() for path in folder.rglob("*.json"))
    config = Run.open(folder, "hw_toy").config
    assert config["arguments"] == {"weights": "w.safetensors", "lr": 0.5, "seeds": [1, 2]}
    line = "python -m hw_toy.compare --data_dir DATA_DIR -lrs 0.5 -1e-3 --weights w.safetensors"
    assert config["command_line"] == line
    assert [entry.name for entry in into.iterdir()] == ["hw_toy-both"]


def test_a_record_without_figures_has_all_numbers(tmp_path, comparison):
    main([str(comparison), "--into", str(tmp_path / "record"), "--no_figures"])
    found = {name.rpartition("/")[2] for name in names(tmp_path / "record" / "hw_toy-both")}
    assert found == {CONFIG, SUMMARY, METRICS, "grad_cam.json"}


def test_a_record_may_call_its_data_by_another_name(tmp_path, comparison):
    for folder in (comparison, *comparison.parent.glob("both-a-seed*")):
        files.write_json(folder / SUMMARY, {**files.read_json(folder / SUMMARY), "data": "LJSpeech-1.1"})
    (comparison / TABLE).write_text("LJSpeech-1.1, test clips")
    main([str(comparison), "--into", str(tmp_path / "record"), "--data", "an4"])
    folder = tmp_path / "record" / "hw_toy-both"
    assert {files.read_json(path)["data"] for path in folder.rglob(SUMMARY)} == {"an4"}
    assert (folder / TABLE).read_text() == "an4, test clips"


def test_a_record_says_that_its_code_was_another(tmp_path, capsys):
    for name, revision, words in (("one", "abc", "measured with revision abc"), ("two", "abc-dirty", "not committed")):
        into = tmp_path / "record"
        main([str(make(tmp_path, name, git=revision)), "--into", str(into)])
        assert words in capsys.readouterr().out
        assert words in " ".join(files.read_json(into / f"hw_toy-{name}" / CONFIG)["remarks"])


def test_a_remark_is_kept_beside_those_on_the_code(tmp_path, capsys):
    into = tmp_path / "record"
    main([str(make(tmp_path, "run", git="abc")), "--into", str(into), "--remark", "the best of 12 settings"])
    remarks = files.read_json(into / "hw_toy-run" / CONFIG)["remarks"]
    assert len(remarks) == 2 and remarks[1] == "the best of 12 settings" in capsys.readouterr().out


def test_the_command_line_names_the_program_that_was_started(tmp_path):
    folder = make(tmp_path, "run", program="hw_toy.reproduce", argv=["--only", "a"])
    assert command_line(Run.open(folder, "hw_toy")) == "python -m hw_toy.reproduce --only a"


def test_a_record_is_replaced_only_with_overwrite(tmp_path):
    folder = make(tmp_path, "run")
    path = record(folder, tmp_path)
    (path / "old").touch()
    with pytest.raises(UserError, match="hw_toy-run exists; replace it with --overwrite"):
        record(folder, tmp_path)
    assert (path / "old").exists()
    assert record(folder, tmp_path, overwrite=True) == path and not (path / "old").exists()


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("_LARGEST_FIGURE", r"curves\.pdf has 0 kB, but a record holds figures of at most 0 kB; draw it with fewer"),
        ("_LARGEST_TOTAL", r"with this record of 0\.0 MB, all records together would have 0\.0 MB, over the limit"),
    ],
)
def test_a_record_that_is_too_large_leaves_the_old_one(tmp_path, monkeypatch, limit, message):
    folder, into = make(tmp_path, "run"), tmp_path / "record"
    into.mkdir()
    path = record(folder, into)
    before = names(path)
    monkeypatch.setattr(module, limit, 4)
    with pytest.raises(UserError, match=message):
        record(folder, into, overwrite=True)
    assert names(into / "hw_toy-run") == before and [entry.name for entry in into.iterdir()] == ["hw_toy-run"]


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ({}, "does not list its training runs; run its command again"),
        ({"a": "../../escaped"}, "is damaged: its list of training runs is invalid"),
        ({"../a": "b"}, "is damaged: its list of training runs is invalid"),
        ({"a": 7}, "is damaged: its list of training runs is invalid"),
        ([1], "is damaged: its list of training runs is invalid"),
        ({"a": "gone"}, "gone is not a run folder"),
    ],
)
def test_a_comparison_lists_its_runs(tmp_path, trained, message):
    folder = make(tmp_path, "both", {"seeds": [1]}, trained=trained)
    with pytest.raises(UserError, match=message):
        record(folder, tmp_path)
    assert not (tmp_path / "hw_toy-both").exists()


def test_an_unfinished_run_is_refused(tmp_path):
    folder = make(tmp_path, "run")
    (folder / SUMMARY).unlink()
    with pytest.raises(UserError, match=r"has no summary\.json; finish it with"):
        record(folder, tmp_path)
    with pytest.raises(UserError, match="is not a run folder"):
        record(tmp_path, tmp_path)


def test_a_full_disk_keeps_the_earlier_record(tmp_path, monkeypatch):
    folder = make(tmp_path, "run")
    path = record(folder, tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    before = names(path)
    with pytest.raises(UserError, match="No space left on device; free disk space or choose another place with --into"):
        record(folder, tmp_path, overwrite=True)
    assert names(path) == before and sorted(entry.name for entry in tmp_path.iterdir()) == ["hw_toy", "hw_toy-run"]
