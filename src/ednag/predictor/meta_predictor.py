"""The meta predictor: scores an architecture for a data set and a training, from images, the training's budget and the genes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torchmetrics import MeanMetric, MetricCollection

from ednag.core.names import unknown
from ednag.predictor.budgets import BENCHMARK, TrainingBudget, decode
from ednag.predictor.encoders import ENCODERS, SetEncoder
from ednag.predictor.extractors import find_extractor
from ednag.predictor.losses import bootstrap_weights, ranking_loss, squared_loss, standardise
from ednag.predictor.meta_data import MetaData
from ednag.predictor.saving import read_predictor, save_predictor
from ednag.predictor.scores import SCORES, task_scores
from ednag.predictor.task_rows import TaskBatch
from ednag.spaces.base import find_space


class MetaPredictor(pl.LightningModule):
    """Data-set encoder, budget encoder and architecture encoder, joined by an ensemble of small networks.

    A data set is described by its images, where there are any, and a training by its budget
    (:class:`~ednag.predictor.budgets.TrainingBudget`): one model answers for 64 steps on 1,000 images, and for 200 epochs
    on 50,000. Where there are no images, a learned embedding stands for them.

    The target of a row is its accuracy, standardised within its task: a score says how an architecture compares with
    others on the same data set, in standard deviations of random architectures there, and nothing about how hard the
    data set is. Only the ranking within a data set matters when architectures are generated for it.

    Logged for ``val`` and ``test``, means over tasks: ``spearman``, ``kendall``, ``pearson``, and ``regret1`` and
    ``regret5``, accuracy points between the best measured architecture and the best of the 1 and 5 that score highest.
    A fit ends with the weights of its best checkpoint, if it keeps any, and writes them into ``RUN/predictor``.

    Args:
        space: short name of the search space (``nasbench201``).
        extractor: name of the feature extractor.
        encoder: architecture encoder: graph convolutions, a recurrent network, or a plain network on one-hot genes.
        paths: whether the architecture encoder also sees the features of the space (paths of a cell).
        task_aware: with ``False``, the data set is not looked at: the task-blind model of an ablation.
        width: of both latents (56 in the paper).
        heads: attention heads of the set encoder.
        hidden: width of the networks that join the latents.
        members: networks in the ensemble, each trained on its own Bayesian bootstrap of the rows.
        dropout: see :class:`~ednag.predictor.encoders.SetEncoder`.
        ranking: weight of the pairwise ranking loss, beside 1 of the squared error; >= 0.
        blind: probability, in a training step, that the images of a task are not shown, in [0, 1].
        images_kept: share of each coreset that a training step sees, a random one each time, in (0, 1].
        lr: first learning rate of AdamW, lowered to 0 by a cosine over the training.
        weight_decay: of AdamW.
        image_size: side of the images of the tasks it was trained on; images are reduced to it when it serves.
        coreset: images per class.
        seed: of initial weights. Dropout and order follow the global seed (``seed_everything``).

    Raises:
        ValueError: for an option out of range or an unknown name.

    Examples:
        >>> model = MetaPredictor(space="nasbench201", width=8, heads=2, members=2)
        >>> model.space.name, sum(weight.numel() for weight in model.parameters()) > 0
        ('nasbench201', True)
    """

    feature_mean: Tensor
    feature_std: Tensor
    budget_range: Tensor

    def __init__(
        self,
        space: str = "nasbench201",
        extractor: str = "efficientnet_lite0",
        encoder: Literal["digcn", "gru", "mlp"] = "mlp",
        paths: bool = True,
        task_aware: bool = True,
        width: int = 56,
        heads: int = 4,
        hidden: int = 128,
        members: int = 5,
        dropout: float = 0.1,
        ranking: float = 1.0,
        blind: float = 0.3,
        images_kept: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        image_size: int = 16,
        coreset: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if min(width, hidden, members, heads) < 1 or width % heads:
            raise ValueError("width, heads, hidden and members must be >= 1, and heads must divide width")
        if not 0 <= dropout < 1 or not 0 < images_kept <= 1 or ranking < 0 or not 0 <= blind <= 1:
            raise ValueError("need 0 <= dropout < 1, 0 < images_kept <= 1, 0 <= blind <= 1 and ranking >= 0")
        if encoder not in ENCODERS:
            raise ValueError(unknown("encoder", encoder, ENCODERS))
        self.space = find_space(space)
        dim = find_extractor(extractor).dim
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.data_encoder = SetEncoder(dim, width, heads, dropout) if task_aware else None
            self.architecture_encoder = ENCODERS[encoder](self.space, width, paths, dropout)
            self.heads = Ensemble(width, hidden, members, dropout)
            self.budget_encoder = nn.Linear(len(BENCHMARK.encode()), width)
        self.unseen = nn.Parameter(torch.zeros(width))
        self.register_buffer("budget_range", BENCHMARK.encode().repeat(2, 1))
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_std", torch.ones(dim))
        self.learned_from: list[str] = []
        self.scores = nn.ModuleDict({stage: _mean_scores(stage) for stage in ("val", "test")})

    def embed(
        self, features: Tensor | None = None, present: Tensor | None = None, budget: Tensor | None = None
    ) -> Tensor:
        """Embed data sets together with trainings on them.

        Args:
            features: of the images of each class, ``(*B, K, m, F)``; none if omitted.
            present: which classes there are images of, bool ``(*B, K)``; all if omitted. Where there is none, and where the
                model is task-blind, the learned embedding of no images serves.
            budget: of the training, encoded, ``(*B, 5)``; the long training of the benchmark tables if omitted. What is
                outside of :meth:`learned_range` is taken to be at its border.

        Returns:
            ``(*B, width)``.
        """
        code = (BENCHMARK.encode().to(self.budget_range) if budget is None else budget).to(self.budget_range.device)
        low, high = self.budget_range
        trained: Tensor = self.budget_encoder(code.clamp(low, high))
        if features is None or self.data_encoder is None:
            batch = () if features is None else features.shape[:-3]
            return (trained + self.unseen).expand(*(*batch, *trained.shape[-1:]) if batch else trained.shape)
        if present is None:
            present = torch.ones(features.shape[:-2], dtype=torch.bool, device=features.device)
        seen = present.any(-1, keepdim=True)
        x = (features - self.feature_mean) / self.feature_std
        shown = (present | ~seen).reshape(-1, present.shape[-1])  # what is not shown is encoded and not used
        found: Tensor = self.data_encoder(x.reshape(-1, *x.shape[-3:]), shown)
        return found.reshape(*features.shape[:-3], -1).where(seen, self.unseen) + trained

    def learned_range(self) -> tuple[TrainingBudget, TrainingBudget]:
        """Return the least and the most of each number of the budgets that the model learned from."""
        low, high = self.budget_range
        return decode(low), decode(high)

    def forward(self, genes: Tensor, embedding: Tensor) -> Tensor:
        """Score architectures on data sets, by every member of the ensemble.

        Args:
            genes: int64 ``(*B, N, L)``.
            embedding: of data sets and trainings, see :meth:`embed`, ``(*B, width)``.

        Returns:
            ``(*B, N, M)``.
        """
        out: Tensor = self.heads(self.architecture_encoder(genes), embedding[..., None, :])
        return out

    @torch.no_grad()
    def predict_scores(self, genes: Tensor, embedding: Tensor, batch_size: int = 4096) -> tuple[Tensor, Tensor]:
        """Score architectures on one data set, as the model serves.

        Args:
            genes: int64 ``(n, L)``.
            embedding: ``(width,)``.
            batch_size: architectures at a time.

        Returns:
            mean and standard deviation over the ensemble, ``(n,)`` each.
        """
        parts = [self(some, embedding) for some in torch.split(genes, batch_size)]
        scores = torch.cat(parts) if parts else embedding.new_zeros(0, 2)
        return scores.mean(-1), scores.std(-1, correction=0)

    def setup(self, stage: str) -> None:
        """Take the statistics of image features from the training tasks, once, before the first training."""
        data = getattr(self.trainer, "datamodule", None)
        if self.data_encoder is not None and isinstance(data, MetaData) and not data.images:
            raise ValueError(
                "a predictor that looks at images needs them: set --model.task_aware false, or --data.images true"
            )
        if isinstance(data, MetaData) and stage == "fit":
            self.learned_from = list(dict.fromkeys(one.dataset for one in data.part("train").tables))
        if stage != "fit" or not isinstance(data, MetaData) or self.budget_range[0].ne(self.budget_range[1]).any():
            return
        part = data.part("train")
        if part.rows.space != self.space.name:
            raise ValueError(
                f"the meta data are of {part.rows.space}, the predictor is for {self.space.name}; set --model.space"
            )
        budgets = torch.stack([*part.budgets.values(), *(one.budget.encode() for one in part.tables)])
        self.budget_range.copy_(torch.stack([budgets.amin(0), budgets.amax(0)]))
        if self.data_encoder is None:
            return
        features = torch.cat([part.features[task].flatten(0, 1) for task in part.chosen])
        if features.shape[-1] != len(self.feature_mean):
            raise ValueError(
                f"the meta data have {features.shape[-1]} image features, {self.hparams['extractor']} makes "
                f"{len(self.feature_mean)}; set --model.extractor to the extractor that made them"
            )
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(1e-3))

    def training_step(self, batch: TaskBatch, batch_idx: int) -> Tensor:
        """Squared error of standardised accuracies and ranking loss, over the rows of a few tasks."""
        features, present = batch.features, batch.present
        blind = torch.rand(len(present), 1, device=self.device) < float(self.hparams["blind"])
        kept = max(round(float(self.hparams["images_kept"]) * features.shape[2]), 1)
        if kept < features.shape[2]:
            features = features[:, :, torch.randperm(features.shape[2], device=self.device)[:kept]]
        scores = self(batch.genes, self.embed(features, present & ~blind, batch.budget))
        target = standardise(batch.accuracy, batch.measured)
        weights = bootstrap_weights(batch.row, scores.shape[-1]) * batch.measured[..., None]
        squared = squared_loss(scores, target, weights)
        ranked = ranking_loss(scores, target, weights)
        loss = squared + float(self.hparams["ranking"]) * ranked
        values = {"train/loss": loss, "train/squared": squared, "train/ranking": ranked}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch.genes))
        return loss

    def validation_step(self, batch: TaskBatch, batch_idx: int) -> None:
        """Add tasks to the validation scores."""
        self._measure("val", batch)

    def test_step(self, batch: TaskBatch, batch_idx: int) -> None:
        """Add tasks to the test scores."""
        self._measure("test", batch)

    def _measure(self, stage: str, batch: TaskBatch) -> None:
        predicted = self(batch.genes, self.embed(batch.features, batch.present, batch.budget)).mean(-1)
        metrics: Any = self.scores[stage]
        for scores, accuracy, measured in zip(predicted, batch.accuracy, batch.measured, strict=True):
            for name, value in task_scores(scores[measured], accuracy[measured]).items():
                metrics[name].update(value)
        self.log_dict(metrics, batch_size=len(batch.genes), prog_bar=stage == "val")

    def configure_optimizers(self) -> Any:
        """AdamW, weights of norms and biases not decayed, and a learning rate that falls to 0 along a half cosine."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.hparams["weight_decay"]}, {"params": others}]
        optimizer = AdamW(groups, lr=self.hparams["lr"], weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_end(self) -> None:
        """Return to the best checkpoint, and save the predictor into the run's directory."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if best:
            self.load_state_dict(torch.load(best, map_location=self.device, weights_only=True)["state_dict"])
        if self.trainer.is_global_zero:
            save_predictor(self, Path(self.trainer.default_root_dir) / "predictor")


class Ensemble(nn.Module):
    """Networks from both latents to a score, all at once: weights have a leading dimension, one entry a member.

    They see the architecture's latent, the data set's, and the product of the two after a linear map each (a low-rank
    bilinear interaction).

    Args:
        width: of both latents.
        hidden: units of the hidden layer.
        members: ``M``.
        dropout: of the hidden layer.
    """

    def __init__(self, width: int, hidden: int, members: int, dropout: float) -> None:
        super().__init__()
        self.left = nn.Linear(width, width)
        self.right = nn.Linear(width, width)
        self.first = nn.Parameter(torch.randn(members, 3 * width, hidden) * (3 * width) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(members, hidden))
        self.last = nn.Parameter(torch.randn(members, hidden) * hidden**-0.5)
        self.drop = nn.Dropout(dropout)

    def forward(self, architecture: Tensor, data: Tensor) -> Tensor:
        """Score ``(*B, N, width)`` architectures on ``(*B, 1, width)`` data sets: ``(*B, N, M)``."""
        product = self.left(architecture) * self.right(data)
        x = torch.cat([architecture, product, data.expand_as(architecture)], -1)
        hidden = torch.einsum("...i,mih->...mh", x, self.first) + self.bias
        scores: Tensor = (self.drop(nn.functional.gelu(hidden)) * self.last).sum(-1)
        return scores


def load_predictor(folder: Path | str, device: torch.device | str = "cpu") -> MetaPredictor:
    """Read a trained predictor.

    Args:
        folder: a predictor's folder, a run of ``ednag fit``, or the name of a shipped predictor.
        device: where to put it.

    Returns:
        the predictor, in evaluation mode and without gradients.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, truncated, or of another version.
    """
    saved = read_predictor(folder)
    try:
        predictor = MetaPredictor(**saved.options)
        found = predictor.load_state_dict(saved.weights, strict=False)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"configuration and weights in {saved.folder} don't fit together ({error})") from None
    lost = [name for name in found.missing_keys if not name.startswith("scores.")] + found.unexpected_keys
    if lost:
        raise ValueError(f"configuration and weights in {saved.folder} don't fit together ({', '.join(lost[:3])})")
    predictor.learned_from = saved.learned_from
    return predictor.to(device).eval().requires_grad_(False)


def _mean_scores(stage: str) -> MetricCollection:
    """One mean over tasks for each score."""
    return MetricCollection({name: MeanMetric() for name in SCORES}, prefix=f"{stage}/", compute_groups=False)
