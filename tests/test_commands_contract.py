"""The properties that all commands share, tested for each command through its real entry point."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cnn_files
import commands
import pytest
import torch
from commands import COMPARISONS, FINISHED, MAINS, ROOT, TINY, TRAININGS, interrupted, refusal, run_command
from finished_runs import contents_of, numbers_of

from hw_common.commands import cli
from hw_common.runs.run_folder import Run
from hw_ocr import compare as ocr_compare

VARIANTS = [(command, variant) for command in TRAININGS for variant in TINY[command].variants]
WITH_TORCH = [command for command in TRAININGS if not command.startswith("hw_numpy")]
EVERY_TRAINING = pytest.mark.parametrize("command", TRAININGS)


@pytest.fixture(autouse=True)
def tiny(request, monkeypatch, undrawn):
    """Makes the command's networks as small as those of the fixture `trained`, and draws no figures."""
    command = request.node.callspec.params.get("command") if hasattr(request.node, "callspec") else None
    for name, tiny in TINY.items():
        if command and name.partition(".")[0] == command.partition(".")[0]:
            tiny.patch(monkeypatch)


# ── every command ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tables_of_commands_are_complete():
    assert TINY.keys() == set(TRAININGS) and len(TRAININGS) >= 8
    arguments = {
        command: {action.dest for _, parser in commands.parsers_of(command) for action in parser._actions}
        for command in MAINS
    }
    assert FINISHED.keys() == {c for c, names in arguments.items() if "run" in names and not c.startswith("hw_common")}
    assert COMPARISONS.keys() == {c for c, names in arguments.items() if {"seeds", "jobs"} <= names}


QUICK = """
import contextlib, io, runpy, sys, warnings
warnings.simplefilter("ignore")
trainings, others = (words.split(",") for words in sys.argv[1:])
for command in (*trainings, *others):
    for argv in (["--help"], ["--no_such_flag"], ["--resume", "nowhere"]):
        sys.argv = [command, *argv]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module(command, run_name="__main__")
            except SystemExit as ended:
                status = ended.code
        slow = {"torch", "matplotlib", "sklearn", "captum", "optuna"}
        slow |= {"numpy", "PIL"} if command in trainings else set()
        assert slow.isdisjoint(sys.modules), (command, argv, slow & set(sys.modules))
        assert (status, bool(out.getvalue()), err.getvalue().count("\\n")) == (
            (0, True, 0) if argv == ["--help"] else (2, False, 1)
        ), (command, argv, status, err.getvalue())
"""


