"""--help of every command, through its real entry point."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for path in sorted(ROOT.glob("hw_*/*.py")) if '__name__ == "__main__"' in path.read_text()]


def test_there_is_something_to_look_at():
    assert {"hw_cnn/train.py", "hw_report/__main__.py"} <= {str(path.relative_to(ROOT)) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}.{path.stem}")
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_help_shows_how_the_command_is_called(path, capsys, monkeypatch):
    command = path.parent.name if path.stem == "__main__" else f"{path.parent.name}.{path.stem}"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(command, run_name="__main__")
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(f"{line} ".startswith(f"  python -m {command} ") for line in lines), "expected an example"
