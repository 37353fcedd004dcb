"""Checks for search spaces and samplers, yours included: what must hold before the rest of EDNAG can rely on one.

They are pytest tests: subclass them in a test file of your own. ``pytest`` is imported here and nowhere else in the
package. For failures that show the values compared, put ``pytest.register_assert_rewrite("ednag.testing")`` into your
``conftest.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ednag.core.noise import Noise
from ednag.samplers import Problem, Sampler, State
from ednag.spaces import NASBench201, SearchSpace


class SpaceChecks:
    """What a search space must satisfy. Name the subclass ``Test...`` and set three attributes.

    Examples:
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

    def sample(self, n: int = 64) -> Tensor:
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

    def test_layers_are_counted(self) -> None:
        """``layers`` gives numbers, the same ones for one architecture and for many, and for any shape of a batch."""
        genes = self.sample(8)
        counts = self.space.layers(genes)
        assert counts.shape[0] == 8
        assert counts.isfinite().all()
        assert torch.equal(self.space.layers(genes.view(2, 4, -1)).flatten(0, 1), counts)
        assert torch.equal(self.space.layers(genes[3]), counts[3])
        assert self.space.layers(genes[:0]).shape == (0, counts.shape[1])

    def test_networks_classify_images(self) -> None:
        """``build`` makes networks that turn images into logits."""
        for genes in self.sample(3):
            network = self.space.build(genes, 7, in_channels=2).eval()
            assert network(torch.randn(2, 2, 32, 32)).shape == (2, 7)


SPACE = NASBench201()
TARGET = torch.tensor([3, 1, 2, 3, 0, 4])


def closeness(genes: Tensor, valid: Tensor) -> Tensor:
    """Share of genes that are the target's, in percent: a fitness with a known optimum that any method can climb."""
    return ((genes == TARGET).double().mean(-1) * 100).where(valid, -torch.inf)


class SamplerChecks:
    """What a sampler must satisfy. Name the subclass ``Test...`` and implement :meth:`make`.

    The sampler searches cells of NAS-Bench-201 for a fixed target, see :func:`closeness`.

    Examples:
        >>> from ednag.samplers import LocalSearch
        >>> class TestLocalSearch(SamplerChecks):
        ...     def make(self):
        ...         return LocalSearch()
        >>> TestLocalSearch().test_the_budget_is_kept_exactly(7)
    """

    budget: int | None = 150
    """Evaluations per run; ``None`` for a sampler that ends by itself."""

    def make(self) -> Sampler:
        """Make the sampler, a new one each time."""
        raise NotImplementedError

    def problem(self) -> Problem:
        """What is searched; isomorphic architectures count as one unless a subclass says otherwise."""
        return Problem(SPACE)

    def sample(self, seeds: list[int], budget: int | None = None, **options: Any) -> State:
        """Run a new sampler to the end of its budget."""
        return self.make().sample(self.problem(), closeness, seeds, budget or self.budget, **options)

    def test_a_run_is_the_same_alone_and_in_a_batch(self) -> None:
        """A run gives the same result alone and beside other runs."""
        together = self.sample([3, 4, 5, 6, 7])
        for i, seed in enumerate((3, 4, 5, 6, 7)):
            alone = self.sample([seed])
            count = int(alone.archive.count[0])
            assert int(together.archive.count[i]) == count
            assert torch.equal(together.archive.keys[i, :count], alone.archive.keys[0, :count])
            assert torch.equal(together.archive.fitness[i, :count], alone.archive.fitness[0, :count])

    def test_seeds_matter_and_repeat(self) -> None:
        """A seed gives the same run again; another seed gives another run."""
        a, b, c = self.sample([1]), self.sample([1]), self.sample([2])
        assert torch.equal(a.archive.keys, b.archive.keys)
        assert not torch.equal(a.archive.keys[:, :20], c.archive.keys[:, :20])

    def test_nothing_is_evaluated_twice(self) -> None:
        """The fitness never sees an architecture twice in a run."""
        paid: list[int] = []

        def counting(genes: Tensor, valid: Tensor) -> Tensor:
            paid.extend(self.problem().key(genes[valid]).tolist())
            return closeness(genes, valid)

        state = self.make().sample(self.problem(), counting, [0], self.budget)
        assert len(paid) == len(set(paid)) == int(state.archive.count[0])
        assert int(state.archive.lookups[0]) >= len(paid)

    @pytest.mark.parametrize("budget", [1, 7, 64])
    def test_the_budget_is_kept_exactly(self, budget: int) -> None:
        """A run evaluates exactly as many architectures as it may."""
        assert self.sample([0, 1, 2], budget).archive.count.tolist() == [budget] * 3

    def test_a_saved_state_continues_as_if_nothing_had_happened(self) -> None:
        """A run that is stopped and resumed ends as it would have without."""
        whole = self.sample([8, 9])
        saved: list[dict[str, Any]] = []
        rounds = 0

        def stop(state: State, *_: Tensor) -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                saved.append(state.state_dict())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.sample([8, 9], after_round=stop)
        sampler = self.make()
        state = sampler.resume(self.problem(), saved[0])
        end = sampler.sample(self.problem(), closeness, [8, 9], self.budget, state=state)
        most = int(whole.archive.count.max())
        assert torch.equal(end.archive.keys[:, :most], whole.archive.keys[:, :most])
        assert end.step == whole.step

    def test_it_beats_its_own_start(self) -> None:
        """The best architecture is better than the best of the first ten."""
        fitness = self.sample([0, 1, 2, 3]).archive.fitness
        assert fitness.amax(1).mean() > fitness[:, :10].amax(1).mean()

    def test_failing_constant_and_tied_fitness_end_cleanly(self) -> None:
        """A fitness that fails, is constant, or never gives a score raises nothing."""

        def failing(genes: Tensor, valid: Tensor) -> Tensor:
            return closeness(genes, valid).where(genes[..., 0] > 1, -torch.inf)

        def constant(genes: Tensor, valid: Tensor) -> Tensor:
            return torch.zeros(valid.shape, dtype=torch.float64).where(valid, -torch.inf)

        def hopeless(genes: Tensor, valid: Tensor) -> Tensor:
            return torch.full(valid.shape, -torch.inf, dtype=torch.float64)

        for fitness in (failing, constant, hopeless):
            state = self.make().sample(self.problem(), fitness, [0, 1], 40)
            assert (state.archive.count == 40).all() or self.make().steps is not None
            assert not state.archive.fitness.isnan().any()
