"""Peak resident memory of training on Fashion-MNIST with the sheet's settings.

    HW_DATA_DIR=… python benchmarks/memory.py

The training runs for one epoch in a process of its own. Goal: at most 1.5 GB.
"""

import subprocess
import sys
import tempfile

import harness


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hw_cnn.train", "--epochs", "1", "--batch_size", "64"]
        subprocess.run([*command, "--results_dir", folder], check=True)
    harness.print_value(
        "hw_cnn on Fashion-MNIST, an epoch: peak memory", harness.children_gigabytes(), "GB", at_most=1.5
    )


if __name__ == "__main__":
    main()
