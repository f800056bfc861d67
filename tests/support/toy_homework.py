"""A homework for hw_report's tests: `python -m toy_homework` makes its run folder at once, without torch.

orders.json beside the results can make it fail or wait for a signal instead.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from hw_common.runs import files
from hw_common.runs.run_folder import SCHEMA, Run

HOMEWORK = "hw_ocr"  # so that a submission has code


def blank():
    """A PDF of one small page."""
    import typst

    return typst.compile(b"#set page(width: 9pt, height: 9pt)", format="pdf")


def make_run(results_dir, name, *, dataset="sample", seed=7, score=0.875, arguments=None):
    """A finished run folder with a figure `curves`."""
    config = {"schema": SCHEMA, "homework": HOMEWORK, "command": "toy_homework", "started": "2025-03-01T10:00:00+00:00"}
    config |= {"arguments": {"seed": seed, **(arguments or {})}, "versions": {"python": "3.11.0", "torch": "2.11.0"}}
    run = Run.create(results_dir, config, name, overwrite=True)
    (run.folder / "curves.pdf").write_bytes(blank())
    run.write_summary({"name": name, "dataset": dataset, "data": f"{dataset} toys", "score": score})
    run.close()
    return run.folder


def main():
    """Makes what is missing, as the `reproduce` of a homework does, and counts its calls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile")
    parser.add_argument("--results_dir", type=Path)
    parser.add_argument("--jobs")
    parser.add_argument("--name", default="toy")
    arguments = parser.parse_args()
    orders = files.read_json(arguments.results_dir / "orders.json")
    if orders.get("wait"):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with open(arguments.results_dir / "calls.txt", "a") as calls:
        print(*sys.argv[1:], file=calls)
    if orders.get("wait"):
        time.sleep(60)
    if orders.get("fail"):
        print("error: the toy is broken", file=sys.stderr)
        sys.exit(2)
    make_run(arguments.results_dir, f"{arguments.profile}-{arguments.name}", dataset=arguments.profile)


if __name__ == "__main__":
    main()
