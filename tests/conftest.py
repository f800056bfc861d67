"""Fixtures that all packages share: one thread, Ctrl-C as in a terminal, no figures."""

import signal

import pytest
import torch

from hw_common.runs import figures

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def ctrl_c():
    """SIGINT raises KeyboardInterrupt even if a shell started the tests in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures become empty files, because drawing takes longer than the rest of a tiny run."""
    monkeypatch.setattr(figures, "save", save_nothing)


def save_nothing(figure, folder, stem):
    """Stands in for `figures.save`."""
    for suffix in ("png", "pdf"):
        (folder / f"{stem}.{suffix}").touch()
    return [folder / f"{stem}.png", folder / f"{stem}.pdf"]
