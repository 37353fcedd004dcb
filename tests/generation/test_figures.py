"""What the figure of a generation shows."""

from pathlib import Path

import numpy as np
from PIL import Image

from ednag.generation.figures import generation_figure
from ednag.samplers import RandomSearch
from ednag.testing import SPACE, closeness


def test_the_shares_of_a_single_round_can_be_seen(tmp_path: Path) -> None:
    archive = RandomSearch().sample(SPACE, closeness, [0], 10).archive.evaluated()
    drawn = []
    for height in (0.5, 0.8):
        row = {"step": 1.0, "valid": 1.0, "unique": 1.0, "novel": height}
        generation_figure(archive, [row], "closeness", tmp_path / "figure.png")
        drawn.append(np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")))
    assert (drawn[0] != drawn[1]).any(-1).sum() > 20
