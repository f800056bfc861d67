"""`python -m hw_common.record RUN…`: writes the results of measured runs into small files, which are kept in git."""

from collections.abc import Sequence
from pathlib import Path

from hw_common.commands import cli
from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import CONFIG, SUMMARY, Run

_DESCRIPTION = """\
Writes results/record/<homework>-<name>.json for each finished run or sweep: its summary, arguments, data hashes,
versions and git revision, without paths of this machine.

  python -m hw_common.record results/hw_cnn/fashion results/hw_cnn/cifar-best
"""


def parser() -> cli.Parser:
    """All flags."""
    flags = cli.Parser("python -m hw_common.record", _DESCRIPTION, usage="%(prog)s RUN [RUN …] [flags]")
    flags.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs or sweeps")
    text = "folder of the records (default: results/record)"
    cli.add_place(flags, "into", default=Path("results/record"), help=text)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a record for each run."""
    arguments = parser().parse_args(argv)
    arguments.into.mkdir(parents=True, exist_ok=True)
    for folder in arguments.runs:
        print(record(folder, arguments.into))


def record(folder: Path, into: Path) -> Path:
    """Writes the record of the run in `folder` and returns its path.

    Raises:
        UserError: `folder` is not a finished run.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
    config = files.read_json(folder / CONFIG)
    homework = config.get("homework") if isinstance(config, dict) else None
    if not isinstance(homework, str) or not homework.isidentifier():
        raise UserError(f"{folder / CONFIG} is damaged: it names no homework")
    run = Run.open(folder, homework)
    path = into / f"{homework}-{folder.resolve().name}.json"
    kept = {key: run.config.get(key) for key in ("command", "data", "versions", "git", "host", "started")}
    files.write_json(path, {SUMMARY: run.summary(), "arguments": run.public_arguments(), **kept})
    return path


if __name__ == "__main__":
    cli.run_command(main)
