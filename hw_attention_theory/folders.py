"""Run folders of commands that compute in one go, without resuming."""

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
    """A new, locked run folder in place of the one that `command` wrote before; removed if nothing is written into it.

    Raises:
        UserError: see `new_folder`.
    """
    run = new_folder(results_dir, name, command, arguments, {})
    try:
        yield run
    except BaseException:
        run.discard_if_empty()
        raise
    finally:
        run.close()


def new_folder(
    results_dir: Path, name: str, command: str, arguments: Mapping[str, Any], host: Mapping[str, Any]
) -> Run:
    """A new, locked run folder, with its configuration only.

    Raises:
        UserError: a folder of that name was made by another command, is in use, or cannot be written.
    """
    check_own(results_dir, name, command)
    return Run.create(results_dir, describe(HOMEWORK, command, arguments, {}, {}, host), name, overwrite=True)


def check_own(results_dir: Path, name: str, command: str) -> None:
    """Refuses a run folder that another command made.

    Raises:
        UserError: names the folder.
    """
    folder = results_dir / HOMEWORK / name
    if (folder / CONFIG).is_file() and Run.open(folder, HOMEWORK).config.get("command") != command:
        raise UserError(f"{folder} was made by another command than {command}; choose another --name")
