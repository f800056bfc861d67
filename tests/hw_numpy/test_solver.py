"""The NumPy networks against torch and finite differences, and the solver that trains them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_numpy import arrays
from hw_numpy.cnn import ConvNet
from hw_numpy.gradient_check import eval_numerical_gradient
from hw_numpy.softmax import SoftmaxClassifier
from hw_numpy.solver import UPDATE_RULES, Solver

quick = settings(deadline=None, max_examples=20)
small = st.integers(1, 4)


def tiny_cnn(dtype=np.float64, seed=0):
    return ConvNet((2, 6, 5), 3, 2, 4, 3, weight_scale=0.3, dtype=dtype, seed=seed)


def tiny_softmax(dtype=np.float64, seed=0):
    return SoftmaxClassifier(60, 4, 3, weight_scale=0.3, dtype=dtype, seed=seed)


def images(count, seed=0):
    """Images of three classes that differ in their brightness."""
    y = np.arange(count) % 3
    X = np.random.default_rng(seed).standard_normal((count, 2, 6, 5)) + (y - 1)[:, None, None, None]
    return X, y


def make_solver(model=None, train=11, **settings):
    (X_train, y_train), (X_val, y_val) = images(train), images(6, seed=1)
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    defaults = {"optim_config": {"learning_rate": 0.05}, "batch_size": 4, "num_epochs": 3, "verbose": False, "seed": 5}
    return Solver(model or tiny_cnn(), data, **{**defaults, **settings})


def outcome(solver):
    """The whole state of a solver after training, as values that compare with ==."""
    return {name: (value.dtype, value.shape, value.tobytes()) for name, value in solver.state().items()}


# Networks


@quick
@given(
    count=small, channels=small, filters=small, size=st.integers(1, 3), sides=st.tuples(*[st.integers(4, 7)] * 2),
    hidden=small, classes=small, seed=st.integers(0, 1000),
)  # fmt: skip
def test_cnn_equals_torchs(count, channels, filters, size, sides, hidden, classes, seed):
    """Conv, ReLU, 2×2 pool, fc, ReLU, fc, softmax: loss and every gradient."""
    model = ConvNet((channels, *sides), filters, size, hidden, classes, weight_scale=0.3, dtype=np.float64, seed=seed)
    generator = np.random.default_rng(seed)
    X, y = generator.standard_normal((count, channels, *sides)), generator.integers(classes, size=count)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in model.params.items()}
    maps = F.max_pool2d(F.conv2d(torch.tensor(X), p["W1"]).relu(), 2).flatten(1)
    scores = (maps @ p["W2"] + p["b2"]).relu() @ p["W3"] + p["b3"]
    expected = F.cross_entropy(scores, torch.tensor(y))
    expected.backward()
    loss, gradients = model.loss(X, y)
    assert loss == pytest.approx(expected.item(), abs=1e-10)
    assert np.abs(model.loss(X) - scores.detach().numpy()).max() < 1e-10
    assert gradients.keys() == p.keys()
    for name, gradient in gradients.items():
        assert np.abs(gradient - p[name].grad.numpy()).max() < 1e-9, name


@quick
@given(count=small, inputs=small, hidden=small, classes=small, seed=st.integers(0, 1000))
def test_two_layer_network_equals_torchs(count, inputs, hidden, classes, seed):
    model = SoftmaxClassifier(inputs, hidden, classes, weight_scale=0.5, seed=seed)
    generator = np.random.default_rng(seed)
    X, y = generator.standard_normal((count, inputs)), generator.integers(classes, size=count)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in model.params.items()}
    scores = (torch.tensor(X) @ p["W1"] + p["b1"]).relu() @ p["W2"] + p["b2"]
    expected = F.cross_entropy(scores, torch.tensor(y))
    expected.backward()
    loss, gradients = model.loss(X, y)
    assert loss == pytest.approx(expected.item(), abs=1e-10)
    assert np.abs(model.loss(X) - scores.detach().numpy()).max() < 1e-10
    for name, gradient in gradients.items():
        assert np.abs(gradient - p[name].grad.numpy()).max() < 1e-9, name


@pytest.mark.parametrize("make", [tiny_cnn, tiny_softmax])
def test_gradients_equal_finite_differences(make):
    model, (X, y) = make(), images(3)
    _, gradients = model.loss(X, y)
    for name, gradient in gradients.items():
        expected = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name])
        assert np.abs(gradient - expected).max() < 1e-7, name


@pytest.mark.parametrize("make", [tiny_cnn, tiny_softmax])
def test_single_precision_and_bytes(make):
    X, y = images(3)
    X = np.abs(X * 50).astype(np.uint8)  # raw pixels
    model = make(np.float32)
    loss, gradients = model.loss(X, y)
    assert model.loss(X).dtype == np.float32
    assert {g.dtype for g in gradients.values()} == {p.dtype for p in model.params.values()} == {np.dtype(np.float32)}
    assert loss == pytest.approx(make().loss(X.astype(float), y)[0], rel=1e-5)


def test_the_sheets_sizes_and_initial_weights():
    model = ConvNet()
    assert {name: value.shape for name, value in model.params.items()} == {
        "W1": (32, 1, 7, 7), "W2": (32 * 11 * 11, 100), "b2": (100,), "W3": (100, 10), "b3": (10,),
    }  # fmt: skip
    other = SoftmaxClassifier()
    assert {name: value.shape for name, value in other.params.items()} == {
        "W1": (784, 100), "b1": (100,), "W2": (100, 10), "b2": (10,),
    }  # fmt: skip
    for weights in (model.params["W2"], other.params["W1"]):
        assert weights.std() == pytest.approx(1e-3, rel=0.02) and abs(weights.mean()) < 2e-5
    assert not model.params["b2"].any() and not other.params["b1"].any()
    assert model.params["W1"].dtype == np.float32 and other.params["W1"].dtype == np.float64


@pytest.mark.parametrize("make", [tiny_cnn, tiny_softmax])
def test_weights_come_from_the_seed_or_else_from_numpys_generator(make):
    assert np.array_equal(make(seed=3).params["W1"], make(seed=3).params["W1"])
    assert not np.array_equal(make(seed=3).params["W1"], make(seed=4).params["W1"])
    np.random.seed(1)
    first, second = make(seed=None).params["W1"], make(seed=None).params["W1"]
    np.random.seed(1)
    assert np.array_equal(first, make(seed=None).params["W1"]) and not np.array_equal(first, second)


def test_filters_that_leave_nothing_to_pool_are_refused():
    with pytest.raises(ValueError, match="filters of 6×6 leave nothing to pool in 6×9 images"):
        ConvNet((1, 6, 9), filter_size=6)


# Solver


@pytest.mark.parametrize("make", [tiny_cnn, tiny_softmax])
def test_a_solver_learns_and_keeps_the_best_parameters(make):
    solver = make_solver(make(), train=60, num_epochs=8)
    kept = []
    solver.train(lambda: kept.append({name: value.copy() for name, value in solver.model.params.items()}))
    assert len(solver.loss_history) == 8 * 15 and solver.loss_history[-1] < 0.5 * solver.loss_history[0]
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 8
    assert solver.best_val_acc == max(solver.val_acc_history) > 0.6
    best = solver.val_acc_history.index(solver.best_val_acc)
    for name, value in solver.model.params.items():
        assert np.array_equal(value, kept[best][name])
    assert solver.check_accuracy(solver.data["X_val"], solver.data["y_val"]) == solver.best_val_acc


def test_best_parameters_are_those_of_the_best_epoch_and_not_of_the_last(monkeypatch):
    solver = make_solver(num_epochs=3)
    accuracies = iter([0.1, 0.5, 0.1, 0.9, 0.1, 0.9])  # training and validation of each epoch; the last two are equal
    monkeypatch.setattr(solver, "check_accuracy", lambda *arguments: next(accuracies))
    kept = []
    solver.train(lambda: kept.append(solver.model.params["W1"]))
    assert solver.val_acc_history == [0.5, 0.9, 0.9] and solver.best_val_acc == 0.9
    assert np.array_equal(solver.model.params["W1"], kept[1]) and not np.array_equal(kept[1], kept[2])


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own():
    solver = make_solver()
    solver.data = {**solver.data, "X_train": np.arange(11)}
    epochs = []
    for solver.epoch in (0, 1, 0):
        epochs.append([X.tolist() for X, _ in solver.batches()])
        assert sorted(sum(epochs[-1], [])) == list(range(11))
    assert epochs[0] == epochs[2] != epochs[1]
    assert [len(batch) for batch in epochs[0]] == [4, 4, 3] and solver.steps_per_epoch() == 3
    other = make_solver(seed=6)
    other.data = solver.data
    assert [X.tolist() for X, _ in other.batches()] != epochs[0]


def test_epoch_losses_are_means_over_the_samples():
    solver = make_solver(num_epochs=2)
    solver.train()
    a, b, c, d, e, f = solver.loss_history
    assert solver.epoch_losses() == pytest.approx([(4 * a + 4 * b + 3 * c) / 11, (4 * d + 4 * e + 3 * f) / 11])
    assert make_solver().epoch_losses() == []


def test_accuracy_is_the_share_of_right_answers_in_any_batches():
    solver = make_solver()
    X, y = images(30)
    expected = float((solver.model.loss(X).argmax(axis=1) == y).mean())
    for batch_size in (1, 7, 30, 100):
        assert solver.check_accuracy(X, y, batch_size=batch_size) == pytest.approx(expected)
    parts = {solver.check_accuracy(X, y, num_samples=10) * 10 for solver.epoch in range(5)}
    assert all(part == pytest.approx(round(part)) for part in parts) and len(parts) > 1


def test_the_learning_rate_decays_after_each_epoch():
    solver = make_solver(lr_decay=0.5)
    solver.train()
    assert [config["learning_rate"] for config in solver.optim_configs.values()] == [0.05 / 8] * 5


@pytest.mark.parametrize("rule", UPDATE_RULES)
@pytest.mark.parametrize(("stop", "threads"), [(1, 1), (2, 2)])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, rule, stop, threads):
    def solver():
        config = {"learning_rate": 0.01}
        return make_solver(tiny_cnn(np.float32), update_rule=rule, lr_decay=0.9, optim_config=config, threads=threads)

    whole, first, second = solver(), solver(), solver()
    whole.train()

    def interrupt():
        if first.epoch == stop:
            arrays.save(tmp_path / "state", first.state(), {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.train(interrupt)
    second.load_state(arrays.load(tmp_path / "state", {}))
    assert outcome(second) == outcome(first)
    second.train()
    assert outcome(second) == outcome(whole)
    assert second.best_val_acc == whole.best_val_acc and second.loss_history == whole.loss_history


@pytest.mark.parametrize("threads", [2, 3, 9])
def test_slices_of_a_batch_add_up_to_the_batch(threads):
    """A batch of eleven samples is cut into slices of 6 and 5, of 4, 4 and 3, or of 2, 2, 2, 2, 2 and 1."""
    alone, together = make_solver(), make_solver(threads=threads)
    for solver in (alone, together):
        solver.step((solver.data["X_train"], solver.data["y_train"]))
    assert together.loss_history == pytest.approx(alone.loss_history, abs=1e-14)
    for name, value in together.model.params.items():
        assert np.abs(value - alone.model.params[name]).max() < 1e-14
    assert together.model.params["W2"].dtype == np.float64


def test_slices_keep_single_precision_and_their_errors():
    solver = make_solver(tiny_cnn(np.float32), threads=2)
    solver.train()
    assert {value.dtype for value in solver.model.params.values()} == {np.dtype(np.float32)}
    with pytest.raises(ValueError, match="has classes 0 to 2, y holds"):
        solver.step((solver.data["X_train"], solver.data["y_train"] + 1))


def test_a_state_of_another_network_is_refused():
    state = make_solver().state()
    with pytest.raises(ValueError, match=r"params/W1 is \(3, 2, 2, 2\) float64, expected \(3, 2, 2, 2\) float32"):
        make_solver(tiny_cnn(np.float32)).load_state(state)
    with pytest.raises(KeyError, match="params/b1"):
        make_solver(tiny_softmax()).load_state(state)
    with pytest.raises(ValueError, match=r"loss_history has the shape \(0,\), expected \(6,\)"):
        make_solver().load_state({**state, "epoch": np.array(2)})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(threads):
    solver = make_solver(tiny_softmax(), threads=threads)
    solver.model.params["b2"][0] = np.inf
    before = {name: value.copy() for name, value in solver.model.params.items()}
    with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, step 1; try a smaller learning rate"):
        solver.train()
    for name, value in solver.model.params.items():
        assert np.array_equal(value, before[name])


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(TypeError, match="num_epoch"):
        make_solver(num_epoch=3)
    with pytest.raises(ValueError, match="there is no update rule 'sdg', expected one of sgd, sgd_momentum, rmsprop"):
        make_solver(update_rule="sdg")


def test_wrong_data_are_refused():
    X, y = images(4)
    good = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}
    bad = X.copy()
    bad[1, 0, 2, 3] = np.nan
    for name, value, message in [
        ("X_train", X[:3], r"X_train of shape \(3, 2, 6, 5\) and y_train of shape \(4,\) do not fit together"),
        ("y_val", y[:, None], r"y_val of shape \(4, 1\) do not fit together"),
        ("X_val", bad, "X_val holds values that are not finite"),
        ("X_train", X * np.inf, "X_train holds values that are not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            Solver(tiny_cnn(), {**good, name: value})
    with pytest.raises(KeyError, match="X_val"):
        Solver(tiny_cnn(), {"X_train": X, "y_train": y})
    with pytest.raises(ValueError, match="has classes 0 to 2, y holds 1 to 7"):
        Solver(tiny_cnn(), {**good, "y_train": np.array([1, 7, 1, 1])}, verbose=False).train()


def test_a_verbose_solver_prints_losses_and_accuracies(capsys):
    make_solver(verbose=True, print_every=4).train()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(")")[0] for line in lines] == [
        "(step 1 of 9", "(epoch 1 of 3", "(step 5 of 9", "(epoch 2 of 3", "(step 9 of 9", "(epoch 3 of 3",
    ]  # fmt: skip
