"""hw_check on files that are broken, endless, hostile or unfinished: the same kinds for all sheets."""

import json
import os
import re
import sys

import network_students.convnets_2024 as convnets
import network_students.dsl_2019 as dsl
import network_students.ist_2021_22 as ist_2021
import network_students.ist_2023_24 as ist_2023
import network_students.transfer as transfer
import pytest
from graded import one_row

from hw_check import sheets
from hw_check.sheets import NAMES
from hw_check.submission import find
from hw_common.runs.errors import UserError

FC = "def fc_forward(x, w, b):\n    return x.reshape(len(x), -1) @ w + b, (x, w, b)\n"
COUNT = ist_2023.CNN[ist_2023.CNN.index("def get_number") :]
# For each sheet: a file, a small right answer, the row that it gives, and the function in it that gets bad code.
PARTS = {
    "eecs545-w20-hw4": ("layers.py", FC, "fc_forward", "def fc_forward(x, w, b):"),
    "eecs545-w20-hw4-q5": ("transfer_learning.py", transfer.TRAIN, "train_model", "num_epochs=25):"),
    "ist-2021-22-hw2": ("hw2-q2.py", ist_2021.CNN, "train_batch", "optimizer, criterion, **kwargs):"),
    "ist-2023-24-hw2": ("hw2-q2.py", COUNT, "get_number_trainable_params", "_params(model):"),
    "convnets-2024-a2": ("assignment2.py", convnets.LINEAR, "myLinear", "    def forward(self, x):"),
    "dsl-2019-hw3": ("hw3-q1.py", dsl.CNN, "CNN", "    def forward(self, x, **kwargs):"),
}
NETWORKS = [name for name in NAMES if name != "eecs545-w20-hw4"]
SHEETS = pytest.mark.parametrize("sheet", NAMES)
is_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have fewer limits")


def test_all_sheets_have_a_part():
    assert PARTS.keys() == set(NAMES)


def row_of(tmp_path, sheet, change=lambda text: text, name=None, seconds=20.0):
    """The row of a sheet's part after a change of its text."""
    file, text, function, _ = PARTS[sheet]
    text = change(text)
    (tmp_path / (name or file)).write_bytes(text if isinstance(text, bytes) else text.encode())
    return one_row(sheet, tmp_path, function, seconds)


def with_code(sheet, code):
    """The part with `code` at the beginning of a function."""
    _, text, _, head = PARTS[sheet]
    indent = head[: len(head) - len(head.lstrip())]
    return text.replace(head, f"{head}\n{indent}    exec({code!r}, {{}})")


IN_A_FUNCTION = {
    "while True: pass": "takes longer than 0.5 s: an endless loop?",
    "input('name?')": "raises EOFError",
    "import os; os._exit(0)": "ends the process with status 0",
    "import sys; sys.exit(1)": "calls sys.exit",
    "raise KeyboardInterrupt": "raises KeyboardInterrupt",
    "import os; os.fork()": "does not allow starting processes",
    "import subprocess; subprocess.run(['ls'])": "does not allow starting processes",
    "import ctypes; ctypes.string_at(0)": "crashes (SIGSEGV)",
    "import os; os.kill(os.getpid(), 9)": "closes the checker's own pipe, or the system kills it",
    "import threading as t; [t.Thread(target=t.Event().wait).start() for _ in range(99)]": "can't start new thread",
    "import numpy; numpy.ones((10**6, 10**6))": "needs more than 2 GB of memory",
    "open('/tmp/elsewhere', 'w')": "does not allow opening elsewhere",
    "import os; os.symlink('/etc/passwd', '/tmp/elsewhere')": "does not allow changing files elsewhere",
    "f = lambda: f(); globals().update(f=f); f()": "raises RecursionError",
    "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})": "raises Odd",
    "raise ValueError('\\x1b[2J\\n' * 999)": "raises ValueError",
}


@is_linux
@SHEETS
@pytest.mark.parametrize("code", IN_A_FUNCTION)
def test_bad_code_in_a_function_costs_its_points_and_is_named(tmp_path, sheet, code):
    row = row_of(tmp_path, sheet, lambda _: with_code(sheet, code), seconds=0.5 if "while" in code else 20.0)
    assert row.status in ("failed", "partly") and row.points < row.of  # the layers in the constructor keep their points
    assert IN_A_FUNCTION[code] in row.hint and row.hint.isprintable() and len(row.hint) < 500


@SHEETS
def test_thousands_of_printed_lines_do_no_harm(tmp_path, sheet):
    code = "import sys; [print('x' * 999) or sys.stderr.write('y' * 999) for _ in range(999)]"
    assert row_of(tmp_path, sheet, lambda _: f"{code}\n{with_code(sheet, code)}").status == "passed"


