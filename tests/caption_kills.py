"""SIGKILL at every line of code that writes a feature file; run as a program, since it forks.

A forked process brings a feature file up to date, four times with other images each time, and dies at the k-th line
that it runs in feature_file.py or in files.py. Then every row that the index says is done must be right, and a second
attempt must end with exactly the rows that are wanted. Prints how many deaths there were.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from hw_caption import feature_file
from hw_caption.feature_file import ARRAY, INDEX, FeatureFile
from hw_common import files

SHAPE = (2, 3)
# Names with contents, one character each: a first time, a changed image, others in another order, one more.
STEPS = [{"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "c": "3"}, {"c": "3", "d": "5", "a": "1"},
         {"c": "3", "d": "5", "a": "1", "e": "1"}]  # fmt: skip
TRACED = {feature_file.__file__, files.__file__}


def features_of(content: str) -> np.ndarray:
    """What stands for the encoder."""
    return np.full(SHAPE, int(content), np.float16)


def bring_up_to_date(folder: Path, wanted: dict[str, str], recipe: str = "this") -> FeatureFile:
    """What `feature_store.ensure` does, in batches of two."""
    files.remove_stale(folder)
    file = FeatureFile(folder, {"encoder": recipe}, SHAPE)
    file.prepare(wanted)
    missing = file.missing
    for begin in range(0, len(missing), 2):
        names = missing[begin : begin + 2]
        contents = [wanted[name] for name in names]
        file.write(names, contents, np.stack([features_of(content) for content in contents]))
        file.commit()
    return file


def check(folder: Path) -> None:
    """Every row that the index says is done is right."""
    if (folder / INDEX).exists():
        images = json.loads((folder / INDEX).read_bytes())["images"]
        if any(images.values()):
            array = np.load(folder / ARRAY, mmap_mode="r")
            for row, content in zip(array, images.values(), strict=True):
                assert content is None or np.array_equal(row, features_of(content)), (images, array)


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
            wanted = STEPS[-1]
            file = bring_up_to_date(folder, wanted)
            assert file.hashes == wanted
            assert np.array_equal(file.array(), np.stack([features_of(content) for content in wanted.values()]))
            assert sorted(entry.name for entry in folder.iterdir()) == [ARRAY, INDEX]
        if not died:
            break
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main()
