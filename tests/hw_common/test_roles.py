"""Every flag of every command declares its role, and the same flag has the same role everywhere."""

import argparse
import importlib
from pathlib import Path

import pytest

from hw_common.commands import cli
from hw_common.runs.roles import Role

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in ROOT.glob("hw_*/*.py") if "\ndef parser()" in path.read_text())
COMMANDS = [f"{path.parent.name}.{path.stem}" for path in FILES]
EXPECTED = {  # in commands whose arguments are kept in a run folder
    "data_dir": Role.PLACE, "results_dir": Role.PLACE, "resume": Role.PLACE, "storage": Role.PLACE,
    "dataset_dir": Role.INPUT, "weights": Role.INPUT,
    "device": Role.RUNNING, "threads": Role.RUNNING, "jobs": Role.RUNNING, "name": Role.RUNNING,
    "tensorboard": Role.OUTPUT, "save_minutes": Role.OUTPUT,
    "overwrite": Role.CALL, "dry_run": Role.CALL,
    "seed": Role.TRAINED, "epochs": Role.TRAINED, "lr": Role.TRAINED, "kernels": Role.TRAINED,
}  # fmt: skip


def parsers(parser):
    """`parser` and the parsers of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def test_there_is_something_to_look_at():
    assert {"hw_cnn.train", "hw_cnn.sweep", "hw_caption.compare", "hw_report.__main__"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_its_role(command):
    for parser in parsers(importlib.import_module(command).parser()):
        roles = cli.roles_of(parser)
        flags = {action.dest: action for action in parser._actions if action.option_strings and action.dest != "help"}
        for name, action in flags.items():
            is_path = action.type is Path or name.endswith("_dir") or name in ("resume", "weights", "storage")
            assert roles[name].may_have_moved == is_path, f"--{name} is {roles[name]}"
        if "resume" in flags or command.endswith((".compare", ".sweep")):
            assert roles.items() >= {name: EXPECTED[name] for name in flags if name in EXPECTED}.items()


@pytest.mark.parametrize(("role", "decides", "may_change", "may_have_moved"), [
    (Role.TRAINED, True, False, False), (Role.INPUT, True, True, True), (Role.PLACE, False, True, True),
    (Role.RUNNING, False, False, False), (Role.OUTPUT, False, True, False), (Role.CALL, False, True, False),
])  # fmt: skip
def test_what_follows_from_a_role(role, decides, may_change, may_have_moved):
    assert (role.decides_result, role.may_change_on_resume, role.may_have_moved) == (
        decides,
        may_change,
        may_have_moved,
    )


def test_a_flag_keeps_its_role_in_a_group():
    parser = cli.Parser("x", "")
    cli.add_flag(parser.add_argument_group("group"), "some_place", "other_name", role=Role.PLACE)
    cli.add_flag(parser, "lr")
    assert cli.roles_of(parser) == {"some_place": Role.PLACE, "lr": Role.TRAINED}
