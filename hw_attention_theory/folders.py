"""Run folders of the commands that do not train."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hw_attention_theory.presets import HOMEWORK
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, Run


@contextmanager
def replaced_folder(results_dir: Path, name: str, command: str, arguments: Mapping[str, Any]) -> Iterator[Run]:
    """As `new_folder`, for a with statement; if its body raises an exception, the folder is removed."""
    run = new_folder(results_dir, name, command, arguments)
    try:
        yield run
    except BaseException:
        run.discard_if_empty()
        raise
    finally:
        run.close()


def new_folder(results_dir: Path, name: str, command: str, arguments: Mapping[str, Any], **host: Any) -> Run:
    """Creates and locks a run folder that holds only config.json; first deletes the one from an earlier call.

    Raises:
        UserError: a folder of that name was made by another command, is in use, or cannot be written.
    """
    check_command(results_dir, name, command)
    return Run.create(results_dir, describe(HOMEWORK, command, arguments, {}, {}, host), name, overwrite=True)


def check_command(results_dir: Path, name: str, command: str) -> None:
    """Raises UserError if the run folder `name` was made by another command."""
    folder = results_dir / HOMEWORK / name
    if (folder / CONFIG).is_file() and Run.open(folder, HOMEWORK).config.get("command") != command:
        raise UserError(f"{folder} was made by a command other than {command}; choose another --name")
