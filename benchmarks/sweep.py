"""Time of a learning-rate sweep with `--jobs 2` compared with `--jobs 1`, as a ratio within one run.

    python benchmarks/sweep.py [--rounds 3] [flags of hw_cnn.sweep]

By default it sweeps three learning rates with two seeds, with the sheet's network and settings on the sample. Goal: at
most 0.75.
"""

import argparse
import contextlib
import io
import tempfile

from hw_cnn import sweep
from hw_common.training.timing import ratio, time_interleaved


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=int, default=3)
    arguments, rest = flags.parse_known_args()
    rest = ["--dataset", "sample", "--seeds", "42", "43", *rest]

    def run(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            sweep.parse([*rest, "--jobs", str(jobs), "--results_dir", folder]).run()

    seconds = time_interleaved({"one": lambda: run(1), "two": lambda: run(2)}, arguments.rounds, warm_up=0)
    share = ratio(seconds, of="two", to="one")
    print(f"--jobs 2 takes {share:.2f} of the time of --jobs 1  goal 0.75: {'reached' if share <= 0.75 else 'MISSED'}")


if __name__ == "__main__":
    main()
