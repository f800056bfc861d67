"""Checks of every homework on one CUDA GPU, through its training command. `benchmarks/gpu.py` runs them.

    python -W default benchmarks/gpu_checks.py NAME FOLDER

Each homework trains on its built-in sample on the CPU, on the GPU, on the GPU with an interruption, and on the GPU in
bf16. The CPU and the GPU must agree within the tolerance of the homework, and the interrupted run must end with the
same bits as the uninterrupted one. Dropout is off where a flag allows it, because the two devices draw different masks.

Importing torch takes longer than most of these runs, so each check imports it once and then forks a process per run.
"""

import contextlib
import csv
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw_common.commands import environment

environment.set_up()  # every command calls this before torch is imported

import torch  # noqa: E402

from hw_common.commands.cli import run_command  # noqa: E402
from hw_common.runs.run_folder import BEST, LAST, METRICS, SUMMARY  # noqa: E402
from hw_common.training import loop  # noqa: E402

LIMIT = 110  # seconds for one run
CUT_AFTER = 2  # steps before the interruption
Row = dict[str, object]


@dataclass(frozen=True)
class Check:
    """A training run on a built-in sample."""

    name: str  # name of the check and of its run folders
    module: str  # package of the homework
    flags: tuple[str, ...]  # flags besides --dataset sample
    tolerance: float  # largest difference of the losses on CPU and GPU, relative to the loss on the CPU


CHECKS = (
    Check("cnn", "hw_cnn", ("--epochs", "2", "--dropout", "0"), 0.01),
    Check("cnn-best", "hw_cnn", ("--recipe", "best", "--epochs", "2", "--dropout", "0"), 0.02),
    # At the sheet's learning rate of 1e-3, the losses of this untrained ResNet-18 differ by 26 % between one and two
    # threads of the same CPU, so a comparison of CPU and GPU would show nothing; at 1e-4 they differ by 1 %.
    Check("transfer", "hw_transfer", ("--weights", "none", "--lr", "0.0001", "--epochs", "2"), 0.05),
    Check("transfer-freeze", "hw_transfer", ("--weights", "none", "--mode", "freeze", "--epochs", "2"), 0.01),
    Check("ocr-crf", "hw_ocr", ("--model", "conv-bilstm", "--crf", "--epochs", "2"), 0.01),
    Check("caption", "hw_caption", ("--weights", "none", "--use_attention", "--dropout", "0", "--epochs", "2"), 0.01),
    Check("asr-lstm", "hw_asr", ("--decoder", "lstm", "--preset", "notebook", "--dropout", "0", "--epochs", "1"), 0.01),
    Check(
        "asr-transformer", "hw_asr",
        ("--decoder", "transformer", "--preset", "notebook", "--dropout", "0", "--ctc", "0.3", "--epochs", "1"), 0.01,
    ),
    Check("theory", "hw_attention_theory", ("--attention", "taylor", "--epochs", "2"), 0.01),
)  # fmt: skip


def run_all(folder: Path) -> Iterator[Row]:
    """Runs all checks side by side; the run folders are made in `folder`.

    Yields:
        For each check and question: its name, what was asked, whether it holds, and what was found.
    """
    script = ("-W", "default", __file__)  # torch warns of operations without a deterministic implementation
    checks = [start(*script, check.name, str(folder)) for check in CHECKS]
    refusals = two_processes(folder), numpy_on_gpu()
    for check, process in zip(CHECKS, checks, strict=True):
        lines = process.communicate()[0].splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        yield from rows or [row(check.name, "runs", False, (lines or ["(no output)"])[-1])]
    yield from refusals


def start(*words: str) -> subprocess.Popen[str]:
    """Starts Python; its output and its messages go into one pipe."""
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_check(check: Check, folder: Path) -> list[Row]:
    """Runs one check; returns the rows of its table."""
    main = importlib.import_module(f"{check.module}.train").main
    importlib.import_module(f"{check.module}.experiment")
    processes = {kind: fork(main, flags_of(check, folder, kind), folder, f"{check.name}-{kind}") for kind in KINDS}
    wrong = {kind: ended(process, folder / f"{check.name}-{kind}.log") for kind, process in processes.items()}
    if wrong["cut"].startswith("status 130"):
        run = folder / check.module / f"{check.name}-cut"
        process = fork(main, ["--resume", str(run)], folder, f"{check.name}-resumed")
        wrong["cut"] = ended(process, folder / f"{check.name}-resumed.log")
    else:
        wrong["cut"] = wrong["cut"] or "was not interrupted"
    return judge(check, folder, wrong)


KINDS = ("cpu", "cuda", "cut", "bf16")


def flags_of(check: Check, folder: Path, kind: str) -> list[str]:
    """The arguments of the training command for one kind of run."""
    device = "cpu" if kind == "cpu" else "cuda"
    precision = ("--precision", "bf16") if kind == "bf16" else ()
    where = ("--results_dir", str(folder), "--name", f"{check.name}-{kind}")
    return ["--dataset", "sample", *check.flags, *precision, "--device", device, "--threads", "1", *where]