AT_THE_END = {
    "while True: pass": "takes longer than 0.5 s",
    "name = input()": "raises EOFError",
    "import os; os._exit(0)": "ends the process with status 0",
    "exit()": "raises NameError",
    "data = open('/home/student/data.npz')": "does not allow opening data.npz",
    "x = bytearray(10**12)": "needs more than 2 GB of memory",
    "!pip install something": "raises SyntaxError",
    "import argparse; argparse.ArgumentParser().add_argument('x').parse_args()": "raises",
}


@is_linux
@SHEETS
@pytest.mark.parametrize("code", AT_THE_END)
def test_script_that_cannot_be_imported_is_tested_without_its_code_outside_of_functions(tmp_path, sheet, code):
    row = row_of(tmp_path, sheet, lambda text: f"{text}\n{code}\n", seconds=0.5 if "while" in code else 20.0)
    assert row.status == "passed"
    assert "tested without the code outside of classes and functions" in row.remarks[-1]
    assert AT_THE_END[code] in row.remarks[-1]


IN_FRONT = {
    "missing packages": "import no_such_package.sub as p\nfrom seaborn2 import heatmap\np.use('Agg')\n",
    "warnings": "import warnings\nwarnings.simplefilter('error')\n",
    "another folder": "import os\nos.makedirs('out', exist_ok=True)\nos.chdir('out')\n",
    "own file": "open('log.txt', 'w').write('started')\n",
    "a long sum": f"total = {' + '.join(['1'] * 2000)}\n",
}


@SHEETS
@pytest.mark.parametrize("kind", IN_FRONT)
def test_harmless_code_costs_nothing(tmp_path, sheet, kind):
    assert row_of(tmp_path, sheet, lambda text: IN_FRONT[kind] + text).status == "passed"


GPU = """\
import torch
device = torch.device('cuda:0')
torch.cuda.set_device(0)
x = torch.zeros(3, device=device).cuda()
y = torch.cuda.FloatTensor(2, 3).to('mps')
net = torch.nn.Linear(2, 2, device='cuda').cuda().to(device)
torch.cuda.synchronize()
torch.cuda.empty_cache()
"""


@pytest.mark.parametrize("sheet", NETWORKS)
def test_code_for_gpus_runs_on_the_cpu(tmp_path, sheet):
    row = row_of(tmp_path, sheet, lambda text: GPU + text)
    assert row.status == "passed" and not row.remarks


@pytest.mark.parametrize("sheet", NETWORKS)
@pytest.mark.parametrize("name", ["my.solution (1).py", "copy.py", "torch.py", "ü.py"])
def test_file_may_have_any_name(tmp_path, sheet, name):
    row = row_of(tmp_path, sheet, name=name)
    assert (row.status, row.file) == ("passed", name)


@SHEETS
@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_file_may_have_another_encoding(tmp_path, sheet, encoding):
    head = "" if encoding == "utf-8-sig" else "# -*- coding: latin-1 -*-\n"
    row = row_of(tmp_path, sheet, lambda text: f"{head}# é\n{text}\n1 / 0\n".encode(encoding))
    assert row.status == "passed" and "raises ZeroDivisionError" in row.remarks[-1]


@SHEETS
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", ""),
        (lambda text: "é".encode("latin-1") + text.encode(), "raises SyntaxError"),
        (lambda text: text + "\0", "raises "),
        (lambda text: text.replace("def ", "def (", 1), "raises SyntaxError"),
    ],
    ids=["empty", "not UTF-8", "a zero byte", "syntax"],
)
def test_broken_file_is_named(tmp_path, sheet, change, says):
    row = row_of(tmp_path, sheet, change)
    assert row.points == 0 and row.status in ("failed", "missing") and says in row.hint


@pytest.mark.parametrize("sheet", NETWORKS)
def test_broken_file_of_another_name_is_named(tmp_path, sheet):
    row = row_of(tmp_path, sheet, lambda text: text + "\ndef broken(:\n", name="mine.py")
    assert row.status == "missing" and "cannot be parsed: mine.py, line " in row.hint


@SHEETS
def test_folder_or_link_in_place_of_a_file_is_missing(tmp_path, sheet):
    file, text, function, _ = PARTS[sheet]
    student = tmp_path / "student"
    (student / file).mkdir(parents=True)
    (student / file / "inner.txt").write_text("")
    (student / "a.py").write_text("")
    (tmp_path / "elsewhere.py").write_text(text)
    os.symlink(tmp_path / "elsewhere.py", student / "link.py")
    os.symlink(tmp_path, student / "up")
    if sheet == NAMES[0]:
        (student / "softmax.py").write_text("")
    assert one_row(sheet, student, function).status == "missing"


@SHEETS
def test_empty_folder_and_packed_archive_are_one_line(tmp_path, sheet):
    graded = sheets.sheet(sheet)
    with pytest.raises(UserError, match="holds no"):
        find(tmp_path, graded.files, graded.anywhere)
    (tmp_path / "HW4.ZIP").touch()
    with pytest.raises(UserError, match="; unpack HW4.ZIP first$"):
        find(tmp_path, graded.files, graded.anywhere)


