"""The networks of hw_transfer against torchvision's, what freeze leaves alone, and the sheet's four functions."""

import math

import numpy as np
import pytest
import torch
import transfer_files
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import get_model, resnet18
from torchvision.transforms.functional import normalize

from hw_common.runs.errors import UserError
from hw_common.training.backbones import BACKBONES
from hw_common.training.batches import Batches
from hw_common.training.pretrained import Pretrained, load_pretrained
from hw_transfer import plots, transfer_learning
from hw_transfer.models import FrozenResNet18, ResNet18
from hw_transfer.presets import Recipe


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return Pretrained(tmp_path_factory.mktemp("weights") / "weights.pt", transfer_files.state_dict(), "")


def pictures(count, side=40, seed=0):
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def batches(count=4, **kwargs):
    return Batches((pictures(count), torch.arange(count) % 2), 2, **kwargs)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before, after):
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("build", [transfer_learning.finetune, transfer_learning.freeze])
def test_the_network_is_torchvisions_on_normalized_pictures(pretrained, build):
    model = build(pretrained, classes=3).eval()
    reference = resnet18(num_classes=3)
    reference.load_state_dict({**pretrained.tensors, **{f"fc.{n}": t for n, t in model.fc.state_dict().items()}})
    images = pictures(2, side=70)
    expected = normalize(images / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), reference.eval()(expected), atol=1e-5, rtol=1e-5)
        assert model.features(images).shape == (2, 512)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "squeezenet1_1", "densenet121"])
def test_other_networks_are_torchvisions_on_normalized_pictures(tmp_path, backbone):
    torch.manual_seed(4)
    theirs = get_model(backbone, num_classes=10)
    last = BACKBONES[backbone].last_layer
    weights = {f"module.{name}": tensor for name, tensor in transfer_files.uneven(theirs).items()}
    path = transfer_files.write_weights(tmp_path / "w.pt", weights)
    model = transfer_learning.freeze(load_pretrained(str(path), tmp_path, backbone), 3, backbone)
    reference = get_model(backbone, num_classes=3).eval()
    reference.load_state_dict(model.state_dict())
    assert changed(theirs.state_dict(), {**theirs.state_dict(), **bits(model)}) == {f"{last}.weight", f"{last}.bias"}
    images = pictures(2, side=64)
    expected = normalize(images / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), reference(expected), atol=1e-5, rtol=1e-5)
        features = transfer_learning.cache_features(model, Batches((images,), 2, shuffle=False))
        torch.testing.assert_close(model.head(features), model(images))
    before = bits(model)
    transfer_learning.train_model(model, batches(2), batches(2, shuffle=False), Recipe(epochs=1, lr=0.1))
    assert changed(before, bits(model)) == {f"{last}.weight", f"{last}.bias"}
    assert not [n for n, m in model.named_modules() if m.training and not n.startswith(f"network.{last.split('.')[0]}")]


def test_weights_of_another_backbone_are_refused(tmp_path, pretrained):
    path = transfer_files.write_weights(tmp_path / "resnet.pt", pretrained.tensors)
    with pytest.raises(UserError, match="do not fit this network"):
        transfer_learning.finetune(load_pretrained(str(path), tmp_path, "squeezenet1_1"), 2, "squeezenet1_1")


def test_parameters_of_two_classes():
    model, frozen = ResNet18(2), FrozenResNet18(2)
    assert sum(p.numel() for p in model.parameters()) == 11_177_538
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 11_177_538
    assert sum(p.numel() for p in frozen.parameters() if p.requires_grad) == 2 * 512 + 2


def test_a_new_last_layer_has_random_weights_that_follow_the_seed(pretrained):
    layers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        layers.append(transfer_learning.finetune(pretrained, classes=10).fc.weight)
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])
    assert not torch.equal(layers[0], pretrained.tensors["fc.weight"])  # the same shape, but not the old one


def test_freeze_changes_the_last_layer_and_no_other_bit(pretrained):
    model = transfer_learning.freeze(pretrained, classes=2)
    before = bits(model)
    transfer_learning.train_model(model, batches(), batches(shuffle=False), Recipe(epochs=2, lr=0.1, l2_decay=0.1))
    assert changed(before, bits(model)) == {"fc.weight", "fc.bias"}
    assert changed(pretrained.tensors, bits(model)) == {"fc.weight", "fc.bias"}


def test_finetune_changes_every_weight_and_statistic(pretrained):
    model = transfer_learning.finetune(pretrained, classes=2)
    before = bits(model)
    transfer_learning.train_model(model, batches(), batches(shuffle=False), Recipe(epochs=1, lr=0.1))
    assert changed(before, bits(model)) == set(before)


def test_freeze_stays_in_eval_mode_and_builds_no_graph_below_the_last_layer(pretrained):
    model = transfer_learning.freeze(pretrained, classes=2).train()
    assert model.fc.training
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    images = pictures(3)
    assert not model.features(images).requires_grad
    assert model(images).requires_grad
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone)  # in train mode a picture's scores would depend on its batch


