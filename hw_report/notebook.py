"""Runs a notebook for a submission, so that it presents the run that the PDF tells about."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hw_common.errors import UserError
from hw_common.runs import Run

if TYPE_CHECKING:
    from nbformat import NotebookNode

_SETTINGS = "settings"  # id of the cell that says what the notebook is about


def with_outputs(source: Path, run: Run) -> str:
    """The notebook `source` with the outputs of all its cells, which show `run` in place of training one.

    Its cell "settings" then says how `run` was trained, so that the notebook, run again, trains the same. Where the run
    and its data are is told to the cells and not left in them. What the cells write goes into a copy of the run.

    Raises:
        UserError: a cell failed.
    """
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    [settings] = [cell for cell in notebook.cells if cell.id == _SETTINGS]
    for name in ("dataset", "epochs", "lr", "seed"):
        line = f"{name.upper()} = {json.dumps(run.arguments[name])}"
        settings.source = re.sub(rf"^{name.upper()} = \S+", line, settings.source, flags=re.MULTILINE)
    shown = settings.source
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        copy = Path(folder, "results", run.config["homework"], run.folder.name)
        shutil.copytree(run.folder, copy)
        for name, place in (("DATA_DIR", Path(run.arguments["data_dir"]).absolute()), ("RUN", copy)):
            settings.source += f"\n{name} = Path({str(place)!r})"
        try:
            _execute(notebook, source.parent, Path(folder))
        except UserError as error:
            raise UserError(f"{source} {error}") from error
    settings.source = shown
    return nbformat.writes(notebook)


def _execute(notebook: "NotebookNode", where: Path, temporary: Path) -> None:
    """Runs all cells in the folder `where`, with this very interpreter; what Jupyter writes goes into `temporary`."""
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    kernels = temporary / "kernels"
    write_kernel_spec(kernels / "this-python")
    manager = AsyncKernelManager(
        kernel_name="this-python",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)]),
        connection_file=str(temporary / "kernel.json"),
        transport="ipc",  # not TCP, to which anybody on this machine could listen
    )
    environment = {**os.environ, "IPYTHONDIR": str(temporary / "ipython"), "JUPYTER_RUNTIME_DIR": str(temporary)}
    client = NotebookClient(
        notebook, km=manager, timeout=None, record_timing=False, resources={"metadata": {"path": str(where)}}
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise UserError(f"stopped with {error.ename}: {' '.join(error.evalue.split())}") from error
    except DeadKernelError as error:
        raise UserError("was stopped by the system, perhaps for want of memory") from error