CELLS = [
    "%matplotlib inline\nimport torch",
    "%%time\nx = !ls\ntorch?",
    "train(forever",
    "while True: pass",
    "if torch.cuda.is_available():\n    device = 'cuda'\nelse:\n    device = 'cpu'",
    "name = input()",
]


@pytest.mark.parametrize("sheet", NETWORKS)
def test_notebook_is_read_without_running_its_training(tmp_path, sheet):
    cells = [*CELLS[:2], PARTS[sheet][1], *CELLS[2:]]
    notebook = {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
    text = json.dumps(notebook).encode("utf-8-sig")
    row = row_of(tmp_path, sheet, lambda _: text, name="a notebook.ipynb")
    assert row.status == "passed"


@pytest.mark.parametrize("sheet", NETWORKS)
@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cells": 1}', '{"cells": [{"cell_type": "code", "source": 5}]}', "[" * 10**5],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_broken_notebook_is_missing(tmp_path, sheet, text):
    assert row_of(tmp_path, sheet, lambda _: text, name="a.ipynb").status == "missing"


@pytest.mark.parametrize("sheet", NETWORKS)
def test_broken_cell_with_the_class_is_named(tmp_path, sheet):
    cells = [{"cell_type": "code", "source": cell} for cell in ("import torch", PARTS[sheet][1] + "\ndef (:")]
    row = row_of(tmp_path, sheet, lambda _: json.dumps({"cells": cells}), name="a.ipynb")
    assert row.status == "missing" and "cannot be parsed: a.ipynb, code cell 2, line " in row.hint


@pytest.mark.parametrize("sheet", NETWORKS)
def test_second_file_with_the_class_is_named(tmp_path, sheet):
    file, text, _, _ = PARTS[sheet]
    (tmp_path / "old.py").write_text(text)
    row = row_of(tmp_path, sheet)
    assert (row.status, row.file) == ("passed", file)
    assert row.remarks[0].endswith(" is also defined in old.py, but not graded there")


@pytest.mark.parametrize("sheet", NETWORKS)
def test_data_and_links_leave_room_for_the_code(tmp_path, sheet):
    (tmp_path / "a data set").mkdir()
    for number in range(1100):
        (tmp_path / "a data set" / f"{number}.txt").touch()
    (tmp_path / "to root").symlink_to("/")
    (tmp_path / "z").mkdir()
    assert row_of(tmp_path, sheet, name=f"z/{PARTS[sheet][0]}").status == "passed"


@pytest.mark.parametrize("sheet", NETWORKS)
def test_error_in_a_notebook_is_reported_with_its_cell(tmp_path, sheet):
    cells = ["%matplotlib inline", "train(forever", "import torch\n\n" + with_code(sheet, "1 / 0").lstrip()]
    text = json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]})
    row = row_of(tmp_path, sheet, lambda _: text, name="a.ipynb")
    line = next(i for i, line in enumerate(cells[2].split("\n"), 1) if "1 / 0" in line)
    assert row.file == "a.ipynb" and f"(a.ipynb, code cell 3, line {line})" in row.hint


@is_linux
@pytest.mark.parametrize("sheet", NETWORKS)
def test_tensor_that_fills_the_memory_is_named(tmp_path, sheet):
    code = "import torch; torch.ones(10**6, 10**6)"
    assert "needs more than 2 GB of memory" in row_of(tmp_path, sheet, lambda _: with_code(sheet, code)).hint


OTHER_SIGNATURES = {  # sheet: the text, the row, and names in it that a student may choose
    "ist-2021-22-hw2": (ist_2021.CNN, "CNN", {"dropout_prob": "p"}),
    "ist-2023-24-hw2": (ist_2023.CNN, "CNN(no_maxpool=True)", {"dropout_prob": "p", "no_maxpool=False": "no_maxpool"}),
    "convnets-2024-a2": (convnets.LINEAR, "myLinear", {"in_features": "size_in", "out_features": "size_out"}),
    "dsl-2019-hw3": (dsl.CNN, "CNN", {"n_classes": "letters"}),
}


@pytest.mark.parametrize("sheet", OTHER_SIGNATURES)
def test_constructor_may_name_its_arguments_otherwise(tmp_path, sheet):
    text, function, names = OTHER_SIGNATURES[sheet]
    for old, new in names.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mine.py").write_text(text)
    row = one_row(sheet, tmp_path, function)
    assert (row.status, row.hint) == ("passed", "") and "ignores" not in " ".join(row.remarks)


@SHEETS
def test_function_with_one_more_argument_is_named(tmp_path, sheet):
    head = PARTS[sheet][3]
    more = re.sub(r"(, \*\*kwargs|=25)?\):$", ", more):", head)
    row = row_of(tmp_path, sheet, lambda text: text.replace(head, more))
    assert row.points < row.of and "raises TypeError" in row.hint and "'more'" in row.hint
