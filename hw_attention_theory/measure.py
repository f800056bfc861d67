"""Measures the time and memory of attention, each measurement in a new process.

A process keeps some of the memory that it has freed, and its peak memory never falls. So a second measurement in the
same process would depend on the first.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Any

from hw_attention_theory.presets import count_features
from hw_common.runs.errors import UserError

_MAX_SECONDS = 1.0  # when all calls together have taken this long, no further call is timed


@dataclass(frozen=True)
class Case:
    """One attention with its sizes."""

    attention: str  # "softmax", or "taylor" for linear attention with --kernels fast
    L: int  # number of positions
    D: int  # features of a query, key or value
    K: int | None = None  # terms of the exponential series; None for softmax attention

    @property
    def features(self) -> int | None:
        """M, the number of features of φ; None for softmax attention."""
        return None if self.K is None else count_features(self.D, self.K)


class Meter:
    """Measures cases, each in a new process, if possible forked from one that has imported torch.

    Args:
        threads: threads of torch.
        rounds: largest number of timed calls; the fastest is kept, since other processes can only slow a call down.
    """

    def __init__(self, threads: int, rounds: int) -> None:
        self.threads = threads
        self.rounds = rounds
        has_forkserver = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
        context = multiprocessing.get_context("forkserver" if has_forkserver else "spawn")
        context.set_forkserver_preload(["hw_attention_theory.fast_linear_attention"])
        self._pool = ProcessPoolExecutor(1, context, initializer=_leave_signals_to_parent, max_tasks_per_child=1)

    def measure(self, case: Case) -> dict[str, Any]:
        """Measures `case`.

        Returns:
            The attributes of `case`; "M"; "seconds", the time of the fastest call; "cpu_seconds", the smallest CPU time
            of a call, over all threads (other processes disturb it less); "rounds", the number of timed calls; "bytes",
            the increase of the peak memory in the first call; "process_bytes", the peak memory of the process.

        Raises:
            UserError: the process was killed, most likely because memory ran out.
        """
        try:
            numbers = self._pool.submit(_measure, case, self.threads, self.rounds).result()
        except (BrokenProcessPool, MemoryError, RuntimeError) as error:
            raise UserError(
                f"{case.attention} attention at L = {case.L}, D = {case.D} could not be measured ({error}); "
                "if memory is short, choose a smaller --max_gigabytes; the same command resumes"
            ) from error
        return {**asdict(case), "M": case.features, **numbers}

    def close(self) -> None:
        """Waits for a running measurement, then ends the processes."""
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
    scale = case.D**-0.25  # so that qᵀk is of the order of 1 for any D
    Q, K, V = (scale * torch.randn(case.L, case.D) for _ in range(3))
    with torch.inference_mode():
        attention(Q[:8], K[:8], V[:8])  # starts the threads and makes torch's own allocations
        before = peak_bytes()
        seconds: list[float] = []
        cpu_seconds: list[float] = []
        while not seconds or (len(seconds) < rounds and sum(seconds) < _MAX_SECONDS):
            started, cpu_started = time.perf_counter(), time.process_time()
            attention(Q, K, V)
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
            if len(seconds) == 1:  # later calls do not always reuse freed memory, so they can raise the peak further
                after = peak_bytes()
    return {
        "seconds": min(seconds),
        "cpu_seconds": min(cpu_seconds),
        "rounds": len(seconds),
        "bytes": after - before,
        "process_bytes": after,
    }


def peak_bytes() -> int:
    """The peak memory of this process since its start, with torch's own allocations; 0 if the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        with contextlib.suppress(ImportError, AttributeError):
            import psutil

            return psutil.Process().memory_info().peak_wset
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
