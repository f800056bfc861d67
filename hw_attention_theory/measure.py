"""Measures the time and memory of attention.

Memory is measured in a new process for each case: a process keeps some of the memory that it has freed, and its peak
memory never falls, so a second measurement in the same process would depend on the first. The times of cases that are
compared are measured alternately in one process.
"""

import contextlib
import math
import multiprocessing
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import Any

from hw_attention_theory.presets import count_features
from hw_common.runs.errors import UserError
from hw_common.training.memory import keep_freed_memory

_SHORTEST = 20e-3  # seconds; calls that take less time are repeated and timed together
_LEAST_ROUNDS = 7  # smallest number of timed rounds, unless --rounds is smaller
_MAX_SECONDS = 20.0  # after this time, no further rounds are timed if there are _LEAST_ROUNDS
_AGREEMENT = 0.03  # two medians agree if their logarithms differ by at most this


@dataclass(frozen=True)
class Case:
    """One attention with its sizes."""

    attention: str  # "softmax", "taylor" for linear attention in chunks, or "plain" for linear attention without chunks
    L: int  # number of positions
    D: int  # features of a query, key or value
    K: int | None = None  # terms of the exponential series; None for softmax attention

    @property
    def features(self) -> int | None:
        """M, the number of features of φ; None for softmax attention."""
        return None if self.K is None else count_features(self.D, self.K)


class Meter:
    """Measures cases in new processes, if possible forked from one that has imported torch.

    Args:
        threads: threads of torch.
        rounds: largest number of timed rounds.
    """

    def __init__(self, threads: int, rounds: int) -> None:
        self.threads = threads
        self.rounds = rounds
        has_forkserver = "forkserver" in multiprocessing.get_all_start_methods()  # Windows has none
        context = multiprocessing.get_context("forkserver" if has_forkserver else "spawn")
        context.set_forkserver_preload(["hw_attention_theory.fast_linear_attention"])
        self._pool = ProcessPoolExecutor(1, context, initializer=_leave_signals_to_parent, max_tasks_per_child=1)

    def measure(self, cases: Sequence[Case], max_bytes: float) -> list[dict[str, Any]]:
        """Measures cases that have the same length and dimension.

        Their calls are timed alternately, so that other programs slow all of them down alike.

        Args:
            cases: the cases; softmax attention comes first if it is among them.
            max_bytes: linear attention without chunks is measured if its features take at most this.

        Returns:
            For each case, its attributes; "M"; "seconds", "seconds_low" and "seconds_high", the median and the
            quartiles of the rounds; "cpu_seconds", the median CPU time over all threads; "rounds"; "bytes", the
            increase of the peak memory in a call; "process_bytes", the peak memory of the process. Linear attention
            also has "plain_bytes", the increase without chunks (None if it was not measured), and "ratio", the lower
            quartile, the median and the upper quartile of its time divided by that of softmax attention in the same
            round (None without softmax attention).

        Raises:
            UserError: a measurement failed, most likely because memory ran out.
        """
        points = []
        for case in cases:
            point = {**asdict(case), "M": case.features, **self._run(case, _measure_memory, case, self.threads)}
            if case.features is not None:
                plain = replace(case, attention="plain") if 8 * case.L * case.features <= max_bytes else None
                point["plain_bytes"] = plain and self._run(plain, _measure_memory, plain, self.threads)["bytes"]
            points.append(point)
        times = self._run(cases[-1], _measure_times, cases, self.threads, self.rounds)
        return [{**point, **own} for point, own in zip(points, times, strict=True)]

    def _run(self, case: Case, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `function` in a new process; if it fails, the error message has the length and dimension of `case`."""
        try:
            return self._pool.submit(function, *arguments).result()
        except (BrokenProcessPool, MemoryError, RuntimeError) as error:
            raise UserError(
                f"attention at L = {case.L}, D = {case.D} could not be measured ({error}); the same command tries "
                "again; if memory is short, choose a smaller --max_gigabytes, with another --name or with --overwrite"
            ) from error

    def close(self) -> None:
        """Waits for a running measurement, then ends the processes."""
        self._pool.shutdown(cancel_futures=True)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _call(case: Case, threads: int) -> Callable[[], object]:
    """Returns the call to measure; first makes a short one, so that torch's own allocations are not measured."""
    import torch

    from hw_attention_theory.fast_linear_attention import FastTaylorLinearAttention
    from hw_attention_theory.models import SoftmaxSelfAttention, TaylorLinearAttention

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    linear = TaylorLinearAttention if case.attention == "plain" else FastTaylorLinearAttention
    attention = SoftmaxSelfAttention() if case.K is None else linear(case.D, case.K)
    scale = case.D**-0.25  # so that qᵀk is of the order of 1 for any D
    Q, K, V = (scale * torch.randn(case.L, case.D) for _ in range(3))

    def call() -> object:
        with torch.inference_mode():
            return attention(Q, K, V)

    with torch.inference_mode():
        attention(Q[:8], K[:8], V[:8])
    return call


def _measure_memory(case: Case, threads: int) -> dict[str, float]:
    call = _call(case, threads)
    before = peak_bytes()
    call()  # only one: a second one may not reuse the memory that the first has freed, and would raise the peak
    after = peak_bytes()
    return {"bytes": after - before, "process_bytes": after}


def _measure_times(cases: Sequence[Case], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Times the cases alternately, until the medians of the first and the second half of the rounds agree."""
    keep_freed_memory()  # every training command calls this too, so the times are those of a training run
    calls = [_call(case, threads) for case in cases]
    repeats = [max(1, math.ceil(_SHORTEST / _time(call, 1, threads)[0])) for call in calls]
    measured: list[list[tuple[float, float]]] = [[] for _ in cases]
    started = time.perf_counter()
    while len(measured[0]) < rounds:
        for own, call, count in zip(measured, calls, repeats, strict=True):
            own.append(_time(call, count, threads))
        if len(measured[0]) >= _LEAST_ROUNDS and (
            time.perf_counter() - started > _MAX_SECONDS or all(_agree([wall for wall, _ in own]) for own in measured)
        ):
            break
    seconds = [[wall for wall, _ in own] for own in measured]
    has_softmax = cases[0].K is None
    results: list[dict[str, Any]] = []
    for case, walls, both in zip(cases, seconds, measured, strict=True):
        low, median, high = quartiles(walls)
        ratio = quartiles([a / b for a, b in zip(walls, seconds[0], strict=True)]) if has_softmax else None
        times = {"seconds": median, "seconds_low": low, "seconds_high": high, "rounds": len(walls)}
        cpu_seconds = statistics.median(cpu for _, cpu in both)
        results.append({**times, "cpu_seconds": cpu_seconds, **({} if case.K is None else {"ratio": ratio})})
    return results


def _time(call: Callable[[], object], count: int, threads: int) -> tuple[float, float]:
    """Mean seconds and mean CPU seconds of `count` calls.

    With one thread, both are CPU time: on a quiet machine it equals elapsed time, and other programs disturb it less.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    started, cpu_started = clock(), time.process_time()
    for _ in range(count):
        call()
    return (clock() - started) / count, (time.process_time() - cpu_started) / count


def _agree(seconds: Sequence[float]) -> bool:
    half = len(seconds) // 2
    return abs(math.log(statistics.median(seconds[:half]) / statistics.median(seconds[half:]))) < _AGREEMENT


def quartiles(values: Sequence[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)


def peak_bytes() -> int:
    """Peak memory of this process since its start, with torch's own allocations; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        with contextlib.suppress(ImportError, AttributeError):
            import psutil

            return psutil.Process().memory_info().peak_wset
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
