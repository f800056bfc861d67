"""Runs the notebook of convnets-2024-a2 for a submission, so that it presents the run that the PDF tells about."""

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

_SETTINGS = "settings"  # id of the cell that says what the notebook is about


def with_outputs(source: Path, run: Run, data_dir: str | None = None) -> str:
    """The notebook `source` with the outputs of all its cells, which show `run` in place of training one.

    Its cell "settings" then has the flags that `run` was trained with, so that the notebook, run again, trains the
    same. Where the run and its data are is told to the cells and not left in them. What the cells write goes into a
    copy of the run.

    Args:
        source: the notebook.
        run: a finished run of hw_cnn.train.
        data_dir: where its data are now; None for where they were.

    Raises:
        UserError: the run is damaged, its data cannot be read, or the notebook does not run to its end.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError
    from zmq import ZMQError

    flags, arguments = shlex.join(COMMAND.flags_of(run)), COMMAND.parse_saved(run)
    notebook = nbformat.read(source, as_version=4)
    [settings] = [cell for cell in notebook.cells if cell.id == _SETTINGS]
    settings.source = re.sub(r'^FLAGS = "[^"]*"', lambda _: f"FLAGS = {flags!r}", settings.source, flags=re.MULTILINE)
    shown = settings.source
    with tempfile.TemporaryDirectory(prefix="hw_report-") as folder:
        copy = Path(folder, "results", COMMAND.homework, run.folder.name)
        shutil.copytree(run.folder, copy)
        for name, place in (("DATA_DIR", Path(data_dir or arguments.data_dir).absolute()), ("RUN", copy)):
            settings.source += f"\n{name} = Path({str(place)!r})"
        try:
            _execute(notebook, source.parent, Path(folder))
        except CellExecutionError as error:
            raise UserError(f"{source} stopped with {error.ename}: {' '.join(error.evalue.split())}") from error
        except (RuntimeError, ZMQError) as error:  # the kernel did not start or died
            raise UserError(f"{source} could not be run to its end: {error}") from error
    settings.source = shown
    return nbformat.writes(notebook)


def _execute(notebook: "NotebookNode", where: Path, temporary: Path) -> None:
    """Runs all cells in the folder `where`, with this very interpreter; what Jupyter writes goes into `temporary`."""
    from nbclient import NotebookClient

    manager = _kernel(temporary)
    client = NotebookClient(
        notebook, km=manager, timeout=None, record_timing=False, resources={"metadata": {"path": str(where)}}
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(where.parent), os.environ.get("PYTHONPATH")])),
        "IPYTHONDIR": str(temporary / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(temporary),
    }
    # In a thread of its own, where nbclient cannot take Ctrl-C for itself.
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.execute, env=environment, cleanup_kc=True)
        try:
            running.result()
        except KeyboardInterrupt:
            if manager.provisioner is not None and manager.provisioner.process is not None:
                manager.provisioner.process.kill()  # ends the thread as well
            raise
        finally:
            atexit.unregister(client._cleanup_kernel)  # it is left there if the kernel does not start, and would fail


def _kernel(temporary: Path) -> "AsyncKernelManager":
    """What starts and stops a kernel of this very interpreter, whatever kernels this machine knows."""
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    kernels = temporary / "kernels"
    write_kernel_spec(kernels / "this-python")
    return AsyncKernelManager(
        kernel_name="this-python",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)]),
        connection_file=str(temporary / "kernel.json"),
        transport="ipc" if len(str(temporary)) < 80 else "tcp",  # files of this user; their paths have to be short
    )
