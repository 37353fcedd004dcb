"""NAS-Bench-301: models that the tests train in the released layout, and the table of NAS-Bench-Suite-Zero."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from ednag.benchmarks.importers.nasbench301 import compact_genes
from ednag.benchmarks.locate import presence
from ednag.benchmarks.nasbench301 import FEATURES, encode
from ednag.cli.importing import import_table
from ednag.core.noise import Noise
from ednag.fitness.nasbench301 import NASBench301Fitness, NASBench301TableFitness
from ednag.spaces import DARTS, NASBench201
from ednag.spaces.darts_network import OPERATIONS

lgb = pytest.importorskip("lightgbm", reason="needs the extra nasbench301")
xgb = pytest.importorskip("xgboost", reason="needs the extra nasbench301")

SPACE = DARTS()
GENES = SPACE.random(Noise([5]), 240)[0]
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)

# What ConfigSpace 0.7.1 makes of DARTS-V2 in the benchmark's configuration space; NaN replaced by -1, as it does.
CONFIGSPACE = [
    *[0.5863451791322545, 0, 0, 0, 0.16666444442962952, 0.3099999239999697, 0, 0, 0, 0, 3, 3, 0, 0],
    *[0.003149999006299998, 0, 0, 1, 2, 1, 4, 0.000749999001499998, 0, 0, -3.6888794541139363, 0.8988764044943821],
    *[-8.111728083308073, 0.009949999019899998, 1e-12, 0, 0, 0.7051278400653053, -1, 5, -1, -1, 3, 3, -1, 2, 3, -1],
    *[-1, 2, 0, 2, -1, -1, -1, 0, 2, 0, -1, 2, -1, -1],
]

# A booster of four trees as XGBoost 1.2.0 pickles it, the format of the released models (compressed, base 85).
OLD_BOOSTER = (
    "c-rk)U1%It6rLtANu~Bjd{Hd4`;^da*v#y<Now;mvHy}rr4JIr^v=xP-DziMrgQJ)ry;T`0fj}1PT$mr2u9I>paqfsQADZ_Md-8i"
    "p%sdt_#)B=spp=V-I?sBZz3&pAZPZRd%k=A=U!6nIRDSn5<ay}b0yt%8SgV(pN6$ARWQ^KKL~r@3>U+mT4$L!rVUHodSKbya#&c~"
    "sLyjse4osNp4zodlE#lu96WMpw_7YS%7?nUquq7ODN52e>OjOw8&dB!>HmGU#&4gNhS-^a_|&An@A{pwyrgrV(vFmu591?z>q_wh"
    "4}nkj;i*^jNlB_o($x|8S#1Z>(U3_(COrXvoekN^QNUI2$B$T7+PClD5bs%+EnN$S+nV&MvwsWO8ok~QIx;%GtV+`1@h}^py-(D_"
    "s3d)=)?Pn4EcmN8m&PRNH??--@<<Yatt#yw?N9itV@ucm8cz6}TAiIu>A$b`cKkZ>=+tA!Xu2Ld6Ir7kJL9@F*W=2>k&DgsSXtiH"
    "Qjgmg-fpSK%5iDr&*{}MQIG59J<R9icdvropVWh=Gsy3_vkd$X>e0cMQ~5otUYYpuV#2?qt}K6%s>k!{?F;QGeNSCEUVVh>ac*>-"
    "`MA<r52>XdLFc=dn(J{_{eFLQJ*KX!E%lhZw>mr@Jd5@Cc+(r0&u_Pg`FLjhweSz@|ItlbAdi#k@15II`R!JN&W)E7{*HQAeKA#!"
    "$+4;H*Vfc$^4{)8s2*RfGao0{nUB`*)xJxcTjs-D{iUTI(&s%b^*Ay4*6?%ldq+h*UbwXZ^Y`Vgt-$XZ|M}2|SdVJ<JiPCYeZB2w"
    "D!(_>eV5)#&Br^cxjLO%KQ|_Q{#p9_HFjdMZRA1ciFh`~Z&yD>4Q|cQ1F>Ks<B$r?3}u?n%}iE^G}~oN^N3F>nW2RYGl)$!&t=*y"
    "wMu0Uxc<!I;zGuT>w-glp;Myp!!i;Ob%+iqI_H7BLLE+Q?G$qzjR8+=>n!1x>%dkyuvzi~%`$=6-5+xvDN&7CXKAeAXdq<`=9H^9"
    "7+&@%F=Nh$dyQMs7$;mn6%a8>&D2i~9MUYf4W%8J0gp_8ME+A)Wl@yijZaJq{MYp85{1#?wL;@Qv797iC#WD}+tk*C0&bDbc#vJo"
    ";E>&+3<<c4BG;ghV?OT*Et3{WU~^c&eZhgUD}1JN#1PWJ6V3^I$#-Wp!?i2qH1)HdA2>8whuofdfDQx_mpt-aB*UYIRkR=@jqQuX"
    "W;A7PVeMW*Q2*T=yz6nzqz<D(yPmry9b$WB5@*~XMwx1WijxE=Mk*e(j6QGE8EUU1cU+UMBTl6{PNZg9zUX+YFLo)c#T{9sga<y="
    "AhN)-oKox$<>*;oK{Oz#RO)_W0zB8YjCm}S$IG)86Zx|o(L`tkVs;n?%SGS7qD?BgNn)?i12CoeQCCJ*Dr8QByEO1}VNcA%K1DFa"
    "8=A4)q&6qe)zn)f1ZM<1=E2MiWhn&)c8zirsc<ES3s4cGY}sadnj<muY>VUY*Eew;m%9#aim#^^zY|5Dva+yRjQ0?qj&zOjQ<6>u"
    "mP{m~(cyt(6<xm~)=pCn&QcGJ_vPfl=uwh29N9Qv23-ZsCWfDtT^r}WPtL7<&?W{&VZs9v%^<Z2<M6F=D9^?bT87XJ^r)xe51bfN"
    "F+0$?j~n@MBR{&0ELu4}tF;QWo}F~EPQW%3|0V$4!2`mMIK~XvxpBY(ANLwapu(x$n&zT$L?)+<X))~9dP58UMb_Z55btkdV9D9o"
    "xUH;rKLOhj7`&UBUZeb<Txwwd894lL;HLVsayB=;7%qjcgte|XxUkk41sB$ys*j*B%);rgr`A@?g+TfRkp)o%$qP~tWRD<w1sM=z"
    "Fs!u~`*TS9k;+IFq<N$Tq<fI=MLK{Ku`*(1#L9@35i28BMy!lj8L={AWyC6oRS>HnRza+SSOu{PVim+Hh*c1qM{FLkdBo-sn@4OO"
    "v3bPi5t~PB9<c?)77$xNYyq(a#1;x6O)@JkNGzPFZPqE{$+ay!)?V9+A_s3wwpFosc&sDP`~C$|kML~"
)
OLD_PREDICTIONS = [90.11316680908203, 91.33334350585938, 90.41001892089844]  # by XGBoost 1.2.0


def reference(text: str) -> dict[str, object]:
    """The benchmark's names of a genotype's choices, edge by edge."""
    genotype = eval(text, {"Genotype": dict, "range": range})  # noqa: S307 (written by this package)
    out: dict[str, object] = {}
    for cell in ("normal", "reduce"):
        first = 0
        for node in range(4):
            edges = genotype[cell][2 * node : 2 * node + 2]
            out |= {f"edge_{cell}_{first + source}": OPERATIONS.index(name) for name, source in edges}
            pairs = [(a, b) for a in range(node + 2) for b in range(a + 1, node + 2)]
            out[f"inputs_{cell}_{node + 2}"] = pairs.index(tuple(sorted(source for _, source in edges)))
            first += node + 2
    return out


def test_vectors_are_those_of_the_benchmark() -> None:
    assert encode(SPACE.parse(V2)[None])[0].tolist() == pytest.approx(CONFIGSPACE, rel=1e-12)
    names = [f"edge_{cell}_{i}" for cell in ("normal", "reduce") for i in (0, 1)]
    names = ["recipe"] * 10 + names + ["recipe"]
    names += [f"inputs_{cell}_{node}" for cell in ("normal", "reduce") for node in (3, 4, 5)] + ["recipe"] * 11
    names += [f"edge_{cell}_{i}" for cell in ("normal", "reduce") for i in (10, 11, 12, 13, *range(2, 10))]
    assert len(names) == FEATURES
    for genes, row in zip(GENES[:50], encode(GENES[:50]), strict=True):
        known = reference(SPACE.describe(genes))
        expected = [CONFIGSPACE[i] if n == "recipe" else known.get(n, -1) for i, n in enumerate(names)]
        assert row.tolist() == pytest.approx(expected, rel=1e-12)


def train(kind: str, seed: int) -> object:
    """One member, with early stopping, so that the best iteration is not the last."""
    rng = np.random.default_rng(seed)
    vectors = encode(GENES)
    target = 92 + 0.2 * vectors[:, 10] + 0.1 * vectors[:, 33] + rng.normal(size=len(GENES)) * 0.3
    half = len(GENES) // 2
    if kind == "xgb":
        data = [xgb.DMatrix(vectors[i:j], target[i:j]) for i, j in ((0, half), (half, None))]
        options = {"max_depth": 3, "seed": seed, "nthread": 1}
        return xgb.train(options, data[0], 60, evals=[(data[1], "val")], early_stopping_rounds=5, verbose_eval=False)
    parts = [lgb.Dataset(vectors[i:j], target[i:j]) for i, j in ((0, half), (half, None))]
    options = {"objective": "regression", "num_leaves": 6, "min_data_in_leaf": 5, "seed": seed, "verbose": -1}
    stop = lgb.early_stopping(5, verbose=False)
    return lgb.train({**options, "num_threads": 1}, parts[0], 60, [parts[1]], callbacks=[stop])


def write_member(folder: Path, booster: object, kind: str, seed: int = 6) -> None:
    folder.mkdir(parents=True)
    (folder / "surrogate_model.model").write_bytes(pickle.dumps(booster, protocol=3))
    (folder / "model_config.json").write_text(json.dumps({"model": kind, "param:bananas_enc": False}))
    (folder / "data_config.json").write_text(json.dumps({"seed": seed}))


@pytest.fixture(scope="module", params=["xgb", "lgb"])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, np.ndarray]:
    """Kind, folder in the released layout, and what the members predict for GENES by themselves."""
    folder = tmp_path_factory.mktemp("nb_models_1.0") / f"{request.param}_v1.0"
    members = [train(request.param, seed) for seed in range(3)]
    for place, member in enumerate(members):
        write_member(folder / f"ensemble_member_{place}", member, request.param)
    vectors = encode(GENES)
    wanted = [m.predict(xgb.DMatrix(vectors)) if request.param == "xgb" else m.predict(vectors) for m in members]
    return request.param, folder, np.stack(wanted)


def test_imported_models_predict_as_the_released_ones_do(
    ensemble: tuple[str, Path, np.ndarray], tmp_path: Path
) -> None:
    kind, folder, wanted = ensemble
    path = import_table("nasbench301", folder, tmp_path / "nasbench301.npz")
    fitness = NASBench301Fitness(path)
    fitness.setup(SPACE)
    np.testing.assert_allclose(fitness.predict(GENES).numpy(), wanted, rtol=1e-12)
    assert fitness.kind == kind
    own = [int(SPACE.code(genes)) == int(SPACE.identity(genes)) for genes in GENES]
    values = fitness(GENES[None], torch.ones(1, len(GENES), dtype=torch.bool))[0]
    np.testing.assert_allclose(values.numpy()[own], wanted.mean(0)[own], rtol=1e-6)
    assert 0.1 < np.mean(own) < 0.9
    assert fitness.evaluations == len(SPACE.identity(GENES).unique())


def test_noise_is_normal_with_the_spread_of_the_models_and_stays(
    ensemble: tuple[str, Path, np.ndarray], tmp_path: Path
) -> None:
    path = import_table("nasbench301", ensemble[1], tmp_path / "nasbench301.npz")
    plain, noisy, other = (NASBench301Fitness(path, *options) for options in ((), (True, 1), (True, 2)))
    valid = torch.ones(len(GENES), dtype=torch.bool)
    for fitness in (plain, noisy, other):
        fitness.setup(SPACE)
    first = noisy(GENES, valid)
    assert torch.equal(NASBench301Fitness.score(noisy, GENES), first)
    assert not torch.equal(other(GENES, valid), first)
    # Genotypes that are the smallest of their class have the spread of their own predictions.
    own = torch.tensor([int(SPACE.code(genes)) == int(SPACE.identity(genes)) for genes in GENES])
    spread = plain.predict(GENES).std(0, correction=0)
    standard = ((first - plain(GENES, valid)) / spread)[own & (spread > 0)]
    assert abs(float(standard.mean())) < 4 / len(standard) ** 0.5
    assert 0.7 < float(standard.std()) < 1.3


def test_pickles_of_the_release_are_read(tmp_path: Path) -> None:
    raw = zlib.decompress(base64.b85decode(OLD_BOOSTER))
    folder = tmp_path / "release" / "nb_models" / "xgb_v1.0"
    write_member(folder / "20201001-1", None, "xgb")
    (folder / "20201001-1" / "surrogate_model.model").write_bytes(raw)
    fitness = NASBench301Fitness(import_table("nasbench301", tmp_path / "release", tmp_path / "out.npz"))
    vectors = np.zeros((3, FEATURES))
    vectors[1, 10] = vectors[2, 33] = 5
    np.testing.assert_allclose(fitness._models[0].predict(vectors), OLD_PREDICTIONS, rtol=1e-6)


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("ran",)


def narrow() -> object:
    data = xgb.DMatrix(np.random.default_rng(0).normal(size=(20, 5)), np.arange(20.0))
    return xgb.train({"max_depth": 1}, data, 2)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (lambda: pickle.dumps(Exploit()), "xgb", r"damaged or not a model.*print"),
        (lambda: b"PK" * 100, "xgb", "damaged or not a model"),
        (lambda: pickle.dumps({"a": 1}), "xgb", "holds a dict, expected a booster"),
        (lambda: pickle.dumps(train("xgb", 0))[:-2000], "xgb", "damaged or not a model"),
        (lambda: pickle.dumps(narrow()), "xgb", "takes 5 features.* take 56: another version"),
        (lambda: b"", "gnn_gin", "kind 'gnn_gin': only boosted trees.*xgb, lgb"),
        (lambda: b"", "lgb_time", "predicts seconds"),
    ],
)
def test_bad_models_are_refused_and_nothing_is_written(
    tmp_path: Path, content, kind: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_member(tmp_path / "xgb_v1.0" / "0", None, kind)
    (tmp_path / "xgb_v1.0" / "0" / "surrogate_model.model").write_bytes(content())
    with pytest.raises(ValueError, match=message):
        import_table("nasbench301", tmp_path / "xgb_v1.0", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    assert "ran" not in capsys.readouterr().out


def test_absent_models_and_other_spaces_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"xgb_v1\.0"):
        import_table("nasbench301", tmp_path / "none", tmp_path / "out.npz")
    with pytest.raises(FileNotFoundError, match=r"surrogate_model\.model"):
        import_table("nasbench301", tmp_path, tmp_path / "out.npz")
    np.savez(tmp_path / "other.npz", genes=np.zeros(3))
    with pytest.raises(ValueError, match="a table of transnas101_macro, expected one of nasbench301"):
        NASBench301Fitness(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="a table of transnas101_macro, expected one of zc_nasbench301"):
        NASBench301TableFitness(tmp_path / "other.npz")
    write_member(tmp_path / "e" / "0", narrow(), "xgb")
    write_member(tmp_path / "e" / "1", narrow(), "lgb")
    with pytest.raises(ValueError, match="mixes models of lgb, xgb"):
        import_table("nasbench301", tmp_path / "e", tmp_path / "out.npz")


# --- NAS-Bench-Suite-Zero -------------------------------------------------------------------------------------------


def compact(genes: torch.Tensor) -> str:
    """As NASLib writes it: the edges of a node in the order of their inputs."""
    cells = SPACE.cells(genes)
    return str(tuple(tuple((source, OPERATIONS.index(name)) for name, source in cell) for cell in cells))


def write_table(path: Path) -> None:
    rows = {
        compact(genes): {"val_accuracy": 90 + i / 10, "synflow": {"score": 5.0 + i, "time": 1.0}, "id": i}
        for i, genes in enumerate(GENES[:8])
    }
    few = {compact(genes): {"val_accuracy": 50.0 + i} for i, genes in enumerate(GENES[6:10])}
    path.write_text(json.dumps({"cifar10": rows, "svhn": few}))


def test_a_table_scores_what_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "zc_nasbench301.json")
    monkeypatch.setenv("EDNAG_DATA", str(tmp_path))
    assert presence("zc_nasbench301").state == "to import"
    import_table("zc_nasbench301", tmp_path / "zc_nasbench301.json", tmp_path / "zc_nasbench301.npz")
    fitness = NASBench301TableFitness()
    fitness.setup(SPACE)
    values = fitness(GENES[None, :12], torch.ones(1, 12, dtype=torch.bool))[0]
    assert values[:8].tolist() == pytest.approx([90 + i / 10 for i in range(8)])
    assert (values[8:] == -torch.inf).all()
    assert (fitness.lookups, fitness.evaluations, fitness.unknown) == (12, 12, 4)
    assert fitness.optimum == pytest.approx(90.7)
    assert fitness.optimum_keys().tolist() == [int(SPACE.identity(GENES[7]))]
    found = fitness.reveal(GENES[7:9])
    assert sorted(found) == ["cifar10/proxy/synflow", "cifar10/valid/final"]
    assert found["cifar10/proxy/synflow"].tolist()[0] == 12
    assert found["cifar10/proxy/synflow"][1].isnan()
    svhn = NASBench301TableFitness(dataset="svhn")
    svhn.setup(SPACE)
    assert svhn.score(GENES[5:10]).tolist() == [-torch.inf, 50, 51, 52, 53]
    with pytest.raises(ValueError, match="no validation accuracy on 'ninapro'; it has cifar10, svhn"):
        NASBench301TableFitness(dataset="ninapro")
    with pytest.raises(ValueError, match="the search space is nasbench201"):
        fitness.setup(NASBench201())


def test_the_runners_lists_of_records_are_the_same_table(tmp_path: Path) -> None:
    write_table(tmp_path / "zc_nasbench301.json")
    official = json.loads((tmp_path / "zc_nasbench301.json").read_text())
    for dataset, rows in official.items():
        for proxy in ("synflow", "snip"):  # one run of the runner per proxy
            records = [
                {
                    "idx": str(i),
                    "arch": text,
                    "val_accuracy": row["val_accuracy"],
                    proxy: {"score": 5.0 + i, "time": 0.1},
                }
                for i, (text, row) in enumerate(rows.items())
            ]
            place = tmp_path / "run" / dataset / proxy / "scores.json"
            place.parent.mkdir(parents=True)
            place.write_text(json.dumps(records))
    lists = dict(np.load(import_table("zc_nasbench301", tmp_path / "run", tmp_path / "lists.npz")))
    whole = dict(np.load(import_table("zc_nasbench301", tmp_path / "zc_nasbench301.json", tmp_path / "whole.npz")))
    assert sorted(lists) == sorted([*whole, "cifar10/proxy/snip", "svhn/proxy/snip", "svhn/proxy/synflow"])
    for name, values in whole.items():
        np.testing.assert_array_equal(lists[name], values)
    np.testing.assert_array_equal(lists["cifar10/proxy/snip"][:8], whole["cifar10/proxy/synflow"][:8])
    one = import_table("zc_nasbench301", tmp_path / "run/cifar10/snip/scores.json", tmp_path / "one.npz")
    assert sorted(dict(np.load(one))) == ["cifar10/proxy/snip", "cifar10/valid/final", "genotypes"]


def test_isomorphic_rows_are_one(tmp_path: Path) -> None:
    # Nodes 0 and 1 read the two inputs, so that they can change places.
    cell = [(0, 3), (1, 2), (0, 1), (1, 5), (2, 0), (3, 4), (0, 0), (1, 0)]
    swapped = [(0, 1), (1, 5), (0, 3), (1, 2), (2, 4), (3, 0), (0, 0), (1, 0)]
    rows = {str((tuple(c), tuple(cell))): {"val_accuracy": v} for c, v in ((cell, 90.0), (swapped, 91.0))}
    (tmp_path / "zc.json").write_text(json.dumps({"cifar10": rows}))
    fitness = NASBench301TableFitness(import_table("zc_nasbench301", tmp_path / "zc.json", tmp_path / "zc.npz"))
    fitness.setup(SPACE)
    genes = torch.tensor([compact_genes(text) for text in rows])
    assert fitness.score(genes).tolist() == [90.5, 90.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "lists no genotype"),
        ("[3]", "not of the layout"),
        ('[{"val_accuracy": 90}]', "not of the layout.*arch"),
        ("{}", "lists no genotype"),
        ('{"cifar10": {"(4, 0, 3, 1, 4, 3)": {"val_accuracy": 90}}}', "not a genotype of NAS-Bench-301.*eight|8"),
        ('{"cifar10": {"((), ())": {"val_accuracy": 90}}}', "not a genotype"),
        ('{"cifar10": {"__import__(1)": {"val_accuracy": 90}}}', "not a genotype"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "zc.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        import_table("zc_nasbench301", tmp_path / "zc.json", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    with pytest.raises(FileNotFoundError, match=r"zc_nasbench301\.json"):
        import_table("zc_nasbench301", tmp_path / "none.json", tmp_path / "out.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected zc_nasbench301\.json"):
        import_table("zc_nasbench301", tmp_path / "empty", tmp_path / "out.npz")


def test_accuracies_must_be_percent_and_operations_known(tmp_path: Path) -> None:
    for text, value, message in (
        (compact(GENES[0]), 101, "expected percent"),
        (compact(GENES[0]).replace("(0, ", "(9, ", 1), 90, "not a genotype"),
        (str((((0, -1), (1, 2)) * 4, ((0, 1), (1, 2)) * 4)), 90, "negative operation"),
        (str((((0, 7), (1, 2)) * 4, ((0, 1), (1, 2)) * 4)), 90, "not a genotype"),
    ):
        (tmp_path / "zc.json").write_text(json.dumps({"cifar10": {text: {"val_accuracy": value}}}))
        with pytest.raises(ValueError, match=message):
            import_table("zc_nasbench301", tmp_path / "zc.json", tmp_path / "out.npz")
