"""What each process in `test_torchrun.py` does: it trains as the given command lines say, one after another."""

import importlib
import json
import os
import shlex
import signal

from hw_common.commands import cli
from hw_common.runs import figures
from hw_common.training.updates import Updater


def kill_in_step(step):
    """Lets this process be killed in its optimizer step number `step`, counted from 1."""
    update, steps = Updater.update, iter(range(1, step + 1))

    def update_or_die(self):
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        update(self)

    Updater.update = update_or_die


def train(*lines):
    """Trains in a process of torchrun; no figures are drawn, because the tests compare numbers.

    Each line is a module and its flags. The environment variable KILLS is a JSON list with an entry [rank, step] for
    each start by torchrun: the process of that rank ends by SIGKILL in that optimizer step.
    """
    try:
        cli.run_command(lambda: _train(lines), under_torchrun=True)
    except SystemExit as ended:  # torchrun wants the function to return if all went well
        if ended.code:
            raise


def _train(lines):
    figures.save = lambda figure, folder, stem: []
    kills = dict(enumerate(json.loads(os.environ.get("KILLS", "[]"))))
    rank, step = kills.get(int(os.environ["TORCHELASTIC_RESTART_COUNT"]), (None, 0))
    if rank == int(os.environ["RANK"]):
        kill_in_step(step)
    for line in lines:
        module, *flags = shlex.split(line)
        importlib.import_module(module).main(flags)
