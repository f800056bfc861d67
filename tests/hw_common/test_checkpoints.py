"""Weights and training states: they are read back bit for bit, and other files are refused."""

import pickle

import pytest
import torch
from torch import nn

from hw_common.runs import checkpoints
from hw_common.runs.errors import UserError
from hw_common.training.pretrained import load_pretrained

WHOSE = {"homework": "hw_tiny", "network": "tiny"}


class Attack:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.folder),)


def test_weights_come_back_with_type_shape_and_bits(tmp_path):
    weights = {
        "a": torch.randn(2, 3).T,  # not contiguous
        "b": torch.randn(2).bfloat16(),
        "c": torch.tensor(3),
        "d": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    checkpoints.save_weights(tmp_path / "w", weights, WHOSE)
    loaded = checkpoints.load_weights(tmp_path / "w", WHOSE)
    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("name", ["猫", "caf\udce9", "a\u202fb"])
def test_weights_are_read_from_a_folder_of_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    path = tmp_path / name / f"{name}.safetensors"
    checkpoints.save_weights(path, {"a": torch.ones(1)}, WHOSE)
    assert checkpoints.load_weights(path, WHOSE) == {"a": torch.ones(1)}
    assert load_pretrained(str(path), tmp_path).tensors == {"a": torch.ones(1)}
    with pytest.raises(UserError, match="there is no such file"):
        checkpoints.load_weights(path.with_name("gone"), WHOSE)


def test_weights_of_something_else_are_refused(tmp_path):
    checkpoints.save_weights(tmp_path / "w", {"a": torch.ones(1)}, WHOSE)
    with pytest.raises(UserError, match="holds weights for network 'tiny', expected 'large'"):
        checkpoints.load_weights(tmp_path / "w", {**WHOSE, "network": "large"})
    checkpoints.save_weights(tmp_path / "w", {"a": torch.ones(1)}, {})
    with pytest.raises(UserError, match="holds weights for homework None"):
        checkpoints.load_weights(tmp_path / "w", WHOSE)


def test_damaged_weights_are_the_users_error(tmp_path):
    checkpoints.save_weights(tmp_path / "w", {"a": torch.ones(4)}, WHOSE)
    whole = (tmp_path / "w").read_bytes()
    pieces = [whole[:length] for length in range(0, len(whole), 9)]
    for data in [*pieces, whole + b"x", b"\xff" * 20, b"epoch,loss\n1,2\n", pickle.dumps({"a": 1})]:
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            checkpoints.load_weights(tmp_path / "w", WHOSE)


@pytest.mark.parametrize("load", [checkpoints.load_state, lambda path: checkpoints.load_weights(path, WHOSE)])
def test_what_is_missing_or_a_folder_is_the_users_error(tmp_path, load):
    for path in (tmp_path / "none", tmp_path, tmp_path / "none" / "deeper"):
        with pytest.raises(UserError, match="cannot read"):
            load(path)


def test_load_into_names_what_does_not_fit():
    model = nn.Linear(2, 3)
    weights = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    checkpoints.load_into(model, weights, "w")
    assert model.weight.eq(1).all() and model.bias.eq(1).all()
    for wrong, complaint in (
        ({**weights, "bias": torch.ones(3, dtype=torch.complex64)}, "bias holds complex numbers"),
        ({**weights, "bias": torch.ones(4)}, r"bias: \(4,\), expected \(3,\)"),
        ({"weight": weights["weight"]}, r"bias: missing, expected \(3,\)"),
        ({**weights, "more": torch.ones(1)}, r"more: \(1,\), expected none"),
        ({f"layer{i}": torch.ones(1) for i in range(4)}, "and 3 more"),
    ):
        with pytest.raises(UserError, match=complaint):
            checkpoints.load_into(model, wrong, "w")


def test_a_state_comes_back(tmp_path):
    state = {"epoch": 3, "best": -float("inf"), "rows": [{"loss": 0.1}], "name": "è", "python": (3, (1, 2), None)}
    checkpoints.save_state(tmp_path / "s", {**state, "weights": {"a": torch.arange(3)}})
    loaded = checkpoints.load_state(tmp_path / "s")
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(3))
    assert loaded == state


def test_equal_states_are_equal_files(tmp_path):
    for name in ("s", "t"):
        checkpoints.save_state(tmp_path / name, {"a": torch.ones(3), "b": [1, 2.5]})
    assert (tmp_path / "s").read_bytes() == (tmp_path / "t").read_bytes()


def test_a_state_cut_short_is_the_users_error(tmp_path):
    checkpoints.save_state(tmp_path / "s", {"a": torch.ones(3)})
    whole = (tmp_path / "s").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "s").write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            checkpoints.load_state(tmp_path / "s")


@pytest.mark.parametrize(
    "data", [b"hello", b"{}", b"epoch,loss\n1,2\n", b"<html>", b"PK\x03\x04", b"G", b"K", b"J", b"."]
)
def test_what_is_no_state_is_the_users_error(tmp_path, data):
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(UserError, match="damaged or not a training state"):
        checkpoints.load_state(tmp_path / "s")


def test_a_state_must_be_a_dictionary(tmp_path):
    torch.save([1, 2], tmp_path / "s")
    with pytest.raises(UserError, match="it contains a list"):
        checkpoints.load_state(tmp_path / "s")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_state_is_not_run(tmp_path, legacy):
    torch.save({"model": Attack(tmp_path / "attacked")}, tmp_path / "s", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="no code in it was run"):
        checkpoints.load_state(tmp_path / "s")
    assert not (tmp_path / "attacked").exists()
    torch.load(tmp_path / "s", weights_only=False)  # whereas it would have been
    assert (tmp_path / "attacked").exists()
