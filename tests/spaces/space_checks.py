"""What every search space must satisfy. A new space subclasses :class:`SpaceChecks` and sets three attributes."""

import pytest
import torch

from ednag.core.noise import Noise
from ednag.spaces import SearchSpace


class SpaceChecks:
    """Subclass, and set ``space``, ``texts`` (known architectures) and ``bad_texts``."""

    space: SearchSpace
    texts: tuple[str, ...]
    bad_texts: tuple[str, ...]

    def sample(self, n: int = 64) -> torch.Tensor:
        return self.space.random(Noise([3]), n)[0]

    def test_random_genes_are_valid(self) -> None:
        genes = self.sample(500)
        assert self.space.valid(genes).all()
        assert torch.equal(self.space.check(genes), genes)

    def test_every_choice_of_every_gene_turns_up(self) -> None:
        genes = self.sample(2000)
        for gene, cardinality in zip(genes.unbind(-1), self.space.cardinalities, strict=True):
            assert gene.unique().tolist() == list(range(cardinality))

    @pytest.mark.parametrize("name", ["layout", "published_layout"])
    def test_decoding_undoes_encoding(self, name: str) -> None:
        layout = getattr(self.space, name)
        genes = self.sample().unflatten(0, (4, 16))
        x = layout.encode(genes)
        assert x.shape == (4, 16, layout.dim)
        assert torch.equal(layout.decode(x), genes)

    def test_parsing_undoes_describing(self) -> None:
        for genes in self.sample(20):
            assert self.space.identity(self.space.parse(self.space.describe(genes))) == self.space.identity(genes)

    def test_known_texts_round_trip(self) -> None:
        for text in self.texts:
            assert self.space.describe(self.space.parse(text)) == text

    def test_other_texts_are_refused(self) -> None:
        for text in self.bad_texts:
            with pytest.raises(ValueError, match=r".+"):
                self.space.parse(text)

    def test_genes_out_of_range_are_refused(self) -> None:
        genes = self.sample(1)
        genes[0, -1] = self.space.cardinalities[-1]
        assert not self.space.valid(genes).any()
        with pytest.raises(ValueError, match=f"gene {self.space.num_genes - 1} "):
            self.space.check(genes)
        with pytest.raises(ValueError, match=f"{self.space.num_genes} genes"):
            self.space.check(genes[:, 1:])

    def test_codes_tell_genes_apart_and_identities_merge_them(self) -> None:
        genes = self.sample(300).unique(dim=0)
        assert len(self.space.code(genes).unique()) == len(genes)
        assert (self.space.identity(genes) >= 0).all()
        assert len(self.space.identity(genes).unique()) <= len(genes)

    def test_networks_classify_images(self) -> None:
        for genes in self.sample(3):
            network = self.space.build(genes, 7, in_channels=2).eval()
            assert network(torch.randn(2, 2, 32, 32)).shape == (2, 7)
