"""The command line: spellings of flags, one line for each wrong value, and the exit status of each kind of ending."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_common.commands import cli
from hw_common.runs.errors import Stopped, UserError


@pytest.fixture
def parser():
    """A parser with all shared flags and one of each other kind."""
    flags = cli.Parser("python -m hw_tiny.train", "Trains.\n\n  laid out as written")
    cli.add_flag(flags, "use_attention", action="store_true")
    cli.add_flag(flags, "augment", action=argparse.BooleanOptionalAction)
    cli.add_flag(flags, "dropout", type=cli.fraction, default=0.5)
    cli.add_flag(flags, "sizes", type=cli.positive_int, nargs="+")
    cli.add_training_flags(flags, optimizers=("sgd", "adam"))
    cli.add_run_flags(flags)
    return flags


@pytest.mark.parametrize("flag", ["-use_attention", "--use_attention", "-use-attention", "--use-attention"])
def test_every_spelling_of_a_flag(parser, flag):
    assert cli.parse(parser, [flag])[0].use_attention
    assert not cli.parse(parser, [])[0].use_attention


@pytest.mark.parametrize("flag", ["-lr", "--lr", "-learning_rate", "--learning_rate", "--learning-rate"])
def test_both_names_of_the_learning_rate(parser, flag):
    assert cli.parse(parser, [flag, "0.1"])[0].lr == 0.1


def test_flags_are_not_guessed(parser):
    with pytest.raises(UserError, match="--epoch"):
        cli.parse(parser, ["--epoch", "3"])


def test_what_was_given_is_told_from_what_is_a_default(parser):
    arguments, given = cli.parse(parser, ["--dropout", "0.5", "--no-augment", "--name=a"])
    assert given == {"dropout": 0.5, "augment": False, "name": "a"}
    assert arguments.seed == 42 and arguments.results_dir == Path("results")


def test_argv_of_the_process_is_the_default(parser, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--epochs", "7"])
    assert cli.parse(parser, None)[1] == {"epochs": 7}


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--lr", "-1"], "--lr: expected a number above 0, got '-1'"),
        (["--lr", "0"], "--lr: expected a number above 0, got '0'"),
        (["--lr", "nan"], "--lr: expected a number above 0, got 'nan'"),
        (["--lr", "inf"], "--lr: expected a number above 0, got 'inf'"),
        (["--lr", "fast"], "--lr: expected a number above 0, got 'fast'"),
        (["--l2_decay", "-0.1"], "--l2_decay: expected a number of 0 or more, got '-0.1'"),
        (["--dropout", "1.5"], "--dropout: expected a number from 0 .* got '1.5'"),
        (["--dropout", "1"], "--dropout: expected a number from 0 up to, but not including, 1"),
        (["--batch_size", "0"], "--batch_size: expected a whole number from 1 to 2147483647, got '0'"),
        (["--epochs", "2.5"], "--epochs: expected a whole number from 1 to 2147483647, got '2.5'"),
        (["--epochs", "9" * 400], "--epochs: expected a whole number from 1 to 2147483647, got '9"),
        (["--seed", "-1"], "--seed: expected a whole number from 0 to 2147483647, got '-1'"),
        (["--optimizer", "lbfgs"], "--optimizer: invalid choice: 'lbfgs' .*sgd.*adam"),
        (["--name", "../a"], "--name: expected a plain folder name .* got '../a'"),
        (["--lr"], "--lr: expected one argument"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_nonsense_is_refused_in_one_line(parser, argv, complaint):
    with pytest.raises(UserError, match=complaint) as refused:
        cli.parse(parser, argv)
    assert "\n" not in str(refused.value)
    assert "--help" in str(refused.value)


@given(st.text(max_size=8))
def test_number_types_accept_a_number_or_refuse(text):
    for kind in (cli.positive_int, cli.non_negative_float, cli.fraction):
        try:
            assert kind(text) >= 0
        except argparse.ArgumentTypeError as refused:
            assert repr(text) in str(refused)


@pytest.mark.parametrize("name", ["fashion-lr0.01", "a", "x=1,y=2+z_3"])
def test_run_name_accepts_plain_names(name):
    assert cli.run_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".hidden", "-x", "a/b", "a b", "a\n", "a" * 121, "..", "$HOME", "a:b", "run.", "con", "Aux.1", "LPT9"]
)
def test_run_name_refuses_what_is_no_plain_folder(name):
    with pytest.raises(argparse.ArgumentTypeError):
        cli.run_name(name)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--use_attention", "--lr", "1e-07", "--data_dir", "a folder", "--sizes", "3", "4"],
        ["--augment"],
        ["--no-augment", "--l2_decay", "0", "--optimizer", "adam"],
    ],
)
def test_saved_arguments_come_back_as_they_were(parser, argv):
    arguments, _ = cli.parse(parser, argv)
    saved = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    assert vars(cli.parse_saved(parser, saved)) == vars(arguments)


@pytest.mark.parametrize("saved", [{"lr": -1.0}, {"lr": "x"}, {"momentun": 0.9}, {"epochs": [1, 2]}])
def test_saved_arguments_are_checked_like_typed_ones(parser, saved):
    with pytest.raises(UserError):
        cli.parse_saved(parser, saved)


def test_help_shows_one_spelling_and_the_text_as_written(parser):
    text = parser.format_help()
    assert "--learning_rate VALUE" in text and "--learning-rate" not in text
    assert "--augment, --no-augment" in text and "--no-use" not in text
    assert "\n\n  laid out as written\n" in text


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("HW_DATA_DIR", "elsewhere")
    flags = cli.Parser("train", "")
    cli.add_run_flags(flags)
    assert cli.parse(flags, [])[0].data_dir == Path("elsewhere")


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "status", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (raising(UserError("no\nsuch run")), 2, "error: no such run\n"),
        (raising(Stopped(signal.SIGINT, "saved")), 130, "saved\n"),
        (raising(Stopped(signal.SIGTERM, "saved")), 143, "saved\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),
        (raising(FileNotFoundError(2, "No such file", "a")), 2, "error: No such file: a\n"),
        (
            raising(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")),
            2,
            "error: out of memory; try a smaller --batch_size\n",
        ),
        (
            raising(ImportError("libtorch_cpu.so: failed to map segment from shared object")),
            2,
            "error: out of memory: the libraries cannot be loaded; free memory, or raise the limit (ulimit -v)\n",
        ),
        (
            raising(RuntimeError("could not create a primitive")),  # oneDNN
            2,
            "error: out of memory; try a smaller --batch_size\n",
        ),
        (raising(RuntimeError("can't start new thread")), 2, "error: out of memory; try a smaller --batch_size\n"),
        (raising(OSError(28, "No space left on device")), 2, "error: No space left on device\n"),
    ],
)
def test_every_end_has_its_exit_status_and_one_line(main, status, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run_command(main)
    assert ended.value.code == status
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run_command(lambda: 1 // 0)


def test_of_several_processes_one_complains(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    for run_id, said in (("", "error: no such run\n"), ("none", "")):  # torchrun sets it
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", run_id)
        with pytest.raises(SystemExit):
            cli.run_command(raising(UserError("no such run")))
        assert capsys.readouterr().err == said


def test_a_closed_pipe_is_not_an_error():
    code = "from hw_common.commands import cli; cli.run_command(lambda: print('line\\n' * 100_000))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
