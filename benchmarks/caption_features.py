"""Measures seconds and peak memory for the features of Sydney's 613 images, and whether kills change a bit of them.

    HW_DATA_DIR=… python benchmarks/caption_features.py --kills 3

The goals are at most 90 seconds on two cores and 1.5 GB, including start-up and decoding. The process is killed at
random times.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "hw_caption.features", "--weights", "none", "--results_dir"]
SECONDS, GIGABYTES = 90, 1.5


def features_in(results: Path) -> bytes:
    [path] = results.rglob("rows.bin")
    return path.read_bytes()


def goal(value: float, limit: float) -> str:
    return f"goal {limit:g}: {'reached' if value <= limit else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as name:
        undisturbed, killed = Path(name, "undisturbed"), Path(name, "killed")
        started = time.monotonic()
        subprocess.run([*COMMAND, undisturbed], check=True)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"{seconds:.1f} s  {goal(seconds, SECONDS)}")
        print(f"{peak:.2f} GB peak resident memory  {goal(peak, GIGABYTES)}")
        started = time.monotonic()
        subprocess.run([*COMMAND, undisturbed], check=True)
        print(f"{time.monotonic() - started:.1f} s if they are up to date")
        for _ in range(kills):
            process = subprocess.Popen([*COMMAND, killed])
            time.sleep(random.uniform(0.1, 0.9) * seconds / (kills + 1) + 2)
            process.kill()
            process.wait()
        subprocess.run([*COMMAND, killed], check=True)
        same = features_in(killed) == features_in(undisturbed)
        print(f"after {kills} kills: {'the same bits' if same else 'OTHER BITS'}")


if __name__ == "__main__":
    main()
