"""Run folders: never overwritten, written by one process at a time, and checked when they are opened."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
from filelock import FileLock

from hw_common.record import record
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, LAST, SUMMARY, Run


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that nobody is writing."""
    run = tiny.new_run(tmp_path)
    run.close()
    return run.folder


def test_a_taken_name_gets_a_number(tmp_path):
    names = [tiny.new_run(tmp_path).folder.name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]
    assert files.read_json(tmp_path / tiny.HOMEWORK / "run-3" / CONFIG) == tiny.CONFIG


def test_overwrite_starts_from_an_empty_folder_of_that_name(tmp_path, folder):
    (folder / "kernels.png").touch()
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").touch()
    run = Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    assert run.folder == folder
    assert sorted(entry.name for entry in folder.iterdir()) == [".lock", CONFIG]


def test_overwrite_refuses_a_folder_that_is_no_run(tmp_path):
    mine = tmp_path / tiny.HOMEWORK / "run"
    mine.mkdir(parents=True)
    names = [".notes.tmp", "thesis.txt"]
    for name in names:
        (mine / name).touch()
    with pytest.raises(UserError, match="is not a run folder"):
        Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    assert sorted(entry.name for entry in mine.iterdir()) == names


def test_overwrite_takes_a_folder_whose_process_was_killed_before_it_wrote_anything(tmp_path):
    folder = tmp_path / tiny.HOMEWORK / "run"
    folder.mkdir(parents=True)
    for name in (".config.json.tmp", ".config.json.0123abcd.tmp"):
        (folder / name).write_text("{")
    assert Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True).folder == folder
    assert not list(folder.glob(".config*"))


@pytest.mark.parametrize("before", range(4))
def test_overwrite_killed_halfway_can_be_repeated(tmp_path, folder, monkeypatch, before):
    for name in (LAST, SUMMARY, "a.png"):
        (folder / name).touch()
    unlink, iterdir = Path.unlink, Path.iterdir
    left = iter(range(before))

    def remove(path, **options):
        if not path.name.startswith(".") and next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", remove)
        patch.setattr(Path, "iterdir", lambda path: sorted(iterdir(path)))  # a file system may list the config first
        Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    assert sorted(entry.name for entry in folder.iterdir()) == [".lock", CONFIG]


def test_only_one_process_writes_a_run(tmp_path, folder):
    run = Run.reopen(folder, tiny.HOMEWORK)
    with pytest.raises(UserError, match="being written by another process"):
        Run.reopen(folder, tiny.HOMEWORK)
    with pytest.raises(UserError, match="being written by another process"):
        Run.create(tmp_path, tiny.CONFIG, "run", overwrite=True)
    run.close()
    Run.reopen(folder, tiny.HOMEWORK)


def test_the_lock_dies_with_its_process(folder):
    child = os.fork()
    if child == 0:
        run = Run.reopen(folder, tiny.HOMEWORK)
        os._exit(0 if run else 1)  # without close()
    assert os.waitpid(child, 0)[1] == 0
    Run.reopen(folder, tiny.HOMEWORK)


def test_reopen_clears_away_what_a_killed_process_left(folder):
    (folder / ".last.pt.tmp").touch()
    Run.reopen(folder, tiny.HOMEWORK)
    assert not (folder / ".last.pt.tmp").exists()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (None, "it has no config.json"),
        ("{", "is damaged"),
        ("[]", "it holds no arguments"),
        ('{"schema": 1, "homework": "hw_tiny"}', "it holds no arguments"),
        (json.dumps({**tiny.CONFIG, "schema": 2}), "schema 2, expected 1"),
        (json.dumps({**tiny.CONFIG, "homework": "hw_other"}), "'hw_other', expected one of 'hw_tiny'"),
    ],
)
def test_open_refuses_what_is_no_run_of_the_homework(tmp_path, config, complaint):
    if config is not None:
        (tmp_path / CONFIG).write_text(config)
    for open_run in (Run.open, Run.reopen):
        with pytest.raises(UserError, match=complaint):
            open_run(tmp_path, tiny.HOMEWORK)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != CONFIG] == []


