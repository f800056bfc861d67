"""The sheets' networks: sizes, names, order of operations, dropout, against a second, plain implementation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_cnn import train
from hw_cnn.data import Split
from hw_cnn.experiment import build_model, class_weights, loss_function
from hw_cnn.layers import MyConv2d, MyLinear
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN, convolutions, get_number_trainable_params
from hw_cnn.presets import NETWORKS, Settings

MODELS = {
    "fashion": lambda: FashionCNN(),
    "oct": lambda: OctCNN(),
    "oct-no_maxpool": lambda: OctCNN(no_maxpool=True),
    "cifar": lambda: CifarCNN(),
    "cifar-padding-2": lambda: CifarCNN(padding=2),
}
CLASSES = {"fashion": 10, "oct": 4, "oct-no_maxpool": 4, "cifar": 10, "cifar-padding-2": 10}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(42)


def network_of(name: str):
    return NETWORKS[name.split("-")[0]]


def random_images(name: str, count: int = 3) -> Tensor:
    network = network_of(name)
    return torch.randn(count, network.channels, network.size, network.size)


# Sizes


def affine(inputs: int, outputs: int) -> int:
    """Parameters of a layer in which each output has a weight per input and a bias."""
    return outputs * (inputs + 1)


@pytest.mark.parametrize(
    ("name", "published", "layers"),
    [
        ("fashion", 769_930, [(9, 16), (16 * 9, 32), (32 * 6 * 6, 600), (600, 120), (120, 10)]),
        ("oct", 224_892, [(9, 8), (8 * 9, 16), (16 * 6 * 6, 320), (320, 120), (120, 4)]),
        ("oct-no_maxpool", 224_892, [(9, 8), (8 * 9, 16), (16 * 6 * 6, 320), (320, 120), (120, 4)]),
        ("cifar", 64_058, [(3 * 25, 8), (8 * 25, 16), (16 * 5 * 5, 128), (128, 64), (64, 10)]),
        ("cifar-padding-2", 143_930, [(3 * 25, 8), (8 * 25, 16), (16 * 8 * 8, 128), (128, 64), (64, 10)]),
    ],
)
def test_parameter_counts_are_the_published_ones_and_add_up(name, published, layers):
    assert get_number_trainable_params(MODELS[name]()) == published
    assert sum(affine(*layer) for layer in layers) == published


def test_frozen_parameters_do_not_count_as_trainable():
    model = OctCNN()
    model.conv1.requires_grad_(False)
    assert get_number_trainable_params(model) == 224_892 - 80
    model.requires_grad_(False)
    assert get_number_trainable_params(model) == 0


@every_model
@pytest.mark.parametrize("count", [1, 3])
def test_one_row_of_finite_outputs_per_image(name, count):
    outputs = MODELS[name]()(random_images(name, count))
    assert outputs.shape == (count, CLASSES[name])
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("make", [FashionCNN, OctCNN, CifarCNN])
def test_number_of_classes_is_free(make):
    images = torch.randn(2, 3, 32, 32) if make is CifarCNN else torch.randn(2, 1, 28, 28)
    assert make(classes=7)(images).shape == (2, 7)


@pytest.mark.parametrize("name", ["fashion", "oct", "oct-no_maxpool"])
def test_log_softmax_networks_give_log_probabilities_of_their_scores(name):
    model, images = MODELS[name]().eval(), random_images(name)
    outputs = model(images)
    assert torch.allclose(outputs.exp().sum(1), torch.ones(3), atol=1e-6)
    assert torch.allclose(outputs, model.scores(images).log_softmax(1))
    assert isinstance(model.criterion, nn.NLLLoss)


@pytest.mark.parametrize("name", ["cifar", "cifar-padding-2"])
def test_cifar_network_leaves_the_softmax_to_its_loss(name):
    model, images = MODELS[name](), random_images(name)
    outputs = model(images)
    assert torch.equal(outputs, model.scores(images))
    assert not torch.allclose(outputs.exp().sum(1), torch.ones(3), atol=1e-2)
    assert isinstance(model.criterion, nn.CrossEntropyLoss)


@every_model
def test_loss_of_an_untrained_network_is_that_of_guessing(name):
    model = MODELS[name]().eval()
    labels = torch.tensor([0, 1, 2])
    loss = model.criterion(model(0.1 * random_images(name)), labels)
    assert loss.item() == pytest.approx(torch.tensor(float(CLASSES[name])).log().item(), abs=0.2)


@every_model
@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_balanced_loss_gives_every_class_the_same_total_weight(name, kernels):
    words = ["--network", name.split("-")[0], "--kernels", kernels, "--balanced"]
    settings = Settings.from_arguments(train.COMMAND.parse(words))
    model, images = build_model(settings, classes=3).eval(), random_images(name, count=7)
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    split = Split(images, labels)
    weights = class_weights(split, classes=3)
    assert [(weights[labels] * (labels == label)).sum().item() for label in range(3)] == pytest.approx([7 / 3] * 3)
    loss, count, correct = loss_function(model, (images, labels), weights)
    expected = F.cross_entropy(model.scores(images), labels, weights, reduction="sum") / 7
    assert (loss.item(), count) == (pytest.approx(expected.item(), rel=1e-5), 7)
    assert correct["accuracy"] == (model(images).argmax(1) == labels).sum()


def test_a_class_without_training_images_gets_a_finite_weight():
    assert class_weights(Split(torch.zeros(2, 1, 1, 1), torch.tensor([0, 0])), classes=2).tolist() == [0.5, 1]


# Names


@every_model
def test_convolutions_are_named_as_on_the_sheet(name):
    assert tuple(convolutions(MODELS[name]())) == network_of(name).convolutions


def test_convolutions_are_the_layers_themselves():
    model = FashionCNN()
    assert convolutions(model) == {"convblock1[0]": model.convblock1[0], "convblock2[0]": model.convblock2[0]}
    assert not any(name.endswith(("fc1", "fc2")) for name in convolutions(model))


def test_fashion_blocks_hold_convolution_relu_pooling_in_this_order():
    model = FashionCNN()
    for block, padding in ((model.convblock1, 1), (model.convblock2, 0)):
        convolution, relu, pooling = block
        assert isinstance(relu, nn.ReLU)
        assert (pooling.kernel_size, pooling.stride) == (2, 2)
        assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (padding,) * 2)


@pytest.mark.parametrize(("no_maxpool", "stride"), [(False, 1), (True, 2)])
def test_oct_strides_replace_pooling(no_maxpool, stride):
    model = OctCNN(no_maxpool=no_maxpool)
    assert (model.conv1.stride, model.conv2.stride) == ((stride, stride), (stride, stride))
    assert (model.conv1.padding, model.conv2.padding) == ((1, 1), (0, 0))
    assert any(isinstance(module, nn.MaxPool2d) for module in model.modules()) is not no_maxpool


# Order of operations, each network written a second time from its sheet


def fashion_by_the_sheet(w: dict[str, Tensor], x: Tensor, dropout: float) -> Tensor:
    x = F.conv2d(x, w["convblock1.0.weight"], w["convblock1.0.bias"], padding=1)
    x = F.max_pool2d(torch.clamp(x, min=0), 2, stride=2)
    x = F.conv2d(x, w["convblock2.0.weight"], w["convblock2.0.bias"])
    x = F.max_pool2d(torch.clamp(x, min=0), 2, stride=2)
    return affine_part(w, x, dropout)


def oct_by_the_sheet(w: dict[str, Tensor], x: Tensor, dropout: float) -> Tensor:
    x = F.conv2d(x, w["conv1.weight"], w["conv1.bias"], stride=1, padding=1)
    x = F.max_pool2d(torch.clamp(x, min=0), 2, stride=2)
    x = F.conv2d(x, w["conv2.weight"], w["conv2.bias"], stride=1, padding=0)
    x = F.max_pool2d(torch.clamp(x, min=0), 2, stride=2)
    return affine_part(w, x, dropout)


def oct_without_pooling_by_the_sheet(w: dict[str, Tensor], x: Tensor, dropout: float) -> Tensor:
    x = torch.clamp(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], stride=2, padding=1), min=0)
    x = torch.clamp(F.conv2d(x, w["conv2.weight"], w["conv2.bias"], stride=2, padding=0), min=0)
    return affine_part(w, x, dropout)


def affine_part(w: dict[str, Tensor], x: Tensor, dropout: float) -> Tensor:
    """Both ist sheets: affine, ReLU, dropout, affine, ReLU, affine, LogSoftmax."""
    x = torch.clamp(x.reshape(len(x), -1) @ w["fc1.weight"].T + w["fc1.bias"], min=0)
    x = x * (torch.rand(x.shape) >= dropout) / (1 - dropout)
    x = torch.clamp(x @ w["fc2.weight"].T + w["fc2.bias"], min=0)
    x = x @ w["fc3.weight"].T + w["fc3.bias"]
    return x - x.logsumexp(1, keepdim=True)


def cifar_by_the_sheet(w: dict[str, Tensor], x: Tensor, padding: int) -> Tensor:
    x = F.max_pool2d(torch.clamp(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=padding), min=0), 2)
    x = F.max_pool2d(torch.clamp(F.conv2d(x, w["conv2.weight"], w["conv2.bias"], padding=padding), min=0), 2)
    x = torch.clamp(x.reshape(len(x), -1) @ w["fc1.weight"].T + w["fc1.bias"], min=0)
    x = torch.clamp(x @ w["fc2.weight"].T + w["fc2.bias"], min=0)
    return x @ w["fc3.weight"].T + w["fc3.bias"]


SHEETS = {
    "fashion": fashion_by_the_sheet,
    "oct": oct_by_the_sheet,
    "oct-no_maxpool": oct_without_pooling_by_the_sheet,
    "cifar": lambda w, x, _: cifar_by_the_sheet(w, x, padding=0),
    "cifar-padding-2": lambda w, x, _: cifar_by_the_sheet(w, x, padding=2),
}


@every_model
def test_network_computes_what_its_sheet_lists(name):
    model, images = MODELS[name]().eval(), random_images(name)
    assert torch.allclose(model(images), SHEETS[name](model.state_dict(), images, 0.0), atol=1e-5)


@pytest.mark.parametrize(("name", "probability"), [("fashion", 0.3), ("oct", 0.7), ("oct-no_maxpool", 0.7)])
def test_dropout_of_the_sheet_stands_between_first_relu_and_second_affine_layer(name, probability):
    model, images = MODELS[name]().train(), random_images(name)
    torch.manual_seed(5)
    outputs = model(images)
    torch.manual_seed(5)
    assert torch.allclose(outputs, SHEETS[name](model.state_dict(), images, probability), atol=1e-5)


# Dropout from the command line (REFERENCE.md, trap 5: in the students' code it only changed a file name)


def model_of(argv, classes):
    return build_model(Settings.from_arguments(train.COMMAND.parse(argv)), classes)


@pytest.mark.parametrize("dataset", ["fashion-mnist", "octmnist"])
def test_dropout_flag_reaches_the_model(dataset):
    model = model_of(["--dataset", dataset, "-dropout", "0.55"], classes=4)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.55]
    images = torch.randn(2, 1, 28, 28)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


def test_dropout_of_zero_changes_nothing():
    model, images = FashionCNN(dropout=0).train(), random_images("fashion")
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("argv", "parameters"),
    [
        (["--dataset", "fashion-mnist"], 769_930),
        (["--dataset", "octmnist", "--network", "oct", "-no_maxpool"], 224_892 + 6 * 121),
        (["--dataset", "cifar10"], 64_058),
        (["--dataset", "cifar10", "--padding", "2"], 143_930),
    ],
)
def test_command_line_builds_the_network_it_names(argv, parameters):
    assert get_number_trainable_params(model_of(argv, classes=10)) == parameters


# Own layers in the network (convnets-2024, Task 3.2)


@pytest.mark.parametrize("padding", [0, 2])
def test_network_of_own_layers_takes_the_default_ones_weights_and_agrees(padding):
    default = CifarCNN(padding)
    own = CifarCNN(padding, convolution=MyConv2d, linear=MyLinear)
    images = random_images("cifar")
    assert not torch.allclose(own(images), default(images), atol=1e-3)
    own.load_state_dict(default.state_dict())
    assert torch.allclose(own(images), default(images), atol=1e-5)
    assert tuple(convolutions(own)) == NETWORKS["cifar"].convolutions
    assert not any(isinstance(module, nn.Conv2d | nn.Linear) for module in own.modules())
