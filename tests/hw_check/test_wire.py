"""hw_check.wire: messages from a student's process are read without trust."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hw_check import wire
from hw_check.eecs545.functions import FUNCTIONS
from hw_check.eecs545.judge import judge
from hw_check.sandbox import Outcome

BY_NAME = {function.name: function for function in FUNCTIONS}

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


ODD_NAMES = "fc_backward softmax_loss rnn_backward SoftmaxClassifier.__init__ ConvNet.loss CaptioningRNN.sample".split()
TWO_CASES = {name: BY_NAME[name].spec.cases(name, np.random.default_rng(0))[:2] for name in ODD_NAMES}


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("reply", [{"returned": [], "params": np.zeros(2)}, {"returned": None, "params": 1}])
def test_odd_parameters_do_not_make_the_judge_fail(name, reply):
    assert judge(BY_NAME[name], TWO_CASES[name], Outcome(answers=[reply, {}])).status != "passed"


@settings(deadline=None, max_examples=40)
@given(data=st.data(), name=st.sampled_from(ODD_NAMES))
def test_no_answer_makes_the_judge_fail(data, name):
    replied = [data.draw(replies) for _ in TWO_CASES[name]]
    row = judge(BY_NAME[name], TWO_CASES[name], Outcome(answers=replied))
    assert row.status != "passed" and row.points < max(row.of, 1)


def test_the_judge_takes_right_answers():
    """Guards the test above: its answers are refused because of their content, not because of their form."""
    function, cases = BY_NAME["softmax_loss"], TWO_CASES["softmax_loss"]
    replied = [
        {"returned": list(case.right.values()), "after": [array for _, array in function.spec.sent(case)]}
        for case in cases
    ]
    assert judge(function, cases, Outcome(answers=replied)).status == "passed"
