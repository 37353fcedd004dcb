"""Zero-cost proxies: scores of an untrained network from a single batch, as functions. Higher is better.

A network is left as it was: statistics and weights that a proxy changes are those of a copy. Weights are those of
convolutions and linear layers, as in the published code of each proxy; ``B`` is the number of images.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from ednag.core.names import unknown as unknown_name
from ednag.costs.counting import count_costs

GRADIENT_PROXIES = ("snip", "grad_norm", "zico")
"""Proxies that need a backward pass over the images, and their labels."""

DATA_PROXIES = (*GRADIENT_PROXIES, "naswot", "jacob_cov")
"""Proxies that look at images of the task."""

PROXIES = ("params", "flops", *DATA_PROXIES, "synflow", "zen")
"""Every proxy by name."""


def measure(
    network: nn.Module,
    names: Iterable[str],
    images: Tensor,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Score one network by several proxies, sharing passes where they can be shared.

    Args:
        network: freshly initialised, with gradients enabled and built outside inference mode.
        names: any of :data:`PROXIES`.
        images: ``(B, C, H, W)``, normalised, not inference tensors; proxies without data use their shape alone.
        labels: int64 ``(B,)``; needed by :data:`GRADIENT_PROXIES`.
        generator: source of Zen's weights and inputs, on the CPU.

    Returns:
        scores by name; NaN or infinite if the network gives no information (nothing reaches its output).

    Raises:
        ValueError: for an unknown name or missing labels.
    """
    names = list(names)
    unknown = [name for name in names if name not in PROXIES]
    if unknown:
        raise ValueError(unknown_name("proxy", unknown[0], PROXIES))
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    scores: dict[str, float] = {}
    if {"params", "flops"} & set(names):
        costs = count_costs(network, shape)
        scores |= {"params": float(costs.params), "flops": float(costs.macs)}
    if set(GRADIENT_PROXIES) & set(names):
        if labels is None:
            raise ValueError(f"{', '.join(GRADIENT_PROXIES)} need labels with the images")
        if {"snip", "grad_norm"} & set(names):
            (whole,) = gradients(network, images, labels, 1)
            scores |= {"snip": snip(weights(network), whole), "grad_norm": grad_norm(whole)}
        if "zico" in names:
            scores["zico"] = zico(gradients(network, images, labels, 2))
    single: dict[str, Callable[[], float]] = {
        "naswot": lambda: naswot(network, images),
        "jacob_cov": lambda: jacob_cov(network, images),
        "synflow": lambda: synflow(network, shape),
        "zen": lambda: zen(network, shape, generator=generator),
    }
    scores |= {name: single[name]() for name in names if name in single}
    return {name: scores[name] for name in names}


def weights(network: nn.Module) -> list[Tensor]:
    """Weights of the convolutions and linear layers, in the order of the modules."""
    return [module.weight for module in network.modules() if isinstance(module, (_ConvNd, nn.Linear))]


def gradients(network: nn.Module, images: Tensor, labels: Tensor, parts: int) -> list[list[Tensor]]:
    """Gradients of the mean cross-entropy of each part of a batch, in train mode.

    Args:
        network: untrained network.
        images: ``(B, C, H, W)``, ``B >= 2 * parts``.
        labels: ``(B,)``.
        parts: into how many equal parts the batch is split: one for SNIP and the gradient norm, as in the public code
            of Abdelfattah et al. (2021); two for ZiCo, which needs a spread.

    Returns:
        for each part, the gradient of each of :func:`weights`; zeros where a weight doesn't reach the loss.
    """
    subject = copy.deepcopy(network).train()
    tensors = weights(subject)
    out = []
    for some_images, some_labels in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        loss = F.cross_entropy(subject(some_images), some_labels)
        found = torch.autograd.grad(loss, tensors, allow_unused=True)
        out.append([torch.zeros_like(w) if g is None else g for w, g in zip(tensors, found, strict=True)])
    return out


