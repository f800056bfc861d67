"""hw_check: right files get full points; a mistake is named and costs points only in its own function."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy_mistakes as mistakes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy_mistakes import STUDENT, Mistake, plant, rounds

import hw_numpy
from hw_check import __main__ as check
from hw_check import wire
from hw_check.grading import grade
from hw_check.judge import judge
from hw_check.process import Outcome
from hw_check.sheet import FILES, FUNCTIONS
from hw_common.runs.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = Path(hw_numpy.__file__).parent
BY_NAME = {function.name: function for function in FUNCTIONS}


def graded(folder, seed=0, seconds=3.0):
    """The rows of the files that are there, by function."""
    return {row.function: row for row in grade(folder, seed, seconds) if (folder / row.file).exists()}


# Right files


def test_our_own_files_get_full_points(capsys):
    assert check.main([]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1].startswith("73 of 73 points")
    assert all(str(OURS / file) in output for file in FILES)


def test_every_function_of_ours_passes_without_remarks_and_says_what_was_tried():
    rows = graded(OURS, seed=5)
    assert rows.keys() == BY_NAME.keys()
    assert {row.status for row in rows.values()} == {"passed"}
    assert {row.hint for row in rows.values()} == {""}
    assert "centred differences" in rows["conv_backward"].tried
    assert {"ties", "2 × overlapping windows", "float32", "non-contiguous arrays"} <= set(
        rows["max_pool_backward"].tried
    )
    assert "masks of length one" in rows["temporal_softmax_loss"].tried
    assert all(row.error is not None and row.error < 1e-12 for row in rows.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_good_student_gets_full_points(tmp_path, seed):
    rows = graded(plant(tmp_path / "a student's files", [], FILES), seed)
    failing = {row.function: row.hint for row in rows.values() if row.of and (row.status != "passed" or row.hint)}
    assert failing == {}
    assert sum(row.points for row in rows.values()) == 73
    assert {row.function for row in rows.values() if row.status != "passed"} == {
        "lstm_step_forward", "lstm_step_backward", "lstm_forward", "lstm_backward",
        "CaptioningRNN.loss (lstm)", "CaptioningRNN.sample (lstm)",
    }  # fmt: skip


def test_points_are_those_of_the_sheet():
    points = {}
    for function in FUNCTIONS:
        points[function.question] = points.get(function.question, 0) + function.points
    assert (points["1a"], points["1b"], points["1c"]) == (9, 5, 11)
    for question in "234":  # of 20 points; 4 are for training
        assert sum(value for name, value in points.items() if name.startswith(question)) == 16
    assert points[""] == 0


# Planted mistakes


def kinds(planted):
    """Yields groups of mistakes, those in forward functions separately, because backward functions need them."""
    forward = [mistake for mistake in planted if mistake.function.endswith("forward")]
    yield from rounds(forward)
    yield from rounds([mistake for mistake in planted if mistake not in forward])


def names(group):
    return f"{group[0].file}-{group[0].function}-{group[0].hint[0][:30]}"


def assert_found(row, mistake):
    assert row.status in ("failed", "missing"), mistake
    for part in mistake.hint:
        assert part in row.hint
    assert row.points == mistake.share * row.of


PLANTED = [
    group
    for planted in (mistakes.LAYERS, mistakes.RNN_FORWARD, mistakes.RNN_BACKWARD, mistakes.NETWORKS)
    for group in kinds(planted)
]


def test_there_are_many_mistakes():
    assert len({mistake for group in PLANTED for mistake in group}) > 80


@pytest.mark.parametrize("group", PLANTED, ids=names)
def test_planted_mistakes_are_found_and_named_and_nobody_else_is_blamed(tmp_path, group):
    rows = graded(plant(tmp_path, group))
    guilty = {mistake.function: mistake for mistake in group}
    for name, row in rows.items():
        if name in guilty:
            assert_found(row, guilty[name])
        elif row.of:
            allowed = {"passed"} | ({"unclear"} if BY_NAME[name].needs in guilty else set())
            assert row.status in allowed, row


@pytest.mark.parametrize("group", [mistakes.DISASTERS, mistakes.MORE_DISASTERS], ids=["crashes", "others"])
def test_disaster_costs_one_function_and_not_the_report(tmp_path, group):
    started = time.monotonic()
    rows = graded(plant(tmp_path, group), seconds=2.0)
    assert time.monotonic() - started < 60
    for mistake in group:
        assert_found(rows[mistake.function], mistake)
    innocent = rows.keys() - {mistake.function for mistake in group}
    assert {rows[name].status for name in innocent} == {"passed"}


def test_disaster_in_a_forward_function_leaves_its_backward_function_untested(tmp_path):
    exits = Mistake("fc_forward", "layers.py", "", "def fc_forward(x, w, b):\n    import os\n    os._exit(7)", ())
    rows = graded(plant(tmp_path, [exits]))
    assert (rows["fc_forward"].status, rows["fc_forward"].hint) == ("failed", "ends the process with status 7")
    assert (rows["fc_backward"].status, rows["fc_backward"].hint) == ("unclear", "not tested: it needs fc_forward")
    assert rows["relu_forward"].status == "passed"


# What follows from a mistake


def test_one_mistake_is_not_punished_twice(tmp_path):
    planted = (mistakes.LAYERS[6], next(m for m in mistakes.RNN_BACKWARD if m.function == "rnn_step_backward"))
    rows = graded(plant(tmp_path, planted, FILES))
    assert {row.function for row in rows.values() if row.of and row.status != "passed"} == {
        "fc_backward",
        "rnn_step_backward",
    }
    assert rows["SoftmaxClassifier.loss"].points == 6
    assert rows["SoftmaxClassifier.loss"].hint.startswith("with our layers.py; with the student's own it fails: grad")
    assert rows["rnn_backward"].points == 2
    assert rows["rnn_backward"].hint.startswith("with our rnn_step_forward and rnn_step_backward; with the student's")
    assert rows["CaptioningRNN.loss"].status == "passed"
    assert sum(row.points for row in rows.values()) == 73 - 6 - 1


def test_networks_are_tested_with_our_layers_where_there_are_none(tmp_path):
    rows = graded(plant(tmp_path, [], ["cnn.py"]))
    assert rows["ConvNet.loss"].points == 4
    assert "No module named 'layers'" in rows["ConvNet.loss"].hint


def test_gradient_of_a_wrong_function_is_right_for_it(tmp_path):
    flipped = "w[f][:, ::-1, ::-1]"
    planted = [
        next(m for m in mistakes.LAYERS if m.function == "conv_forward" and "flipped" in m.hint[0]),
        Mistake("conv_backward", "layers.py", "+= w[f] *", f"+= {flipped} *", ()),
        Mistake("conv_backward", "layers.py", "    return dx, dw\n\n\ndef max", "    dw = dw[:, :, ::-1, ::-1]\n"
                "    return dx, dw\n\n\ndef max", ()),
    ]  # fmt: skip
    rows = graded(plant(tmp_path, planted))
    assert rows["conv_forward"].status == "failed"
    assert (rows["conv_backward"].status, rows["conv_backward"].points) == ("passed", 7)
    assert rows["conv_backward"].hint == "right for the student's own conv_forward, which is itself wrong"


def test_state_kept_outside_the_cache_is_found(tmp_path):
    (tmp_path / "layers.py").write_text(
        "import numpy as np\n"
        "def relu_forward(x):\n    global last\n    last = x\n    return np.maximum(x, 0), None\n"
        "def relu_backward(dout, cache):\n    return dout * (last > 0)\n"
    )
    rows = graded(tmp_path)
    assert rows["relu_forward"].status == "passed"
    assert rows["relu_backward"].status == "failed"


# Files that are not as they should be


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def fc_forward(:", "importing the file raises SyntaxError"),
        ("import sys; sys.exit(0)", "importing the file calls sys.exit"),
        ("import os; os._exit(3)", "importing the file ends the process with status 3"),
        ("while True: pass", "importing the file takes longer than 1 s"),
        ("import no_such_package", "importing the file raises ModuleNotFoundError: No module named 'no_such_package'"),
        ("from hw_numpy.softmax import *", "importing the file raises ModuleNotFoundError: No module named 'hw_numpy"),
        ("class Evil(Exception):\n    def __str__(self): raise self\nraise Evil", "importing the file raises Evil"),
        ("raise ValueError('\\x1b[31m' + 'x' * 1000)", "importing the file raises ValueError:  [31mxxx"),
    ],
    ids=["syntax", "exit", "hard exit", "loop", "missing package", "ours", "evil exception", "control characters"],
)
def test_file_that_cannot_be_imported_fails_as_a_whole(tmp_path, text, says):
    (tmp_path / "softmax.py").write_text(text)
    (tmp_path / "layers.py").write_bytes((STUDENT / "layers.py").read_bytes())
    started = time.monotonic()
    rows = {row.function: row for row in grade(tmp_path, 0, 1.0)}
    assert time.monotonic() - started < 60
    for name in ("SoftmaxClassifier.__init__", "SoftmaxClassifier.loss"):
        assert rows[name].status == "failed"
        assert rows[name].hint.startswith(says)
        assert rows[name].hint.isprintable() and len(rows[name].hint) < 400
    assert rows["fc_forward"].status == "passed"
    assert (rows["ConvNet.loss"].status, rows["ConvNet.loss"].hint) == ("missing", "cnn.py is not there")


def test_missing_functions_are_named(tmp_path):
    (tmp_path / "layers.py").write_text(
        "def fc_backward(dout, cache): return dout, dout, dout\n"
        "def relu_forward(x): raise NotImplementedError\n"
        "def softmax_loss(x, y):\n    loss = dx = None\n    return loss, dx\n"
    )
    rows = graded(tmp_path)
    assert (rows["fc_forward"].status, rows["fc_forward"].hint) == ("missing", "fc_forward is not in layers.py")
    assert (rows["fc_backward"].status, rows["fc_backward"].hint) == ("unclear", "fc_forward is not in layers.py")
    for name in ("relu_forward", "softmax_loss"):
        assert (rows[name].status, rows[name].hint, rows[name].points) == ("missing", "not written yet", 0)
    assert sum(row.points for row in rows.values()) == 0


# Isolation


def test_students_code_runs_elsewhere_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "of the teacher")
    seen = tmp_path / "seen"
    text = (STUDENT / "layers.py").read_text()
    (tmp_path / "layers.py").write_text(
        f"import os\nopen({str(seen)!r}, 'a').write(f'{{os.getpid()}} {{sorted(os.environ)}}\\n')\n"
        f"print('x' * 10**7)\n{text}"
    )
    rows = graded(tmp_path)
    assert {row.status for row in rows.values()} == {"passed"}
    pid, environment = seen.read_text().split(" ", 1)
    assert int(pid) != os.getpid()
    assert "A_SECRET" not in environment and "PYTHONPATH" not in environment
    assert {path.name for path in tmp_path.iterdir()} == {"layers.py", "seen"}


def test_processes_of_the_students_code_do_not_outlive_the_check(tmp_path):
    starts = (
        "\n\nimport os, subprocess\nbefore, started = relu_backward, []\n\n\ndef relu_backward(dout, cache):\n"
        "    if not started:\n        started.append(subprocess.Popen(['sleep', '1000']))\n"
        "        open('pid', 'w').write(str(started[0].pid))\n    return before(dout, cache)\n\n\n"
        "def conv_backward(dout, cache):\n    while True:\n        os.fork()\n"
    )
    (tmp_path / "layers.py").write_text((STUDENT / "layers.py").read_text() + starts)
    rows = graded(tmp_path, seconds=1.0)
    for name, row in rows.items():
        if name == "conv_backward":
            assert row.status == "failed"
        elif name != "relu_backward":
            assert row.status == "passed"
    if (tmp_path / "pid").exists():  # only root is allowed to start processes
        assert rows["relu_backward"].status == "passed"
        state = Path("/proc", (tmp_path / "pid").read_text(), "stat")
        deadline = time.monotonic() + 30
        while is_alive(state) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(state)
    else:
        assert rows["relu_backward"].hint.startswith("raises BlockingIOError")


def is_alive(state):
    try:
        return ") Z " not in state.read_text()
    except OSError:
        return False


values = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.builds(wire.Other, st.text(max_size=5)),
    arrays.arrays(
        st.sampled_from(["float64", "float32", "int64", "bool"]), arrays.array_shapes(min_dims=0, max_side=3)
    ),
)
answers = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["loss", "W1", "b1", "x"]), inner),
    max_leaves=8,
)
replies = st.fixed_dictionaries({}, optional=dict.fromkeys(("returned", "params", "after", "moved"), answers)) | (
    st.fixed_dictionaries({"raised": answers}, optional=dict.fromkeys(("message", "where", "stage"), answers))
)


@settings(deadline=None, max_examples=30)
@given(answer=answers)
def test_messages_come_out_as_they_went_in(answer):
    def plain(value):
        if isinstance(value, np.ndarray):
            return value.dtype.name, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    assert plain(wire.decode(wire.encode(answer))) == plain(answer)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damaged_messages_are_refused_or_harmless(data):
    message = bytearray(wire.encode({"returned": [np.arange(6.0).reshape(2, 3), None], "after": []}))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.decode(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except ValueError:
        pass


@pytest.mark.parametrize(
    "header",
    [
        '["array", "float64", [1000000000000]]',
        '["array", "float64", [-1]]',
        '["array", "object", [1]]',
        '["array", "float64", [1e9]]',
        '["array", "float64", 3]',
        '["array"]',
        "[" * 100_000,
        '["dict", 1]',
        "{}",
        "not JSON",
    ],
    ids=["huge", "negative", "objects", "no integer", "no list", "nothing", "deep", "no dictionary", "no tag", "text"],
)
def test_lying_messages_are_refused(header):
    with pytest.raises(ValueError):
        wire.decode(len(header).to_bytes(8, "big") + header.encode() + bytes(64))


@functools.cache
def two_cases(name):
    return BY_NAME[name].spec.cases(name, np.random.default_rng(0))[:2]


ODD_NAMES = "fc_backward softmax_loss rnn_backward SoftmaxClassifier.__init__ ConvNet.loss CaptioningRNN.sample".split()


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(ODD_NAMES))
def test_no_answer_makes_the_judge_fail(data, name):
    function, cases = BY_NAME[name], two_cases(name)
    replied = [data.draw(replies) for _ in cases]
    row = judge(function, cases, Outcome(answers=replied), data.draw(st.booleans()))
    assert row.status != "passed" and row.points == 0


def test_the_judge_takes_right_answers():
    """Guards the test above: its answers are refused because of their content, not because of their form."""
    function, cases = BY_NAME["softmax_loss"], two_cases("softmax_loss")
    replied = [
        {"returned": list(case.right.values()), "after": [array for _, array in function.spec.sent(case)]}
        for case in cases
    ]
    assert judge(function, cases, Outcome(answers=replied), True).status == "passed"


# The command


def test_json_holds_everything(tmp_path, capsys):
    plant(tmp_path, [mistakes.LAYERS[0], mistakes.LAYERS[4]])
    assert check.main([str(tmp_path), "--json", "--seed", "3"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["seed"], report["of"], report["complete"]) == (3, 73, False)
    assert report["points"] == sum(f["points"] for f in report["functions"]) == 43 - 3 - 6
    functions = {f["function"]: f for f in report["functions"]}
    assert functions["fc_forward"].keys() == {
        "function", "file", "question", "points", "of", "status", "tried", "error", "hint"
    }  # fmt: skip
    assert functions["fc_forward"]["status"] == "failed" and functions["ConvNet.loss"]["status"] == "missing"


def test_same_seed_same_report(tmp_path, capsys):
    plant(tmp_path, mistakes.LAYERS[:1])
    reports = []
    for seed in (1, 1, 2):
        check.main([str(tmp_path), "--json", "--seed", str(seed)])
        reports.append(capsys.readouterr().out)
    assert reports[0] == reports[1] != reports[2]


def test_table_names_the_mistake(tmp_path, capsys):
    assert check.main([str(plant(tmp_path, mistakes.LAYERS[:1]))]) == 1
    output = capsys.readouterr().out
    [line] = [line for line in output.splitlines() if line.startswith("1a  fc_forward")]
    assert "0 / 3" in line and "FAILED out: the bias b is not added" in line
    assert max(map(len, output.splitlines())) <= max(120, len(str(tmp_path)) + 12)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "holds none of layers.py, softmax.py"),
        (["--seconds", "0"], "--seconds: expected a number above 0, got '0'"),
        (["--seed", "-1"], "--seed: expected a whole number"),
        ([".", "too", "many"], "too many"),
        (["--points", "1"], "--points"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check.main(argv)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "folder", "status"),
    [("hw_check", "nowhere", 2), ("hw_check", "a student", 1), ("hw_numpy.check", "a student", 1)],
)
def test_exit_status_of_the_real_command_from_another_folder(tmp_path, command, folder, status):
    (tmp_path / "a student").mkdir()
    (tmp_path / "a student" / "softmax.py").write_text("")
    finished = subprocess.run(
        [sys.executable, "-m", command, folder],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == status
    assert len(finished.stderr.splitlines()) == (1 if status == 2 else 0)
    assert ("0 of 73 points" in finished.stdout) == (status == 1)


def test_help_is_answered_before_numpy_is_imported():
    code = "import sys\nfrom hw_check import __main__ as c\n"
    code += "try: c.main(['--help'])\nexcept SystemExit: sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.DEVNULL).returncode == 0
