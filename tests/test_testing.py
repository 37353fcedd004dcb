"""The checks that ship: each must fail for a space that breaks what it checks."""

import pytest
import torch
from torch import Tensor, nn

from ednag.core.noise import Noise
from ednag.spaces import NASBench201
from ednag.testing import SpaceChecks


class ReturnsOutOfRange(NASBench201):
    def random(self, noise: Noise, n: int) -> Tensor:
        return super().random(noise, n) + 1


class NeverDrawsZero(NASBench201):
    def random(self, noise: Noise, n: int) -> Tensor:
        return super().random(noise, n).clamp(min=1)


class ParsesBackwards(NASBench201):
    def parse(self, text: str) -> Tensor:
        return super().parse(text).flip(0)


class TakesAnything(NASBench201):
    def parse(self, text: str) -> Tensor:
        return torch.zeros(6, dtype=torch.int64)


class ChecksNothing(NASBench201):
    def check(self, genes: Tensor) -> Tensor:
        return genes


class CodesCollide(NASBench201):
    def code(self, genes: Tensor) -> Tensor:
        return super().code(genes) // 5


class BuildsTenClasses(NASBench201):
    def build(self, genes: Tensor, num_classes: int, in_channels: int = 3, **options: int) -> nn.Sequential:
        return super().build(genes, 10, in_channels, channels=4, cells=1)


@pytest.mark.parametrize(
    ("space", "check"),
    [
        (ReturnsOutOfRange, "random_genes_are_valid"),
        (NeverDrawsZero, "every_choice_of_every_gene_turns_up"),
        (ParsesBackwards, "parsing_undoes_describing"),
        (ParsesBackwards, "known_texts_round_trip"),
        (TakesAnything, "other_texts_are_refused"),
        (ChecksNothing, "genes_out_of_range_are_refused"),
        (CodesCollide, "codes_tell_genes_apart_and_identities_merge_them"),
        (BuildsTenClasses, "networks_classify_images"),
    ],
)
def test_a_broken_space_is_caught(space: type[NASBench201], check: str) -> None:
    class Checks(SpaceChecks):
        texts = ("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",)
        bad_texts = ("", "|none~0|")

    Checks.space = space()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(Checks(), f"test_{check}")()
