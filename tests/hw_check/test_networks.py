"""hw_check for networks in PyTorch: good students in two styles, and what public solutions get wrong."""

import contextlib
import functools
import importlib
import json

import numpy as np
import pytest
from graded import rows_of, sandbox

from hw_check import __main__ as check
from hw_check.networks import observe
from hw_check.networks.measuring import measured_ratio
from hw_check.sandbox import Sandbox
from hw_check.sheets import NAMES

MODULES = {
    "eecs545-w20-hw4-q5": "transfer",
    "ist-2021-22-hw2": "ist_2021_22",
    "ist-2023-24-hw2": "ist_2023_24",
    "convnets-2024-a2": "convnets_2024",
    "dsl-2019-hw3": "dsl_2019",
}
STUDENTS = {name: importlib.import_module(f"network_students.{module}") for name, module in MODULES.items()}


@pytest.fixture
def shared_sandbox(monkeypatch):
    """The command, too, takes the sandbox of all tests, because a new one takes more than a second."""
    monkeypatch.setattr("hw_check.sandbox.Sandbox", lambda *how: contextlib.nullcontext(sandbox(*how)))


def graded(name, folder, files, seed=0, names=None):
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return {row.function: row for row in rows_of(name, folder, seed, names=names)}


GOOD = [(name, number) for name, module in STUDENTS.items() for number in range(len(module.GOOD))]
MISTAKES = [(name, *mistake) for name, module in STUDENTS.items() for mistake in module.MISTAKES]


@pytest.mark.parametrize(("name", "number"), GOOD)
def test_good_students_get_full_points(tmp_path, name, number):
    rows = graded(name, tmp_path, STUDENTS[name].GOOD[number], seed=number)
    assert [(row.function, row.hint) for row in rows.values() if row.status != "passed"] == []
    assert len(rows) >= 2


def test_weights_are_arrays_even_if_a_parameter_is_a_single_number():
    weights = observe.drawn([(), (3,), (2, 3)], seed=1)
    assert [(type(array), array.dtype, array.shape) for array in weights] == [
        (np.ndarray, np.float32, shape) for shape in ((), (3,), (2, 3))
    ]


def test_all_sheets_are_tested():
    assert {"eecs545-w20-hw4", *MODULES} == set(NAMES)


@pytest.mark.parametrize("name", STUDENTS)
def test_every_sheet_has_two_good_students_and_ten_mistakes(name):
    assert len(STUDENTS[name].GOOD) >= 2 and len(STUDENTS[name].MISTAKES) >= 10


@pytest.mark.parametrize(
    ("name", "function", "text", "old", "new", "hint"), MISTAKES, ids=[f"{m[0]}-{m[1]}-{m[5][:30]}" for m in MISTAKES]
)
def test_mistakes_are_found_and_named_and_nobody_else_is_blamed(tmp_path, name, function, text, old, new, hint):
    assert text.count(old) >= 1
    rows = graded(name, tmp_path, {"handed in.py": text.replace(old, new)}, seed=len(hint))
    assert rows[function].points < rows[function].of or rows[function].of == 0 and rows[function].status != "passed"
    assert hint in rows[function].hint
    assert {row.status for row in rows.values() if row.function != function} <= {"passed", "missing"}


CNN = "ist-2021-22-hw2"


def test_class_may_have_another_name(tmp_path):
    text = STUDENTS[CNN].CNN.replace("class CNN", "class Net").replace("super(CNN", "super(Net")
    assert graded(CNN, tmp_path, {"a.py": text})["CNN"].status == "missing"
    assert graded(CNN, tmp_path, {"a.py": text}, names={"CNN": "a.py:Net"})["CNN"].status == "passed"


def test_missing_class_names_no_file_and_the_advice_works_in_a_shell(tmp_path, capsys, shared_sandbox):
    (tmp_path / "a.py").write_text(STUDENTS["dsl-2019-hw3"].BILSTM)
    assert check.main(["dsl-2019-hw3", str(tmp_path), "--json"]) == 1
    missing = json.loads(capsys.readouterr().out)["functions"][-1]
    assert missing["file"] == "" and '--class "BILSTM with a convolution=FILE.py:NAME"' in missing["hint"]
    assert check.main(["dsl-2019-hw3", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "\nin no file\n" in output and "hw3-q2-3.py" not in output


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("", "the class has no argument for the probability of dropout, which is 0.4"),
        (", n_classes=10", "the class has no argument for the probability of dropout, which is 0.4"),
        (", dropout_prob", "ignores its argument: dropout always has the probability 0.4"),
        (", p", "ignores its argument: dropout always has the probability 0.4"),
    ],
)
def test_only_a_class_with_an_argument_can_ignore_it(tmp_path, argument, says):
    text = STUDENTS[CNN].CNN.replace(", dropout_prob", argument).replace("(dropout_prob)", "(0.4)")
    row = graded(CNN, tmp_path, {"a.py": text})["CNN"]
    assert row.status == "passed" and row.remarks == (says,)


