"""Sub-networks cut out of a supernet, against the supernet run with slices, written out with functions."""

import json
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ednag.core.storage import save_state
from ednag.data.image_folder import ImageFolder
from ednag.engine.trainer import Trainer
from ednag.generation.report import Candidate, Report
from ednag.retraining.module import ImageClassifier, Recipe
from ednag.retraining.supernet import SupernetWeights, recalibrate
from ednag.spaces import NASBench201
from ednag.spaces.mobilenetv3 import MobileNetV3
from ednag.spaces.supernet import Supernet

SPACE = MobileNetV3()
CLASSES = 11
TEXTS = (
    "ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4",
    "ks=7777,7777,7777,7777,7777 e=6666,6666,6666,6666,6666 d=4,4,4,4,4",
)


def official(name: str) -> str:
    """Name of a tensor in the published files: elastic layers wrap their convolutions and normalisations."""
    if name.startswith("blocks.") and not name.startswith("blocks.0."):
        name = name.replace(".bn.", ".bn.bn.")
        if "conv.weight" in name:
            name = name.replace(".conv.weight", ".conv.conv.weight")
    return name.replace(".conv.", ".mobile_inverted_conv.", 1) if name.startswith("blocks.") else name


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A supernet of width 1.0 with random weights and statistics, double precision, in the published layout."""
    generator, largest = torch.Generator().manual_seed(0), torch.full((45,), 2)
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in SPACE.build(largest, CLASSES).state_dict().items()}
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[official(name)] = torch.tensor(7)
        elif "running_var" in name or (".bn." in name and name.endswith("weight")):
            found[official(name)] = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
        else:
            scale = 2 / max(1, shape[1:].numel()) ** 0.5
            found[official(name)] = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("depth_conv.conv.weight") and not name.startswith("blocks.0."):
            for matrix, side in (("7to5_matrix", 25), ("5to3_matrix", 9)):
                noise = 0.1 * torch.randn(side, side, generator=generator, dtype=torch.float64)
                found[official(name).replace("conv.weight", matrix)] = torch.eye(side) + noise
    return found


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def dynamic_forward(state: dict[str, Tensor], settings: dict[str, list[int]], x: Tensor) -> Tensor:
    """Run the sub-network inside the supernet (Cai et al. 2020): its own names, slices and loops."""

    def norm(y: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        n = y.shape[1]
        return F.batch_norm(y, mean[:n], var[:n], weight[:n], bias[:n], eps=1e-5)

    def kernel(name: str, channels: int, size: int) -> Tensor:
        filters = []
        for channel in range(channels):
            k = state[f"{name}.conv.weight"][channel, 0]
            if size < 7:
                k = (state[f"{name}.7to5_matrix"] @ k[1:6, 1:6].flatten()).view(5, 5)
            if size < 5:
                k = (state[f"{name}.5to3_matrix"] @ k[1:4, 1:4].flatten()).view(3, 3)
            filters.append(k)
        return torch.stack(filters)[:, None]

    x = F.hardswish(norm(F.conv2d(x, state["first_conv.conv.weight"], stride=2, padding=1), "first_conv.bn"))
    b = "blocks.0.mobile_inverted_conv."
    y = F.relu(norm(F.conv2d(x, state[b + "depth_conv.conv.weight"], padding=1, groups=16), b + "depth_conv.bn"))
    x = x + norm(F.conv2d(y, state[b + "point_linear.conv.weight"]), b + "point_linear.bn")
    for stage in range(5):
        act = F.hardswish if stage >= 2 else F.relu
        for layer in range(settings["d"][stage]):
            place, stride = 4 * stage + layer, (1 if layer or stage == 3 else 2)
            size, n = settings["ks"][place], settings["e"][place] * x.shape[1]
            b = f"blocks.{place + 1}.mobile_inverted_conv."
            y = F.conv2d(x, state[b + "inverted_bottleneck.conv.conv.weight"][:n])
            y = act(norm(y, b + "inverted_bottleneck.bn.bn"))
            y = F.conv2d(y, kernel(b + "depth_conv.conv", n, size), stride=stride, padding=size // 2, groups=n)
            y = act(norm(y, b + "depth_conv.bn.bn"))
            if stage in (1, 3, 4):
                fc, inner = b + "depth_conv.se.fc.", 24 if n == 72 else (n // 4 + 4) // 8 * 8
                z = F.conv2d(
                    y.mean((2, 3), keepdim=True),
                    state[fc + "reduce.weight"][:inner, :n],
                    state[fc + "reduce.bias"][:inner],
                )
                z = F.conv2d(F.relu(z), state[fc + "expand.weight"][:n, :inner], state[fc + "expand.bias"][:n])
                y = y * F.relu6(z + 3) / 6
            y = norm(F.conv2d(y, state[b + "point_linear.conv.conv.weight"][:, :n]), b + "point_linear.bn.bn")
            x = x + y if layer else y
    x = F.hardswish(norm(F.conv2d(x, state["final_expand_layer.conv.weight"]), "final_expand_layer.bn"))
    x = F.hardswish(F.conv2d(x.mean((2, 3), keepdim=True), state["feature_mix_layer.conv.weight"])).flatten(1)
    return F.linear(x, state["classifier.linear.weight"], state["classifier.linear.bias"])


@pytest.mark.parametrize("text", TEXTS)
def test_a_sub_network_computes_what_the_supernet_does(state: dict[str, Tensor], images: Tensor, text: str) -> None:
    genes = SPACE.parse(text)
    network = SPACE.build(genes, CLASSES).double().eval()
    assert Supernet(state).load_into(network) == []
    with torch.no_grad():
        expected = dynamic_forward(state, SPACE.settings(genes), images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(network(images), expected)


def test_names_of_all_releases_are_known(state: dict[str, Tensor]) -> None:
    plain = Supernet(state).state
    newer = {name.replace(".mobile_inverted_conv.", ".conv."): value for name, value in state.items()}
    older = {f"module.{name}".replace("r.linear.", "r.linear.linear."): value for name, value in state.items()}
    for names in (newer, older):
        assert Supernet(names).state.keys() == plain.keys()
    network = SPACE.build(torch.full((45,), 2), CLASSES)
    assert network.state_dict().keys() <= plain.keys()
    assert len(plain.keys() - network.state_dict().keys()) == 20 * 2


def test_a_checkpoint_is_read_and_a_damaged_one_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "ofa.pth"
    save_state(path, {"state_dict": state, "epoch": 3})
    assert Supernet.load(path).num_classes == CLASSES
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(ValueError, match="damaged"):
        Supernet.load(path)
    save_state(path, {"state_dict": {"epoch": 1}})
    with pytest.raises(ValueError, match="holds no tensors by name"):
        Supernet.load(path)
    save_state(path, {"first_conv.conv.weight": torch.zeros(40, 3, 3, 3)})
    with pytest.raises(ValueError, match=r"expected a first convolution.*16 \(width 1\.0\).*found one of 40 channels"):
        Supernet.load(path)
    with pytest.raises(FileNotFoundError):
        Supernet.load(tmp_path / "absent.pth")


def test_other_widths_and_incomplete_supernets_are_refused(state: dict[str, Tensor]) -> None:
    supernet, genes = Supernet(state), torch.zeros(45, dtype=torch.int64)
    with torch.device("meta"):
        wide, grey = MobileNetV3(1.2).build(genes, CLASSES), SPACE.build(genes, CLASSES, in_channels=1)
    with pytest.raises(ValueError, match=r"supernet is of width 1\.0, the network of width 1\.2"):
        supernet.weights(wide)
    with pytest.raises(ValueError, match="images of 3 channels, the network 1"):
        supernet.weights(grey)
    matrix = "blocks.7.mobile_inverted_conv.depth_conv.conv.5to3_matrix"
    with pytest.raises(ValueError, match=r"lacks blocks\.7\.conv\.depth_conv\.conv\.5to3_matrix"):
        Supernet({name: value for name, value in state.items() if name != matrix})
    narrow = {**state, "final_expand_layer.conv.weight": torch.zeros(480, 160, 1, 1)}
    with pytest.raises(ValueError, match=r"has shape \(480, 160, 1, 1\), expected \(960, 160, 1, 1\).* width 1\.0"):
        Supernet(narrow)


def test_a_classifier_of_other_classes_stays_fresh(state: dict[str, Tensor]) -> None:
    network = SPACE.build(torch.zeros(45, dtype=torch.int64), 3)
    before = network.classifier.linear.weight.clone()
    assert Supernet(state).load_into(network) == ["classifier.linear.weight", "classifier.linear.bias"]
    assert torch.equal(network.classifier.linear.weight, before)
    assert torch.equal(network.first_conv.conv.weight, state["first_conv.conv.weight"].float())


def test_sorting_channels_keeps_the_largest_network_and_ranks_its_channels(
    state: dict[str, Tensor], images: Tensor
) -> None:
    supernet = Supernet(state)
    network = SPACE.build(torch.full((45,), 2), CLASSES).double().eval()
    with torch.no_grad():
        supernet.load_into(network)
        before = network(images)
        supernet.sorted().load_into(network)
        torch.testing.assert_close(network(images), before)
    for block in network.blocks[1:]:
        importance = block.conv.point_linear.conv.weight.abs().sum((0, 2, 3))
        assert (importance.diff() <= 0).all()
    own = supernet.state["blocks.9.conv.point_linear.conv.weight"]
    assert not torch.equal(network.blocks[9].conv.point_linear.conv.weight, own)


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)
    )


def test_recalibration_averages_what_the_batches_have() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_network()
        batches = [2 * torch.randn(size, 3, 8, 8) + 1 for size in (4, 6, 3)]
        network[1].train()
        network[5].eval()
        network[1].running_mean.fill_(9)
        weights = {name: value.clone() for name, value in network.named_parameters()}
        random = torch.get_rng_state()
        assert recalibrate(network, iter(batches)) == 3
        assert torch.equal(torch.get_rng_state(), random)
    first = [network[0](batch) for batch in batches]
    inner = [F.relu(F.batch_norm(y, None, None, network[1].weight, network[1].bias, training=True)) for y in first]
    for norm, inputs in ((network[1], first), (network[5], [network[4](y) for y in inner])):
        means = torch.stack([y.mean((0, 2, 3)) for y in inputs])
        variances = torch.stack([y.transpose(0, 1).flatten(1).var(1) for y in inputs])
        torch.testing.assert_close(norm.running_mean, means.mean(0))
        torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())
    assert (network[1].training, network[3].training, network[5].training) == (True, True, False)
    assert (network[1].momentum, network[5].momentum) == (0.1, 0.1)


def test_recalibration_needs_images() -> None:
    network = small_network()
    network[1].running_mean.fill_(9)
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(network, [])
    assert (network[1].running_mean == 9).all()


class Photographs(pl.LightningDataModule):
    """Eight random images of the three classes, in four batches."""

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        return DataLoader(TensorDataset(pixels, torch.arange(8) % 3), batch_size=4)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    def make(callback: pl.Callback, epochs: int) -> pl.Trainer:
        return pl.Trainer(
            default_root_dir=tmp_path,
            max_epochs=epochs,
            callbacks=[callback],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    return make


def test_training_begins_with_the_supernet_and_goes_on_with_its_checkpoint(
    state: dict[str, Tensor], tmp_path: Path, make_trainer: Callable[..., pl.Trainer]
) -> None:
    path, genes, data = tmp_path / "ofa.pth", torch.zeros(45, dtype=torch.int64), Photographs()
    save_state(path, {"state_dict": {name: value.float() for name, value in state.items()}})
    classifier = ImageClassifier(SPACE.build(genes, 3), 3, Recipe(epochs=1, lr=0.0, weight_decay=0.0))
    trainer = make_trainer(SupernetWeights(path, recalibration_batches=2), 1)
    trainer.fit(classifier, datamodule=data)
    expected = SPACE.build(genes, 3)
    Supernet.load(path).load_into(expected)
    names = [name for name, _ in expected.named_parameters() if "classifier" not in name]
    for name in names:
        torch.testing.assert_close(classifier.network.get_parameter(name), expected.get_parameter(name))
    recalibrate(expected, [batch[0] for batch in data.train_dataloader()])
    expected.train()
    for images, _ in data.train_dataloader():
        expected(images)
    torch.testing.assert_close(
        classifier.network.final_expand_layer.bn.running_mean,
        expected.final_expand_layer.bn.running_mean,
        rtol=1e-3,
        atol=1e-4,
    )
    with torch.no_grad():
        classifier.network.first_conv.conv.weight.fill_(0.5)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = ImageClassifier(SPACE.build(genes, 3), 3, Recipe(epochs=1, lr=0.0, weight_decay=0.0))
    make_trainer(SupernetWeights(path, recalibration_batches=2), 1).fit(
        again, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name


def test_recalibration_without_a_datamodule_is_refused(make_trainer: Callable[..., pl.Trainer]) -> None:
    callback = SupernetWeights("unused", recalibration_batches=1)
    with pytest.raises(ValueError, match="fit with one, or set it to 0"):
        callback.on_fit_start(make_trainer(callback, 1), ImageClassifier(small_network(), 2))


def test_networks_of_other_spaces_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "ofa.pth"
    save_state(path, state)
    other = ImageClassifier(NASBench201().build(torch.ones(6, dtype=torch.int64), 3, channels=4, cells=1), 3)
    with pytest.raises(ValueError, match="for networks of MobileNetV3, got Sequential"):
        SupernetWeights(path).setup(pl.Trainer(logger=False, accelerator="cpu"), other, "fit")
    with pytest.raises(ValueError, match="recalibration_batches must be >= 0"):
        SupernetWeights(path, -1)


def test_the_trainer_writes_down_the_supernets_of_its_callbacks(
    state: dict[str, Tensor], photographs: Path, tmp_path: Path
) -> None:
    path, genes, run = tmp_path / "ofa.pth", [0] * 45, tmp_path / "run"
    save_state(path, {"state_dict": {name: value.float() for name, value in state.items()}})
    kind = {"class_path": "ednag.spaces.MobileNetV3", "init_args": {}}
    Report(kind, "test", [Candidate(SPACE.describe(torch.tensor(genes)), genes, 1.0)]).save(tmp_path / "report.json")
    data = ImageFolder(photographs, image_size=32, batch_size=8, num_workers=0)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    few = {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1}
    weights = SupernetWeights(path)
    for callbacks, expected in (([weights], [weights.provenance()]), ([], None)):
        folder = run / str(len(callbacks))
        trainer = Trainer(default_root_dir=folder, callbacks=callbacks, **options, **few)  # type: ignore[arg-type]
        summary = trainer.retrain(datamodule=data, report=tmp_path / "report.json", recipe=Recipe(epochs=1))
        assert summary.results[0].status == "finished"
        for name in ("job.json", "summary.json", "manifest.json"):
            assert json.loads((folder / name).read_text()).get("supernets") == expected, name
