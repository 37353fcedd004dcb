import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ednag.retraining.module import ImageClassifier, NonFiniteLoss, Recipe
from ednag.spaces import TransNAS101Micro


class Linear(nn.Module):
    """Logits of a linear layer, and an auxiliary head's while training."""

    def __init__(self, auxiliary: bool = False) -> None:
        super().__init__()
        self.main = nn.Linear(12, 7)
        self.side = nn.Linear(12, 7) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out = self.main(x.flatten(1))
        return (out, self.side(x.flatten(1))) if self.side is not None and self.training else out


def images(n: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 2, 2, generator=generator), torch.randint(0, 7, (n,), generator=generator)


def loader(batch_size: int = 16) -> DataLoader:
    return DataLoader(TensorDataset(*images()), batch_size=batch_size)


def trainer(**options: object) -> pl.Trainer:
    settings = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, **{**settings, **options})


def loss_of(recipe: Recipe, auxiliary: bool = False, seed: int = 0) -> tuple[ImageClassifier, Tensor]:
    torch.manual_seed(0)
    classifier = ImageClassifier(Linear(auxiliary), 7, recipe, seed)
    classifier.trainer = trainer()
    classifier.log = lambda *_, **__: None  # type: ignore[method-assign]
    return classifier, classifier.training_step(images(), 3)


@pytest.mark.parametrize(("every", "turns", "warm"), [("step", 16, 4), ("epoch", 4, 1)])
def test_the_rate_rises_before_it_falls(every: str, turns: int, warm: int) -> None:
    recipe = Recipe(epochs=4, lr=0.3, warmup_epochs=1, schedule_every=every)  # type: ignore[arg-type]
    classifier, rates = ImageClassifier(Linear(), 7, recipe), []

    class Note(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_epochs=4, callbacks=[Note()]).fit(classifier, loader())
    seen = rates if every == "step" else rates[::4]
    rising = [0.3 * (i + 1) / (warm + 1) for i in range(warm)]
    falling = [0.15 * (1 + math.cos(math.pi * i / (turns - warm))) for i in range(turns - warm)]
    assert seen == pytest.approx(rising + falling)
    with pytest.raises(ValueError, match="warmup_epochs must be >= 0"):
        Recipe(warmup_epochs=-1)


def test_label_smoothing_spreads_the_target() -> None:
    classifier, loss = loss_of(Recipe(label_smoothing=0.2))
    x, y = images()
    target = F.one_hot(y, 7) * 0.8 + 0.2 / 7
    expected = -(target * classifier(x).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)


def test_mixup_mixes_images_and_targets_alike() -> None:
    classifier, loss = loss_of(Recipe(mixup=0.5), seed=4)
    x, y = images()
    share = np.random.default_rng((4, 0, 3)).beta(0.5, 0.5)
    target = share * F.one_hot(y, 7) + (1 - share) * F.one_hot(y.flip(0), 7)
    logits = classifier(share * x + (1 - share) * x.flip(0))
    torch.testing.assert_close(loss, -(target * logits.log_softmax(-1)).sum(-1).mean())


def test_auxiliary_head_counts_with_its_weight() -> None:
    classifier, loss = loss_of(Recipe(auxiliary_weight=0.4), auxiliary=True)
    x, y = images()
    main, side = classifier(x)
    torch.testing.assert_close(loss, F.cross_entropy(main, y) + 0.4 * F.cross_entropy(side, y))


def test_default_recipe_is_nesterov_and_a_cosine_to_zero() -> None:
    rates: list[float] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    classifier = ImageClassifier(Linear(), 7, Recipe(epochs=2))
    fitted = trainer(callbacks=[Watch()])
    fitted.fit(classifier, loader())
    group = fitted.optimizers[0].param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])
    assert group["lr"] == pytest.approx(0.0, abs=1e-12)


def test_one_step_equals_the_optimizer_written_out() -> None:
    torch.manual_seed(0)
    network = Linear()
    start = {name: value.detach().clone() for name, value in network.named_parameters()}
    trainer(max_epochs=1).fit(ImageClassifier(network, 7, Recipe(epochs=1)), loader(64))
    twin = Linear()
    twin.load_state_dict(start)
    x, y = images()
    F.cross_entropy(twin(x), y).backward()
    for name, value in network.named_parameters():
        gradient = dict(twin.named_parameters())[name].grad + 5e-4 * start[name]
        torch.testing.assert_close(value, start[name] - 0.1 * (gradient + 0.9 * gradient))


def test_own_optimizer_and_schedule() -> None:
    recipe = Recipe(
        epochs=2,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.5),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1),
        schedule_every="epoch",
    )
    fitted = trainer()
    fitted.fit(ImageClassifier(Linear(), 7, recipe), loader())
    assert isinstance(fitted.optimizers[0], torch.optim.AdamW)
    assert fitted.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.005)
    assert recipe.settings()["optimizer"]["class"] == "AdamW"
    assert recipe.settings()["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize("num_classes", [7, 3])
def test_metrics_agree_with_numpy(num_classes: int) -> None:
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :num_classes] * 3

    x, y = images(150)
    y = y % num_classes
    data = DataLoader(TensorDataset(x, y), batch_size=64)
    values = trainer().test(ImageClassifier(Identity(), num_classes), data, verbose=False)[0]
    p = torch.softmax(x.flatten(1)[:, :num_classes] * 3, -1).double().numpy()
    label, best = y.numpy(), p.argmax(1)
    order = np.argsort(-p, 1)[:, : min(5, num_classes)]
    confidence, right, error = p.max(1), best == label, 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert values["test/top1"] == pytest.approx(100 * right.mean(), abs=1e-4)
    assert values["test/top5"] == pytest.approx(100 * (order == label[:, None]).any(1).mean(), abs=1e-4)
    assert values["test/nll"] == pytest.approx(-np.log(p[np.arange(150), label]).mean(), abs=1e-5)
    assert values["test/calibration_error"] == pytest.approx(error, abs=1e-5)


def test_a_non_finite_loss_ends_the_training() -> None:
    with pytest.raises(NonFiniteLoss, match="not finite"):
        trainer().fit(ImageClassifier(Linear(), 7, Recipe(epochs=2, lr=1e30)), loader())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "epochs"), ({"label_smoothing": 1.0}, "label_smoothing"), ({"mixup": -1.0}, "mixup")],
)
def test_recipe_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_narrow_networks_that_channels_last_would_crash_are_trained_in_the_other_layout() -> None:
    space = TransNAS101Micro()
    layouts = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        layouts.append(inputs[0].stride()[1])

    for channels, suits in ((4, False), (16, True)):
        network = space.build(space.parse("64-41414-2_13_013"), 3, 1, channels, stem_stride=1)
        classifier = ImageClassifier(network, 3, Recipe(channels_last=True))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(look)
        layouts.clear()
        images = torch.rand(4, 16, 16, 1).movedim(3, 1)  # both layouts, as far as strides tell
        loss = classifier(images).square().mean()
        assert all((stride == 1) is suits for stride in layouts)
        loss.backward()
        assert classifier.memory_format == (torch.channels_last if suits else torch.contiguous_format)