@pytest.mark.parametrize(
    ("old", "new", "points", "says"),
    [
        ("", "", 0.1, ""),
        ("        net(x)  # warm-up\n", "", 0.07, "the networks are not run before the clock is first read"),
        ("perf_counter", "time", 0.1, "measures with time.time()"),
        ("time.perf_counter()", "timeit.timeit(lambda: net(x))", 0.1, ""),
        ("        torch.cuda.synchronize()\n", "", 0.07, "the GPU is not waited for"),
        ("t_own / t_default", "t_default / t_own", 0.05, "the ratio is default / own"),
    ],
    ids=["good", "no warm-up", "poor clock", "timeit", "no synchronization", "inverted"],
)
def test_measurement_of_time_is_judged(tmp_path, old, new, points, says):
    text = STUDENTS["convnets-2024-a2"].LAYERS_AS_ARGUMENTS.replace(old, new)
    (tmp_path / "own.py").write_text(
        f"{text}\ndef train(loss):\n    return loss.item()  # waits, but not where time is measured\n"
    )
    row = measured_ratio(tmp_path)
    assert (row.of, row.points) == (0.1, points) and says in " ".join((row.hint, *row.remarks))


def test_loop_that_runs_the_network_before_a_loop_with_clocks_is_a_warm_up(tmp_path):
    text = """
def seconds(net, x):
    for _ in range(5):
        net(x)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        net(x)
        times.append(time.perf_counter() - start)
    return sum(times) / len(times)
"""
    (tmp_path / "own.py").write_text(text)
    assert measured_ratio(tmp_path).status == "passed"
    (tmp_path / "own.py").write_text(text.replace("    for _ in range(5):\n        net(x)\n", ""))
    assert "are not run before the clock is first read" in measured_ratio(tmp_path).hint


@pytest.mark.parametrize("line", ["from models.decoder import Decoder", "from .decoder import Decoder"])
@pytest.mark.parametrize("above", ["", "src/"])
def test_files_in_folders_import_from_their_package(tmp_path, line, above):
    own = "class Mine(Decoder):\n    pass\n"
    files = {"decoder.py": STUDENTS[CNN].DECODER, "mine.py": f"{line}\n{own}"}
    folder = {f"{above}models/{name}": text for name, text in files.items()}
    rows = graded(CNN, tmp_path, folder, names={"Decoder": f"{above}models/mine.py:Mine"})
    assert rows["Decoder"].status == "passed"


def test_options_may_be_passed_on_to_a_base_class(tmp_path):
    text = STUDENTS[CNN].DECODER.replace("class Decoder(", "class Base(").replace("super(Decoder, self)", "super()")
    text += "class Decoder(Base):\n    def __init__(self, **kwargs):\n        super().__init__(**kwargs)\n"
    assert graded(CNN, tmp_path, {"a.py": text})["Decoder"].status == "passed"


@pytest.mark.parametrize(
    "settings",
    [
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    p: float = 0.4\ncfg = Config()",
        "from types import SimpleNamespace\ncfg = SimpleNamespace(p=0.4)",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--p', default=0.4)\n"
        "cfg = parser.parse_args()",
    ],
    ids=["dataclass", "namespace", "argparse"],
)
def test_settings_of_a_script_that_needs_data_are_kept(tmp_path, settings):
    own = STUDENTS[CNN].CNN.replace("def __init__(self, dropout_prob)", "def __init__(self, dropout_prob=cfg.p)")
    assert own != STUDENTS[CNN].CNN
    row = graded(CNN, tmp_path, {"a.py": f"{settings}\n{own}\nopen('data.npz')\n"})["CNN"]
    assert row.status == "passed" and "tested without the code outside" in row.remarks[-1]


def test_the_pretrained_network_may_be_made_in_another_file(tmp_path):
    sheet = "eecs545-w20-hw4-q5"
    text = STUDENTS[sheet].ALL
    assert "models.resnet18(pretrained=True)" in text
    files = {
        "transfer_learning.py": "from helper import load\n"
        + text.replace("torchvision.models.resnet18(pretrained=True)", "load()").replace(
            "models.resnet18(pretrained=True)", "load()"
        ),
        "helper.py": "from torchvision.models import resnet18\ndef load(): return resnet18(weights='DEFAULT')\n",
    }
    assert {row.status for row in graded(sheet, tmp_path, files).values()} == {"passed"}


