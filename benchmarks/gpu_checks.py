"""Checks of every homework on one CUDA GPU, through its training command. `benchmarks/gpu.py` runs them.

Each homework trains on its built-in sample on the CPU, on the GPU, on the GPU with an interruption, and on the GPU in
bf16. The CPU and the GPU must agree within the tolerance of the homework, and the interrupted run must end with the
same bits as the uninterrupted one. Dropout is off where a flag allows it, because the two devices draw different masks.
"""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

METRICS, BEST, LAST, SUMMARY = "metrics.csv", "best.safetensors", "last.pt", "summary.json"
LIMIT = 150  # seconds for one command


@dataclass(frozen=True)
class Check:
    """A training run on a built-in sample."""

    name: str  # name of the check and of its run folders
    module: str  # package of the homework
    flags: tuple[str, ...]  # flags besides --dataset sample
    tolerance: float  # largest difference of the losses on CPU and GPU, relative to the loss on the CPU


CHECKS = (
    Check("cnn", "hw_cnn", ("--epochs", "4", "--dropout", "0"), 0.01),
    Check("cnn-best", "hw_cnn", ("--recipe", "best", "--epochs", "4", "--dropout", "0"), 0.02),
    Check("transfer", "hw_transfer", ("--weights", "none", "--epochs", "3"), 0.05),
    Check("ocr-crf", "hw_ocr", ("--model", "conv-bilstm", "--crf", "--epochs", "3"), 0.01),
    Check("caption", "hw_caption", ("--weights", "none", "--use_attention", "--dropout", "0", "--epochs", "4"), 0.01),
    Check("asr-lstm", "hw_asr", ("--decoder", "lstm", "--preset", "notebook", "--dropout", "0", "--epochs", "2"), 0.01),
    Check(
        "asr-transformer", "hw_asr",
        ("--decoder", "transformer", "--preset", "notebook", "--dropout", "0", "--ctc", "0.3", "--epochs", "2"), 0.01,
    ),
    Check("theory", "hw_attention_theory", ("--attention", "taylor", "--epochs", "3"), 0.01),
)  # fmt: skip


def run_all(folder: Path, jobs: int) -> list[dict[str, object]]:
    """Runs every check, `jobs` commands at a time; the run folders are made in `folder`.

    Returns:
        For each check and question: its name, what was asked, whether it holds, and what was found.
    """
    with ThreadPoolExecutor(jobs) as pool:
        trainings = {
            (check.name, kind): pool.submit(train, check, folder, kind)
            for check in CHECKS
            for kind in ("cpu", "cuda", "cut", "bf16")
        }
        refusals = [pool.submit(two_processes, folder), pool.submit(numpy_on_gpu)]
        errors = {key: training.result() for key, training in trainings.items()}
        rows = [row for check in CHECKS for row in judge(check, folder, errors)]
        return rows + [refusal.result() for refusal in refusals]


def train(check: Check, folder: Path, kind: str) -> str:
    """Trains as `kind` says; returns what went wrong, or the warnings that the commands printed."""
    device = "cpu" if kind == "cpu" else "cuda"
    precision = ("--precision", "bf16") if kind == "bf16" else ()
    flags = ("--dataset", "sample", *check.flags, *precision, "--device", device, "--threads", "1")
    flags += ("--results_dir", str(folder), "--name", f"{check.name}-{kind}")
    if kind != "cut":
        return ended(python(f"{check.module}.train", *flags))
    run = folder / check.module / f"{check.name}-cut"
    command = python(f"{check.module}.train", *flags)
    while command.poll() is None and not (run / METRICS).is_file():  # written at the end of the first epoch
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    output = command.communicate(timeout=LIMIT)[0]
    if command.returncode != 130:
        return f"status {command.returncode} after SIGINT: {last_line(output)}"
    return ended(python(f"{check.module}.train", "--resume", str(run)))


def python(module: str, *flags: str, start: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Starts a command of this repository; its output and its messages go into one pipe."""
    return subprocess.Popen(
        [sys.executable, *(start or ("-m",)), module, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:])},
    )  # fmt: skip


def ended(command: subprocess.Popen[str]) -> str:
    """Waits for a command; returns an error, or the first warning that it printed, or an empty string."""
    try:
        output = command.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        command.kill()
        return f"still running after {LIMIT} s"
    if command.returncode != 0:
        return f"status {command.returncode}: {last_line(output)}"
    return next((f"prints: {line.strip()}" for line in output.splitlines() if "Warning" in line), "")


def last_line(output: str) -> str:
    """The last line of what a command printed."""
    return (output.strip().splitlines() or ["(no output)"])[-1]


def judge(check: Check, folder: Path, errors: dict[tuple[str, str], str]) -> list[dict[str, object]]:
    """The rows of one check."""
    runs = {kind: folder / check.module / f"{check.name}-{kind}" for kind in ("cpu", "cuda", "cut", "bf16")}
    wrong = {kind: errors[check.name, kind] for kind in runs}
    rows = [row(check.name, f"trains ({kind}), no warnings", not text, text) for kind, text in wrong.items()]
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


def row(name: str, asked: str, holds: bool, found: str) -> dict[str, object]:
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


def two_processes(folder: Path) -> dict[str, object]:
    """Two processes on one GPU must be refused with one line."""
    flags = ("--dataset", "sample", "--epochs", "1", "--device", "cuda", "--results_dir", str(folder))
    command = python(
        "hw_cnn.train", *flags, start=("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m")
    )
    output = command.communicate(timeout=LIMIT)[0]
    lines = [line for line in output.splitlines() if "for 1 GPU(s)" in line]
    return row("torchrun", "two processes on one GPU are refused", len(lines) == 1, (lines or [last_line(output)])[0])


def numpy_on_gpu() -> dict[str, object]:
    """The NumPy networks must refuse a GPU with one line."""
    command = python("hw_numpy.train", "--device", "cuda")
    output = command.communicate(timeout=LIMIT)[0]
    return row("numpy", "--device cuda is refused", command.returncode == 2, last_line(output))
