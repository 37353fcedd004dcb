"""Workers are asked for before anything is paid for, and refused if they would have nothing to do."""

from pathlib import Path

import pytest

from ednag.data import Digits
from ednag.engine.trainer import Trainer
from ednag.execution import InProcess
from ednag.fitness import TrainingFitness, ZeroCostFitness
from ednag.samplers import RandomSearch
from ednag.spaces import NASBench201


class Gone(InProcess):
    """Workers that can't be had."""

    remote = True
    asked = 0

    def check(self, root: Path) -> None:
        self.asked += 1
        raise ValueError("no Ray answers")


def trainer(folder: Path) -> Trainer:
    return Trainer(default_root_dir=folder, logger=False, accelerator="cpu", devices=1, enable_progress_bar=False)


def test_workers_for_a_retraining_are_asked_for_before_the_generation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Ray answers"):
        trainer(tmp_path).generate(
            datamodule=Digits(),
            space=NASBench201(),
            fitness=ZeroCostFitness(["params"]),
            evaluations=5,
            retrain=True,
            executor=Gone(),
        )
    assert not list(tmp_path.rglob("state.pt"))


def test_workers_with_nothing_to_do_are_refused(tmp_path: Path) -> None:
    plan = {"space": NASBench201(), "sampler": RandomSearch(), "evaluations": 5}
    executor = Gone()
    with pytest.raises(ValueError, match="nothing would run on Gone: ZeroCostFitness trains nothing"):
        trainer(tmp_path).generate(fitness=ZeroCostFitness(["params"]), executor=executor, **plan)
    assert executor.asked == 0
    with pytest.raises(ValueError, match="no Ray answers"):
        trainer(tmp_path).generate(datamodule=Digits(), fitness=TrainingFitness(), executor=executor, **plan)
    report = trainer(tmp_path).generate(fitness=ZeroCostFitness(["params"]), executor=InProcess(), **plan)
    assert report.candidates


def test_workers_of_a_collection_are_asked_for_before_its_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no Ray answers"):
        trainer(tmp_path).collect(
            space=NASBench201(), sampler=RandomSearch(), sources={"digits": Digits()}, executor=Gone()
        )
    assert not list(tmp_path.rglob("*.pt"))
