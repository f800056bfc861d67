"""The program of each process in `test_torchrun.py`: trains as the given command lines say, one after another.

torchrun_trainings.py LINE …: each line is a module and its flags. The environment variable KILLS is a JSON list with
an entry [rank, step] for each start by torchrun: the process of that rank ends by SIGKILL in that optimizer step.
"""

import importlib
import json
import os
import shlex
import signal
import sys

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


def main():
    """Trains; no figures are drawn, because the tests compare numbers."""
    figures.save = lambda figure, folder, stem: []
    kills = dict(enumerate(json.loads(os.environ.get("KILLS", "[]"))))
    rank, step = kills.get(int(os.environ["TORCHELASTIC_RESTART_COUNT"]), (None, 0))
    if rank == int(os.environ["RANK"]):
        kill_in_step(step)
    for line in sys.argv[1:]:
        module, *flags = shlex.split(line)
        importlib.import_module(module).main(flags)


if __name__ == "imports":  # in `forking_torchrun.py`, before it forks the processes
    for line in sys.argv[1:]:
        importlib.import_module(f"{line.partition('.')[0]}.experiment")
    if any(line.startswith("hw_caption") for line in sys.argv[1:]):
        import nltk.translate.bleu_score  # noqa: F401  # its metrics import it when they need it
if __name__ == "__main__":
    cli.run_command(main, under_torchrun=True)