def snip(tensors: Sequence[Tensor], grads: Sequence[Tensor]) -> float:
    """SNIP summed over weights (Lee et al. 2019, eq. 4; Abdelfattah et al. 2021, eq. 1): ``sum |w * dL/dw|``."""
    return sum(float((w.detach().double() * g.double()).abs().sum()) for w, g in zip(tensors, grads, strict=True))


def grad_norm(grads: Sequence[Tensor]) -> float:
    """Sum over layers of the Euclidean norm of the gradient (Abdelfattah et al. 2021, section 3.2)."""
    return sum(float(g.double().norm()) for g in grads)


def zico(parts: Sequence[Sequence[Tensor]]) -> float:
    """ZiCo (Li et al. 2023, eq. 17): ``sum over layers of log(sum over weights of mean|g| / std(g))`` over the parts.

    Args:
        parts: gradients of each part of the batch, see :func:`gradients`; at least two.

    Returns:
        the score; ``-inf`` if no weight has a gradient that varies.
    """
    total, counted = 0.0, 0
    for layer in zip(*parts, strict=True):
        values = torch.stack(list(layer)).double()
        spread = values.std(0, correction=0)
        varies = spread != 0  # a NaN varies, and makes the score NaN
        if varies.any():
            total += math.log(float((values.abs().mean(0)[varies] / spread[varies]).sum()))
            counted += 1
    return total if counted else -math.inf


def naswot(network: nn.Module, images: Tensor) -> float:
    """NASWOT (Mellor et al. 2021, eq. 2): log-determinant of the kernel of agreements between activation codes.

    Entry ``(i, j)`` counts the rectified units that images ``i`` and ``j`` both switch on or both off; each
    rectifier is asked before it acts. One forward pass in train mode.

    Args:
        network: untrained network with ``nn.ReLU``, ``nn.ReLU6`` or ``nn.Hardswish`` modules.
        images: ``(B, C, H, W)``.

    Returns:
        the score; ``-inf`` if two images can't be told apart, NaN if the network's output is not finite.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    # One feature map often feeds several rectifiers; its agreements are counted once and added as often.
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=4)

    def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        known = [agreements for features, agreements in recent if features is inputs[0]]
        agreements = known[0] if known else _agreements(inputs[0])
        recent.append((inputs[0], agreements))
        kernel.add_(agreements)

    subject = copy.deepcopy(network).train()
    for module in subject.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardswish)):
            module.register_forward_pre_hook(add)
    with torch.no_grad():
        if not subject(images).isfinite().all():
            return math.nan
    sign, log_determinant = torch.linalg.slogdet(kernel)
    return float(log_determinant) if sign > 0 else -math.inf


def jacob_cov(network: nn.Module, images: Tensor) -> float:
    """Jacobian covariance (Mellor et al. 2020, arXiv:2006.04647, version 1): ``-sum_i (log(v_i + k) + 1 / (v_i + k))``.

    ``v`` are the eigenvalues of the correlation matrix of the images' Jacobians: for each image, the derivative of the sum
    of the logits by its pixels. ``k = 1e-5``. One forward and backward pass in train mode.

    Args:
        network: untrained network.
        images: ``(B, C, H, W)``.

    Returns:
        the score; ``-inf`` where an image has no influence on the logits, NaN where the derivatives are not finite.
    """
    subject = copy.deepcopy(network).train()
    inputs = images.detach().clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(subject(inputs).sum(), inputs)
    rows = jacobian.flatten(1).double()
    if not rows.isfinite().all():
        return math.nan
    if (rows.std(1, correction=0) == 0).any():
        return -math.inf
    values = torch.linalg.eigvalsh(torch.corrcoef(rows)).clamp(min=0) + 1e-5
    return -float((values.log() + 1 / values).sum())


def _agreements(features: Tensor) -> Tensor:
    """Number of units that each two images agree on being positive, float64 ``(B, B)``; exact below 2**24 units."""
    on = (features > 0).movedim(1, -1).flatten(1).float()  # a view of features in channels-last memory
    count = on.sum(1)
    return (on.shape[1] - count[:, None] - count[None, :] + 2 * (on @ on.T)).double()


def synflow(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """Logarithm of SynFlow (Tanaka et al. 2020, eq. 2; Abdelfattah et al. 2021): ``log sum |w * dR/dw|``.

    ``R`` is the sum of the outputs of the network of absolute weights, without batch normalisation, for an image of
    ones. Double precision: a path multiplies one factor a layer, beyond the range of single precision in 50 layers.

    Args:
        network: untrained network.
        shape: channels, height and width.

    Returns:
        the score; ``-inf`` if nothing reaches the output.
    """
    subject = _without_normalisation(copy.deepcopy(network)).double().eval()
    with torch.no_grad():
        for parameter in subject.parameters():
            parameter.abs_()
    tensors = weights(subject)
    device = tensors[0].device if tensors else torch.device("cpu")
    flow = subject(torch.ones(1, *shape, dtype=torch.float64, device=device)).sum()
    found = torch.autograd.grad(flow, tensors, allow_unused=True)
    total = sum(float((w.detach() * g).sum()) for w, g in zip(tensors, found, strict=True) if g is not None)
    return math.log(total) if total > 0 else -math.inf


def _without_normalisation(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation below a module by the identity, in place."""
    for name, child in module.named_children():
        setattr(module, name, nn.Identity() if isinstance(child, _BatchNorm) else _without_normalisation(child))
    return module


