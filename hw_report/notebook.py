"""Runs the notebook of convnets-2024-a2 for a submission, so that it shows the run that the PDF describes."""

import atexit
import os
import re
import shlex
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hw_cnn.train import COMMAND
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

_SETTINGS = "settings"  # id of the cell with the flags


def with_outputs(path: Path, run: Run, data_dir: str | None = None) -> str:
    """The notebook at `path` with the outputs of all its cells; the cells show `run` instead of training.

    Its cell "settings" gets the flags of `run`, so that running the notebook again trains the same network. The paths
    of the run and its data are passed to the cells, but do not appear in the result. The cells write into a copy of the
    run folder.

    Args:
        path: the notebook file.
        run: a finished run of hw_cnn.train.
        data_dir: folder of its data; None for the folder that the run used.

    Raises:
        UserError: the run is damaged, its data cannot be read, or the notebook does not run to its end.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError
    from zmq import ZMQError

    flags, arguments = shlex.join(COMMAND.flags_of(run)), COMMAND.parse_saved(run)
    notebook = nbformat.read(path, as_version=4)
    [settings] = [cell for cell in notebook.cells if cell.id == _SETTINGS]
    settings.source = re.sub(r'^FLAGS = "[^"]*"', lambda _: f"FLAGS = {flags!r}", settings.source, flags=re.MULTILINE)
    shown = settings.source
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        copy = Path(folder, "results", COMMAND.homework, run.folder.name)
        shutil.copytree(run.folder, copy)
        for name, place in (("DATA_DIR", Path(data_dir or arguments.data_dir).absolute()), ("RUN", copy)):
            settings.source += f"\n{name} = Path({str(place)!r})"
        try:
            _execute(notebook, path.parent, Path(folder))
        except CellExecutionError as error:
            raise UserError(f"{path} stopped with {error.ename}: {' '.join(error.evalue.split())}") from error
        except (RuntimeError, ZMQError) as error:  # the kernel did not start or died
            raise UserError(f"{path} could not be run to its end: {error}") from error
    settings.source = shown
    return nbformat.writes(notebook)


def _execute(notebook: "NotebookNode", folder: Path, temporary: Path) -> None:
    """Runs all cells in `folder` with this interpreter; Jupyter writes its own files into `temporary`."""
    from nbclient import NotebookClient

    manager = _kernel(temporary)
    client = NotebookClient(
        notebook, km=manager, timeout=None, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # the kernel shows the figures
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder.parent), os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(temporary / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(temporary),
    }
    # In a separate thread, because nbclient would handle Ctrl-C itself in the main thread.
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.execute, env=environment, cleanup_kc=True)
        try:
            running.result()
        except KeyboardInterrupt:
            process = getattr(manager.provisioner, "process", None)  # None before the kernel has started
            if process is not None:
                process.kill()  # ends the thread as well
            raise
        finally:
            atexit.unregister(client._cleanup_kernel)  # would fail at exit if the kernel did not start


def _kernel(temporary: Path) -> "AsyncKernelManager":
    """A manager that starts and stops a kernel of this interpreter, independent of the kernels installed here."""
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    kernels = temporary / "kernels"
    write_kernel_spec(kernels / "this-python")
    return AsyncKernelManager(
        kernel_name="this-python",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)]),
        connection_file=str(temporary / "kernel.json"),
        transport="ipc" if len(str(temporary)) < 80 else "tcp",  # ipc needs short paths
    )
