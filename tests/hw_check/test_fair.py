"""hw_check is fair: what is right in other words gets full points, and no mistake costs twice."""

from pathlib import Path

import pytest
from graded import all_rows, graded
from numpy_mistakes import STUDENT, Mistake, plant
from numpy_styles import STYLES

import hw_numpy
from hw_check.eecs545.functions import FILES, FUNCTIONS

OURS = Path(hw_numpy.__file__).parent
BY_NAME = {function.name: function for function in FUNCTIONS}


def test_every_function_of_ours_passes_without_remarks_and_says_what_was_tried():
    rows = graded(OURS, seed=5)
    assert rows.keys() == BY_NAME.keys()
    assert {row.status for row in rows.values()} == {"passed"}
    assert {(row.hint, row.remarks) for row in rows.values()} == {("", ())}
    assert {
        "ties",
        "2 × overlapping windows",
        "float32",
        "non-contiguous arrays",
        "large numbers",
        "one channel",
    } <= set(rows["max_pool_backward"].tried)
    assert {"masks that keep one step", "masks of 0 and 1"} <= set(rows["temporal_softmax_loss"].tried)
    assert all(row.error is not None and row.error < 1e-12 for row in rows.values())
    assert sum(row.points for row in rows.values()) == 73


@pytest.mark.parametrize("seed", [0, 1])
def test_good_student_gets_full_points_and_no_lines_about_lstms(tmp_path, seed):
    rows = all_rows(plant(tmp_path / "a student's files", [], FILES), seed)
    assert [(row.function, row.hint) for row in rows if row.status != "passed" or row.hint] == []
    assert sum(row.points for row in rows) == 73
    assert not [row.function for row in rows if "lstm" in row.function]


def test_lstm_is_missing_if_only_the_course_s_constructor_knows_it(tmp_path):
    only_rnn = 'if cell_type != "rnn":\n            raise NotImplementedError'
    course = 'if cell_type not in {"rnn", "lstm"}:\n            raise ValueError\n        self.cell_type = cell_type'
    folder = plant(tmp_path / "student", [Mistake("CaptioningRNN.loss", "rnn.py", only_rnn, course, ())], FILES)
    assert not [row.function for row in all_rows(folder) if "lstm" in row.function]
    text, called = (folder / "rnn.py").read_text(), "= rnn_forward("
    assert called in text
    mistaken = "= (rnn_forward if self.cell_type != 'lstm' else rnn_forward)("  # a mistake of the student's, in an LSTM
    (folder / "rnn.py").write_text(text.replace(called, mistaken))
    rows = {row.function: row for row in all_rows(folder)}
    assert rows["CaptioningRNN.loss"].status == "passed" and rows["CaptioningRNN.loss (lstm)"].status == "failed"


def test_points_are_those_of_the_sheet():
    points = {}
    for function in FUNCTIONS:
        points[function.question] = points.get(function.question, 0) + function.points
    assert (points["1a"], points["1b"], points["1c"]) == (9, 5, 11)
    for question in "234":  # of 20 points; 4 are for training
        assert sum(value for name, value in points.items() if name.startswith(question)) == 16
    assert points[""] == 0
    given = {function.name for function in FUNCTIONS if not function.points}
    assert {"rnn_step_backward", "rnn_forward", "word_embedding_backward", "lstm_forward"} <= given


# Right in other words


def compatible(styles):
    """Groups of styles of one file that define different functions, so that one folder tests several styles."""
    left = list(styles)
    while left:
        group: list = []
        for style in left:
            taken = set().union(*(other.functions for other in group))
            if style.file == (group or [style])[0].file and not taken & style.functions:
                group.append(style)
        yield group
        left = [style for style in left if style not in group]


def test_there_are_many_styles():
    assert len(STYLES) >= 25 and len({style.name for style in STYLES}) == len(STYLES)


@pytest.mark.parametrize("group", list(compatible(STYLES)), ids=lambda group: group[0].name[:40])
def test_right_in_other_words_is_right(tmp_path, group):
    file = group[0].file
    for name in {"layers.py", "rnn_layers.py", file} if file != "layers.py" else {file}:
        (tmp_path / name).write_text((STUDENT / name).read_text())
    with open(tmp_path / file, "a") as appended:
        appended.writelines("\n" + style.code for style in group)
    rows = [row for row in all_rows(tmp_path, seed=len(group[0].name)) if row.file == file]
    assert [(row.function, row.status, row.hint) for row in rows if row.status != "passed" or row.hint] == []


