"""Kills a training run at every point of a write; checks that all files are whole and resuming gives the same bits.

    python benchmarks/kills.py --kills 2000

A tiny training run writes its folder through `hw_common.runs.files`, whose system calls are wrapped: a forked process
kills itself with SIGKILL at the k-th call, or in the middle of a write. The kills are spread evenly over all calls.
After each kill, the folder must hold the same bytes as an undisturbed run before or after that write. A second start
must remove temporary files and end with the same bits. Further kills come from another process at random times.
"""

import argparse
import collections
import contextlib
import csv
import gc
import io
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import tiny
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from tqdm import tqdm

from hw_common.runs import checkpoints, figures, files
from hw_common.runs.run_folder import BEST, CONFIG, LAST, Run
from hw_common.training import loop

Content = dict[str, bytes]  # file name to bytes
RANDOM = "random moment"
LEAST_HITS = 0.9


class Calls:
    """Replaces `open` and `os` in `hw_common.runs.files`; counts their calls, and kills this process at one of them.

    Attributes:
        deadly: number of the call at which the process is killed; None for no kill.
        points: for each call, the index of its write, and the file's name with ", first" (new file) or ", again".
        writes: name and bytes of each file that was written.
    """

    def __init__(self, deadly: int | None = None) -> None:
        self.deadly = deadly
        self.points: list[tuple[int, str]] = []
        self.writes: list[tuple[str, bytes]] = []
        self._kind = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def reach(self) -> None:
        """Kills the process if this is the deadly call."""
        if len(self.points) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points.append((len(self.writes), self._kind))

    def open_file(self, path: Path, mode: str) -> "_File":
        """Opens a temporary file, the first call of each write."""
        target = path.with_name(path.name.removeprefix(".").removesuffix(files.TEMPORARY_SUFFIX).rpartition(".")[0])
        self._kind = f"{target.name}, {'again' if target.exists() else 'first'}"
        self.reach()
        return _File(path, mode, self.reach)

    def fsync(self, descriptor: int) -> None:
        """Counts the call. The real one protects against power cuts, which a kill does not simulate."""
        self.reach()

    def replace(self, source: Path, target: Path) -> None:
        """Renames the temporary file to its final name, the last call of each write."""
        self.reach()
        os.replace(source, target)
        self.writes.append((target.name, target.read_bytes()))


