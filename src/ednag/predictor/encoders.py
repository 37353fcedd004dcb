"""Encoders of the meta predictor: one for a data set (image features of each class), one for an architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ednag.predictor.graphs import graph_shape, operation_graph
from ednag.spaces import SearchSpace


class AttentionBlock(nn.Module):
    """Multi-head attention from one set to another with a feed-forward layer: MAB (Lee et al. 2019, eq. 6).

    Args:
        width: of both sets' elements and of the result.
        heads: attention heads; divides ``width``.
        dropout: of attention weights and of both residual branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor, absent: Tensor | None = None) -> Tensor:
        """Let ``x (B, n, width)`` look at ``y (B, m, width)``, without those that are ``absent``, bool ``(B, m)``."""
        seen, _ = self.attention(x, y, y, key_padding_mask=absent, need_weights=False)
        h = self.norms[0](x + self.drop(seen))
        out: Tensor = self.norms[1](h + self.drop(self.feed(h)))
        return out


class SetPool(nn.Module):
    """Pool a set: self-attention (SAB), then attention of a learned seed (PMA with k = 1; Lee et al. 2019, eq. 8, 11).

    Args:
        width: of the elements.
        heads: attention heads.
        dropout: see :class:`AttentionBlock`.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.among = AttentionBlock(width, heads, dropout)
        self.pool = AttentionBlock(width, heads, dropout)
        self.seed = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)

    def forward(self, x: Tensor, absent: Tensor | None = None) -> Tensor:
        """Pool ``x (B, n, width)`` without elements that are ``absent``, bool ``(B, n)``, to ``(B, width)``."""
        x = self.among(x, x, absent)
        out: Tensor = self.pool(self.seed.expand(len(x), -1, -1), x, absent).squeeze(1)
        return out


class SetEncoder(nn.Module):
    """Encode a data set: image features are pooled within each class, then the classes are pooled.

    The result doesn't depend on the order of images or classes. Pooling by attention is an average, so the number of
    classes is given to the last layer as well.

    Args:
        features: of an image.
        width: of the result.
        heads: attention heads.
        dropout: see :class:`AttentionBlock`; also of the image features.
    """

    def __init__(self, features: int, width: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, width), nn.GELU(), nn.LayerNorm(width))
        self.within = SetPool(width, heads, dropout)
        self.across = SetPool(width, heads, dropout)
        self.mix = nn.Linear(width + 1, width)

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """Encode data sets.

        Args:
            features: of images, standardised, ``(T, K, m, F)``; anything finite where a class is not present.
            present: which of the ``K`` classes each data set has, bool ``(T, K)``, one at least.

        Returns:
            ``(T, width)``.
        """
        tasks, classes = present.shape
        x = self.within(self.reduce(features).flatten(0, 1)).reshape(tasks, classes, -1)
        pooled = self.across(x, ~present)
        count = present.sum(-1, keepdim=True).to(pooled.dtype).log() - 2  # about zero mean for 2 to 20 classes
        out: Tensor = self.mix(torch.cat([pooled, count], -1))
        return out


class ArchitectureEncoder(nn.Module, ABC):
    """Encode architectures of any space, each from its genes and the space's features.

    Args:
        space: what genes mean.
        width: of the result.
        paths: also look at :meth:`SearchSpace.features` (the paths of a cell), if the space has any.
        dropout: of the result.
    """

    def __init__(self, space: SearchSpace, width: int, paths: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        self.space = space
        count = space.features(torch.zeros(1, space.num_genes, dtype=torch.int64)).shape[-1] if paths else 0
        self.paths = nn.Linear(count, width) if count else None
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    @abstractmethod
    def encode(self, genes: Tensor) -> Tensor:
        """Encode genes, int64 ``(n, L)``, to ``(n, width)``."""

    def forward(self, genes: Tensor) -> Tensor:
        """Encode genes, int64 ``(*B, L)``, to ``(*B, width)``."""
        flat = genes.flatten(0, -2)
        x = self.encode(flat)
        if self.paths is not None:
            x = x + self.paths(self.space.features(flat))
        out: Tensor = self.drop(self.norm(x)).unflatten(0, genes.shape[:-1])
        return out


class OneHotEncoder(ArchitectureEncoder):
    """A plain network on one-hot genes.

    Args:
        space: see :class:`ArchitectureEncoder`.
        width: likewise.
        paths: likewise.
        dropout: likewise.
    """

    def __init__(self, space: SearchSpace, width: int, paths: bool = True, dropout: float = 0.1) -> None:
        super().__init__(space, width, paths, dropout)
        self.layers = nn.Sequential(nn.Linear(space.layout.dim, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def encode(self, genes: Tensor) -> Tensor:
        """See :meth:`ArchitectureEncoder.encode`."""
        out: Tensor = self.layers(self.space.layout.encode(genes))
        return out


class DiGCNEncoder(ArchitectureEncoder):
    """Graph convolutions along and against the flow of data (Wen et al. 2020, eq. 3), four layers as in the paper.

    ``H <- (relu(A H W+) + relu(A' H W-)) / 2`` with ``A`` and its transpose ``A'`` with self-loops, rows normalised. A node is known
    by its operation and its place; the nodes are averaged in the end.

    Args:
        space: see :class:`ArchitectureEncoder`.
        width: likewise.
        paths: likewise.
        dropout: likewise.
        layers: graph convolutions.
    """

    def __init__(
        self, space: SearchSpace, width: int, paths: bool = True, dropout: float = 0.1, layers: int = 4
    ) -> None:
        super().__init__(space, width, paths, dropout)
        vertices, symbols = graph_shape(space)
        self.place = nn.Parameter(torch.randn(vertices, width) * 0.5)
        self.embed = nn.Linear(symbols, width)
        self.along = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.against = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def encode(self, genes: Tensor) -> Tensor:
        """See :meth:`ArchitectureEncoder.encode`."""
        graph = operation_graph(self.space, genes)
        loops = graph.adjacency + torch.eye(graph.adjacency.shape[-1], device=genes.device)
        forward, backward = (F.normalize(a, p=1.0, dim=-1) for a in (loops, loops.mT))
        h = self.embed(graph.nodes) + self.place
        for along, against, norm in zip(self.along, self.against, self.norms, strict=True):
            h = h + (F.relu(along(forward @ norm(h))) + F.relu(against(backward @ norm(h)))) / 2
        pooled: Tensor = h.mean(1)
        return pooled


class GRUEncoder(ArchitectureEncoder):
    """A recurrent network along the graph and back, as of D-VAE (Zhang et al. 2019), which MetaD2A uses.

    A node's state comes from its operation and the gated sum of the states of the nodes before it; the states of the
    output (along) and of the input (back) are the result. The loop is over the nodes of a graph, not over graphs.

    Args:
        space: see :class:`ArchitectureEncoder`.
        width: likewise.
        paths: likewise.
        dropout: likewise.
    """

    def __init__(self, space: SearchSpace, width: int, paths: bool = True, dropout: float = 0.1) -> None:
        super().__init__(space, width, paths, dropout)
        vertices, symbols = graph_shape(space)
        self.cells = nn.ModuleList(nn.GRUCell(symbols, width) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(width + vertices, width) for _ in range(2))
        self.maps = nn.ModuleList(nn.Linear(width + vertices, width, bias=False) for _ in range(2))
        self.join = nn.Linear(2 * width, width)

    def encode(self, genes: Tensor) -> Tensor:
        """See :meth:`ArchitectureEncoder.encode`."""
        graph = operation_graph(self.space, genes)
        ends = [
            self._walk(direction, nodes, adjacency)
            for direction, (nodes, adjacency) in enumerate(
                [(graph.nodes, graph.adjacency), (graph.nodes.flip(1), graph.adjacency.mT.flip(1, 2))]
            )
        ]
        out: Tensor = self.join(torch.cat(ends, -1))
        return out

    def _walk(self, direction: int, nodes: Tensor, adjacency: Tensor) -> Tensor:
        """State of the last node, ``(n, width)``."""
        number = torch.eye(nodes.shape[1], device=nodes.device)
        messages: list[Tensor] = []
        state = nodes.new_zeros(len(nodes), self.join.out_features)
        for vertex in range(nodes.shape[1]):
            coming = torch.zeros_like(state)
            if messages:
                coming = (adjacency[:, :vertex, vertex, None] * torch.stack(messages, 1)).sum(1)
            state = self.cells[direction](nodes[:, vertex], coming)
            named = torch.cat([state, number[vertex].expand(len(state), -1)], -1)
            messages.append(self.gates[direction](named).sigmoid() * self.maps[direction](named))
        return state


ENCODERS: dict[str, type[ArchitectureEncoder]] = {"digcn": DiGCNEncoder, "gru": GRUEncoder, "mlp": OneHotEncoder}
"""Architecture encoders by the name that a predictor's configuration gives them."""
