"""Runs the benchmarks and prints one table: each row with its spread, its goal and whether the goal is reached.

    python -m benchmarks                      all benchmarks, one after another
    python -m benchmarks cnn threads          only these; the other rows of the table stay as they are
    python -m benchmarks --write              then also renews the table in docs/speed.md
    python -m benchmarks --no_run --write     renews docs/speed.md from benchmarks/measured.json without measuring
    python -m benchmarks --gpu results/gpu/gpu.json --write     adds what benchmarks/gpu.sh measured

The rows are stored in benchmarks/measured.json. The machine should run nothing else meanwhile.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu_rows
from hw_common.commands import cli
from hw_common.runs import files
from hw_common.runs.config import available_cores
from hw_common.runs.errors import UserError

HERE = Path(__file__).parent
MEASURED, DOCS = HERE / "measured.json", HERE.parent / "docs" / "speed.md"
ONE, ALL = ["--threads", "1"], ["--threads", str(available_cores())]
# The flags of each benchmark's runs, in the order of the table.
RUNS: dict[str, list[list[str]]] = {
    "cnn": [[*ONE, "--accuracy"], [*ALL, "--batch_size", "64", "256"]],
    "busy": [ALL],
    "threads": [ALL],
    "checkpoints": [ONE],
    "sweep": [[]],
    "layers": [ONE, ALL],
    "numpy_layers": [ALL],
    "transfer": [ALL],
    "ocr": [ONE],
    "caption": [ONE, ALL],
    "caption_features": [[]],
    "attention": [ONE],
    "asr": [[*ALL, "--preset", "sheet"]],
    "memory": [[]],
    "kills": [[]],
    "fuzz": [[]],
}
GPU = "gpu"  # the rows of benchmarks/gpu.sh, which is not run here
_PLACE = re.compile(r"(<!-- benchmarks -->\n).*(<!-- end of the table -->)", re.DOTALL)

Measured = dict[str, dict[str, Any]]  # for each benchmark: the machine, the date and the rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks of the command line; returns 1 if one of them fails.

    Raises:
        UserError: there is no such benchmark, nothing has been measured, or docs/speed.md has no place for the table.
    """
    flags = cli.Parser("python -m benchmarks", __doc__ or "")
    flags.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"default: all ({', '.join(RUNS)})")
    cli.add_call(flags, "no_run", action="store_true", help="measure nothing, use the stored rows")
    cli.add_call(flags, "write", action="store_true", help="renew the table in docs/speed.md")
    cli.add_call(flags, "gpu", type=Path, metavar="FILE", help="add the rows of this gpu.json of benchmarks/gpu.sh")
    arguments = flags.parse_args(argv)
    for name in arguments.names:
        if name not in RUNS:
            raise UserError(f"there is no benchmark {name!r}, expected one of {', '.join(RUNS)}")
    measured: Measured = files.read_json(MEASURED) if MEASURED.is_file() else {}
    wanted = [] if arguments.no_run or arguments.gpu else arguments.names or list(RUNS)
    if arguments.gpu:
        _store({GPU: gpu_rows.rows_of(files.read_json(arguments.gpu))}, measured)
    failed = [name for name in wanted if not _measure(name, measured)]
    if not measured:
        raise UserError(f"there is no {MEASURED} yet; run python -m benchmarks without --no_run")
    print(f"\n{table(measured)}")
    if arguments.write:
        files.write_bytes(DOCS, filled(DOCS.read_text(), measured).encode())
        print(f"renewed {DOCS}")
    for name in failed:
        print(f"benchmarks/{name}.py failed; its old rows are kept", file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str, measured: Measured) -> bool:
    """Runs one benchmark with all its flags and stores its rows; returns whether it succeeded."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        environment = {**os.environ, "HW_BENCHMARK_ROWS": str(path)}
        environment.pop("OMP_NUM_THREADS", None)
        for flags in RUNS[name]:
            words = [f"benchmarks/{name}.py", *flags]
            print(f"\n== python {' '.join(words)}", flush=True)
            path.write_text("", encoding="utf-8")
            command = [sys.executable, str(HERE / f"{name}.py"), *flags]
            if subprocess.run(command, env=environment).returncode != 0:
                return False
            rows += [
                {"command": " ".join(words), **json.loads(line)}
                for line in path.read_text(encoding="utf-8").splitlines()
            ]
    _store({name: {"machine": machine(), "date": datetime.date.today().isoformat(), "rows": rows}}, measured)
    return True


def _store(new: Mapping[str, Any], measured: Measured) -> None:
    """Adds `new` to `measured` and writes both to measured.json, in the order of the table."""
    measured.update(new)
    files.write_json(MEASURED, {name: measured[name] for name in (*RUNS, GPU) if name in measured})


def machine() -> str:
    """The number of cores and the processor of this machine."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    return f"{available_cores()} cores, {models[0] if models else 'unknown processor'}"


def table(measured: Mapping[str, Any], links: bool = False) -> str:
    """The rows of all benchmarks as a table in Markdown, and the machines that they were measured on.

    `links`: whether the first cell of a row is a link from docs/ to the benchmark.
    """
    lines = ["| what | threads | median | least–greatest | rounds | goal | |", "|---|---|---|---|---|---|---|"]
    for name in (*RUNS, GPU):
        lines += [_cells(row, links) for row in measured.get(name, {"rows": []})["rows"]]
    places = sorted({(entry["date"], entry["machine"]) for entry in measured.values()})
    return "\n".join([*lines, "", f"Measured on {'; '.join(f'{date} ({where})' for date, where in places)}."])


def _cells(row: Mapping[str, Any], links: bool) -> str:
    median, low, high = (number(row[key]) for key in ("value", "low", "high"))
    spread = f"{low}–{high}" if row["rounds"] > 1 else ""
    verdict = ("reached" if row["reached"] else "**missed**") if row["goal"] else ""
    what = f"[{row['what']}](../{row['command'].split()[0]})" if links else row["what"]
    cells = (what, row["threads"], f"{median} {row['unit']}".strip(), spread, row["rounds"], row["goal"], verdict)
    return f"| {' | '.join(map(str, cells))} |"


def number(value: float) -> str:
    """Three digits of `value`, and all digits before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def filled(text: str, measured: Mapping[str, Any]) -> str:
    """Returns `text` with the table of `measured` in its place.

    Raises:
        UserError: `text` has no place for it.
    """
    if not _PLACE.search(text):
        raise UserError(
            f"{DOCS} has no place for the table: it needs «<!-- benchmarks -->» and «<!-- end of the table -->»"
        )
    return _PLACE.sub(lambda place: f"{place[1]}\n{table(measured, links=True)}\n\n{place[2]}", text)


if __name__ == "__main__":
    cli.run_command(main)