class _File(io.FileIO):
    """An unbuffered file whose writes can be killed halfway, with the first half on disk."""

    def __init__(self, path: Path, mode: str, reach: Callable[[], None]) -> None:
        super().__init__(path, mode)
        self._reach = reach

    def write(self, data: Any) -> int:
        self._reach()
        written = super().write(data[: len(data) // 2])
        self._reach()
        return written + super().write(data[len(data) // 2 :])

    def flush(self) -> None:
        self._reach()


@contextlib.contextmanager
def watched(calls: Calls) -> Any:
    """Routes the calls of `hw_common.runs.files` through `calls` until the context ends."""
    files.open, files.os = calls.open_file, calls
    try:
        yield
    finally:
        del files.open
        files.os = os


def session(results: Path) -> Path:
    """One start of the program: begins the run in `results` or resumes it, and finishes it."""
    folder = results / tiny.HOMEWORK / "run"
    if (folder / CONFIG).is_file():
        run = Run.reopen(folder, tiny.HOMEWORK)
    else:
        run = Run.create(results, tiny.CONFIG, "run", overwrite=True)
    last = folder / LAST
    try:
        _, fitted = tiny.train(run, checkpoints.load_state(last) if last.is_file() else None)
        figure = Figure(figsize=(0.5, 0.5))
        figure.add_artist(Line2D([0, 1], [0, fitted.rows[-1]["validation_loss"]]))
        figures.save(figure, folder, "curves")
        run.write_summary({"final": fitted.rows[-1]})
    finally:
        run.close()
    return folder


def content(folder: Path) -> Content:
    """The files of a run folder without temporary files and the lock."""
    entries = folder.iterdir() if folder.is_dir() else []
    return {entry.name: entry.read_bytes() for entry in entries if not entry.name.startswith(".")}


def check_readable(folder: Path) -> None:
    """Reads every file of a finished run with its real reader; raises an error if one is damaged."""
    run = Run.open(folder, tiny.HOMEWORK)
    run.summary()
    checkpoints.load_state(folder / LAST)
    checkpoints.load_weights(folder / BEST, tiny.METADATA)
    rows = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    Image.open(folder / "curves.png").load()
    assert (folder / "curves.pdf").read_bytes().endswith(b"%%EOF\n")


def end_of(folder: Path) -> dict[str, Any]:
    """The files of a finished run; last.pt as values, because equal values can be pickled in several ways."""
    return {**content(folder), LAST: tiny.plain(checkpoints.load_state(folder / LAST))}


def fork(results: Path, calls: Calls) -> int:
    """Starts a session in a forked process and returns the process id."""
    child = os.fork()
    if child == 0:
        # tqdm shares one lock among processes, and a process that is killed while holding it never releases it.
        tqdm.set_lock(threading.RLock())
        status = 1
        try:
            with watched(calls):
                session(results)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def died(child: int) -> bool:
    """Waits for the process to end; returns whether SIGKILL ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class Kills:
    """Kills sessions and counts the consequences.

    Attributes:
        table: for each kind of write, the numbers of kills, hits (the session had not ended before the kill), torn and
            stale files, and different results.
        faults: a line about each fault.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.faults: list[str] = []
        calls = Calls()
        with watched(calls):
            undisturbed = session(folder / "undisturbed")
        check_readable(undisturbed)
        self.end = end_of(undisturbed)
        self.points = calls.points
        # Content of the folder after 0, 1, 2, … writes.
        self.contents: list[Content] = [dict(calls.writes[:count]) for count in range(len(calls.writes) + 1)]

    def at_point(self, point: int) -> None:
        """Kills a session at a chosen call."""
        write, kind = self.points[point]
        results = self.folder / str(len(list(self.folder.iterdir())))
        hit = died(fork(results, Calls(deadly=point)))
        self._examine(results, kind, hit, self.contents[write : write + 2], f"killed at call {point}, {kind}")

    def at_random(self, seconds: float) -> None:
        """Kills a session from this process after `seconds`."""
        results = self.folder / str(len(list(self.folder.iterdir())))
        child = fork(results, Calls())
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        self._examine(results, RANDOM, died(child), self.contents, f"killed after {seconds:.3f} s")

    def _examine(self, results: Path, kind: str, hit: bool, allowed: Sequence[Content], what: str) -> None:
        folder = results / tiny.HOMEWORK / "run"
        counts = self.table[kind]
        counts["kills"] += 1
        counts["hits"] += hit
        if content(folder) not in allowed:
            counts["torn"] += 1
            self.faults.append(f"{what}: a file is torn, or not from the last write: {sorted(content(folder))}")
        try:
            session(results)
        except Exception as error:
            counts["different"] += 1
            self.faults.append(f"{what}: the second start failed, {type(error).__name__}: {error}")
        else:
            if end_of(folder) != self.end:
                counts["different"] += 1
                self.faults.append(f"{what}: the second start ended with other files than an undisturbed run")
        stale = sorted(entry.name for entry in results.rglob(f".*{files.TEMPORARY_SUFFIX}"))
        if stale:
            counts["stale"] += 1
            self.faults.append(f"{what}: temporary files after the second start: {', '.join(stale)}")

    @property
    def chosen(self) -> collections.Counter[str]:
        """The counts of all kills at chosen calls."""
        return sum((counts for kind, counts in self.table.items() if kind != RANDOM), collections.Counter())

    @property
    def passed(self) -> bool:
        """Whether there are no faults and nearly all kills hit a running session."""
        return not self.faults and self.chosen["hits"] >= LEAST_HITS * self.chosen["kills"]

    def report(self) -> str:
        """The table, one line per kind of write, and the first faults."""
        columns = ("kills", "hits", "torn", "stale", "different")
        lines = [f"{'file, and which write of it':30}" + "".join(f"{column:>10}" for column in columns)]
        for kind, counts in {**dict(sorted(self.table.items())), "all chosen": self.chosen}.items():
            lines.append(f"{kind:30}" + "".join(f"{counts[column]:10}" for column in columns))
        more = [f"… and {len(self.faults) - 10} more"] if len(self.faults) > 10 else []
        return "\n".join([*lines, *self.faults[:10], *more])


def main(argv: Sequence[str] | None = None) -> int:
    """Kills sessions, prints a table, and returns 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2000, help="number of kills at chosen calls (default: 2000)")
    parser.add_argument("--random", type=int, default=50, help="number of kills at random times (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random times")
    arguments = parser.parse_args(argv)

    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU does not survive a fork
    loop.time = types.SimpleNamespace(perf_counter=lambda: 0.0)  # makes runs write the same bytes
    generator = random.Random(arguments.seed)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # faster than a disk
    with tempfile.TemporaryDirectory(dir=memory) as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere):
            kills = Kills(Path(folder))
            gc.freeze()  # garbage collection in a forked process would copy its memory
            for i in range(arguments.kills):
                kills.at_point(i * len(kills.points) // arguments.kills)
            started = time.perf_counter()
            died(fork(Path(folder) / "timed", Calls()))
            seconds = time.perf_counter() - started
            for _ in range(arguments.random):
                kills.at_random(generator.uniform(0, seconds))
    print(f"{len(kills.points)} calls in an undisturbed run")
    print(kills.report())
    import harness  # not needed for the kills, and tests load this file without the folder in sys.path

    what = f"{kills.chosen['kills']} training runs killed and resumed: faults (damaged files, other bits)"
    harness.print_value(what, len(kills.faults), at_most=0)
    return 0 if kills.passed else 1


if __name__ == "__main__":
    sys.exit(main())