def fork(main: Callable[[Sequence[str]], object], flags: list[str], folder: Path, name: str) -> int:
    """Runs a training command in a forked process, whose output goes into <folder>/<name>.log.

    Returns:
        The number of the process. If `name` ends with "cut", it interrupts itself after CUT_AFTER steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if process := os.fork():
        return process
    status = 1
    with contextlib.suppress(BaseException):
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.setsid()
        if name.endswith("cut"):
            interrupt_after(CUT_AFTER)
        try:
            run_command(lambda: main(flags))
        except SystemExit as end:
            status = int(end.code or 0)
    sys.stdout.flush()
    os._exit(status)


def interrupt_after(steps: int) -> None:
    """Makes this process send itself SIGINT at the given step of its training."""
    step, taken = loop._Trainer._step, iter(range(1, sys.maxsize))

    def counted(self: loop._Trainer, batch: tuple[torch.Tensor, ...]) -> tuple[bool, bool]:
        if next(taken) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    loop._Trainer._step = counted


def ended(process: int, log: Path) -> str:
    """Waits for a process; returns what went wrong, a warning that it printed, or an empty string."""
    until, ended, code = time.monotonic() + LIMIT, 0, 0
    while not ended:
        ended, code = os.waitpid(process, os.WNOHANG)
        if time.monotonic() > until:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"still running after {LIMIT} s: {last_line(log.read_text(encoding='utf-8'))}"
        time.sleep(0.05)
    output, status = log.read_text(encoding="utf-8"), os.waitstatus_to_exitcode(code)
    if status != 0:
        return f"status {status}: {last_line(output)}"
    return next((f"prints: {line.strip()}" for line in output.splitlines() if "deterministic" in line), "")


def last_line(output: str) -> str:
    """The last line of what a command printed."""
    return (output.strip().splitlines() or ["(no output)"])[-1]


def judge(check: Check, folder: Path, wrong: dict[str, str]) -> list[Row]:
    """The rows of one check."""
    runs = {kind: folder / check.module / f"{check.name}-{kind}" for kind in KINDS}
    rows = [
        row(check.name, f"trains ({kind}), no nondeterministic operation", not text, text)
        for kind, text in wrong.items()
    ]
    finished = {kind for kind, run in runs.items() if (run / SUMMARY).is_file()}
    if {"cpu", "cuda"} <= finished:
        gap = largest_gap(runs["cpu"], runs["cuda"])
        asked = f"losses on CPU and GPU within {check.tolerance:g}"
        rows.append(row(check.name, asked, gap <= check.tolerance, f"{gap:.1e}"))
    if {"cuda", "cut"} <= finished:
        differing = differences(runs["cuda"], runs["cut"])
        rows.append(row(check.name, "interrupted and resumed: the same bits", not differing, differing or "equal"))
    if {"cuda", "bf16"} <= finished:
        gap = largest_gap(runs["cuda"], runs["bf16"])
        rows.append(row(check.name, "bf16: losses within 0.1 of fp32's", gap <= 0.1, f"{gap:.1e}"))
    return rows


def row(name: str, asked: str, holds: bool, found: str) -> Row:
    """One line of the table."""
    return {"check": name, "asked": asked, "holds": holds, "found": found}


def largest_gap(one: Path, other: Path) -> float:
    """The largest relative difference of the training and validation losses of two runs."""
    gaps = [
        abs(float(a[column]) - float(b[column])) / max(abs(float(a[column])), 1e-3)
        for a, b in zip(epochs(one), epochs(other), strict=True)
        for column in a
        if column.endswith("loss")
    ]
    return max(gaps, default=math.inf)


def epochs(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the running time."""
    with (run / METRICS).open(newline="") as file:
        return [{name: value for name, value in line.items() if name != "seconds"} for line in csv.DictReader(file)]


def differences(one: Path, other: Path) -> str:
    """Says in which files two runs differ; an empty string if all weights, states and metrics are equal."""
    states = [torch.load(run / LAST, map_location="cpu", weights_only=True) for run in (one, other)]
    found = [] if epochs(one) == epochs(other) else [METRICS]
    found += [] if (one / BEST).read_bytes() == (other / BEST).read_bytes() else [BEST]
    found += [name for name in ("model", "optimizer", "generators") if not equal(states[0][name], states[1][name])]
    return ", ".join(found)


def equal(one: object, other: object) -> bool:
    """Whether two nested states hold the same numbers, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(equal, one, other))
    return one == other


def two_processes(folder: Path) -> Row:
    """Two processes on one GPU must be refused with one line."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    flags = ("--dataset", "sample", "--epochs", "1", "--device", "cuda", "--results_dir", str(folder))
    output = start(*torchrun, "-m", "hw_cnn.train", *flags).communicate(timeout=LIMIT)[0]
    lines = [line for line in output.splitlines() if "for 1 GPU(s)" in line]
    return row("torchrun", "two processes on one GPU are refused", len(lines) == 1, (lines or [last_line(output)])[0])


def numpy_on_gpu() -> Row:
    """The NumPy networks must refuse a GPU with one line."""
    command = start("-m", "hw_numpy.train", "--device", "cuda")
    output = command.communicate(timeout=LIMIT)[0]
    return row("numpy", "--device cuda is refused", command.returncode == 2, last_line(output))


if __name__ == "__main__":
    name, place = sys.argv[1:]
    for found in run_check(next(check for check in CHECKS if check.name == name), Path(place)):
        print(json.dumps(found))
