"""Measures seconds and peak memory for the features of 613 images, and checks that kills do not change them.

    HW_DATA_DIR=… python benchmarks/caption_features.py [--rounds 5] [--kills 3]

The images are those of the Sydney data set. The goals are at most 90 seconds on two cores and 1.5 GB, including
start-up and decoding. The process is killed at random times.
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

COMMAND = [sys.executable, "-m", "hw_caption.features", "--weights", "none", "--results_dir"]


def features_in(results: Path) -> bytes:
    [path] = results.rglob("rows.bin")
    return path.read_bytes()


def seconds_of_run(results: Path) -> float:
    started = time.monotonic()
    subprocess.run([*COMMAND, results], check=True)
    return time.monotonic() - started


def main() -> None:
    flags = harness.parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--kills", type=int, default=3)
    arguments = flags.parse_args()
    kills = arguments.kills
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(number)) for number in range(arguments.rounds)]
        undisturbed, killed = folders[0], Path(name, "killed")
        first, second = ([seconds_of_run(folder) for folder in folders] for _ in range(2))
        harness.print_values("hw_caption: time to compute the features of 613 images", first, "s", at_most=90)
        harness.print_value(
            "hw_caption: peak memory while computing features", harness.children_gigabytes(), "GB", at_most=1.5
        )
        harness.print_values("hw_caption: time of a second run, with stored features", second, "s")
        for _ in range(kills):
            process = subprocess.Popen([*COMMAND, killed])
            time.sleep(random.uniform(0.1, 0.9) * statistics.median(first) / (kills + 1) + 2)
            process.kill()
            process.wait()
        subprocess.run([*COMMAND, killed], check=True)
        same = features_in(killed) == features_in(undisturbed)
        print(f"after {kills} kills: {'the same bits' if same else 'OTHER BITS'}")


if __name__ == "__main__":
    main()
