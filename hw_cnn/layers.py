"""A fully connected and a convolutional layer written from their equations (convnets-2024-a2, Tasks 2.1 and 3.1).

The parameters have the names, shapes and initialization of torch's layers, so each can load the other's state dict.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _parameter(*shape: int, fan_in: int, device: torch.device | str | None = None) -> nn.Parameter:
    """Returns a parameter drawn uniformly from −1/√fan_in to 1/√fan_in, as torch initializes its layers."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape, device=device).uniform_(-bound, bound))


class MyLinear(nn.Module):
    """Equation 2, y_s = W x_s + b for every sample s of a batch. As rows of a matrix, the outputs are x Wᵀ + b.

    Args:
        in_features: size of each input sample.
        out_features: size of each output sample.
        device: device of the parameters; None for torch's default.
    """

    def __init__(self, in_features: int, out_features: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.weight = _parameter(out_features, in_features, fan_in=in_features, device=device)
        self.bias = _parameter(out_features, fan_in=in_features, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_features); returns (…, out_features)."""
        return x @ self.weight.T + self.bias


class MyConv2d(nn.Module):
    """Equation 4: every output pixel is the sum over channels c and kernel offsets (n, m) of x · weight, plus a bias.

        output[o, i, j] = bias[o] + Σ_c Σ_n Σ_m x[c, stride·i + n, stride·j + m] · weight[o, c, n, m]

    x is the input with its border of `padding` zeros, and all indices count from 0. With an odd kernel_size and
    `padding` = kernel_size // 2, x[c, stride·i, stride·j] of the input without border is in the middle of the patch, as
    in the sheet's equation.

    Each output pixel depends on one kernel-sized patch of the input. Two calls of `Tensor.unfold`, one per axis, give a
    view of the patches. `reshape` copies them into a matrix's columns, which take up to kernel_size² times the input's
    memory. The three sums of the equation are then one matrix product per sample, without flipping the kernel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, one for each kernel.
        kernel_size: height and width of the kernels; if odd, padding kernel_size // 2 and stride 1 keep the image size.
        stride: distance in the input between neighbouring output pixels.
        padding: width of the border of zeros: kernel_size // 2 centres the kernel as in Equation 4; Task 1.1 does not
            mention padding, so its network has 0.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        fan_in = in_channels * kernel_size**2
        self.weight = _parameter(out_channels, in_channels, kernel_size, kernel_size, fan_in=fan_in)
        self.bias = _parameter(out_channels, fan_in=fan_in)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns (B, out_channels, H', W') with H' = (H + 2·padding − kernel_size) // stride + 1.

        B is the number of images, C = in_channels; W' follows from the width W as H' does from the height H.

        Raises:
            ValueError: the padded image is smaller than the kernel.
        """
        if self.padding:
            x = F.pad(x, (self.padding,) * 4)
        size = self.kernel_size
        if min(x.shape[-2:]) < size:
            raise ValueError(f"a kernel of {size}×{size} does not fit into a padded image of {tuple(x.shape[-2:])}")
        patches = x.unfold(2, size, self.stride).unfold(3, size, self.stride)  # (B, C, H', W', size, size)
        height, width = patches.shape[2:4]
        columns = patches.permute(0, 1, 4, 5, 2, 3).reshape(len(x), -1, height * width)  # (B, C·size², H'·W')
        kernels = self.weight.flatten(1).expand(len(x), -1, -1)  # (B, out_channels, C·size²)
        # bias + kernels @ columns for each image: (B, out_channels, H'·W')
        return torch.baddbmm(self.bias[:, None], kernels, columns).unflatten(2, (height, width))


class LoopConv2d(MyConv2d):
    """The naive way, for comparison: the same layer, with a Python loop over the kernels and the output's pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns (B, out_channels, H', W'), as `MyConv2d` does."""
        x, size = F.pad(x, (self.padding,) * 4), self.kernel_size
        height, width = ((side - size) // self.stride + 1 for side in x.shape[-2:])
        output = x.new_empty(len(x), len(self.weight), height, width)
        for o, kernel in enumerate(self.weight):
            for i in range(height):
                for j in range(width):
                    top, left = i * self.stride, j * self.stride
                    patch = x[:, :, top : top + size, left : left + size]
                    output[:, o, i, j] = self.bias[o] + (patch * kernel).sum(dim=(1, 2, 3))
        return output
