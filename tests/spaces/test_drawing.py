"""Drawings are checked by what they place where, and by what ends up in the files."""

import struct
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
import torch

from ednag.core.noise import Noise
from ednag.spaces import MobileNetV3, NASBench101, PretrainedLite, TransNAS101Macro, TransNAS101Micro
from ednag.spaces.base import SearchSpace
from ednag.spaces.darts import DARTS
from ednag.spaces.drawing import cell_figure, draw_architecture, draw_cells, place
from ednag.spaces.nasbench201 import EDGES, OPERATIONS, NASBench201

DIAMOND = [("in", "a", "up"), ("in", "b", "down"), ("a", "out", ""), ("b", "out", ""), ("in", "out", "skip")]
NB201 = [(str(source), str(target), OPERATIONS[1 + i % 4]) for i, (source, target) in enumerate(EDGES)]


def texts(path: Path) -> list[str]:
    root = ElementTree.fromstring(path.read_text())  # noqa: S314 (made by this test)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_an_architecture_is_drawn_as_png_and_svg(tmp_path: Path) -> None:
    space = DARTS()
    genes = space.random(Noise([4]), 1)[0, 0]
    png, svg = draw_architecture(space, genes, tmp_path / "new", "best")
    assert (png.name, svg.name) == ("best.png", "best.svg")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["best.png", "best.svg"]
    content = png.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert 600 < width < 3000
    assert 600 < height < 3000
    written = texts(svg)
    for cell in space.cells(genes):
        for name in {operation for operation, _ in cell}:
            expected = sum(operation == name for both in space.cells(genes) for operation, _ in both)
            assert written.count(name) == expected
    assert {"normal cell", "reduction cell"} <= set(written)
    assert written.count("c(k-1)") == 2


def test_the_same_architecture_gives_the_same_files(tmp_path: Path) -> None:
    first = draw_cells({"": DIAMOND}, [tmp_path / "a.svg", tmp_path / "a.png"])
    second = draw_cells({"": DIAMOND}, [tmp_path / "b.svg", tmp_path / "b.png"])
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_sources_stand_left_of_targets_and_routes_join_them() -> None:
    for edges in (DIAMOND, NB201):
        placement = place(edges)
        for (source, target, _), route in zip(edges, placement.routes, strict=True):
            assert placement.nodes[source][0] < placement.nodes[target][0]
            assert (route[0], route[-1]) == (placement.nodes[source], placement.nodes[target])
            assert all(b[0] - a[0] == 1 for a, b in pairwise(route))
        assert set(placement.labels) == {i for i, (_, _, label) in enumerate(edges) if label}
        assert all(point in placement.routes[i][1:-1] for i, point in placement.labels.items())


def test_nothing_lies_on_anything_else() -> None:
    space = DARTS()
    for genes in space.random(Noise([1]), 3)[0]:
        for edges in space.edges(genes).values():
            placement = place(edges)
            things = [*placement.nodes.values(), *placement.labels.values()]
            for (x, y), (other_x, other_y) in combinations(things, 2):
                assert x != other_x or abs(y - other_y) > 0.999


def test_drawn_boxes_do_not_overlap() -> None:
    space = DARTS()
    figure = cell_figure(space.edges(space.random(Noise([2]), 1)[0, 0]))
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        boxes = [text.get_bbox_patch().get_window_extent(renderer) for text in axes.texts]
        assert len(boxes) == 7 + 8
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        inside = figure.bbox
        assert all(box.x0 >= inside.x0 and box.x1 <= inside.x1 for box in boxes)


def test_a_planar_graph_is_drawn_without_crossings() -> None:
    edges = [("in", name, "") for name in "abc"] + [(name, f"{name}2", "") for name in "cab"]
    placement = place(edges)
    rows = {name: row for name, (_, row) in placement.nodes.items()}
    assert sorted("abc", key=rows.__getitem__) == [n[0] for n in sorted(["a2", "b2", "c2"], key=rows.__getitem__)]


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    before, backend = dict(mpl.rcParams), mpl.get_backend()
    draw_cells({"cell": NB201}, [tmp_path / "a.svg"])
    assert dict(mpl.rcParams) == before
    assert mpl.get_backend() == backend


def test_a_space_without_cells_is_refused(tmp_path: Path) -> None:
    class Plain(NASBench201):
        edges = SearchSpace.edges

    with pytest.raises(ValueError, match="nasbench201 can't be drawn"):
        draw_architecture(Plain(), torch.zeros(6, dtype=torch.int64), tmp_path)


