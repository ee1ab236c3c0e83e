"""The peer of the rMLE benchmarks: the authors' search in PyTorch, batched.

Adam with AMSGrad on the mean squared feature difference plus lambda times their total
variation, from mid-grey, in normalised pixels: He et al.'s scripts as an own minimal
program that takes many images at once (their loop takes one). The sum of per-image
losses gives every image its own descent. Needs the extra `bench`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def edge(variables: Mapping[str, Any], cut: str) -> nn.Module:
    """LeNet-5's layers up to `cut` (conv1 or ReLU2) with ghostjax's weights."""
    layers: list[nn.Module] = []
    for name, kind in (
        ("conv1", None),
        ("ReLU1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(2)),
        ("conv2", None),
        ("ReLU2", nn.ReLU()),
    ):
        layers.append(kind or _convolution(variables[name]["params"]))
        if name == cut:
            break
    return nn.Sequential(*layers).requires_grad_(False)


def invert(
    network: nn.Module,
    features: torch.Tensor,
    steps: int,
    *,
    epsilon: float,
    tv_weight: float,
    learning_rate: float = 1e-2,
    start: float = 0.5,
    look: Callable[[int, torch.Tensor], bool] = lambda step, z: False,
) -> torch.Tensor:
    """z [B, 1, 28, 28] after `steps` steps, or where `look(step, z)` says to stop."""
    z = torch.full((len(features), 1, 28, 28), 2 * start - 1, requires_grad=True)
    optimizer = torch.optim.Adam(
        [z], lr=learning_rate, eps=epsilon, amsgrad=True, foreach=True
    )
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        distance = ((network(z) - features) ** 2).mean((1, 2, 3))
        if tv_weight:
            vertical = (z[:, :, 1:] - z[:, :, :-1]) ** 2
            horizontal = (z[:, :, :, 1:] - z[:, :, :, :-1]) ** 2
            variation = vertical.mean((1, 2, 3)) + horizontal.mean((1, 2, 3))
            distance = distance + tv_weight * variation
        distance.sum().backward()
        optimizer.step()
        if look(step + 1, z):
            break
    return z.detach()


def pictures(z: torch.Tensor) -> np.ndarray:
    """float32 [B, 28, 28, 1] in [0, 1]."""
    return (0.5 + 0.5 * z.detach()).clamp(0, 1).numpy().transpose(0, 2, 3, 1)


def tensor(features: Any) -> torch.Tensor:
    """Features [B, h, w, c] of jax as [B, c, h, w] of torch."""
    return torch.from_numpy(np.asarray(features).transpose(0, 3, 1, 2).copy())


def _convolution(params: Mapping[str, Any]) -> nn.Conv2d:
    kernel, bias = (np.asarray(params[name]) for name in ("kernel", "bias"))
    size, _, channels, filters = kernel.shape
    layer = nn.Conv2d(channels, filters, size)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        layer.bias.copy_(torch.from_numpy(bias.copy()))
    return layer
