"""The training loop: its metrics and checkpoints, its errors, and the same bits after an interruption."""

import csv
import math
import os
import signal
import sys
import threading

import pytest
import tiny
import torch

from hw_common.commands import cli
from hw_common.runs import checkpoints
from hw_common.runs.errors import Stopped, UserError
from hw_common.runs.run_folder import BEST, LAST, METRICS
from hw_common.training import precision, updates
from hw_common.training.saving import StateWriter

INT, TERM = signal.SIGINT, signal.SIGTERM


def at_call(number, function, happens):
    """Wraps `function`; its call `number` first calls `happens(arguments)`, whose result may replace its own."""
    calls = iter(range(1, sys.maxsize))

    def counting(*arguments):
        if next(calls) != number:
            return function(*arguments)
        replaced = happens(*arguments)
        return function(*arguments) if replaced is None else replaced

    return counting


def weights(model):
    return tiny.plain(model.state_dict())


def scores(*values):
    """An `evaluate` that returns one value after another."""
    left = iter(values)
    return lambda model: {"validation_score": next(left)}


# What it reports and keeps


def test_the_training_loss_is_the_mean_over_the_examples_of_the_epoch(tmp_path):
    seen = []

    def loss(model, batch):
        result = tiny.loss(model, batch)
        seen.append((result[0].item(), result[1], result[2]["accuracy"].item()))
        return result

    _, fitted = tiny.train(loss_function=loss, epochs=1)
    assert [count for _, count, _ in seen] == [5, 5, 5, 3]
    [row] = fitted.rows
    assert row["training_loss"] == pytest.approx(sum(mean * count for mean, count, _ in seen) / 18, rel=1e-12)
    assert row["training_accuracy"] == sum(correct for _, _, correct in seen) / 18


def test_metrics_csv_has_a_row_for_each_epoch(tmp_path):
    run = tiny.new_run(tmp_path)
    _, fitted = tiny.train(run)
    assert [row["epoch"] for row in fitted.rows] == [1, 2, 3]
    with open(run.folder / METRICS, newline="") as file:
        read = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    assert read == fitted.rows
    names = ["epoch", "training_loss", "training_accuracy", "validation_loss", "validation_score", "seconds"]
    assert list(read[0]) == names
    assert read[2]["training_loss"] < read[0]["training_loss"]


def test_the_earliest_of_the_best_epochs_is_kept(tmp_path):
    run = tiny.new_run(tmp_path)
    model, fitted = tiny.train(run, evaluate=scores(1.0, 3.0, 3.0))
    after_two, _ = tiny.train(epochs=2, evaluate=scores(1.0, 3.0))
    assert fitted.best_epoch == 2
    assert tiny.plain(fitted.best_weights) == weights(after_two) != weights(model)
    assert tiny.plain(checkpoints.load_weights(run.folder / BEST, tiny.METADATA)) == weights(after_two)
    assert tiny.plain(checkpoints.load_state(run.folder / LAST)["model"]) == weights(model)


def test_evaluation_is_in_eval_mode_without_gradients_and_training_is_not():
    modes = []

    def evaluate(model):
        modes.append(("evaluation", model.training, torch.is_inference_mode_enabled()))
        return tiny.evaluate(model)

    def loss(model, batch):
        modes.append(("training", model.training, torch.is_inference_mode_enabled()))
        return tiny.loss(model, batch)

    tiny.train(evaluate=evaluate, loss_function=loss, epochs=2)
    assert modes == 2 * [*tiny.STEPS * [("training", True, False)], ("evaluation", False, True)]


def test_the_forward_pass_starts_without_the_gradients_of_the_step_before():
    seen = []

    def loss(model, batch):
        seen.append([parameter.grad for parameter in model.parameters()])
        return tiny.loss(model, batch)

    model, _ = tiny.train(loss_function=loss, epochs=1)
    assert len(seen) == 4 and {gradient for gradients in seen for gradient in gradients} == {None}
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_a_run_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.train()
    assert list(tmp_path.iterdir()) == []


