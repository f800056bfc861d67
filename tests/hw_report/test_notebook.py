"""The notebook of convnets-2024-a2: it runs from top to bottom; committed without outputs, turned in with them."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

from hw_common.runs import files
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import SCHEMA, Run
from hw_report.notebook import with_outputs

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "notebooks" / "convnets_2024_a2.ipynb"
TASKS = ("1.0", "1.1", "1.2", "2.1", "3.1", "3.2", "3.3", "3.4")
FIGURES = {"curves.png", "feature_maps.png", "grad_cam.png"}


@pytest.fixture
def notebook():
    return nbformat.read(PATH, as_version=4)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A folder with a kernel of this interpreter, which imports this checkout, whatever other kernels are installed."""
    folder = tmp_path_factory.mktemp("jupyter")
    write_kernel_spec(folder / "kernels" / "this-python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(ROOT))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.setenv(name, "1")
        yield


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """The notebook after it has trained a network, run in another folder, and its results."""
    notebook = nbformat.read(PATH, as_version=4)
    results, elsewhere = tmp_path_factory.mktemp("some results"), tmp_path_factory.mktemp("elsewhere")
    flags = "--dataset sample --network cifar --epochs 1 --optimizer adam --lr 0.002"
    changed = f"FLAGS = {flags!r}\nIMAGES = EACH = 1\nRESULTS_DIR = Path({str(results)!r})"
    settings = nbformat.v4.new_code_cell(changed)
    notebook.cells.insert(cell(notebook, "settings") + 1, settings)
    NotebookClient(
        notebook, timeout=120, kernel_name="this-python", resources={"metadata": {"path": str(elsewhere)}}
    ).execute()
    assert not any(elsewhere.iterdir())
    return notebook, results


def cell(notebook, name):
    [found] = [number for number, one in enumerate(notebook.cells) if one.id == name]
    return found


def shown(notebook):
    """The text and the number of pictures in the outputs; fails if a cell raised an error."""
    outputs = [output for one in notebook.cells for output in one.get("outputs", ())]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return "".join(output.get("text", "") for output in outputs), len(pictures)


def test_it_runs_from_top_to_bottom_in_another_folder(trained):
    notebook, results = trained
    [run] = (results / "hw_cnn").iterdir()
    assert {path.name for path in run.glob("*.png")} >= FIGURES
    text, pictures = shown(notebook)
    assert pictures == len(FIGURES) + 1  # and the first training images
    assert "sample digits: 1200 training, 300 validation, 297 test images" in text and "64058 parameters" in text
    assert "test accuracy 0." in text and "own / default" in text


def test_it_is_turned_in_with_the_outputs_of_the_reports_run(trained):
    [folder] = (trained[1] / "hw_cnn").iterdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    text = with_outputs(PATH, Run.open(folder, "hw_cnn"))
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    said, pictures = shown(notebook)
    accuracy = files.read_json(folder / "summary.json")["final"]["test_accuracy"]
    assert f"test accuracy {accuracy:.4f}" in said and pictures == len(FIGURES) + 1
    settings = notebook.cells[cell(notebook, "settings")].source.splitlines()
    trains_the_same = "FLAGS = '--dataset=sample --network=cifar --epochs=1 --lr=0.002 --optimizer=adam'"
    assert settings[0].startswith(trains_the_same) and settings[-1].startswith("RUN = None")
    assert str(folder) not in text and str(ROOT) not in text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.fixture
def finished(tmp_path):
    """The folder of a finished run, without any results."""
    run = Run.create(
        tmp_path, {"schema": SCHEMA, "homework": "hw_cnn", "command": "hw_cnn.train", "arguments": {}}, "run"
    )
    run.close()
    return run.folder


def change(folder, **arguments):
    """The run in `folder` with other arguments."""
    config = files.read_json(folder / "config.json")
    files.write_json(folder / "config.json", {**config, "arguments": arguments})
    return Run.open(folder, "hw_cnn")


def test_a_cell_that_fails_is_told_in_one_line(finished, tmp_path):
    run = change(finished, dataset="sample", network="cifar", data_dir=str(tmp_path))
    new = nbformat.v4
    settings = new.new_code_cell("from pathlib import Path", id="settings")
    cells = [settings, new.new_code_cell("Path(DATA_DIR / '1').stat()")]
    nbformat.write(new.new_notebook(cells=cells), tmp_path / "small.ipynb")
    for data_dir, where in ((None, tmp_path), ("/other", "/other")):
        says = rf"small\.ipynb stopped with FileNotFoundError: .*No such file.*'{where}/1'$"
        with pytest.raises(UserError, match=says) as error:
            with_outputs(tmp_path / "small.ipynb", run, data_dir)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", ['x"; import os; os.abort() #', "x\\u12", "\\1", 7])
def test_what_a_config_says_is_not_run(finished, dataset):
    with pytest.raises(UserError, match=r"config\.json is damaged: --dataset: invalid choice"):
        with_outputs(PATH, change(finished, dataset=dataset, data_dir="data"))


def test_the_kernel_ends_with_the_notebook(finished, tmp_path):
    settings = nbformat.v4.new_code_cell("from pathlib import Path", id="settings")
    nbformat.write(nbformat.v4.new_notebook(cells=[settings]), tmp_path / "a.ipynb")
    with_outputs(tmp_path / "a.ipynb", change(finished, dataset="sample", data_dir="data"))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children.read_text().split()]
    assert not [command for command in commands if b"ipykernel" in command]


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
