"""Runs the benchmarks and prints one table: each row with its spread, its goal and whether the goal is reached.

    python -m benchmarks                      all benchmarks, one after another
    python -m benchmarks cnn threads          only these; the other rows of the table stay as they are
    python -m benchmarks --write              all benchmarks; also renews the table in docs/speed.md
    python -m benchmarks --no_run --write     renews docs/speed.md from benchmarks/measured.json without measuring
    python -m benchmarks --gpu results/gpu/gpu.json --write     adds what benchmarks/gpu.sh measured

A run of all benchmarks takes about 30 minutes on two cores; `kills.py` and `fuzz.py` try fewer cases than by default.
`ocr`, `caption_features` and `memory` read data sets in $HW_DATA_DIR, and are left out if these are missing. The rows
are stored in benchmarks/measured.json. The machine should run nothing else meanwhile.
"""

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu_rows
from benchmarks.rows import Row
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
    "start": [[]],
    "sweep": [["--epochs", "3"]],
    "layers": [ONE, ALL],
    "numpy_layers": [ALL],
    "transfer": [ALL],
    "ocr": [ONE],
    "caption": [ONE, ALL],
    "caption_features": [["--kills", "1"]],
    "attention": [ONE],
    "asr": [
        [*ALL, "--preset", "sheet", "--part", part, "--decoder", decoder]
        for part in ("training", "generation", "memory")
        for decoder in ("lstm", "transformer")
    ],
    "memory": [[]],
    "kills": [["--kills", "200", "--random", "20"]],
    "fuzz": [["--mutations", "100"]],
}
# The benchmarks that read real data, and where they find it in HW_DATA_DIR; others use samples or random numbers.
NEEDS = {"ocr": "ocr", "caption_features": "sydney_captions*", "memory": "FashionMNIST"}
LIMIT = 600  # seconds for a benchmark with one set of flags
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
    cli.add_call(
        flags,
        "gpu",
        type=Path,
        metavar="FILE",
        help="run no benchmark; add the rows in this gpu.json of benchmarks/gpu.sh",
    )
    arguments = flags.parse_args(argv)
    for name in arguments.names:
        if name not in RUNS:
            raise UserError(f"there is no benchmark {name!r}, expected one of {', '.join(RUNS)}")
    measured: Measured = files.read_json(MEASURED) if MEASURED.is_file() else {}
    wanted = [] if arguments.no_run or arguments.gpu else arguments.names or list(RUNS)
    if arguments.gpu:
        _store({GPU: gpu_rows.rows_of(files.read_json(arguments.gpu))}, measured)
    failed = [name for name in wanted if _has_data(name) and not _measure(name, measured)]
    if not measured:
        raise UserError(f"there is no {MEASURED} yet; run python -m benchmarks without --no_run")
    print(f"\n{table(measured)}")
    if arguments.write:
        files.write_bytes(DOCS, filled(DOCS.read_text(), measured).encode())
        print(f"renewed {DOCS}")
    for name in failed:
        print(f"benchmarks/{name}.py failed; if it measured nothing, its old rows are kept", file=sys.stderr)
    return 1 if failed else 0


def _has_data(name: str) -> bool:
    """Whether the data that a benchmark reads is there; prints a line if it is not."""
    folder = Path(os.environ.get("HW_DATA_DIR", "data"))
    if name not in NEEDS or any(folder.glob(NEEDS[name])):
        return True
    print(f"benchmarks/{name}.py is left out: there is no {folder / NEEDS[name]}; set HW_DATA_DIR", file=sys.stderr)
    return False


def _measure(name: str, measured: Measured) -> bool:
    """Runs one benchmark with all its flags and stores its rows; returns whether it succeeded.

    If it fails, the rows that it printed before are stored; without any, its old rows are kept.
    """
    rows: list[dict[str, Any]] = []
    succeeded, started = True, time.monotonic()
    for flags in RUNS[name]:
        print(f"\n== python benchmarks/{name}.py {' '.join(flags)}", flush=True)
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
            succeeded = _run([sys.executable, str(HERE / f"{name}.py"), *flags], file.name) and succeeded
            command = " ".join([f"benchmarks/{name}.py", *flags])
            rows += [{**json.loads(line), "command": command} for line in file]
    print(f"benchmarks/{name}.py took {time.monotonic() - started:.0f} s", file=sys.stderr)
    if rows:
        _store({name: {"machine": machine(), "date": datetime.date.today().isoformat(), "rows": rows}}, measured)
    return succeeded


def _run(command: Sequence[str], rows: str) -> bool:
    """Runs a benchmark, which appends its rows to the file `rows`; ends it and its processes after LIMIT seconds."""
    environment = {**os.environ, "HW_BENCHMARK_ROWS": rows}
    environment.pop("OMP_NUM_THREADS", None)
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return process.wait(LIMIT) == 0
    except subprocess.TimeoutExpired:
        print(f"stopped after {LIMIT} s", file=sys.stderr)
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # if it was stopped, this also ends the processes that it started
        process.wait()


def _store(new: Mapping[str, Any], measured: Measured) -> None:
    """Adds `new` to `measured` and writes both to measured.json, in the order of the table."""
    measured.update(new)
    files.write_json(MEASURED, {name: measured[name] for name in (*RUNS, GPU) if name in measured})


def machine() -> str:
    """The number of cores, the processor of this machine, and those of its instruction sets that matter here."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    models = re.findall(r"model name\s*: (.*)", text)
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bf16"}
    sets = [name for flag, name in known.items() if re.search(rf"^flags\s*:.* {flag}\b", text, re.MULTILINE)]
    has = f" with {', '.join(sets)}" if sets else ""
    return f"{available_cores()} cores, {models[0] if models else 'unknown processor'}{has}"


def table(measured: Mapping[str, Any], links: bool = False) -> str:
    """The rows of all benchmarks as a table in Markdown, and the machines that they were measured on.

    `links`: whether the first cell of a row is a link from docs/ to the benchmark.
    """
    lines = ["| what | threads | median | least–greatest | rounds | goal | |", "|---|---|---|---|---|---|---|"]
    for name in (*RUNS, GPU):
        lines += [Row(**row).cells(links) for row in measured.get(name, {"rows": []})["rows"]]
    places = sorted({(entry["date"], entry["machine"]) for entry in measured.values()})
    return "\n".join([*lines, "", f"Measured on {'; '.join(f'{date} ({where})' for date, where in places)}."])


def filled(text: str, measured: Mapping[str, Any]) -> str:
    """Returns `text` with the table of `measured` between the two comments that mark its place.

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
