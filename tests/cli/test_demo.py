"""The demonstration on photographs: its pieces, and that its commands are accepted. `make demo` runs the one on digits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ednag.cli.demo import SIDE, _cut_pieces, _of_photographs
from ednag.cli.main import main


def test_test_pieces_are_of_another_part_of_the_photograph(tmp_path: Path) -> None:
    _cut_pieces(tmp_path)
    for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg")):
        photograph = load_sample_image(file).astype(int)
        border = int(0.65 * photograph.shape[1])
        for split, count, part in (("train", 40, photograph[:, :border]), ("test", 15, photograph[:, border:])):
            pieces = sorted((tmp_path / split / name).iterdir())
            assert len(pieces) == count
            pixels = np.asarray(Image.open(pieces[0])).astype(int)
            assert pixels.shape == (SIDE, SIDE, 3)
            windows = np.lib.stride_tricks.sliding_window_view(part[:, :, 1], (SIDE, SIDE))[:, :, ::16, ::16]
            apart = np.abs(windows - pixels[::16, ::16, 1]).mean((2, 3))
            assert apart.min() < 8  # it is there, up to what JPEG changes


def test_its_commands_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (verb, generation), (then, shown) = _of_photographs(tmp_path / "demo", 4)
    assert (verb, then) == ("generate", "classify")
    assert all(Path(name).is_file() for name in shown[1:])
    try:
        status = main([verb, *generation, "--dry_run"])
    except SystemExit as stop:
        status = stop.code
    told = capsys.readouterr()
    assert not status, told.err
    assert "max_flops=35,000,000" in told.out
