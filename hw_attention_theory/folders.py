"""Run folders of commands that compute in one go: the same command again replaces what it wrote before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw_attention_theory.presets import HOMEWORK
from hw_common.runs.config import describe
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, Run


def new_folder(
    results_dir: Path, name: str, command: str, arguments: Mapping[str, Any], host: Mapping[str, Any]
) -> Run:
    """The run folder `name`, empty but for its configuration, and locked.

    Raises:
        UserError: a folder of that name is another command's, is being written, or cannot be written.
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
