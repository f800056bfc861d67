"""The start of a training command: what it must not import, and that optimizers work as before."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hw_common.data.digits import small_digits
from hw_common.training.experiment import make_optimizer

_SLOW = ["torch._dynamo", "sympy", "sklearn", "scipy", "pandas", "matplotlib"]


def test_training_steps_import_no_slow_package_that_they_do_not_need(tmp_path):
    words = f"--dataset sample --dry_run --threads 1 --results_dir {tmp_path}".split()
    code = (
        "import sys\nfrom hw_cnn import train as cnn\nfrom hw_transfer import train as transfer\n"
        f"transfer.main({words!r} + ['--weights', 'none'])\ncnn.main({words!r} + ['--optimizer', 'adam'])\n"
        "import torch\nweight = torch.ones(1, requires_grad=True)\nweight.sum().backward()\n"
        "torch.optim.RMSprop([weight]).step()\n"  # a student may use any optimizer
        f"print('torchvision' in sys.modules, [m for m in {_SLOW} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True []"


@pytest.mark.parametrize(
    ("name", "momentum", "oracle"),
    [
        ("sgd", 0.0, lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01)),
        ("sgd", 0.9, lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True)),
        ("adam", 0.0, lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01)),
        ("adamw", 0.0, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.01)),
    ],
)
def test_optimizers_step_as_torchs_do_and_keep_gradients_on(name, momentum, oracle):
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizers = make_optimizer(name, ours.parameters(), 0.1, 0.01, momentum), oracle(theirs.parameters())
    for _ in range(3):
        inputs = torch.randn(4, 3)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.requires_grad
        torch.testing.assert_close(one, other)


def test_small_digits_are_scikit_learns():
    images, labels = small_digits()
    expected = load_digits()
    assert np.array_equal(images, expected.images) and np.array_equal(labels, expected.target)
    assert (images.dtype, labels.dtype) == (np.float64, np.int64)
