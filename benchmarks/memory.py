"""Peak resident memory of a training of the sheet on Fashion-MNIST.

    HW_DATA_DIR=… python benchmarks/memory.py

The training runs for one epoch in a process of its own. Goal: at most 1.5 GB.
"""

import resource
import subprocess
import sys
import tempfile


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "hw_cnn.train", "--epochs", "1", "--batch_size", "64", "--results_dir", folder],
            check=True,
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"peak resident memory {peak:.2f} GB  goal 1.5: {'reached' if peak <= 1.5 else 'MISSED'}")


if __name__ == "__main__":
    main()
