"""A browser without a window, for tests of pages; skips where none is installed."""

import contextlib
import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")


@contextlib.contextmanager
def chromium():
    """Debian's Chromium with an empty profile."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(_NAMES)} is on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        browser.close()
