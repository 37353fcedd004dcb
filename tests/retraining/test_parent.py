"""The parent that is fine-tuned before a generation, and what a retraining takes over."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch

from ednag.data.describe import describe_data
from ednag.retraining.finetuning import FineTuning
from ednag.retraining.module import Recipe
from ednag.retraining.parent import adopt, comes_first, parent_job, tuned_parent
from ednag.spaces import NASBench201
from tests.retraining.test_finetuning import SPACE, MakeTrainer, images


def recipe(epochs: int = 1) -> Recipe:
    optimizer = partial(torch.optim.AdamW, lr=1e-3)
    options = FineTuning(calibration=40, through_parent=True, distillation=0.5)
    return Recipe(epochs=epochs, optimizer=optimizer, weights="likeliest", fine_tuning=options)  # type: ignore[arg-type]


def test_a_parent_comes_first_where_networks_are_cut_out_of_it() -> None:
    assert comes_first(SPACE, recipe())
    assert not comes_first(NASBench201(), recipe())
    assert not comes_first(SPACE, Recipe())
    assert not comes_first(SPACE, None)


def test_it_is_trained_once_and_taken_over_only_by_the_same_job(
    patterns: Path, tmp_path: Path, silent: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    earlier, data = tmp_path / "earlier", images(patterns)
    first = tuned_parent(SPACE, data, recipe(), earlier, silent())
    again = tuned_parent(SPACE, data, recipe(), earlier, lambda **_: pytest.fail("it was trained before"))
    assert first is not None
    assert again is not None
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with pytest.raises(ValueError, match="holds another retraining"):
        tuned_parent(SPACE, data, recipe(epochs=2), earlier, silent())
    task = describe_data(data)
    other = parent_job(SPACE, task, recipe(epochs=2), {}, 0, tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        adopt(other, data, earlier)
    assert "(recipe): it is fine-tuned again" in caplog.text
    assert not other.folder.exists()
    same = parent_job(SPACE, task, recipe(), {}, 0, tmp_path / "same")
    adopt(same, data, tmp_path / "missing")
    assert not same.folder.exists()
    adopt(same, data, earlier)
    weights = [folder / "baseline_parent/weights.safetensors" for folder in (earlier, tmp_path / "same")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
