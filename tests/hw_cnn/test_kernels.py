"""--kernels fast pools before the ReLU, and ends with the same bits as --kernels plain."""

import argparse

import pytest
import torch

from hw_cnn import train
from hw_cnn.experiment import build_model
from hw_cnn.finished import open_finished
from hw_cnn.models import CifarCNN, FashionCNN, OctCNN
from hw_cnn.presets import NETWORKS, Settings


def both(*flags):
    """The same network with plain and with fast kernels."""
    models = []
    for kernels in ("plain", "fast"):
        torch.manual_seed(3)
        arguments: argparse.Namespace = train.COMMAND.parse(["--dataset", "sample", "--kernels", kernels, *flags])
        models.append(build_model(Settings.from_arguments(arguments), classes=4))
    return models


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "flags", [["fashion"], ["oct"], ["oct", "-no_maxpool"], ["cifar"], ["cifar", "--padding", "2"]]
)
def test_scores_and_gradients_have_the_same_bits(flags, dtype):
    models = both("--network", *flags)
    network = NETWORKS[flags[0]]
    images = torch.randint(-2, 3, (5, network.channels, network.size, network.size)).to(dtype)  # with many ties
    results = []
    for model in models:
        model.to(dtype)
        torch.manual_seed(4)  # for dropout
        scores = model.scores(images)
        scores.square().sum().backward()
        results.append([scores, *(parameter.grad for parameter in model.parameters())])
    assert type(models[0]) in (FashionCNN, OctCNN, CifarCNN) and type(models[1]).__mro__[1] is type(models[0])
    assert all(map(torch.equal, *results))
    assert results[0][1].abs().sum() > 0


def test_training_ends_with_the_same_bits_and_explanations_use_the_sheets_network(tmp_path, undrawn):
    weights = []
    for kernels in ("plain", "fast"):
        train.main(["--dataset", "sample", "--network", "fashion", "--epochs", "1", "--batch_size", "32", "--threads",
                    "1", "--results_dir", str(tmp_path), "--name", kernels, "--kernels", kernels])  # fmt: skip
        weights.append((tmp_path / "hw_cnn" / kernels / "best.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert type(open_finished(tmp_path / "hw_cnn" / "fast").model) is FashionCNN
