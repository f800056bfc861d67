"""hw_check finds mistakes on shapes drawn from any seed, names them, and blames nobody else."""

import time

import numpy_mistakes as mistakes
import pytest
from graded import graded
from numpy_mistakes import Mistake, plant, rounds

from hw_check.eecs545.functions import FUNCTIONS

BY_NAME = {function.name: function for function in FUNCTIONS}


def kinds(planted):
    """Yields groups of mistakes: those that would disturb one another are in different groups."""
    chains = [m for m in planted if m.function in ("rnn_forward", "rnn_backward")]  # they call the functions of a step
    forward = [m for m in planted if m.function.endswith("forward") and m not in chains]
    for group in (forward, chains, [m for m in planted if m not in forward and m not in chains]):
        yield from rounds(group)


def names(group):
    return f"{group[0].file}-{group[0].function}-{group[0].hint[0][:30]}"


def assert_found(row, mistake):
    assert row.status in ("partly", "failed", "missing"), mistake
    for part in mistake.hint:
        assert part in " ".join((row.hint, *row.remarks))
    if row.of and mistake.share is not None:
        assert row.points == pytest.approx(mistake.share * row.of, abs=0.01)


PLANTED = [
    group
    for planted in (mistakes.LAYERS, mistakes.RNN_FORWARD, mistakes.RNN_BACKWARD, mistakes.NETWORKS)
    for group in kinds(planted)
]


def test_there_are_many_mistakes():
    assert len({mistake for group in PLANTED for mistake in group}) > 90


@pytest.mark.parametrize(
    ("seed", "group"), list(enumerate(PLANTED)), ids=lambda v: "" if isinstance(v, int) else names(v)
)
def test_planted_mistakes_are_found_and_named_and_nobody_else_is_blamed(tmp_path, seed, group):
    rows = graded(plant(tmp_path, group), seed)
    guilty = {mistake.function: mistake for mistake in group}
    for name, row in rows.items():
        if name in guilty:
            assert_found(row, guilty[name])
        elif row.of:
            assert (row.status, row.points) == ("passed", row.of)


@pytest.mark.parametrize("seed", [1, 2])
def test_function_that_raises_an_error_for_most_shapes_is_not_called_right_for_them(tmp_path, seed):
    mistake = Mistake("fc_backward", "layers.py", "dx = dout.dot(w.T)", "dx = dout.dot(w)", ())
    hint = graded(plant(tmp_path, [mistake]), seed)["fc_backward"].hint
    assert hint.startswith("dx: w is used where its transpose was meant; raises ValueError")


@pytest.mark.parametrize("group", [mistakes.DISASTERS, mistakes.MORE_DISASTERS], ids=["crashes", "others"])
def test_disaster_costs_one_function_and_not_the_report(tmp_path, group):
    started = time.monotonic()
    rows = graded(plant(tmp_path, group), seconds=1.0)
    assert time.monotonic() - started < 60
    for mistake in group:
        assert_found(rows[mistake.function], mistake)
    innocent = rows.keys() - {mistake.function for mistake in group}
    assert {rows[name].status for name in innocent} == {"passed"}


def test_disaster_in_a_forward_function_costs_its_backward_function_nothing(tmp_path):
    exits = Mistake("fc_forward", "layers.py", "", "def fc_forward(x, w, b):\n    import os\n    os._exit(7)", ())
    rows = graded(plant(tmp_path, [exits]))
    assert (rows["fc_forward"].status, rows["fc_forward"].hint) == ("failed", "ends the process with status 7")
    assert (rows["fc_backward"].status, rows["fc_backward"].points) == ("passed", 6)
    assert rows["relu_forward"].status == "passed"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def fc_forward(:", "importing the file raises SyntaxError"),
        ("import sys; sys.exit(0)", "importing the file calls sys.exit"),
        ("import os; os._exit(3)", "importing the file ends the process with status 3"),
        ("while True: pass", "importing the file takes longer than 0.5 s"),
        ("input()", "importing the file raises EOFError"),
        ("from hw_numpy.softmax import *", "importing the file raises ModuleNotFoundError: No module named 'hw_numpy"),
        ("class Evil(Exception):\n    def __str__(self): raise self\nraise Evil", "importing the file raises Evil"),
        ("raise ValueError('\\x1b[31m' + 'x' * 1000)", "importing the file raises ValueError:  [31mxxx"),
    ],
    ids=[
        "syntax",
        "exit",
        "hard exit",
        "loop",
        "input",
        "ours",
        "evil exception",
        "control characters",
    ],
)
def test_file_that_cannot_be_imported_fails_as_a_whole(tmp_path, text, says):
    (tmp_path / "softmax.py").write_text(text)
    rows = graded(tmp_path, seconds=0.5)
    for name in ("SoftmaxClassifier.__init__", "SoftmaxClassifier.loss"):
        assert rows[name].status == "failed"
        assert rows[name].hint.startswith(says)
        assert rows[name].hint.isprintable() and len(rows[name].hint) < 500


def test_missing_functions_are_named(tmp_path):
    (tmp_path / "layers.py").write_text(
        "def fc_backward(dout, cache): return dout, dout, dout\n"
        "def relu_forward(x): raise NotImplementedError\n"
        "def softmax_loss(x, y):\n    loss = dx = None\n    return loss, dx\n"
    )
    rows = graded(tmp_path)
    assert (rows["fc_forward"].status, rows["fc_forward"].hint) == ("missing", "fc_forward is not in layers.py")
    assert rows["fc_backward"].points == 0
    for name in ("relu_forward", "softmax_loss"):
        assert (rows[name].status, rows[name].hint, rows[name].points) == ("missing", "not written yet", 0)
    assert sum(row.points for row in rows.values()) == 0
