"""torchrun, and the processes that it starts, as forks of this program, which imports what they need once.

Each line of standard input is a JSON list of arguments of `torchrun`, for processes that run side by side; the answer
is a line with their exit codes. The tests' own process cannot be forked for this, because autograd may have threads.
"""

import ctypes
import importlib
import json
import multiprocessing
import os
import sys

import torchrun_trainings
from torch.distributed import run

from hw_common.training import startup

_FORKS = multiprocessing.get_context("fork")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>


def torchrun(words, lines, output, environment, namespace):
    """Runs torchrun in this process.

    Args:
        words: torchrun's flags.
        lines: command lines; each process trains as they say, see torchrun_trainings.py.
        output: file for the output.
        environment: environment variables in addition to those of this process.
        namespace: the network namespace to run in; None for the present one.
    """
    with open(output, "wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.update(environment)
    if namespace is not None:
        with open(f"/run/netns/{namespace}") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), _NEW_NETWORK) == 0
    elastic_launch = run.elastic_launch

    def launch(config, entrypoint):
        """Stands in for `elastic_launch`, which would start `entrypoint`, Python, with a script."""
        config.start_method = "fork"
        return lambda *_: elastic_launch(config, torchrun_trainings.train)(*lines)

    run.elastic_launch = launch
    run.main([*words, "a script"])


if __name__ == "__main__":
    startup.import_torchvision()  # before torch._dynamo, since it hides that from torchvision
    # DistributedDataParallel and hw_caption import these when they need them.
    for slow in ("torch._dynamo", "nltk.translate.bleu_score", *sys.argv[1:]):
        importlib.import_module(slow)
    os.fsync = lambda descriptor: None  # protects against a power cut, which no test can cause
    for request in sys.stdin:
        processes = [_FORKS.Process(target=torchrun, args=arguments) for arguments in json.loads(request)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
            process.kill()
            process.join()
        print(json.dumps([process.exitcode for process in processes]), flush=True)