REMARKS = {
    "single precision is lost": (
        Mistake("conv_forward", "layers.py", "W - WW + 1), dtype=x.dtype)", "W - WW + 1))", ("float32 should stay",)),
        Mistake("max_pool_backward", "layers.py", "dx = np.zeros_like(x)\n    for n in range(dout.shape[0])",
                "dx = np.zeros(x.shape)\n    for n in range(dout.shape[0])", ("float32 should stay float32",)),
        Mistake("fc_backward", "layers.py", "db = np.sum(dout, axis=0)", "db = np.sum(dout, axis=0, keepdims=True)",
                ("db: has an additional axis of length 1",)),
    ),
    "single precision is not asked for": (
        Mistake("fc_forward", "layers.py", "out = x.dot(w) + b", "out = (x.dot(w) + b).astype(np.float32)",
                ("single precision only",)),
        Mistake("ConvNet.__init__", "cnn.py", "value.astype(dtype)", "value", ("float32 should stay float32",)),
        Mistake("relu_backward", "layers.py", "dx = dout * (x >= 0)", "dout[x < 0] = 0\n    dx = dout",
                ("changes dout in place: work on a copy (costs nothing)",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", REMARKS.values(), ids=REMARKS)
def test_unasked_for_precision_is_a_remark_that_costs_nothing(tmp_path, planted):
    rows = graded(plant(tmp_path, planted, ["layers.py"]))
    assert {row.status for row in rows.values()} == {"passed"}
    for mistake in planted:
        assert any(mistake.hint[0] in remark for remark in rows[mistake.function].remarks)


# No mistake costs twice


def test_mistake_in_a_layer_costs_nothing_in_the_networks(tmp_path):
    planted = [
        Mistake("fc_backward", "layers.py", "db = np.sum(dout, axis=0)", "db = np.sum(dout, axis=1)", ()),
        Mistake("rnn_step_backward", "rnn_layers.py", "da = dnext_h * (1 - next_h**2)", "da = dnext_h", ()),
    ]
    rows = graded(plant(tmp_path, planted, FILES))
    assert {row.function for row in rows.values() if row.of and row.status != "passed"} == {"fc_backward"}
    assert rows["SoftmaxClassifier.loss"].points == 6
    assert (
        "tested with our layers.py, because it fails with the student's own"
        in rows["SoftmaxClassifier.loss"].remarks[0]
    )
    assert rows["rnn_step_backward"].status == "failed"
    assert sum(row.points for row in rows.values()) == 73 - 2


_GRADIENTS = "        return loss, grads\n"
_LAST = "dhidden = relu_backward(dactive2, relu_cache2)"
_LOSS = "loss, dscores = softmax_loss(scores, y)"
_WRONG_GRADIENTS = {
    "W2's gradient": (_GRADIENTS, f'        grads["W2"] = 3 * grads["W2"] + p["W2"]\n{_GRADIENTS}', 1),
    "ReLU without dout": (_LAST, "dhidden = (relu_cache2 > 0) * 1.0", 3),
    "1 not subtracted": (_LOSS, f"{_LOSS}\n        dscores[np.arange(len(y)), y] += 1 / len(y)", 5),
    "wrong sign": (_LOSS, f"{_LOSS}\n        dscores = -dscores", 5),
    "average": (_GRADIENTS, f'        grads["b2"] = grads["b2"] / len(X)\n{_GRADIENTS}', 1),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("old", "new", "count"), _WRONG_GRADIENTS.values(), ids=_WRONG_GRADIENTS)
def test_wrong_gradient_of_a_network_costs_neither_its_scores_nor_its_loss(tmp_path, old, new, count, seed):
    row = graded(plant(tmp_path, [Mistake("ConvNet.loss", "cnn.py", old, new, ())], ["layers.py"]), seed)[
        "ConvNet.loss"
    ]
    assert row.points == pytest.approx(4 * (7 - count) / 7, abs=0.01)
    assert "scores" not in row.hint


def test_networks_are_tested_with_our_layers_where_there_are_none(tmp_path):
    rows = graded(plant(tmp_path, [], ["cnn.py"]))
    assert rows["ConvNet.loss"].points == 4
    assert "No module named 'layers'" in rows["ConvNet.loss"].remarks[0]


@pytest.mark.parametrize(
    ("helper", "points"),
    [
        ("def flat(x):\n    return x.reshape(len(x), -1)", 4),  # right, and calls no function of the sheet
        ("def flat(x):\n    fc_forward(np.eye(2), np.eye(2), np.zeros(2))\n    return x.reshape(len(x), -1)", 4),
        ("first_forward = fc_forward\nfc_forward = None\ndef flat(x):\n    raise ValueError('wrong')", 0),
    ],
    ids=["alone", "calls ours", "wrong"],
)
def test_networks_keep_the_students_own_helpers_when_they_are_tested_with_our_layers(tmp_path, helper, points):
    planted = [
        Mistake(
            "fc_backward", "layers.py", "", f"{helper}\n\n\ndef fc_backward(dout, cache):\n    raise ValueError", ()
        ),
        Mistake("ConvNet.loss", "cnn.py", "pooled.reshape(len(X), -1)", "layers.flat(pooled)", ()),
        Mistake("ConvNet.loss", "cnn.py", "import numpy as np", "import layers\nimport numpy as np", ()),
    ]
    row = graded(plant(tmp_path, planted))["ConvNet.loss"]
    assert row.points == points
    start = "helpers in layers.py (flat) cannot be replaced by ours: a"
    told = [remark for remark in row.remarks if remark.startswith(start)]
    assert bool(told) == (points < 4)


def test_networks_are_tested_with_our_layers_where_the_students_never_end(tmp_path):
    endless = Mistake("fc_forward", "layers.py", "", "while True:\n    pass", ())
    row = graded(plant(tmp_path, [endless], ["cnn.py"]), seconds=0.5)["ConvNet.loss"]
    assert row.points == 4


BROKEN = "def conv_forward(x, w):\n    raise RuntimeError('no time')"
DICTIONARY = """
def conv_forward(x, w):
    out = np.zeros((len(x), len(w), x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1))
    return out, {"x": x, "w": w}
before = conv_backward
def conv_backward(dout, cache):
    return before(dout, (cache["x"], cache["w"]))
"""


@pytest.mark.parametrize("code", [BROKEN, "del conv_forward", DICTIONARY], ids=["raises", "missing", "dictionary"])
def test_backward_function_is_right_even_if_its_forward_function_is_wrong(tmp_path, code):
    rows = graded(plant(tmp_path, [Mistake("conv_forward", "layers.py", "", code, ())]))
    assert (rows["conv_forward"].status, rows["conv_forward"].points) in [("failed", 0), ("missing", 0)]
    assert (rows["conv_backward"].status, rows["conv_backward"].points) == ("passed", 7)
    assert {row.status for name, row in rows.items() if not name.startswith("conv")} == {"passed"}


def test_gradient_of_a_wrong_function_is_right_for_it(tmp_path):
    flipped = "w[f][:, ::-1, ::-1]"
    planted = [
        Mistake("conv_forward", "layers.py", "dot(w.reshape(F, -1).T)", "dot(w[:, :, ::-1, ::-1].reshape(F, -1).T)",
                ()),
        Mistake("conv_backward", "layers.py", "+= w[f] *", f"+= {flipped} *", ()),
        Mistake("conv_backward", "layers.py", "    return dx, dw\n\n\ndef max", "    dw = dw[:, :, ::-1, ::-1]\n"
                "    return dx, dw\n\n\ndef max", ()),
    ]  # fmt: skip
    rows = graded(plant(tmp_path, planted))
    assert rows["conv_forward"].status == "failed"
    assert (rows["conv_backward"].status, rows["conv_backward"].points) == ("passed", 7)
    assert rows["conv_backward"].hint == "right for the student's own conv_forward, which is itself wrong"


SQUARE_ONLY = """
def conv_forward(x, w):
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    out = np.zeros((N, F, H - HH + 1, H - HH + 1))
    for i in range(H - HH + 1):
        for j in range(H - HH + 1):
            out[:, :, i, j] = np.tensordot(x[:, :, i:i + HH, j:j + HH], w, ((1, 2, 3), (1, 2, 3)))
    return out, (x, w)
"""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_for_squares_only_costs_a_part_and_is_said(tmp_path, seed):
    rows = graded(plant(tmp_path, [Mistake("conv_forward", "layers.py", "", SQUARE_ONLY, ())]), seed)
    row = rows["conv_forward"]
    assert (row.status, row.points) == ("partly", 2)
    assert "right for square images and kernels; wrong only with images that are not square" in row.hint
    assert rows["conv_backward"].status == "passed"


def test_state_kept_outside_the_cache_is_found(tmp_path):
    (tmp_path / "layers.py").write_text(
        "import numpy as np\n"
        "def relu_forward(x):\n    global last\n    last = x\n    return np.maximum(x, 0), None\n"
        "def relu_backward(dout, cache):\n    return dout * (last > 0)\n"
    )
    rows = graded(tmp_path)
    assert rows["relu_forward"].status == "passed"
    assert rows["relu_backward"].status == "failed"
