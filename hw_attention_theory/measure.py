"""One measurement of how long attention takes and how much memory, in a process of its own.

A fresh process for each, because a process that has freed memory keeps some of it, and its peak never falls.
"""

import math
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

from hw_common.runs.errors import UserError

_ENOUGH_SECONDS = 1.0  # of rounds


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        attention: "softmax" or "taylor".
        L: positions.
        D: numbers per query, key and value.
        K: terms of the exponential series; None for softmax.
    """

    attention: str
    L: int
    D: int
    K: int | None = None

    @property
    def features(self) -> int | None:
        """M, the size of the feature map."""
        return None if self.K is None else math.comb(self.D + self.K - 1, self.K - 1)


class Meter:
    """Measures cases, each in a new process that has imported torch already.

    Args:
        threads: for torch.
        rounds: calls that are timed, at most; the fastest counts, since everything else on the machine only adds.
    """

    def __init__(self, threads: int, rounds: int) -> None:
        self.threads = threads
        self.rounds = rounds
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["hw_attention_theory.fast_linear_attention"])
        self._pool = ProcessPoolExecutor(1, context, initializer=_leave_signals_to_parent, max_tasks_per_child=1)

    def measure(self, case: Case) -> dict[str, Any]:
        """The case with what it takes.

        Returns:
            Its attributes, "M", "seconds", "cpu_seconds" (of all threads; other processes disturb it less), "bytes"
            (the first call's, beyond the inputs, output included) and "process_bytes" (all of the process's).

        Raises:
            UserError: the process was killed, most likely for want of memory.
        """
        try:
            numbers = self._pool.submit(_measure, case, self.threads, self.rounds).result()
        except (BrokenProcessPool, MemoryError, RuntimeError) as error:
            raise UserError(
                f"{case.attention} attention at L = {case.L}, D = {case.D} could not be measured ({error}); "
                "if memory is short, choose a smaller --max_gigabytes, and the same command goes on"
            ) from error
        return {**asdict(case), "M": case.features, **numbers}

    def close(self) -> None:
        """Waits for a running measurement and ends the processes."""
        self._pool.shutdown(cancel_futures=True)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _measure(case: Case, threads: int, rounds: int) -> Mapping[str, float]:
    import torch

    from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
    from hw_attention_theory.models import SoftmaxSelfAttention

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    attention = SoftmaxSelfAttention() if case.K is None else FastTaylorLinearAttention(case.D, case.K)
    scale = case.D**-0.25  # qᵀk stays around 1
    Q, K, V = (scale * torch.randn(case.L, case.D) for _ in range(3))
    with torch.inference_mode():
        attention(Q[:8], K[:8], V[:8])  # threads, tables
        before = peak_bytes()
        seconds, cpu_seconds = [], []
        while not seconds or (len(seconds) < rounds and sum(seconds) < _ENOUGH_SECONDS):
            started, cpu_started = time.perf_counter(), time.process_time()
            attention(Q, K, V)
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
            if len(seconds) == 1:  # what later calls find freed, they do not always use again
                after = peak_bytes()
    return {
        "seconds": min(seconds),
        "cpu_seconds": min(cpu_seconds),
        "rounds": len(seconds),
        "bytes": after - before,
        "process_bytes": after,
    }


def peak_bytes() -> int:
    """The most memory that this process has held since it began, torch's own included."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
