"""Time from the start of a training command to the end of its first step on the sample. Goal: at most 3 s.

    python benchmarks/start.py [--rounds 5] [--homework hw_cnn hw_asr]

The command runs in a new process and ends itself after the step. Features and spectrograms are stored by the first,
untimed call, as in any second training with the same data.
"""

import subprocess
import sys
import tempfile
import time

import harness

FLAGS = {
    "hw_cnn": [],
    "hw_ocr": ["--model", "conv-bilstm", "--crf"],
    "hw_attention_theory": ["--attention", "taylor"],
    "hw_transfer": ["--weights", "none"],
    "hw_caption": ["--weights", "none", "--use_attention"],
    "hw_asr": [],
}
# What `python -m HOMEWORK.train` does, up to the first step.
PROGRAM = """
import importlib, os, sys
homework, *flags = sys.argv[1:]
train = importlib.import_module(f"{homework}.train")
from hw_common.commands import environment
environment.set_up()
from hw_common.training import loop
step = loop._Trainer._step
def only(*arguments):
    step(*arguments)
    os.write(1, b"stepped\\n")
    os._exit(0)
loop._Trainer._step = only
train.main(flags)
"""


def seconds_to_first_step(homework: str, results_dir: str) -> float:
    """Starts the command; returns the seconds until its first step has ended."""
    flags = ["--dataset", "sample", *FLAGS[homework], "--results_dir", results_dir]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, homework, *flags], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if not done.stdout.endswith("stepped\n"):
        raise RuntimeError(f"{homework} made no step: {done.stderr[-500:]}")
    return seconds


def main() -> None:
    flags = harness.parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--homework", nargs="+", choices=tuple(FLAGS), default=tuple(FLAGS))
    arguments = flags.parse_args()
    for homework in arguments.homework:
        with tempfile.TemporaryDirectory() as folder:
            _, *timed = [seconds_to_first_step(homework, folder) for _ in range(1 + arguments.rounds)]
        title = f"{homework}.train on the sample, from the start of the command to the end of the first step"
        harness.print_values(title, timed, "s", at_most=3)


if __name__ == "__main__":
    main()
