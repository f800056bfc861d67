"""Time that saving within an epoch takes from training, as a share of the ten minutes between two checkpoints.

    python benchmarks/checkpoints.py [--threads 1] [--rounds 5]

The network is the largest of all homeworks: the speech recognizer of the sheet, with AdamW. The time of steps without
a save is compared with that of the same steps and one save, including its write. Goal: at most 1 %.
"""

import tempfile
from functools import partial
from pathlib import Path

import harness
from threads import prepare, steps_on

from hw_common.training.determinism import generator_states
from hw_common.training.experiment import Experiment
from hw_common.training.saving import StateWriter

STEPS, MINUTES = 4, 10


def steps(experiment: Experiment, threads: int, path: Path, save: bool) -> None:
    with StateWriter(path, MINUTES) as writer:
        steps_on(experiment, threads, STEPS // 2)
        if save:
            writer.save(lambda: state(experiment))
        steps_on(experiment, threads, STEPS // 2)


def state(experiment: Experiment) -> dict[str, object]:
    """Like the state that the training loop saves; the best weights are as large as the model's."""
    weights = experiment.model.state_dict()
    optimizer = experiment.optimizer.state_dict()
    return {"model": weights, "best": dict(weights), "optimizer": optimizer, "generators": generator_states()}


def main() -> None:
    arguments = harness.parse(harness.parser(__doc__, rounds=5))
    with tempfile.TemporaryDirectory() as folder:
        experiment = prepare("hw_asr", "--batch_size 8", folder)
        path = Path(folder, "last.pt")
        calls = {save: partial(steps, experiment, arguments.threads, path, save) for save in (True, False)}
        seconds = harness.time_interleaved(calls, arguments.rounds, warm_up=1)
        extra = [100 * (a - b) / (60 * MINUTES) for a, b in zip(seconds[True], seconds[False], strict=True)]
        size = path.stat().st_size / 1e6
    title = f"share of the training time for saving {size:.0f} MB every {MINUTES} minutes (speech recognition)"
    harness.print_values(title, extra, "%", at_most=1)


if __name__ == "__main__":
    main()
