"""Fixtures that all packages share: one thread, Ctrl-C as in a terminal, no figures, tiny finished runs."""

import gc
import os
import shutil
import signal

import commands
import pytest
import torch

from hw_common.commands import comparison
from hw_common.training import startup

_fsync = os.fsync
os.fsync = lambda descriptor: None  # protects against a power cut, which no test can cause
torch.set_num_threads(1)
startup.skip_compiler()
startup.import_torchvision()


def pytest_collection_finish(session):
    """Garbage collection no longer searches what has been imported, which took a tenth of the time of all tests."""
    gc.freeze()


@pytest.fixture(autouse=True)
def ctrl_c():
    """SIGINT raises KeyboardInterrupt even if a shell started the tests in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side, so each takes one thread, even if an earlier one has set another number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_job(monkeypatch):
    """Comparisons train in this process unless a test sets --jobs, because new processes take seconds to start."""
    monkeypatch.setattr(comparison, "default_jobs", lambda: 1)


@pytest.fixture
def real_fsync(monkeypatch):
    """Files are forced to the disk, as in commands."""
    monkeypatch.setattr(os, "fsync", _fsync)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures become empty files; see `commands.draw_nothing`."""
    commands.draw_nothing(monkeypatch)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """`trained(command, variant)` is a finished tiny run, trained once for all tests; they must not change it."""
    data, runs = {}, {}

    def train(command, variant=None):
        tiny = commands.TINY[command]
        variant = variant or next(iter(tiny.variants))
        if command not in data:
            data[command] = tiny.write(tmp_path_factory.mktemp("data with spaces"))
        if (command, variant) not in runs:
            words = f"{tiny.flags} {tiny.variants[variant]} --threads 1 --epochs 2 --name run".split()
            results_dir = tmp_path_factory.mktemp("results with spaces")
            runs[command, variant] = run = commands.Trained(command, data[command], words, results_dir)
            with pytest.MonkeyPatch.context() as patch:
                tiny.patch(patch)
                commands.draw_nothing(patch)
                run.main(run.flags_into(results_dir))
        return runs[command, variant]

    return train


@pytest.fixture
def copy_of(tmp_path):
    """`copy_of(run)` copies a run folder for a test to damage; `finished=False` makes the copy an unfinished run."""

    def copy(run, finished=True):
        folder = shutil.copytree(run.folder, tmp_path / run.parent.name / "run")
        if not finished:
            (folder / "summary.json").unlink()
        return folder

    return copy