def test_cached_features_train_the_last_layer_as_the_frozen_network_does(pretrained):
    recipe = Recipe(epochs=3, lr=0.05)
    results = []
    for cached in (False, True):
        torch.manual_seed(3)
        model = transfer_learning.freeze(pretrained, classes=2)
        data = [batches(seed=5), batches(shuffle=False)]
        if cached:
            features = transfer_learning.cache_features(model, data[0])
            data = [Batches((features, d.tensors[1]), 2, d.seed, shuffle=d.shuffle) for d in data]
        fitted = transfer_learning.train_model(model.fc if cached else model, *data, recipe)
        results.append(([row["training_loss"] for row in fitted.rows], bits(model.fc)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    for name, tensor in results[0][1].items():
        torch.testing.assert_close(tensor, results[1][1][name], atol=1e-5, rtol=1e-5)


# train_model


def test_other_optimizers_than_the_sheets_learn_too():
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    inputs, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])
    train, val = (Batches((inputs, labels), 2, shuffle=False) for _ in range(2))
    fitted = transfer_learning.train_model(model, train, val, Recipe(epochs=30, lr=0.2, optimizer="adam"))
    assert fitted.rows[-1]["validation_accuracy"] == 1.0 and fitted.rows[-1]["training_loss"] < 0.1


@pytest.mark.parametrize(("classes", "numbers"), [(20, 400), (21, 0)])
def test_a_confusion_matrix_has_numbers_where_they_can_be_read(tmp_path, monkeypatch, classes, numbers):
    drawn = []
    monkeypatch.setattr(plots.figures, "save", lambda figure, folder, stem: drawn.append(figure))
    plots.confusion_matrix(tmp_path, np.eye(classes, dtype=int), [str(i) for i in range(classes)], "all right")
    assert len(drawn[0].axes[0].texts) == numbers


class Rates:
    """A stand-in for the last layer. Its one weight shows the optimizer's steps, because the gradient is always 1."""

    def __init__(self):
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)

    def steps(self, recipe, per_epoch):
        batches = [()] * per_epoch
        training = transfer_learning.make_training(self.model, batches, batches, recipe)
        optimizer, scheduler = training.optimizer, training.scheduler
        for _ in range(recipe.epochs * per_epoch):
            before = self.model.weight.item()
            self.model.weight.grad = torch.ones(1, 1)
            optimizer.step()
            scheduler.step()
            yield before - self.model.weight.item()


@given(st.integers(1, 3), st.integers(1, 4), st.floats(0, 0.9), st.floats(0.1, 1))
@settings(max_examples=25, deadline=None)
def test_the_optimizer_is_the_sheets_momentum_with_a_rate_that_falls_in_steps(per_epoch, step_size, momentum, gamma):
    recipe = Recipe(epochs=6, lr=0.01, momentum=momentum, step_size=step_size, gamma=gamma)
    velocity = 0.0
    for step, taken in enumerate(Rates().steps(recipe, per_epoch)):
        velocity = momentum * velocity + 1  # plain momentum; Nesterov's would add the gradient once more
        assert taken == pytest.approx(velocity * 0.01 * gamma ** (step // per_epoch // step_size), abs=1e-6)


def test_train_model_keeps_the_best_epochs_weights():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 4, generator=generator)
    labels = (inputs[:, 0] > 0).long()
    train, val = Batches((inputs, labels), 4, seed=1), Batches((inputs, 1 - labels), 5, shuffle=False)
    model = nn.Linear(4, 2)
    fitted = transfer_learning.train_model(model, train, val, Recipe(epochs=8, lr=0.1))  # learns the wrong thing
    assert fitted.best_epoch < 8
    assert transfer_learning.evaluate(model.eval(), val)["validation_accuracy"] == pytest.approx(
        max(row["validation_accuracy"] for row in fitted.rows)
    )
    assert fitted.rows[-1]["training_loss"] < fitted.rows[0]["training_loss"]


def test_evaluate_is_the_mean_over_pictures_whatever_the_batches():
    torch.manual_seed(0)
    model, inputs, labels = nn.Linear(3, 4), torch.randn(7, 3), torch.arange(7) % 4
    scores = model(inputs)
    for size in (1, 3, 7):
        numbers = transfer_learning.evaluate(model, Batches((inputs, labels), size, shuffle=False))
        assert numbers["validation_loss"] == pytest.approx(nn.functional.cross_entropy(scores, labels).item(), abs=1e-6)
        assert numbers["validation_accuracy"] == (scores.argmax(1) == labels).sum().item() / 7


# visualize_model


def test_visualize_model_shows_random_pictures_above_the_surest_mistakes():
    class Brightness(nn.Module):
        """A model that predicts «bees» for bright pictures with high probability."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, images):
            level = images.float().mean(dim=(1, 2, 3)) / 255
            return self.scale * torch.stack([2 - 4 * level, 4 * level - 2], dim=1)

    levels = torch.tensor([0, 200, 255, 40, 0], dtype=torch.uint8)
    images = levels.view(5, 1, 1, 1).expand(5, 3, 8, 8)
    val = Batches((images, torch.tensor([0, 0, 0, 1, 0])), 2, shuffle=False)  # 200, 255 and 40 are mistakes
    figure = transfer_learning.visualize_model(Brightness(), val, ("ants", "bees"), "a title", num_images=2)
    titles = [axes.get_title() for axes in figure.axes]
    sure = [1 / (1 + math.exp(-2 * score)) for score in (2, 2 - 4 * 40 / 255)]
    assert titles[2:] == [f"bees {sure[0]:.2f}\nis ants", f"ants {sure[1]:.2f}\nis bees"]  # by probability
    shown = [np.asarray(axes.images[0].get_array())[0, 0, 0] for axes in figure.axes]
    assert shown[2:] == [255, 40]
    assert figure.get_suptitle() == "a title"
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["random", "surest mistakes"]
