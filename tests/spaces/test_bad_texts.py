"""What a text that is no architecture of a space is answered, in every space: one message that names what was expected."""

import time

import pytest

from ednag.core.noise import Noise
from ednag.spaces import DARTS, MobileNetV3, NASBench101, NASBench201, SearchSpace, TransNAS101Macro, TransNAS101Micro

EXPECTED = {
    NASBench201(): r"not a NAS-Bench-201 cell: .*Expected \|op~0\|\+\|op~0\|op~1\|",
    NASBench101(): r"not a NAS-Bench-101 cell .*Expected ADJACENCY input,OPERATION",
    DARTS(): r"not a DARTS genotype: .*Expected Genotype\(normal=",
    TransNAS101Micro(): r"not a TransNAS-Bench-101 micro cell: .*Expected 64-41414-a_bc_def",
    TransNAS101Macro(): r"not a TransNAS-Bench-101 macro skeleton: .*Expected 64-1234-basic",
    MobileNetV3(): r"not a once-for-all MobileNetV3: .*Expected five stages as in 'ks=35,357",
}
CELL_201 = "|none~0|+|none~0|none~1|+|none~0|none~1|gelu~2|"
CELL_101 = "0110001000010000 input,maxpool3x3,{},output"


@pytest.mark.parametrize(("space", "expected"), EXPECTED.items(), ids=lambda given: getattr(given, "name", ""))
def test_texts_of_other_spaces_are_refused(space: SearchSpace, expected: str) -> None:
    others = [other for other in EXPECTED if other is not space]
    texts = [other.describe(genes) for other in others for genes in other.random(Noise([0]), 3)[0]]
    for text in [*texts, ""]:
        with pytest.raises(ValueError, match=expected):
            space.parse(text)


@pytest.mark.parametrize("space", EXPECTED, ids=lambda space: space.name)
def test_long_texts_are_refused_at_once_and_not_repeated_whole(space: SearchSpace) -> None:
    begun = time.process_time()
    for text in ("x" * 30_000, "1" * 30_000, '{"ks":' * 20_000, "|" + "x" * 30_000 + CELL_201, "(" * 30_000):
        with pytest.raises(ValueError, match=r".+") as caught:
            space.parse(text)
        assert len(str(caught.value)) < 600
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (NASBench201(), CELL_201, "unknown operation 'gelu' .*allowed: none, skip_connect, nor_conv_1x1"),
        (NASBench101(), CELL_101.format("gelu"), "unknown operation 'gelu' .*allowed: conv3x3-bn-relu, conv1x1"),
        (TransNAS101Micro(), "64-41414-4_00_000", r"'64-41414-4_00_000'.*each letter 0 to 3 \(none, skip_connect"),
        (TransNAS101Macro(), "64-1235-basic", r"'64-1235-basic'.*each 1 \(keeps the shape\).* or 4 \(both\)"),
        (MobileNetV3(), '{"ks": [3.5], "e": [3], "d": [2]}', "lists of integers ks, e and d, got"),
        (MobileNetV3(), '{"ks": [Infinity], "e": [3], "d": [2]}', "lists of integers ks, e and d, got"),
        (NASBench101(), CELL_101.replace("0110", "0111").format("maxpool3x3")[:-1], "last output"),
        (NASBench101(), "010001100 input,maxpool3x3,output", "must be upper triangular .a cell has no cycle."),
        (NASBench101(), "010000000 input,maxpool3x3,output", "no path from its input to its output; connect them"),
    ],
)
def test_unknown_operations_cycles_and_gaps_are_named(space: SearchSpace, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space.parse(text)