def test_the_gradient_is_clipped():
    def step(**settings):
        start, _ = tiny.train(epochs=0)
        end, _ = tiny.train(epochs=1, count=tiny.BATCH, lr=1.0, **settings)  # one step: the gradient
        before, after = (torch.nn.utils.parameters_to_vector(model.parameters()) for model in (start, end))
        return before - after

    whole = step()
    assert whole.norm() > 0.1
    assert step(clip_norm=0.01).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(step(clip_norm=100.0), whole)
    assert torch.allclose(step(clip_value=0.01), whole.clamp(-0.01, 0.01), atol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_scheduler_steps_after_every_step(tmp_path, epochs):
    run = tiny.new_run(tmp_path)
    tiny.train(run, scheduled=True, epochs=epochs)
    [group] = checkpoints.load_state(run.folder / LAST)["optimizer"]["param_groups"]
    share = epochs * tiny.STEPS / (tiny.EPOCHS * tiny.STEPS)
    assert group["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi * share)) / 2)


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights(monkeypatch):
    monkeypatch.setattr(precision, "is_supported", lambda device: True)  # also on a CPU without bf16 instructions
    types = set()

    def loss(model, batch):
        types.add(model(batch[0]).dtype)
        return tiny.loss(model, batch)

    model, fitted = tiny.train(precision="bf16", loss_function=loss)
    assert types == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert fitted.rows[-1]["training_loss"] < fitted.rows[0]["training_loss"]


@pytest.mark.parametrize("clipping", [{}, {"clip_value": 0.01}, {"clip_norm": 0.1}])
def test_plain_sgd_has_the_bits_of_the_optimizers_step(monkeypatch, clipping):
    ours, _ = tiny.train(optimizer="plain sgd", **clipping)
    monkeypatch.setattr(updates, "is_plain_sgd", lambda optimizer: False)
    assert weights(ours) == weights(tiny.train(optimizer="plain sgd", **clipping)[0])


SGD = torch.optim.SGD


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: SGD([p], 0.1), True),
        (lambda p: SGD([p], 0.1, fused=True), True),
        (lambda p: SGD([p], 0.1, momentum=0.9), False),
        (lambda p: SGD([p], 0.1, weight_decay=0.1), False),
        (lambda p: SGD([p], 0.1, maximize=True), False),
        (lambda p: SGD([{"params": [p]}, {"params": [p.clone()], "lr": 1.0}], 0.1), False),
        (lambda p: torch.optim.Adam([p], 0.1), False),
        (lambda p: type("MySGD", (SGD,), {})([p], 0.1), False),
    ],
)
def test_which_optimizers_are_plain_sgd(make, expected):
    assert updates.is_plain_sgd(make(torch.zeros(1))) is expected


# What it refuses


def infinite_loss(model, batch):
    loss, count, sums = tiny.loss(model, batch)
    return loss * math.inf, count, sums


def infinite_gradient(model, batch):
    loss, count, sums = tiny.loss(model, batch)
    return loss + (0 * model[0].weight).sqrt().sum(), count, sums  # 0, with slope 0 · ∞


