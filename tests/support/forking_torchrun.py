"""torchrun whose processes are forks of its agent, so that modules are imported once instead of once per process.

forking_torchrun.py FLAGS … SCRIPT …: as `python -m torch.distributed.run FLAGS … SCRIPT …`. The agent itself runs the
script with the name "imports" before it forks.
"""

import runpy
import sys

from torch.distributed import run

from hw_common.training import startup

startup.import_torchvision()  # before torch._dynamo, since it hides that from torchvision
import torch._dynamo  # noqa: E402, F401  # DistributedDataParallel imports it, which takes a second, in each process

elastic_launch = run.elastic_launch


def run_script(words):
    """Runs the script in a forked process; torchrun wants the process to return instead of exiting with status 0."""
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def launch_with_forks(config, entrypoint):
    """Stands in for `elastic_launch`; `entrypoint` is Python, and the arguments are -u, the script and its words."""
    config.start_method = "fork"

    def launch(unbuffered, *words):
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="imports")
        return elastic_launch(config, run_script)(sys.argv)

    return launch


if __name__ == "__main__":
    run.elastic_launch = launch_with_forks
    run.main()
