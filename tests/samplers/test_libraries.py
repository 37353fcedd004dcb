import subprocess
import sys

import numpy as np
import pytest
import torch

from ednag.samplers import Nevergrad, OptunaTPE, Problem, PymooGA, Sampler, State
from ednag.samplers.libraries import require
from ednag.testing import SPACE, SamplerChecks, closeness

optuna = pytest.importorskip("optuna")


class AdapterChecks(SamplerChecks):
    budget = 30

    def test_replaying_what_another_library_version_would_not_propose_is_refused(self) -> None:
        state = self.sample([3], 5)
        archive = state.state_dict()["archive"]
        archive["keys"][0, 1:4] = 10**9  # as if something else had been proposed
        sampler = self.make()
        changed = sampler.resume(SPACE, {**state.state_dict(), "archive": archive})
        with pytest.raises(RuntimeError, match="versions it began with"):
            sampler.ask(changed)

    def test_a_state_that_is_left_and_taken_up_again_goes_on_the_same(self) -> None:
        """Nothing is hidden in the sampler: an older state rebuilds the optimisers."""
        sampler = self.make()
        kept: list[State] = []
        end = sampler.sample(SPACE, closeness, [5], 12, after_round=lambda state, *_: kept.append(state))
        middle = kept[len(kept) // 2]
        again = sampler.sample(SPACE, closeness, [5], 12, state=middle)
        assert torch.equal(again.archive.keys, end.archive.keys)

    def test_the_global_random_numbers_are_left_alone(self) -> None:
        self.sample([0], 3)
        np.random.seed(7)
        before = np.random.get_state()[1].copy()
        drawn = torch.random.get_rng_state()
        self.sample([0], 12)
        assert (np.random.get_state()[1] == before).all()
        assert torch.equal(torch.random.get_rng_state(), drawn)


class TestOptunaTPE(AdapterChecks):
    def make(self) -> Sampler:
        return OptunaTPE(startup=5)

    def test_it_is_what_the_library_does_by_itself(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=11))

        def objective(trial: optuna.Trial) -> float:
            genes = [trial.suggest_categorical(f"gene{i}", range(k)) for i, k in enumerate(SPACE.cardinalities)]
            seen.append(genes)
            return float(closeness(torch.tensor(genes), torch.tensor(True)))

        seen: list[list[int]] = []
        study.optimize(objective, n_trials=25)
        asked: list[list[int]] = []
        OptunaTPE().sample(SPACE, closeness, [11], 20, after_round=lambda _, genes, __: asked.extend(genes[0].tolist()))
        most = min(len(asked), len(seen))
        assert most >= 20
        assert asked[:most] == seen[:most]


class TestPymooGA(AdapterChecks):
    def make(self) -> Sampler:
        return PymooGA(population=6)


@pytest.mark.slow
class TestNevergrad(AdapterChecks):
    budget = 12

    def make(self) -> Sampler:
        return Nevergrad()


def test_genes_without_a_choice_keep_their_only_value() -> None:
    class Narrow(type(SPACE)):  # type: ignore[misc]
        cardinalities = (2, 1, 3, 1, 1, 2)

    for sampler in (OptunaTPE(startup=2), PymooGA(4)):
        state = sampler.sample(Problem(Narrow(), "genes"), closeness, [0, 1], 8)
        genes = state.archive.genes[:, :8]
        assert (genes[..., [1, 3, 4]] == 0).all()
        assert (state.archive.count == 8).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="startup"):
        OptunaTPE(startup=0)
    with pytest.raises(ValueError, match="population"):
        PymooGA(1)
    with pytest.raises(ValueError, match="no optimizer 'Best'"):
        Nevergrad("Best")


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'ednag\[compare\]'"):
        require("no_such_package")


@pytest.mark.slow
def test_the_libraries_are_imported_only_when_used() -> None:
    code = "import sys, ednag.samplers; print([m for m in ('optuna', 'nevergrad', 'pymoo') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