def test_the_layers_of_a_text_decoder_may_be_made_in_another_order(tmp_path):
    sheet = "ist-2023-24-hw2"
    line = "        self._rnn_norm = torch.nn.LayerNorm(hidden_dim)\n"
    last = "        self._classifier = torch.nn.Linear(hidden_dim, freq_dim)\n"
    text = STUDENTS[sheet].RECURRENT
    assert line in text and text.count(last) == 1
    moved = text.replace(line, "").replace(last, last + line)
    assert graded(sheet, tmp_path, {"a.py": moved})["TextDecoderRecurrent"].status == "passed"


def test_of_two_classes_with_one_name_the_last_counts(tmp_path):
    net = STUDENTS["convnets-2024-a2"].NET
    broken = net.replace("128, 64)", "128, 84)")
    assert graded("convnets-2024-a2", tmp_path, {"a.py": broken + net})["network"].status == "passed"


NOTEBOOK = [
    "%matplotlib inline\nimport torch",
    "device = torch.device('cuda')\nwide = {'a': 28}['a']",
    "1 / 0",
    STUDENTS[CNN].CNN.replace("x.view(", "x.to(device).view(").replace("28, 28", "wide, wide"),
    "train(forever",
]


def test_notebook_is_read_without_running_its_training(tmp_path, capsys, shared_sandbox):
    cells = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in NOTEBOOK]
    notebook = tmp_path / "a student.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    assert check.main([CNN, str(notebook)]) == 1
    output = capsys.readouterr().out
    assert str(notebook) in output and "12 / 12" in output
    notebook.write_text(notebook.read_text().replace("CNN", "Net"))
    assert check.main([CNN, str(notebook), "--class", "CNN=a student.ipynb:Net"]) == 1
    assert "12 / 12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says", "remark"),
    [
        ("class CNN(:", "importing the file raises SyntaxError", ""),
        ("class CNN: pass\nwhile True: pass", "", "importing the file takes longer than"),
        (
            "import torch\nclass CNN(torch.nn.Module):\n    def forward(self, x): return x\ninput()",
            "",
            "raises EOFError",
        ),
        ("import utils, no_such\nclass CNN(utils.Base): pass", "the class must inherit from nn.Module", ""),
        ("class CNN:\n    def __init__(self, **k): raise NotImplementedError", "not written yet", ""),
    ],
    ids=["syntax", "loop", "input", "missing package", "stub"],
)
def test_bad_files_cost_their_points_and_nothing_else(tmp_path, text, says, remark, monkeypatch):
    monkeypatch.setattr("hw_check.sandbox.Sandbox.run_file", functools.partialmethod(_quickly, Sandbox.run_file))
    row = graded(CNN, tmp_path, {"hw2-q2.py": text})["CNN"]
    assert row.points == 0 and says in row.hint and remark in " ".join(row.remarks)


@pytest.mark.parametrize(
    ("result", "says"), [("None", "returns NoneType, expected a tensor"), ("x.mean() * float('nan')", "returns NaN")]
)
def test_network_without_a_usable_result_gets_its_layers_points_alone(tmp_path, result, says):
    text = STUDENTS["ist-2023-24-hw2"].CNN.replace("return F.log_softmax(x, dim=1)", f"return {result}")
    rows = graded("ist-2023-24-hw2", tmp_path, {"cnn.py": text})
    for row in (rows["CNN"], rows["CNN(no_maxpool=True)"]):
        assert says in row.hint and row.points < row.of


@pytest.mark.parametrize("end", ["while True: pass", "open('/data.npz')", "import sys; sys.exit(1)", "!pip install x"])
def test_scripts_that_train_are_tested_without_their_training(tmp_path, end, monkeypatch):
    monkeypatch.setattr("hw_check.sandbox.Sandbox.run_file", functools.partialmethod(_quickly, Sandbox.run_file))
    count = (
        "def get_number_trainable_params(model): return sum(p.numel() for p in model.parameters() if p.requires_grad)"
    )
    row = graded("ist-2023-24-hw2", tmp_path, {"train.py": f"{count}\n{end}\n"})["get_number_trainable_params"]
    assert row.status == "passed" and "tested without the code outside of classes" in row.remarks[-1]


def _quickly(self, run_file, path, jobs, seconds, ours=None, root=None):
    return run_file(self, path, jobs, 2.0, ours, root)