def test_open_refuses_a_missing_folder_and_a_file(tmp_path):
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(UserError, match="there is no such folder"):
            Run.open(tmp_path / name, tiny.HOMEWORK)


def test_results_dir_that_is_a_file_is_the_users_error(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match="--results_dir"):
        tiny.new_run(tmp_path / "results")


def test_a_run_is_finished_when_it_has_its_summary(folder):
    run = Run.open(folder, tiny.HOMEWORK)
    assert not run.is_finished
    with pytest.raises(UserError, match="--resume"):
        run.summary()
    run.write_summary({"accuracy": 0.5})
    assert run.is_finished
    assert run.summary() == {"schema": 1, "accuracy": 0.5}


@pytest.mark.parametrize("text", ["[]", '{"schema": 2}', "{"])
def test_a_damaged_summary_is_the_users_error(folder, text):
    (folder / SUMMARY).write_text(text)
    with pytest.raises(UserError, match="summary.json is damaged"):
        Run.open(folder, tiny.HOMEWORK).summary()


def test_a_run_without_a_checkpoint_is_discarded_and_one_with_is_kept(folder, tmp_path):
    run = Run.open(folder, tiny.HOMEWORK)
    (folder / LAST).touch()
    run.discard_if_empty()
    assert folder.exists()
    (folder / LAST).unlink()
    run.discard_if_empty()
    assert not folder.exists()


def test_resume_command_survives_a_shell():
    run = Run("a folder/it's", tiny.CONFIG)
    command = f"printf '%s' {run.resume_command.removeprefix('python -m hw_tiny.train --resume ')}"
    assert subprocess.check_output(command, shell=True, text=True) == "a folder/it's"


def test_free_stem_replaces_no_figure(folder):
    run = Run.open(folder, tiny.HOMEWORK)
    with run.free_stem("kernels") as stem:
        assert stem == "kernels"
    for name in ("kernels.png", "kernels-2.pdf"):
        (folder / name).touch()
    with run.free_stem("kernels") as stem:
        assert stem == "kernels-3"


def test_figures_that_are_drawn_at_once_have_their_own_names(folder):
    def draw(number: int) -> None:
        with Run.open(folder, tiny.HOMEWORK).free_stem("kernels") as stem:
            files.write_bytes(folder / f"{stem}.png", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(draw, range(16)))
    assert sorted(int(path.read_text()) for path in folder.glob("kernels*.png")) == list(range(16))


def test_a_figure_in_a_read_only_folder_is_refused_in_one_line(folder, monkeypatch):
    def refuse(lock: FileLock) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match="cannot write to .*: Permission denied"), Run(folder, {}).free_stem("kernels"):
        pass


@pytest.mark.parametrize(("key", "value"), [("host", None), ("host", [1]), ("data", "all of it"), ("roles", 7)])
def test_a_config_whose_parts_are_no_objects_is_damaged(folder, key, value):
    files.write_json(folder / CONFIG, {**tiny.CONFIG, key: value})
    with pytest.raises(UserError, match=f"damaged: its {key} is not an object"):
        Run.open(folder, tiny.HOMEWORK)


def test_a_record_of_a_config_that_names_other_places_is_refused(tmp_path, folder):
    (folder / SUMMARY).write_text("{}")
    for homework in ("../../escaped", "", 7, True, None):
        files.write_json(folder / CONFIG, {**tiny.CONFIG, "homework": homework})
        with pytest.raises(UserError, match="damaged: it names no homework"):
            record(folder, tmp_path)
    (folder / CONFIG).write_text("[]")
    with pytest.raises(UserError, match="damaged: it names no homework"):
        record(folder, tmp_path)