@pytest.mark.parametrize(
    ("edges", "name", "message"),
    [
        ([], "a.png", "without edges"),
        ([("a", "b", ""), ("b", "a", "")], "a.png", "cycle"),
        ([("a", "a", "")], "a.png", "cycle"),
        (DIAMOND, "a.pdf", r"\.png or \.svg"),
    ],
)
def test_bad_drawings_are_refused(edges: list[tuple[str, str, str]], name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        draw_cells({"cell": edges}, [tmp_path / name])
    assert not list(tmp_path.iterdir())


SPACES = [NASBench101(), TransNAS101Micro(), TransNAS101Macro(), MobileNetV3(1.2)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_nothing_overlaps_in_a_drawing_of_any_space(space: SearchSpace) -> None:
    drawn = [genes for genes in space.random(Noise([2]), 8)[0] if any(space.edges(genes).values())][:3]
    for genes in drawn:
        figure = cell_figure(space.edges(genes))
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        for axes in figure.axes:
            boxes = [text.get_bbox_patch().get_window_extent(renderer) for text in axes.texts]
            assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
            assert all(box.x0 >= figure.bbox.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_cell_of_nasbench101_shows_its_vertices_and_edges() -> None:
    space = NASBench101()
    text = "0110000011000010000100000 input,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,output"
    (edges,) = space.edges(space.parse(text)).values()
    assert edges == [
        ("input", "1 conv1x1", ""),
        ("input", "2 maxpool3x3", ""),
        ("1 conv1x1", "3 conv3x3", ""),
        ("1 conv1x1", "output", ""),
        ("2 maxpool3x3", "output", ""),
        ("3 conv3x3", "output", ""),
    ]


def test_a_skeleton_shows_channels_and_resolution() -> None:
    space = TransNAS101Macro()
    (edges,) = space.edges(space.parse("64-1342-basic")).values()
    assert [node for _, node, _ in edges] == ["1: 64 ch, 1/4", "2: 64 ch, 1/8", "3: 128 ch, 1/16", "4: 256 ch, 1/16"]
    assert [label for _, _, label in edges] == ["keep", "halve", "widen, halve", "widen"]
    encoder = space.encoder(space.parse("64-1342-basic"))
    assert encoder.out_channels == 256
    assert encoder(torch.zeros(1, 3, 64, 64)).shape[-1] == 64 // 16


def test_a_sub_network_shows_its_layers_stage_by_stage() -> None:
    space = MobileNetV3()
    stages = space.edges(space.parse("ks=35,357,3333,77,5757 e=36,346,6666,33,4646 d=2,3,4,2,4"))
    assert [len(chain) for chain in stages.values()] == [2, 3, 4, 2, 4]
    titles = list(stages)
    assert titles[0] == "stage 1: 16 to 24 channels, half the size, ReLU"
    assert titles[3] == "stage 4: 80 to 112 channels, squeeze, h-swish"
    assert stages[titles[1]] == [
        ("in", "1", "3x3, expand 3"),
        ("1", "2", "5x5, expand 4"),
        ("2", "out", "7x7, expand 6"),
    ]


def test_a_micro_cell_shows_the_edges_that_carry_something() -> None:
    space = TransNAS101Micro()
    (edges,) = space.edges(space.parse("64-41414-1_02_303")).values()
    assert edges == [
        ("in", "1", "skip_connect"),
        ("1", "2", "nor_conv_1x1"),
        ("in", "out", "nor_conv_3x3"),
        ("2", "out", "nor_conv_3x3"),
    ]


@pytest.mark.parametrize(("head", "channels"), [("yes", 1280), ("no", 320)])
def test_the_chart_of_a_sub_network_begins_with_its_images_and_ends_with_classes(head: str, channels: int) -> None:
    space = PretrainedLite(resolutions=(64, 96))
    titles = list(space.edges(space.parse(f"d=1,2,3,3,3,1 e=3,2,4,3,5,3 k=3,5,3,5,5,3 head={head} r=64")))
    assert titles[0] == "stem: 64 x 64 pixels to 16 channels, half the size"
    assert titles[1] == "stage 2: 16 to 24 channels, half the size"
    assert titles[-1] == f"classifier: {channels} channels to classes"
    assert ("head: 320 to 1280 channels" in titles) == (head == "yes")
