"""A fitness of one's own: what a linear model can read off an untrained network."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ednag.data.sampling import image_batch
from ednag.fitness import Fitness
from ednag.spaces import SearchSpace
from ednag.spaces.building import build_network


class RidgeProbe(Fitness):
    """Accuracy of a ridge regression on random features: fitted on half of a batch, measured on the other half.

    Args:
        images: images in the batch.
        features: outputs of the untrained network.
    """

    name = "ridge probe accuracy, %"

    def __init__(self, images: int = 512, features: int = 64) -> None:
        super().__init__()
        if images < 4 or features < 1:
            raise ValueError(f"images must be >= 4 and features >= 1, got {images} and {features}")
        self.images, self.features = images, features

    def setup(
        self, space: SearchSpace, data: pl.LightningDataModule | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Take one batch of images."""
        super().setup(space, data, device)
        if data is None:
            raise ValueError("RidgeProbe looks at images: give a data module (--data CLASS)")
        self.batch = image_batch(data, self.images, self.device)

    def score(self, genes: Tensor) -> Tensor:
        """Score architectures, int64 ``(n, L)``, in percent."""
        return torch.tensor([self._accuracy(one) for one in genes], dtype=torch.float64, device=genes.device)

    def _accuracy(self, genes: Tensor) -> float:
        batch, half = self.batch, len(self.batch.labels) // 2
        network = build_network(self.space, genes, self.features, batch.shape[0], {}).to(self.device)
        with torch.no_grad():
            x = F.batch_norm(network(batch.images), None, None, training=True).double()
        y = F.one_hot(batch.labels, batch.num_classes).double()
        ridge = half * torch.eye(self.features, dtype=torch.float64, device=x.device) / 10
        weights = torch.linalg.solve(x[:half].mT @ x[:half] + ridge, x[:half].mT @ y[:half])
        right = (x[half:] @ weights).argmax(-1) == batch.labels[half:]
        return 100 * float(right.double().mean())