def test_help_and_wrong_flags_are_answered_before_anything_slow_is_imported(tmp_path):
    """One process runs all commands. Each starts without torch, since no earlier command has imported it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    others = [command for command in commands.COMMANDS if command not in TRAININGS]
    line = [sys.executable, "-c", QUICK, ",".join(TRAININGS), ",".join(others)]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", MAINS)
def test_a_wrong_value_of_any_flag_is_one_line_with_flag_value_and_allowed_range(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, parser in commands.parsers_of(command):
        for action in parser._actions:
            if action.choices is not None or action.type is cli.run_name:
                wrong = ["../up"]
            elif getattr(action.type, "__module__", "") == cli.__name__ or action.type in (int, float):
                wrong = ["many", "nan", "-inf", "1e", "9" * 400]
            else:
                continue
            for value in wrong if action.option_strings else []:
                ended = run_command(MAINS[command], *words, f"--{action.dest}={value}")
                assert re.search(rf"--{action.dest}: .*(expected|choose from)", ended.refusal), ended
                assert f"'{value}'" in ended.refusal and ended.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", MAINS)
def test_unknown_abbreviated_and_incomplete_flags_are_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, parser in commands.parsers_of(command):
        required = [action for action in parser._actions if action.required]
        words += [f"--{action.dest}=x" if action.option_strings else "x" for action in required]
        flags = [
            action.option_strings[0] for action in parser._actions if action.option_strings and action.nargs is None
        ]
        for wrong in ("--no_such_flag=1", "-x", *(flag[:-1] for flag in flags), *flags):
            if wrong not in parser._option_string_actions or wrong in flags:
                assert f"{wrong.partition('=')[0].lstrip('-')}" in run_command(MAINS[command], *words, wrong).refusal
    assert list(tmp_path.iterdir()) == []


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "variant", "point"),
    [(*which, point) for which in VARIANTS for point in ("step 4", "validation 2")]
    + [(command, None, point) for command in TRAININGS for point in ("metrics 1", "drawing 1")]
    + [("hw_numpy.train", "softmax", "metrics 4")],
)
def test_an_interrupted_training_is_resumed_to_the_same_bits(command, variant, point, trained, tmp_path):
    run = trained(command, variant)
    number = signal.SIGTERM if point.startswith("step") else signal.SIGINT
    with interrupted(point, number):
        ended = run_command(run.main, *run.flags_into(tmp_path))
    folder = tmp_path / run.parent.name / "run"
    assert ended.status == 128 + number
    assert f"esume with: python -m {command} --resume" in ended.err and ended.err.endswith(f"{folder}\n")
    assert not (folder / "summary.json").exists()
    moved = []  # the data may be moved before the run is resumed
    if point == "metrics 1" and run.flags[0].endswith("_dir"):
        moved = [run.flags[0], str(shutil.copytree(run.flags[1], tmp_path / "moved" / Path(run.flags[1]).name))]
    run.main(["--resume", str(folder), *moved])
    assert numbers_of(folder) == numbers_of(run.folder)


@EVERY_TRAINING
def test_a_taken_name_gets_a_number_unless_it_is_to_be_overwritten(command, trained, tmp_path):
    run = trained(command)
    parent = tmp_path / run.parent.name
    parent.mkdir()
    shutil.copytree(run.folder, parent / "run")
    before = contents_of(parent / "run")
    run.main(run.flags_into(tmp_path))
    assert contents_of(parent / "run") == before
    assert numbers_of(parent / "run-2") == numbers_of(run.folder)  # a second run has the same bits
    run.main(run.flags_into(tmp_path, "--overwrite", "--epochs", "1"))
    assert Run.open(parent / "run", run.parent.name).arguments["epochs"] == 1
    assert Run.open(parent / "run", run.parent.name).is_finished
    assert numbers_of(parent / "run-2") == numbers_of(run.folder)


@EVERY_TRAINING
def test_a_finished_run_is_not_trained_again(command, trained, copy_of, capsys):
    folder = copy_of(trained(command))
    before = contents_of(folder)
    MAINS[command](["--resume", str(folder)])
    assert f"{folder} is finished already" in capsys.readouterr().out
    assert contents_of(folder) == before


@EVERY_TRAINING
def test_a_dry_run_writes_nothing(command, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trained(command)
    before = contents_of(run.results_dir)
    for results_dir in (tmp_path / "results", run.results_dir):  # with and without features to compute
        ended = run_command(run.main, *run.flags_into(results_dir), "--dry_run")
        assert ended.status == 0 and "everything fits" in ended.out, ended
    assert not list(tmp_path.iterdir()) and contents_of(run.results_dir) == before


@EVERY_TRAINING
def test_a_closed_pipe_and_a_closed_stdout_are_no_errors(command, trained, tmp_path, monkeypatch):
    run = trained(command)
    reader, writer = os.pipe()
    os.close(reader)
    for stream, status in ((os.fdopen(writer, "w"), 141), (None, 0)):
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            cli.run_command(lambda: run.main(run.flags_into(tmp_path, "--dry_run")))
        assert (ended.value.code or 0) == status


@EVERY_TRAINING
def test_a_diverging_training_is_one_line_and_leaves_no_run(command, trained, tmp_path):
    run = trained(command)
    message = refusal(run.main, *run.flags_into(tmp_path, "--lr", "1e38", "--name", "wild"))
    assert re.search("not finite|loss is", message) and "learning rate" in message and "--lr " in message
    assert not list(tmp_path.rglob("config.json"))


@EVERY_TRAINING
def test_missing_data_and_unusable_results_folders_are_one_line(command, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trained(command)
    (tmp_path / "file").touch()
    message = run_command(run.main, *run.flags, "--results_dir", "file").refusal
    assert "cannot write to file" in message and "--results_dir" in message
    if run.flags[0].endswith("_dir"):
        message = run_command(run.main, *run.flags, run.flags[0], "nowhere/at all", "--results_dir", "results").refusal
        assert "nowhere/at all" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", WITH_TORCH)
def test_a_batch_smaller_than_the_number_of_processes_is_refused(command, tmp_path, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    argv = ["--dataset", "sample", "--batch_size", "1", "--results_dir", str(tmp_path)]
    assert "--batch_size 1 is less than one example for each process" in refusal(MAINS[command], *argv)


@EVERY_TRAINING
def test_a_run_has_one_writer_at_a_time(command, trained, copy_of, tmp_path):
    run = trained(command)
    folder = copy_of(run, finished=False)
    before = contents_of(folder)
    writer = Run.reopen(folder, run.parent.name)
    for flags in (["--resume", str(folder)], run.flags_into(tmp_path, "--overwrite")):
        assert f"{folder} is being written by another process" in refusal(run.main, *flags)
    writer.close()
    assert contents_of(folder) == before


@EVERY_TRAINING
def test_a_run_is_not_resumed_with_other_arguments(command, trained, copy_of):
    folder = copy_of(trained(command), finished=False)
    message = refusal(MAINS[command], "--resume", folder, "--lr", 0.5)
    assert f"cannot resume {folder} with --lr 0.5: it was started with --lr" in message


@pytest.mark.parametrize(
    ("command", "part"), [*((each, "data") for each in TRAININGS), *((each, "host") for each in WITH_TORCH)]
)
def test_a_run_is_not_resumed_on_other_data_or_another_kind_of_machine(command, part, trained, copy_of):
    folder = copy_of(trained(command), finished=False)
    config = json.loads((folder / "config.json").read_text())
    name = next(iter(config["data"])) if part == "data" else "device"
    changed_config(folder, **{part: {**config[part], name: "0" * 64}})
    said = f"the data file {name} is not the one it was started with" if part == "data" else "with device cpu: it was"
    assert said in refusal(MAINS[command], "--resume", folder)


# ── damaged run folders ──────────────────────────────────────────────────────────────────────────────────────────────


def changed_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config["arguments"].update(changes.pop("arguments", {}))
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


CONFIGS = [
    (lambda run: shutil.rmtree(run), "there is no such folder"),
    (lambda run: (run / "config.json").unlink(), "it has no config.json"),
    *(
        (lambda run, text=text: (run / "config.json").write_bytes(text), "config.json is damaged")
        for text in (b"", b"{", b"[]", b'{"schema": NaN}', b"[" * 100_000, b"\xff")
    ),
    (lambda run: changed_config(run, homework="hw_other"), "is a run of 'hw_other', expected one of"),
    (lambda run: changed_config(run, schema=99), "has schema 99, expected 1"),
    (lambda run: changed_config(run, data=[1]), "config.json is damaged: its data"),
    (lambda run: changed_config(run, command="hw_other.train"), "was made by hw_other.train"),
    (lambda run: changed_config(run, arguments={"evil": 1}), "config.json is damaged: there is no argument --evil"),
    (lambda run: changed_config(run, arguments={"help": True}), "config.json is damaged"),
    (lambda run: changed_config(run, arguments={"lr": "__import__('os')"}), "damaged: --lr: expected a number"),
    (lambda run: changed_config(run, arguments={"epochs": 10**400}), "damaged: --epochs: expected a whole number"),
]


NO_THREADS = (lambda run: changed_config(run, host={"threads": 0}), "config.json is damaged: threads 0, expected")


@EVERY_TRAINING
@pytest.mark.parametrize(("damage", "message"), [*CONFIGS, NO_THREADS], ids=range(len(CONFIGS) + 1))
def test_a_run_with_a_wrong_configuration_is_not_resumed(command, damage, message, trained, copy_of):
    folder = copy_of(trained(command), finished=False)
    damage(folder)
    assert message in run_command(MAINS[command], "--resume", folder).refusal


@pytest.mark.parametrize("command", WITH_TORCH)
def test_a_wrong_checkpoint_is_refused_and_no_code_in_it_is_run(command, trained, copy_of, tmp_path):
    variants = list(TINY[command].variants)
    folder = copy_of(trained(command), finished=False)
    whole = (folder / "last.pt").read_bytes()
    foreign = (trained("hw_cnn.train" if command != "hw_cnn.train" else "hw_ocr.train").folder / "last.pt").read_bytes()
    attack = io.BytesIO()
    torch.save({"progress": cnn_files.Trap(tmp_path / "marker")}, attack)
    damaged = [b"", b"no checkpoint", whole[: len(whole) // 2], attack.getvalue()]
    for content in (foreign, *damaged):
        (folder / "last.pt").write_bytes(content)
        message = run_command(MAINS[command], "--resume", folder).refusal
        expected = "last.pt does not belong" if content is foreign else "no code in it was run|cannot read .*last.pt"
        assert re.search(expected, message)
    assert not (tmp_path / "marker").exists()
    for variant in variants[1:]:
        shutil.copy(trained(command, variant).folder / "last.pt", folder)
        assert "last.pt does not belong to this run" in refusal(MAINS[command], "--resume", folder), variant


# ── finished runs ────────────────────────────────────────────────────────────────────────────────────────────────────


SUMMARIES = [
    (lambda run: (run / "summary.json").unlink(), "has no summary.json; finish it with: python -m hw_"),
    *(
        (lambda run, text=text: (run / "summary.json").write_bytes(text), "summary")
        for text in (b"", b"[]", b'{"schema": 1, "x": NaN}', b'{"schema": 2}', b'{"schema": 1}', b"\xff")
    ),
]
WEIGHTS = [
    (lambda run: (run / "best.safetensors").unlink(), "cannot read weights"),
    *(
        (lambda run, size=size: os.truncate(run / "best.safetensors", size), "damaged or not a safetensors file")
        for size in (0, 5, 1000)
    ),
    (lambda run: (run / "best.safetensors").write_bytes(b"no weights"), "damaged or not a safetensors file"),
]


@pytest.mark.parametrize("command", FINISHED)
def test_a_damaged_run_is_one_line_to_the_commands_that_use_it(command, trained, tmp_path):
    training, variant, before, after = FINISHED[command]
    inputs = {commands.IMAGE: commands.write_image(tmp_path), commands.SOUND: commands.write_sound(tmp_path)}

    def use(run):
        return run_command(MAINS[command], *before, run, *(inputs[word] for word in after))

    for number, (damage, message) in enumerate([*CONFIGS, *SUMMARIES, *WEIGHTS]):
        folder = shutil.copytree(trained(training, variant).folder, tmp_path / f"{number}")
        damage(folder)
        assert message in use(folder).refusal
    messages = []
    for other in [each for each in TINY[training].variants if each != variant]:
        shutil.copytree(trained(training, variant).folder, folder, dirs_exist_ok=True)
        shutil.copy(trained(training, other).folder / "best.safetensors", folder)
        messages.append(use(folder).refusal)
    assert all(re.search("holds weights for|do not fit this network", message) for message in messages)
    assert "holds weights for" in messages[0]  # the metadata are checked before the weights


# ── comparisons ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", COMPARISONS)
def test_a_comparison_is_resumed_and_trains_nothing_twice(command, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(ocr_compare, "ROWS", {"layers": {layers: ["--conv_layers", layers] for layers in "23"}})
    training = f"{command.partition('.')[0]}.train"
    flags = [*trained(training).data_flags, *TINY[training].flags.split(), *COMPARISONS[command].split()]
    flags += ["--epochs", "1", "--threads", "1", "--name", "mine", "--results_dir", str(tmp_path)]

    def state():
        runs = [Run.open(path.parent, path.parents[1].name) for path in tmp_path.glob("hw_*/*/config.json")]
        [folder] = [run for run in runs if run.config["command"] == command]
        return folder, {run.folder: contents_of(run.folder) for run in runs if run is not folder}

    with interrupted("step 1", signal.SIGTERM):
        stopped = run_command(MAINS[command], *flags)
    assert stopped.status == 143 and "the same command resumes it" in stopped.err
    MAINS[command](flags)
    folder, before = state()
    assert folder.is_finished and {row["seeds"] for row in folder.summary()["table"]} == {1}
    first, *others = before
    numbers = numbers_of(first)
    (first / "summary.json").unlink()
    MAINS[command](flags)
    assert numbers_of(first) == numbers and all(contents_of(other) == before[other] for other in others)

    before = state()[1]
    MAINS[command]([*flags, "--seeds", "42", "43"])
    after = state()[1]
    assert {row["seeds"] for row in folder.summary()["table"]} == {2}
    assert after.items() > before.items() and len(after) == 2 * len(before)

    message = refusal(MAINS[command], *flags, "--epochs", 3)
    assert "with --epochs 3: it was started with --epochs 1" in message and "needs another --name" in message
    shutil.copytree(first, folder.folder.with_name(folder.folder.name.replace("mine", "taken")))
    assert "choose another --name" in refusal(MAINS[command], *flags, "--name", "taken")
    writer = Run.reopen(folder.folder, folder.folder.parent.name)
    assert "is being written by another process" in refusal(MAINS[command], *flags)
    writer.close()
    for flag in (["--seed", 1], ["--resume", first], ["--overwrite"], ["--dry_run"]):
        assert f"{flag[0]} is a flag of single training runs" in refusal(MAINS[command], *flags, *flag)
    (first / "metrics.csv").write_bytes(b"\xff,\n")
    assert run_command(MAINS[command], *flags).status in (0, 2)  # 2 if the command draws metrics.csv
