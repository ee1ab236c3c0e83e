"""The peers in PyTorch: the authors' search, batched, and the networks' training.

Adam with AMSGrad on the mean squared feature difference plus lambda times their total
variation, from mid-grey, in normalised pixels: He et al.'s scripts as an own minimal
program that takes many images at once (their loop takes one). The sum of per-image
losses gives every image its own descent. Needs the extra `bench`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ghostjax.models import chain, zoo
from ghostjax.models.chain import Chain, describe
from ghostjax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Normalize,
    Relu,
    Sigmoid,
)


def network(
    layers: Chain, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> nn.Module:
    """A chain with ghostjax's weights, from [B, C, H, W] to the same values as ours.

    Dense kernels are reordered, since torch flattens channel, row, column.

    Raises:
      ValueError: a layer that has no counterpart here.
    """
    modules: list[nn.Module] = []
    inside = tuple(image_shape)
    for (name, layer), row in zip(layers, describe(layers, image_shape), strict=True):
        params = variables.get(name, {}).get("params", {})
        match layer:
            case Conv():
                modules.append(_convolution(params, layer))
            case Dense():
                modules += [nn.Flatten(), _dense(params["dense"], inside)]
            case Relu():
                modules.append(nn.ReLU())
            case Sigmoid():
                modules.append(nn.Sigmoid())
            case MaxPool():
                modules.append(nn.MaxPool2d(layer.window, layer.stride))
            case BatchNorm():
                modules.append(nn.BatchNorm2d(inside[-1]))
            case Dropout():
                modules.append(nn.Dropout(layer.rate))
            case Normalize():
                modules.append(_Normalize(layer))
            case _:
                raise ValueError(f"no peer of the layer {name!r}, {type(layer)}")
        inside = row.shape
    return nn.Sequential(*modules)


def edge(variables: Mapping[str, Any], cut: str) -> nn.Module:
    """LeNet-5's layers behind `normalize` up to `cut` with ghostjax's weights, frozen.

    `invert` searches in normalised pixels, so that layer has no part in it.
    """
    layers, _ = chain.cut(zoo.lenet5(), cut)
    module = network(layers[1:], variables, (28, 28, 1))
    return module.requires_grad_(False)


class Descent(NamedTuple):
    """How the authors' search goes down."""

    epsilon: float
    tv_weight: float
    learning_rate: float = 1e-2
    start: float = 0.5  # grey level


def invert(
    network: nn.Module,
    features: torch.Tensor,
    steps: int,
    descent: Descent,
    look: Callable[[int, torch.Tensor], bool] = lambda step, z: False,
) -> torch.Tensor:
    """z [B, 1, 28, 28] after `steps` steps, or where `look(step, z)` says to stop.

    It runs where the features are. Hand in a compiled `network` for `torch.compile`.
    """
    z = torch.full(
        (len(features), 1, 28, 28),
        2 * descent.start - 1,
        requires_grad=True,
        device=features.device,
    )
    optimizer = torch.optim.Adam(
        [z],
        lr=descent.learning_rate,
        eps=descent.epsilon,
        amsgrad=True,
        foreach=True,
    )
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        distance = ((network(z) - features) ** 2).mean((1, 2, 3))
        if descent.tv_weight:
            vertical = (z[:, :, 1:] - z[:, :, :-1]) ** 2
            horizontal = (z[:, :, :, 1:] - z[:, :, :, :-1]) ** 2
            variation = vertical.mean((1, 2, 3)) + horizontal.mean((1, 2, 3))
            distance = distance + descent.tv_weight * variation
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


def train_step(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int
) -> Callable[[], torch.Tensor]:
    """A step of Adam on a random batch; gives the loss.

    Args:
      module: in training mode; a compiled one for `torch.compile`.
      images: uint8 [N, C, H, W], where the module is.
      labels: int64 [N].
      batch: images a step.
    """
    fused = images.device.type == "cuda"
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=fused)

    def step() -> torch.Tensor:
        chosen = torch.randint(len(images), (batch,), device=images.device)
        optimizer.zero_grad(set_to_none=True)
        logits = module(images[chosen].float() / 255)
        loss = nn.functional.cross_entropy(logits, labels[chosen])
        loss.backward()
        optimizer.step()
        return loss

    return step


class _Normalize(nn.Module):
    def __init__(self, layer: Normalize):
        super().__init__()
        for name, values in (("mean", layer.mean), ("std", layer.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


def _convolution(params: Mapping[str, Any], layer: Conv) -> nn.Conv2d:
    kernel, bias = (np.asarray(params[name]) for name in ("kernel", "bias"))
    size, _, channels, filters = kernel.shape
    padding = "same" if layer.padding == "SAME" else 0
    module = nn.Conv2d(channels, filters, size, layer.stride, padding)
    return _filled(module, kernel.transpose(3, 2, 0, 1), bias)


def _dense(params: Mapping[str, Any], inside: tuple[int, ...]) -> nn.Linear:
    kernel, bias = (np.asarray(params[name]) for name in ("kernel", "bias"))
    if len(inside) == 3:
        kernel = kernel.reshape(*inside, -1).transpose(2, 0, 1, 3)
    kernel = kernel.reshape(-1, len(bias)).T
    return _filled(nn.Linear(kernel.shape[1], len(bias)), kernel, bias)


def _filled(module: nn.Module, weight: np.ndarray, bias: np.ndarray) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight.copy()))
        module.bias.copy_(torch.from_numpy(bias.copy()))
    return module
