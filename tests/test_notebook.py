"""The notebook of convnets-2024-a2: it runs from top to bottom, from any folder, and is committed without outputs."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
PATH = ROOT / "notebooks" / "convnets_2024_a2.ipynb"
TASKS = ("1.0", "1.1", "1.2", "2.1", "3.1", "3.2", "3.3", "3.4")
FIGURES = {"curves.png", "feature_maps.png", "grad_cam.png"}


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Name of a kernel of this very interpreter, whatever kernels this machine knows; it imports this checkout."""
    write_kernel_spec(tmp_path / "jupyter" / "kernels" / "this-python")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return "this-python"


def cell(notebook, name):
    [found] = [number for number, one in enumerate(notebook.cells) if one.id == name]
    return found


def test_it_runs_from_top_to_bottom_in_another_folder(notebook, kernel, tmp_path):
    results = tmp_path / "some results"
    settings = nbformat.v4.new_code_cell(f"EPOCHS = IMAGES = EACH = 1\nRESULTS_DIR = Path({str(results)!r})")
    notebook.cells.insert(cell(notebook, "settings") + 1, settings)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    NotebookClient(
        notebook, timeout=120, kernel_name=kernel, resources={"metadata": {"path": str(elsewhere)}}
    ).execute()
    [run] = (results / "hw_cnn").iterdir()
    assert {path.name for path in run.glob("*.png")} >= FIGURES
    shown = [output for one in notebook.cells for output in one.get("outputs", ())]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == len(FIGURES) + 1  # and the first training images
    text = "".join(output.get("text", "") for output in shown)
    assert "sample digits: 1200 training, 300 validation, 297 test images" in text and "64058 parameters" in text
    assert "test accuracy 0." in text and "own / default" in text
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    assert not any(elsewhere.iterdir())


def test_it_finds_a_package_that_is_not_installed(notebook, tmp_path):
    code = notebook.cells[cell(notebook, "find-package")].source + "\nprint(REPOSITORY)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(folder):  # -S: without installed packages
        command = [sys.executable, "-S", "-c", code]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    assert run(PATH.parent).stdout.strip() == str(ROOT)
    assert "No module named 'hw_cnn'" in run(tmp_path).stderr


def test_it_is_committed_clean(notebook):
    nbformat.validate(notebook)
    code = [one for one in notebook.cells if one.cell_type == "code"]
    assert all(one.execution_count is None and not one.outputs for one in code)
    assert notebook.metadata.kernelspec.name == "python3"
    heads = [one.source for one in notebook.cells if one.cell_type == "markdown" and one.source.startswith("## Task")]
    assert [head.split()[2].rstrip(":") for head in heads] == list(TASKS)
