"""Make one layer compute what the parent's computes: moments of channels, least squares, and quicker evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ednag.spaces.inverted_residual import InvertedResidual

POSITIONS = 2**18
"""Positions of a feature map, over all images, that its statistics are taken from; fewer images where maps are large."""

CHUNK = 32
"""Images that pass through a network at a time."""


class Moments(NamedTuple):
    """Statistics of each channel, ``(channels,)``."""

    mean: Tensor
    deviation: Tensor


def folded(block: InvertedResidual) -> InvertedResidual:
    """Copy a layer with its normalisations folded into the convolutions, for evaluation: half as fast again on a CPU."""
    quick = copy.deepcopy(block)
    for part in parts(quick):
        part.conv = fuse_conv_bn_eval(cast("nn.Conv2d", part.conv), cast("nn.BatchNorm2d", part.bn))
        part.bn = nn.Identity()
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.Hardswish):
                setattr(part, name, type(child)(inplace=True))
    return quick


def few(x: Tensor) -> int:
    """Number of images whose maps ``(n, channels, h, w)`` have :data:`POSITIONS` positions, 32 at least."""
    return min(len(x), max(32, POSITIONS // (x.shape[2] * x.shape[3])))


def chunked(module: nn.Module | Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Pass images through a module a few at a time."""
    return torch.cat([module(some) for some in torch.split(x, CHUNK)])


def parts(block: InvertedResidual) -> list[nn.Sequential]:
    """Expansion (if there is one), depthwise convolution, projection."""
    return [cast("nn.Sequential", part) for part in block.conv]


def projection(block: InvertedResidual) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A layer's last convolution and its normalisation."""
    part = parts(block)[-1]
    return cast("nn.Conv2d", part.conv), cast("nn.BatchNorm2d", part.bn)


def statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance that a normalisation uses in evaluation."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch normalisation without running statistics can't be matched")
    return norm.running_mean, norm.running_var


def to_norm(part: nn.Module, x: Tensor) -> Tensor:
    """Output of a part's batch normalisation."""
    for name, child in part.named_children():
        x = child(x)
        if name == "bn":
            return x
    raise ValueError("a part of an inverted residual layer has no batch normalisation")


def from_norm(part: nn.Module, x: Tensor) -> Tensor:
    """What a part does after its batch normalisation."""
    for name, child in part.named_children():
        if name not in ("pad", "conv", "bn"):
            x = child(x)
    return x


def moments_of(x: Tensor) -> Moments:
    """Mean and deviation of each channel of ``(n, channels, h, w)``."""
    deviation, mean = torch.std_mean(x, (0, 2, 3), correction=0)
    return Moments(mean, deviation)


def match(block: InvertedResidual, place: int, x: Tensor, moments: dict[tuple[int, str], Moments]) -> Tensor:
    """Match every normalisation of a layer to the parent's; return what its projection reads."""
    inner = x
    for name, part in block.conv.named_children():
        if name == "point_linear":
            inner = x
        x = matched(cast("nn.Sequential", part), x, moments[place, name])
    return inner


def matched(part: nn.Sequential, x: Tensor, target: Moments) -> Tensor:
    """Set a part's normalisation so that its output has the target's moments, for as many channels as it has.

    Returns:
        output of the part.
    """
    norm = cast("nn.BatchNorm2d", part.bn)
    for name, child in part.named_children():
        if name == "bn":
            break
        x = child(x)
    found, count = moments_of(x), norm.num_features
    variance = found.deviation.square()
    alive = variance > 1e-9
    scale = target.deviation[:count] * ((variance + norm.eps) / variance.clamp_min(1e-9)).sqrt() * norm.weight.sign()
    norm.weight.copy_(torch.where(alive, scale, norm.weight))
    norm.bias.copy_(target.mean[:count])
    for kept, value in zip(statistics(norm), (found.mean, variance), strict=True):
        kept.copy_(value)
    return from_norm(part, norm(x))


def effective(block: InvertedResidual) -> Tensor:
    """Weights of a layer's projection with its normalisation, ``(channels, inner)``."""
    conv, norm = projection(block)
    return conv.weight.flatten(1) * (norm.weight / (statistics(norm)[1] + norm.eps).sqrt())[:, None]


def forward_selection(weight: Tensor, inner: Tensor, ridge: float = 0.01) -> Tensor:
    """Sort channels so that, however many of the first are kept, least squares make much of the output out of them.

    Forward selection (orthogonal least squares, Chen et al. 1989; of channels, as in ThiNet, Luo et al. 2017): the next
    channel is the one that takes most off the squared error of ``weight @ inner`` that is left, all those before it refitted.

    Args:
        weight: what reads the channels, ``(channels, inner)``.
        inner: the channels, ``(n, inner, h, w)``.
        ridge: of the least squares, relative to the mean variance of a channel.

    Returns:
        places of the channels, the most useful first, int64 ``(inner,)``.
    """
    x = inner.transpose(0, 1).flatten(1)
    x = x - x.mean(1, keepdim=True)
    gram = x @ x.T / x.shape[1]
    level = gram.diagonal().mean().clamp_min(1e-9)
    gram.diagonal().add_(ridge * level)
    gain = gram @ weight.T  # of each channel with each output
    taken = torch.zeros(len(gram), device=gram.device)
    least = float(1e-5 * level)  # variance below which what is left of a channel is rounding
    order = []
    for _ in range(len(gram)):
        alive = gram.diagonal() > least
        best = int((gain.square().sum(1) / gram.diagonal().clamp_min(least) * alive + taken).argmax())
        order.append(best)
        taken[best] = -torch.inf
        if not alive[best]:
            continue
        row, scale = gram[best].clone(), -1 / float(gram[best, best])
        gain.addr_(row, gain[best].clone(), alpha=scale)
        gram.addr_(row, row, alpha=scale)
    return torch.tensor(order, device=inner.device)


def refit(block: InvertedResidual, inner: Tensor, target: Tensor, ridge: float) -> None:
    """Fit a layer's projection to a target by least squares that shrink towards the present weights.

    Minimises ``mean |W x + b - y|^2 + ridge v |W - W0|^2``, ``v`` the mean variance of ``x``.

    Args:
        block: whose projection to change; its normalisation becomes the intercept.
        inner: what the projection reads, ``(n, inner, h, w)``.
        target: what it should give, ``(n, channels, h, w)``.
        ridge: relative strength of the shrinkage.
    """
    conv, norm = projection(block)
    mean, variance = statistics(norm)
    present = effective(block)
    x, y = inner[: len(target)].transpose(0, 1).flatten(1), target.transpose(0, 1).flatten(1)
    x_mean, y_mean = x.mean(1), y.mean(1)
    x, y = x - x_mean[:, None], y - y_mean[:, None]
    gram = (x @ x.T).double() / x.shape[1]
    gram += ridge * gram.diagonal().mean().clamp_min(1e-9) * torch.eye(len(gram), dtype=torch.float64, device=x.device)
    missing = ((y - present @ x) @ x.T).double() / x.shape[1]
    weight = present + torch.linalg.solve(gram, missing.T).T.to(present.dtype)
    conv.weight.copy_(weight[:, :, None, None])
    norm.weight.fill_(1.0)
    norm.bias.copy_(y_mean - weight @ x_mean)
    mean.zero_()
    variance.fill_(1.0 - norm.eps)
