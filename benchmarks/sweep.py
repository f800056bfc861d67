"""Time of a learning-rate sweep with `--jobs 2` compared with `--jobs 1`, as a ratio within one run.

    python benchmarks/sweep.py [--rounds 5] [flags of hw_cnn.sweep]

By default it sweeps three learning rates with two seeds, with the sheet's network and settings on the sample. Goal: at
most 0.75.
"""

import tempfile

import harness

from hw_cnn import sweep


def main() -> None:
    flags = harness.parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    arguments, rest = flags.parse_known_args()
    rest = ["--dataset", "sample", "--seeds", "42", "43", *rest]

    def run(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as folder, harness.quiet():
            sweep.parse([*rest, "--jobs", str(jobs), "--results_dir", folder]).run()

    seconds = harness.time_interleaved(
        {"--jobs 1": lambda: run(1), "--jobs 2": lambda: run(2)}, arguments.rounds, warm_up=0
    )
    harness.print_ratio("a sweep of six training runs on the sample", seconds, "--jobs 2", "--jobs 1", at_most=0.75)


if __name__ == "__main__":
    main()
