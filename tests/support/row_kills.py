"""SIGKILL at every line of code that writes a row cache; run as a program, since it forks.

A forked process brings a row cache up to date, three times with other items each time, and dies at the k-th line that
it runs in feature_cache.py or in files.py. Then every item that the cache says it holds must be right, and a second
attempt must end with all that are wanted. Prints how many deaths there were.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from hw_common.data import feature_cache
from hw_common.data.feature_cache import INDEX, ROWS, FeatureCache
from hw_common.runs import files

STEPS = ["abc", "adc", "ecab"]  # items, one character each
TRACED = {feature_cache.__file__, files.__file__}


def rows_of(item: str) -> np.ndarray:
    """A stand-in for the computation: as many rows as the item's position in the alphabet."""
    return np.full((ord(item) - 96, 3), ord(item), np.float16)


def bring_up_to_date(folder: Path, wanted: str) -> FeatureCache:
    """Appends what is missing, and commits now and then."""
    cache = FeatureCache(folder, {"made": "so"}, 3)
    with cache.locked():
        for number, item in enumerate(wanted):
            if not cache.holds(item):
                cache.append(item, rows_of(item))
            if number == 1:
                cache.commit()
        cache.commit()
    return cache


def check(folder: Path) -> None:
    """Checks that every item that the cache holds is right."""
    cache = FeatureCache(folder, {"made": "so"}, 3)
    with cache.locked():
        for item in "abcde":
            assert not cache.holds(item) or np.array_equal(cache.take(item), rows_of(item)), item


def die_at(line: int):
    """A trace function that kills this process at that line."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        return trace

    return trace


def attempt(folder: Path, line: int) -> bool:
    """Works in a forked process that dies at that line; returns whether it did."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.settrace(die_at(line))
            for wanted in STEPS:
                bring_up_to_date(folder, wanted)
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status != 0


def main() -> None:
    os.fsync = lambda descriptor: None  # protects against a power cut; here it would only take time
    deaths = 0
    for line in range(0, 100_000, int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            died = attempt(folder, line)
            check(folder)
            cache = bring_up_to_date(folder, STEPS[-1])
            for item in STEPS[-1]:
                assert np.array_equal(cache.take(item), rows_of(item)), item
            assert {entry.name for entry in folder.iterdir()} - {".lock"} == {ROWS, INDEX}
        if not died:
            break
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main()
