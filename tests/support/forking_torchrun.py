"""torchrun in a fork of the tests' process, and the training processes in forks of that: nothing is imported again."""

import ctypes
import importlib
import multiprocessing
import os
import sys

import torchrun_trainings
from torch.distributed import run

FORKS = multiprocessing.get_context("fork")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>


def start(words, lines, output, environment, namespace=None):
    """Starts a process in which torchrun, with the flags `words`, starts processes that train as `lines` say.

    Args:
        words: torchrun's flags.
        lines: command lines, see torchrun_trainings.py.
        output: file for the output.
        environment: environment variables in addition to those of this process.
        namespace: the network namespace in which the process runs; None for that of this process.
    """
    # DistributedDataParallel and hw_caption import them when they are needed, which takes a second in each process.
    for slow in ("torch._dynamo", "nltk.translate.bleu_score"):
        importlib.import_module(slow)
    process = FORKS.Process(target=_torchrun, args=(words, lines, output, environment, namespace))
    process.start()
    return process


def _torchrun(words, lines, output, environment, namespace):
    os.environ.update(environment)
    if namespace is not None:
        with open(f"/run/netns/{namespace}") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), _NEW_NETWORK) == 0
    with open(output, "wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (open(descriptor, "w", buffering=1) for descriptor in (1, 2))
    elastic_launch = run.elastic_launch

    def launch(config, entrypoint):
        """Stands in for `elastic_launch`, which would start `entrypoint`, Python, with a script."""
        config.start_method = "fork"
        return lambda *_: elastic_launch(config, torchrun_trainings.train)(*lines)

    run.elastic_launch = launch
    run.main([*words, "a script", *lines])