def zen(
    network: nn.Module,
    shape: tuple[int, int, int],
    batch_size: int = 16,
    step: float = 0.01,
    generator: torch.Generator | None = None,
) -> float:
    """Zen-score (Lin et al. 2021, algorithm 1): how far the features before pooling move when the input does.

    ``log E |f(x) - f(x + step * e)| + sum over normalisations of log sqrt(mean variance)``, with standard normal
    weights, ``x`` and ``e``. The logarithm of the variances makes up for what normalisation has divided by; where nothing
    arrives (a convolution of zeros) there is none to make up for. The authors' program mixes each variance with its
    initial value of 1, so that its numbers are others.

    Args:
        network: untrained network; its features are what its last global average pooling gets, or else what its last
            linear layer gets.
        shape: channels, height and width.
        batch_size: random images.
        step: size of the perturbation.
        generator: of weights and images, on the CPU.

    Returns:
        the score; ``-inf`` if the features don't move.
    """
    subject = copy.deepcopy(network).train()
    norms = [module for module in subject.modules() if isinstance(module, _BatchNorm)]
    _gaussian(subject, norms, generator)
    device = next(subject.parameters()).device
    x = torch.randn(batch_size, *shape, generator=generator).to(device)
    moved = x + step * torch.randn(batch_size, *shape, generator=generator).to(device)
    with torch.no_grad(), _features(subject) as seen:
        subject(x)
        variances = [float(norm.running_var.double().mean()) for norm in norms if norm.running_var is not None]
        subject(moved)
    distance = float((seen[0] - seen[1]).double().abs().flatten(1).sum(1).mean())
    if distance <= 0:
        return -math.inf
    return math.log(distance) + sum(0.5 * math.log(variance) for variance in variances if variance > 0)


def _gaussian(network: nn.Module, norms: Sequence[_BatchNorm], generator: torch.Generator | None) -> None:
    """Draw standard normal weights; make normalisations plain, with the last batch's variance as their record."""
    with torch.no_grad():
        for weight in weights(network):
            weight.copy_(torch.randn(weight.shape, generator=generator))
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
            if norm.affine:
                norm.weight.fill_(1.0)
                norm.bias.fill_(0.0)


@contextmanager
def _features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the last global pooling (or else the last linear layer) of a network gets in each pass."""
    pools: list[nn.Module] = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    layers = pools or [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError("zen needs a network with global average pooling or a linear classifier")
    seen: list[Tensor] = []
    handle: RemovableHandle = layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
