"""Time of CifarCNN with MyLinear and MyConv2d compared with torch's layers, as ratios within one run.

    python benchmarks/layers.py [--rounds 30] [--threads 2]

Goals: inference on 20 images at most 1.5 times torch's time, training at batch 64 at most 3 times.
"""

import harness
import torch
import torch.nn.functional as F
from torch import nn

from hw_cnn.layers import MyConv2d, MyLinear
from hw_cnn.models import CifarCNN


def main() -> None:
    rounds = harness.parse(harness.parser(__doc__, rounds=30)).rounds
    networks = {"torch": CifarCNN(), "own": CifarCNN(convolution=MyConv2d, linear=MyLinear)}
    networks["own"].load_state_dict(networks["torch"].state_dict())
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))

    def train(model: nn.Module) -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    def infer(model: nn.Module) -> None:
        with torch.inference_mode():
            model(images[:20])

    for what, step, goal in (("inference on 20 images", infer, 1.5), ("training at batch 64", train, 3.0)):
        calls = {name: lambda model=model, step=step: step(model) for name, model in networks.items()}
        harness.print_ratio(
            f"CifarCNN, {what}", harness.time_interleaved(calls, rounds, warm_up=3), "own", "torch", at_most=goal
        )


if __name__ == "__main__":
    main()
