"""Feature maps in the order of computation, Grad-CAM against its formula, maps that are zero, and equivariance."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hw_cnn import grad_cam, train
from hw_cnn.data import Split, to_input
from hw_cnn.equivariance import draw_equivariance
from hw_cnn.feature_maps import collect_maps, scale_to_unit
from hw_cnn.finished import Finished
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN
from hw_cnn.presets import NETWORKS, Settings
from hw_common.runs.run_folder import Run

MODELS = {"fashion": FashionCNN, "oct": OctCNN, "cifar": CifarCNN}
CLASSES = 3


@pytest.fixture
def finished(tmp_path, request):
    """An untrained network in the place of a finished run."""
    torch.manual_seed(1)
    name = getattr(request, "param", "cifar")
    config = {"homework": "hw_cnn", "command": "hw_cnn.train", "arguments": {}}
    run = Run.create(tmp_path, config, "run")
    run.write_summary({"data": "noise"})
    model = MODELS[name](classes=CLASSES).eval()
    settings = Settings.from_arguments(train.COMMAND.parse(["--network", name]))
    return Finished(run, settings, tmp_path, NETWORKS[name], model, tuple("abc"))


def noise(network, count=6):
    generator = torch.Generator().manual_seed(2)
    shape = (count, network.channels, network.size, network.size)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count) % CLASSES)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (FashionCNN(), (1, 28), [("convblock1[0]", 28), ("convblock1[2]", 14), ("convblock2[0]", 12),
                                 ("convblock2[2]", 6)]),
        (OctCNN(), (1, 28), [("conv1", 28), ("pool", 14), ("conv2", 12), ("pool", 6)]),
        (OctCNN(no_maxpool=True), (1, 28), [("conv1", 14), ("conv2", 6)]),
        (CifarCNN(), (3, 32), [("conv1", 28), ("pool1", 14), ("conv2", 10), ("pool2", 5)]),
    ],
)  # fmt: skip
def test_maps_come_in_the_order_of_computation(model, shape, expected):
    channels, size = shape
    maps = collect_maps(model.eval(), torch.rand(2, channels, size, size))
    assert [(name, output.shape[-1]) for name, output in maps] == expected
    assert all(len(module._forward_hooks) == 0 for module in model.modules())


def test_scaling_to_the_unit_interval():
    assert scale_to_unit(torch.tensor([-3.0, 1.0, 5.0])).tolist() == [0, 0.5, 1]
    assert scale_to_unit(torch.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_grad_cam_is_its_papers_formula(finished):
    model, split = finished.model, noise(finished.network)
    classes = torch.tensor([0, 1, 2, 2, 1, 0])
    inputs = to_input(split.images, finished.network)
    ours = grad_cam.grad_cam(model, inputs, classes)
    activations = model.conv2(model.pool1(F.relu(model.conv1(inputs)))).detach().requires_grad_()
    x = model.pool2(F.relu(activations)).flatten(1)
    scores = model.fc3(F.relu(model.fc2(F.relu(model.fc1(x)))))
    [gradient] = torch.autograd.grad(scores[range(6), classes].sum(), activations)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # equation 1 of Selvaraju et al.
    maps = F.relu((weights * activations).sum(1, keepdim=True)).detach()  # equation 2
    expected = F.interpolate(maps, (32, 32), mode="bilinear")[:, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert ours.shape == (6, 32, 32) and ours.max() > 0


def test_a_map_that_is_zero_everywhere_says_so(finished):
    torch.nn.init.zeros_(finished.model.fc3.weight)
    grad_cam.draw_grad_cam(finished, noise(finished.network), seed=0, each=2)
    images = json.loads((finished.run.folder / "grad_cam.json").read_text())["images"]
    assert len(images) == 4 and all(image["map_is_zero"] for image in images)
    image = noise(finished.network).images[0]
    overlay = grad_cam.overlay(image, np.zeros((32, 32)))
    np.testing.assert_allclose(overlay[..., 0], image.numpy().mean(axis=0) / 255)


@pytest.mark.parametrize("finished", ["fashion", "oct", "cifar"], indirect=True)
def test_convolutions_shift_along_with_the_image(finished):
    split = noise(finished.network)
    draw_equivariance(finished, split, seed=0)
    layers = json.loads((finished.run.folder / "equivariance.json").read_text())["layers"]
    assert layers[0]["change_when_shifted_along"] < 1e-5 < 0.1 < layers[0]["change"]
    assert all("change_when_shifted_along" not in layer for layer in layers[1:])


def test_grad_cam_shows_as_many_images_of_each_true_class_as_possible():
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 20)
    right = torch.ones(len(labels), dtype=torch.bool)
    right[[0, 60]] = False
    chosen = grad_cam._choose(right, labels, 10, seed=0)
    assert sorted(labels[chosen["right"]].tolist()).count(1) == 3
    assert {labels[chosen["right"]].tolist().count(label) for label in (0, 2)} <= {3, 4}
    assert sorted(chosen["wrong"]) == [0, 60] and grad_cam._choose(right, labels, 10, seed=0) == chosen
    assert grad_cam._choose(right, labels, 10, seed=1) != chosen