@pytest.mark.parametrize("optimizer", ["plain sgd", "sgd"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize(("bad", "what"), [(infinite_loss, "loss"), (infinite_gradient, "gradient")])
def test_what_is_not_finite_stops_before_the_weights_change(tmp_path, bad, what, clip_norm, optimizer):
    run = tiny.new_run(tmp_path)
    models, before = [], []

    def happens(model, batch):
        models.append(model)
        before.append(weights(model))
        return bad(model, batch)

    with pytest.raises(UserError, match=f"the {what} is not finite at epoch 2, step 2; .* --lr 0.01$"):
        tiny.train(
            run, loss_function=at_call(tiny.STEPS + 2, tiny.loss, happens), clip_norm=clip_norm, optimizer=optimizer
        )
    assert weights(models[0]) == before[0]
    assert checkpoints.load_state(run.folder / LAST)["progress"]["epoch"] == 1


def test_a_validation_metric_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(UserError, match="^validation_score is not finite after epoch 2. Try a smaller --lr"):
        tiny.train(tiny.new_run(tmp_path), evaluate=scores(0.5, math.nan, 0.7), epochs=3)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    run = tiny.new_run(tmp_path)
    tiny.train(run, epochs=1)
    state = checkpoints.load_state(run.folder / LAST)
    for wrong in (
        {**state, "model": {"0.weight": torch.ones(1)}},
        {**state, "progress": {"epochs": 1}},
        {**state, "progress": {**state["progress"], "epoch": "0"}},
        {name: value for name, value in state.items() if name != "generators"},
        {},
    ):
        with pytest.raises(UserError, match="last.pt does not belong to this run"):
            tiny.train(run, wrong)


def test_tensorboard_that_is_not_installed_is_the_users_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        tiny.train(tiny.new_run(tmp_path), tensorboard=True)


# An interruption leaves no trace

SETTINGS = {
    "plain sgd": {"optimizer": "plain sgd"},
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam", "lr": 0.01, "scheduled": True},
}
PLACES = {
    "first step": ("loss", 1, "epoch 1, step 1 of 4"),
    "middle of an epoch": ("loss", 6, "epoch 2, step 2 of 4"),
    "border of epochs": ("loss", 4, "epoch 1, step 4 of 4"),
    "last step": ("loss", 12, "epoch 3, step 4 of 4"),
    "validation": ("validation", 2, "epoch 2, step 4 of 4"),
    "last validation": ("validation", 3, "epoch 3, step 4 of 4"),
    "save of the best weights": ("save_weights", 1, "epoch 1"),
    "save": ("save_state", 2, "epoch 2"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an uninterrupted run leaves, for each of SETTINGS."""
    ends = {}
    for name, settings in SETTINGS.items():
        run = tiny.new_run(tmp_path_factory.mktemp(name))
        tiny.train(run, **settings)
        ends[name] = tiny.outcome(run.folder)
    return ends


def interrupting(what, call, number, monkeypatch):
    """Settings for `tiny.train` with which a signal comes at a call of the loss, the validation or a save."""

    def send(*arguments):
        os.kill(os.getpid(), number)

    if what == "loss":
        return {"loss_function": at_call(call, tiny.loss, send)}
    if what == "validation":

        def send_in_the_middle(model):
            torch.rand(3)  # random numbers that an interrupted validation drew must be drawn again later
            send()

        return {"evaluate": at_call(call, tiny.evaluate, send_in_the_middle)}
    monkeypatch.setattr(checkpoints, what, at_call(call, getattr(checkpoints, what), send))
    return {}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("place", PLACES)
def test_a_run_interrupted_anywhere_ends_with_the_same_bits(tmp_path, monkeypatch, undisturbed, place, settings):
    what, call, said = PLACES[place]
    number = INT if settings == "sgd" else TERM
    run = tiny.new_run(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"^stopped after {said}; saved") as stopped:
        tiny.train(run, **SETTINGS[settings], **interrupting(what, call, number, patch))
    assert stopped.value.signal_number == number
    assert str(stopped.value).endswith(run.resume_command)
    run.close()
    tiny.resume(run.folder, **SETTINGS[settings])
    assert tiny.outcome(run.folder) == undisturbed[settings]


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_during_the_last_save_is_not_lost(tmp_path, monkeypatch, undisturbed, number):
    run = tiny.new_run(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        tiny.train(run, **interrupting("save_state", 3, number, patch))
    assert stopped.value.signal_number == number
    run.close()
    tiny.resume(run.folder)
    assert tiny.outcome(run.folder) == undisturbed["sgd"]


EVERY_STEP = 1e-9  # minutes


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_checkpoint_within_an_epoch_leads_to_the_same_bits(tmp_path, monkeypatch, undisturbed, settings):
    saved, save = [], checkpoints.save_state
    monkeypatch.setattr(
        checkpoints, "save_state", lambda path, state: (save(path, state), saved.append(path.read_bytes()))
    )
    run = tiny.new_run(tmp_path)
    tiny.train(run, **SETTINGS[settings], save_minutes=EVERY_STEP)
    run.close()
    assert tiny.outcome(run.folder) == undisturbed[settings]
    assert len(saved) == tiny.EPOCHS * (tiny.STEPS + 1)
    for content in saved[:: 4 if settings == "sgd" else 7]:
        (run.folder / LAST).write_bytes(content)
        tiny.resume(run.folder, **SETTINGS[settings])
        assert tiny.outcome(run.folder) == undisturbed[settings]


def test_no_checkpoint_within_a_short_epoch(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(checkpoints, "save_state", lambda path, state: calls.append(state["progress"]["step"]))
    tiny.train(tiny.new_run(tmp_path))
    assert calls == tiny.EPOCHS * [0]


def test_a_checkpoint_holds_the_state_of_its_step_while_the_training_continues(tmp_path, monkeypatch):
    may_write, save = threading.Event(), checkpoints.save_state
    monkeypatch.setattr(checkpoints, "save_state", lambda path, state: (may_write.wait(10), save(path, state)))
    state = {"weights": torch.zeros(3), "rows": [{"loss": 1.0}]}
    with StateWriter(tmp_path / LAST, EVERY_STEP) as writer:
        writer.save(lambda: state)
        state["weights"] += 1
        state["rows"][0]["loss"] = 2.0
        may_write.set()
    assert tiny.plain(checkpoints.load_state(tmp_path / LAST)) == tiny.plain(
        {"weights": torch.zeros(3), "rows": [{"loss": 1.0}]}
    )


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path, monkeypatch):
    def fail(path, state):
        raise UserError("the disk is full")

    monkeypatch.setattr(checkpoints, "save_state", at_call(3, checkpoints.save_state, fail))
    run = tiny.new_run(tmp_path)
    with pytest.raises(UserError, match="the disk is full"):
        tiny.train(run, save_minutes=EVERY_STEP)
    assert checkpoints.load_state(run.folder / LAST)["progress"]["step"] == 2


def test_a_run_interrupted_again_and_again_ends_with_the_same_bits(tmp_path, monkeypatch, undisturbed):
    run = tiny.new_run(tmp_path)
    run.close()
    for what, call in (("loss", 2), ("loss", 2), ("validation", 1), ("validation", 1), ("loss", 3)):
        with pytest.raises(Stopped):
            tiny.resume(run.folder, **interrupting(what, call, TERM, monkeypatch))
    assert [row["epoch"] for row in tiny.resume(run.folder).rows] == [1, 2, 3]
    assert tiny.outcome(run.folder) == undisturbed["sgd"]


def test_a_second_ctrl_c_quits_at_once_and_costs_no_more_than_the_epoch(tmp_path, undisturbed):
    def send_twice(*arguments):
        os.kill(os.getpid(), INT)
        os.kill(os.getpid(), INT)

    run = tiny.new_run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(run, loss_function=at_call(7, tiny.loss, send_twice))
    assert checkpoints.load_state(run.folder / LAST)["progress"]["epoch"] == 1
    run.close()
    tiny.resume(run.folder)
    assert tiny.outcome(run.folder) == undisturbed["sgd"]


def test_a_finished_run_taken_up_again_trains_no_more(tmp_path, undisturbed):
    run = tiny.new_run(tmp_path)
    _, fitted = tiny.train(run)
    run.close()
    again = tiny.resume(run.folder, loss_function=None)
    assert (again.rows, again.best_epoch, again.seconds) == (fitted.rows, fitted.best_epoch, fitted.seconds)
    assert tiny.plain(again.best_weights) == tiny.plain(fitted.best_weights)


@pytest.mark.parametrize(("number", "status"), [(INT, 130), (TERM, 143)])
def test_the_exit_status_names_the_signal(monkeypatch, capsys, number, status):
    handlers = [signal.getsignal(each) for each in (INT, TERM)]
    with pytest.raises(SystemExit) as ended:
        cli.run_command(lambda: tiny.train(**interrupting("loss", 2, number, monkeypatch)))
    assert ended.value.code == status
    assert capsys.readouterr().err.splitlines()[-1] == "stopped after epoch 1, step 2 of 4"
    assert [signal.getsignal(each) for each in (INT, TERM)] == handlers
