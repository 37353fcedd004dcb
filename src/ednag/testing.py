"""Checks for search spaces and samplers, yours included: what must hold before the rest of EDNAG can rely on one.

They are pytest tests: subclass them in a test file of your own. ``pytest`` is imported here and nowhere else in the
package. For failures that show the values compared, put ``pytest.register_assert_rewrite("ednag.testing")`` into your
``conftest.py``.
"""

from __future__ import annotations

import pytest
import torch

from ednag.core.noise import Noise
from ednag.spaces import SearchSpace


class SpaceChecks:
    """What a search space must satisfy. Name the subclass ``Test...`` and set three attributes.

    Example:
        >>> from ednag.spaces import NASBench201
        >>> class TestNASBench201(SpaceChecks):
        ...     space = NASBench201()
        ...     texts = ("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",)
        ...     bad_texts = ("", "|none~0|")
        >>> TestNASBench201().test_known_texts_round_trip()
    """

    space: SearchSpace
    """The space to check."""

    texts: tuple[str, ...]
    """Architectures in the text format, exactly as ``describe`` writes them."""

    bad_texts: tuple[str, ...]
    """Texts that ``parse`` must refuse with a ``ValueError``."""

    def sample(self, n: int = 64) -> torch.Tensor:
        """Draw ``n`` architectures, int64 ``(n, L)``; always the same ones."""
        return self.space.random(Noise([3]), n)[0]

    def test_random_genes_are_valid(self) -> None:
        """What ``random`` draws is valid and passes ``check``."""
        genes = self.sample(500)
        assert self.space.valid(genes).all()
        assert torch.equal(self.space.check(genes), genes)

    def test_every_choice_of_every_gene_turns_up(self) -> None:
        """``random`` reaches every value of every gene."""
        genes = self.sample(2000)
        for gene, cardinality in zip(genes.unbind(-1), self.space.cardinalities, strict=True):
            assert torch.unique(gene).tolist() == list(range(cardinality))

    @pytest.mark.parametrize("name", ["layout", "published_layout"])
    def test_decoding_undoes_encoding(self, name: str) -> None:
        """``decode(encode(genes))`` gives the genes back, in both layouts."""
        layout = getattr(self.space, name)
        genes = self.sample().view(4, 16, -1)
        x = layout.encode(genes)
        assert x.shape == (4, 16, layout.dim)
        assert torch.equal(layout.decode(x), genes)

    def test_parsing_undoes_describing(self) -> None:
        """``parse(describe(genes))`` gives the same architecture, or an isomorphic one."""
        for genes in self.sample(20):
            assert self.space.identity(self.space.parse(self.space.describe(genes))) == self.space.identity(genes)

    def test_known_texts_round_trip(self) -> None:
        """``describe(parse(text))`` gives the text back."""
        for text in self.texts:
            assert self.space.describe(self.space.parse(text)) == text

    def test_other_texts_are_refused(self) -> None:
        """``parse`` raises a ``ValueError`` with a message for every bad text."""
        for text in self.bad_texts:
            with pytest.raises(ValueError, match=r".+"):
                self.space.parse(text)

    def test_genes_out_of_range_are_refused(self) -> None:
        """``check`` refuses wrong genes and names the gene, or the number of genes."""
        genes = self.sample(1)
        genes[0, -1] = self.space.cardinalities[-1]
        assert not self.space.valid(genes).any()
        with pytest.raises(ValueError, match=f"gene {self.space.num_genes - 1} "):
            self.space.check(genes)
        with pytest.raises(ValueError, match=f"{self.space.num_genes} genes"):
            self.space.check(genes[:, 1:])

    def test_codes_tell_genes_apart_and_identities_merge_them(self) -> None:
        """``code`` differs for different genes; ``identity`` is never negative and never splits a code."""
        genes = torch.unique(self.sample(300), dim=0)
        assert len(torch.unique(self.space.code(genes))) == len(genes)
        assert (self.space.identity(genes) >= 0).all()
        assert len(torch.unique(self.space.identity(genes))) <= len(genes)

    def test_networks_classify_images(self) -> None:
        """``build`` makes networks that turn images into logits."""
        for genes in self.sample(3):
            network = self.space.build(genes, 7, in_channels=2).eval()
            assert network(torch.randn(2, 2, 32, 32)).shape == (2, 7)
