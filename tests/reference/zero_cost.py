"""Slow, plain restatements of the zero-cost proxies, from the equations of their papers."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call


def _weight_names(network: nn.Module) -> list[str]:
    return [f"{name}.weight" for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Derivative of the loss by a mask of ones on every weight (Lee et al. 2019, eq. 4), summed in absolute value."""
    names, tensors = _weight_names(network), dict(network.named_parameters())
    masks = [torch.ones_like(tensors[name], requires_grad=True) for name in names]
    network.train()
    masked = {**tensors, **{name: tensors[name] * mask for name, mask in zip(names, masks, strict=True)}}
    probabilities = functional_call(network, masked, (images,)).softmax(-1)
    loss = -probabilities[torch.arange(len(labels)), labels].log().mean()
    return sum(float(g.abs().sum()) for g in torch.autograd.grad(loss, masks))


def part_gradients(network: nn.Module, images: Tensor, labels: Tensor, parts: int) -> list[list[np.ndarray]]:
    """Gradients of each part of the batch, by ``backward``."""
    network.train()
    out = []
    size = len(images) // parts
    for begin in range(0, len(images), size):
        some_images, some_labels = images[begin : begin + size], labels[begin : begin + size]
        network.zero_grad()
        nn.CrossEntropyLoss()(network(some_images), some_labels).backward()
        out.append([dict(network.named_parameters())[name].grad.numpy().copy() for name in _weight_names(network)])
    return out


def grad_norm(gradients: list[np.ndarray]) -> float:
    return sum(math.sqrt(float((g.astype(np.float64) ** 2).sum())) for g in gradients)


def zico(parts: list[list[np.ndarray]]) -> float:
    """Li et al. 2023, eq. 17, weight by weight."""
    total = 0.0
    for layer in zip(*parts, strict=True):
        ratios = 0.0
        for values in np.stack([g.ravel().astype(np.float64) for g in layer], 1):
            mean = sum(abs(v) for v in values) / len(values)
            centre = sum(values) / len(values)
            deviation = math.sqrt(sum((v - centre) ** 2 for v in values) / len(values))
            if deviation > 0:
                ratios += mean / deviation
        if ratios > 0:
            total += math.log(ratios)
    return total


def naswot(network: nn.Module, images: Tensor) -> float:
    """Mellor et al. 2021, eq. 2: units minus Hamming distance, pair by pair, from the outputs of the rectifiers."""
    codes: list[list[np.ndarray]] = [[] for _ in images]

    def collect(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for i, row in enumerate(output):
            codes[i].append(row.detach().flatten().numpy() > 0)

    handles = [m.register_forward_hook(collect) for m in network.modules() if isinstance(m, nn.ReLU)]
    network.train()(images)
    for handle in handles:
        handle.remove()
    whole = [np.concatenate(parts) for parts in codes]
    kernel = [[float(len(a) - np.count_nonzero(a != b)) for b in whole] for a in whole]
    return float(np.linalg.slogdet(np.array(kernel))[1])


def jacob_cov(network: nn.Module, images: Tensor) -> float:
    """Mellor et al. 2020, version 1: from the correlations of the derivatives of the summed logits by each image."""
    network.train()
    inputs = images.clone().requires_grad_()
    network(inputs).backward(torch.ones(len(images), 10))
    derivatives = inputs.grad.reshape(len(images), -1).numpy()
    values, _ = np.linalg.eig(np.corrcoef(derivatives))
    return -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values.real)


def synflow_of_linear_chain(matrices: list[np.ndarray]) -> float:
    """Each of the ``n`` layers of a linear chain carries the whole flow ``1' |W_n| ... |W_1| 1``, so SynFlow is n times it.

    The logarithm is gathered step by step, so that no number gets large.
    """
    flow, logarithm = np.ones(matrices[0].shape[1]), math.log(len(matrices))
    for matrix in matrices:
        flow = np.abs(matrix.astype(np.float64)) @ flow
        logarithm += math.log(flow.sum())
        flow /= flow.sum()
    return logarithm


def zen_of_one_block(weight: Tensor, x: Tensor, moved: Tensor) -> float:
    """Zen-score of convolution (3x3, padding 1), batch normalisation, ReLU: Lin et al. 2021, algorithm 1."""

    def features(images: Tensor) -> tuple[Tensor, Tensor]:
        made = nn.functional.conv2d(images.double(), weight.double(), padding=1)
        centre = made.mean((0, 2, 3), keepdim=True)
        variance = ((made - centre) ** 2).mean((0, 2, 3), keepdim=True)
        return ((made - centre) / (variance + 1e-5).sqrt()).clamp_min(0), variance

    a, variance = features(x)
    b, _ = features(moved)
    return math.log(float((a - b).abs().sum((1, 2, 3)).mean())) + math.log(math.sqrt(float(variance.mean())))
