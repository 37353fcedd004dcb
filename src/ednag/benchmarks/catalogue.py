"""What is known of each benchmark table, meta data and set of images: where from, licence, size, checksum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One entry of the catalogue.

    Attributes:
        name: what the user calls it (``nasbench201``).
        kind: ``benchmark`` (a table of measured architectures), ``meta data`` (what a meta predictor is fitted to: the
            same on many small data sets), ``images``, or ``weights`` of trained networks.
        title: what it is.
        files: names by which it is found in a folder of the search order, best first.
        source: where it comes from, in words.
        home: the public page of the project.
        citation: the paper.
        licence: licence of the data, as its source states it.
        size: of the official release, or of the table in this project's layout.
        checksum: as the source publishes it; a dash where it publishes none.
        shape: of the arrays.
        official: names of the official release, where :func:`ednag.cli.importing.import_table` can read it.
    """

    name: str
    kind: Literal["benchmark", "meta data", "images", "weights"]
    title: str
    files: tuple[str, ...]
    source: str
    home: str
    citation: str
    licence: str
    size: str
    checksum: str = "-"
    shape: str
    official: tuple[str, ...] = ()


CATALOGUE: tuple[DataSource, ...] = (
    DataSource(
        name="nasbench201",
        kind="benchmark",
        title="NAS-Bench-201 (the topology space of NATS-Bench): accuracies after 12 and 200 epochs, FLOPs, parameters",
        files=("nasbench201.npz",),
        source="the project's download links: NATS-tss-v1_0-3ffb9-simple.tar, unpacked; then `ednag data import`",
        home="https://github.com/D-X-Y/NATS-Bench",
        citation="Dong & Yang, ICLR 2020; Dong, Liu, Musial & Gabrys, TPAMI 2021",
        licence="MIT",
        size="0.4 MB as a table",
        checksum="md5 of the official .pickle.pbz2 begins with 3ffb9",
        shape="15,625 cells (6,466 classes) x 6 genes; cifar10, cifar100, imagenet16-120",
        official=("NATS-tss-v1_0-3ffb9-simple",),
    ),
    DataSource(
        name="nasbench201_latency",
        kind="benchmark",
        title="measured latency of the NAS-Bench-201 networks on 27 devices",
        files=("nasbench201_latency.npz",),
        source="the latency files of the HELP repository",
        home="https://github.com/HayeonLee/HELP",
        citation="Lee, Lee, Chong & Hwang, NeurIPS 2021",
        licence="MIT",
        size="1.3 MB as a table",
        shape="15,625 cells x 27 devices, milliseconds",
    ),
    DataSource(
        name="nasbench101",
        kind="benchmark",
        title="NAS-Bench-101: accuracies after 4, 12, 36 and 108 epochs, parameters, training seconds",
        files=("nasbench101.npz", "nasbench101_sample.npz"),
        source="the project's download links: nasbench_full.tfrecord or nasbench_only108.tfrecord",
        home="https://github.com/google-research/nasbench",
        citation="Ying, Klein, Christiansen, Real, Murphy & Hutter, ICML 2019",
        licence="Apache-2.0",
        size="1.95 GB (full), 499 MB (108 epochs only); a sample of 30,001 cells as a table: 1.0 MB",
        checksum="sha256 3d64db8180fb1b0207212f9032205064312b6907a3bbc81eabea10db2f5c7e9c (full), "
        "4c39c3936e36a85269881d659e44e61a245babcb72cb374eacacf75d0e5f4fd1 (108 epochs only)",
        shape="423,624 cells of at most 7 vertices and 9 edges; cifar10",
        official=("nasbench_full.tfrecord", "nasbench_only108.tfrecord"),
    ),
    DataSource(
        name="transnas101_micro",
        kind="benchmark",
        title="TransNAS-Bench-101, cell space: seven tasks",
        files=("transnas101_micro.npz",),
        source="the download page that the project's README names: transnas-bench_v10141024.pth",
        home="https://github.com/yawen-d/TransNASBench",
        citation="Duan, Chen, Xu, Chen, Liang, Zhang & Li, CVPR 2021",
        licence="MIT",
        size="0.2 MB as a table of four tasks",
        shape="4,096 cells x 6 genes",
        official=("transnas-bench_v10141024.pth",),
    ),
    DataSource(
        name="transnas101_macro",
        kind="benchmark",
        title="TransNAS-Bench-101, skeleton space: seven tasks",
        files=("transnas101_macro.npz",),
        source="the download page that the project's README names: transnas-bench_v10141024.pth",
        home="https://github.com/yawen-d/TransNASBench",
        citation="Duan, Chen, Xu, Chen, Liang, Zhang & Li, CVPR 2021",
        licence="MIT",
        size="0.2 MB as a table of four tasks",
        shape="3,256 skeletons x 6 genes (4 to 6 modules)",
        official=("transnas-bench_v10141024.pth",),
    ),
    DataSource(
        name="nasbench301",
        kind="benchmark",
        title="NAS-Bench-301: surrogate models of the DARTS space (ensembles of boosted trees)",
        files=("nasbench301.npz",),
        source="the archives of models that the project's README links to, v1.0 or v0.9; the ensemble xgb_v1.0",
        home="https://github.com/automl/nasbench301",
        citation="Zela, Siems, Zimmer, Lukasik, Keuper & Hutter, ICLR 2022",
        licence="see the project's LICENSE",
        size="see the project's page",
        shape="56 features -> validation accuracy; cifar10",
        official=("xgb_v1.0", "nb_models_1.0", "nb_models", "xgb_v0.9", "nb_models_0.9"),
    ),
    DataSource(
        name="zc_nasbench301",
        kind="benchmark",
        title="NAS-Bench-Suite-Zero, DARTS space: validation accuracy and 13 zero-cost proxies",
        files=("zc_nasbench301.npz",),
        source="the download script of NASLib's branch zerocost: zc_nasbench301.json",
        home="https://github.com/automl/NASLib/tree/zerocost",
        citation="Krishnakumar, White, Zela, Tu, Safari & Hutter, NeurIPS 2022",
        licence="Apache-2.0",
        size="see the project's page",
        shape="genotypes x 22 genes; cifar10 and others",
        official=("zc_nasbench301.json",),
    ),
    DataSource(
        name="ofa_mobilenetv3",
        kind="benchmark",
        title="once-for-all MobileNetV3: measured sub-networks and latencies",
        files=("ofa_mobilenetv3.npz",),
        source="measurements of DyNAS-T (github.com/IntelLabs/DyNAS-T) and HELP; weights from once-for-all",
        home="https://github.com/mit-han-lab/once-for-all",
        citation="Cai, Gan, Wang, Zhang & Han, ICLR 2020",
        licence="Apache-2.0 (DyNAS-T), MIT (HELP); weights: see the project's LICENSE",
        size="0.3 MB as a table",
        shape="2,162 measured sub-networks; 5,000 sub-networks x 12 latencies; ImageNet",
    ),
    DataSource(
        name="metad2a",
        kind="meta data",
        title="MetaD2A: NAS-Bench-201 cells trained on subsets of ImageNet, with the features of their images",
        files=("metad2a/rows.npz",),
        source="the addresses in the project's get_preprocessed_data.py; then `ednag data import`",
        home="https://github.com/HayeonLee/MetaD2A",
        citation="Lee, Hyung & Hwang, ICLR 2021",
        licence="MIT",
        size="see the project's page",
        shape="cells x 6 genes, a task and an accuracy each; features 20 x 512 of each class",
        official=("meta_train_tasks_predictor.pt",),
    ),
    DataSource(
        name="cifar10",
        kind="images",
        title="CIFAR-10",
        files=("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar10-jpeg.tar.xz"),
        source="the author's page, or torchvision's downloader: cifar-10-python.tar.gz",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        licence="none stated by its author",
        size="170 MB",
        checksum="md5 c58f30108f718f92721af3b95e74349a",
        shape="50,000 + 10,000 images, 32 x 32 x 3, 10 classes",
    ),
    DataSource(
        name="cifar100",
        kind="images",
        title="CIFAR-100",
        files=("cifar-100-python", "cifar-100-python.tar.gz"),
        source="the author's page, or torchvision's downloader: cifar-100-python.tar.gz",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        licence="none stated by its author",
        size="169 MB",
        checksum="md5 eb9058c3a382ffc7106e4002c42a8d85",
        shape="50,000 + 10,000 images, 32 x 32 x 3, 100 classes",
    ),
    DataSource(
        name="digits",
        kind="images",
        title="handwritten digits, the set that ships inside scikit-learn",
        files=("digits.csv.gz",),
        source="installed with scikit-learn",
        home="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation="Alpaydin & Kaynak, UCI Machine Learning Repository, 1998",
        licence="CC BY 4.0",
        size="0.1 MB",
        shape="1,797 images, 8 x 8 x 1, 10 classes",
    ),
    DataSource(
        name="fashion_mnist",
        kind="images",
        title="Fashion-MNIST",
        files=("train-images-idx3-ubyte.gz", "FashionMNIST", "fashion-mnist"),
        source="the project's download links, torchvision's downloader, or Debian's dataset-fashion-mnist",
        home="https://github.com/zalandoresearch/fashion-mnist",
        citation="Xiao, Rasul & Vollgraf, arXiv:1708.07747, 2017",
        licence="MIT",
        size="30 MB",
        checksum="md5 8d4fb7e6c68d591d4c3dfef9ec88bf0d (training images), bef4ecab320f06d8554ea6380940ec79 (test images)",
        shape="60,000 + 10,000 images, 28 x 28 x 1, 10 classes",
    ),
    DataSource(
        name="aircraft",
        kind="images",
        title="FGVC-Aircraft: photographs of 100 variants of aircraft",
        files=("fgvc-aircraft-2013b", "fgvc-aircraft-2013b.tar.gz"),
        source="the project's page: fgvc-aircraft-2013b.tar.gz",
        home="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        citation="Maji, Rahtu, Kannala, Blaschko & Vedaldi, arXiv:1306.5151, 2013",
        licence="for non-commercial research only, as its authors state",
        size="2.75 GB",
        checksum="md5 d4acdd33327262359767eeaa97a4f732",
        shape="3,334 + 3,333 + 3,333 photographs, 100 variants (70 families, 30 manufacturers)",
    ),
    DataSource(
        name="pets",
        kind="images",
        title="Oxford-IIIT Pets: photographs of 37 breeds of cats and dogs",
        files=("annotations", "annotations.tar.gz"),
        source="the project's page: images.tar.gz and annotations.tar.gz",
        home="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        citation="Parkhi, Vedaldi, Zisserman & Jawahar, CVPR 2012",
        licence="CC BY-SA 4.0",
        size="0.8 GB",
        checksum="md5 5c4f3ee8e5d25df40f4fd59a7f44e54c (images), 95a8c909bbe2e81eed6a22bccdf3f68f (annotations)",
        shape="3,680 + 3,669 photographs, 37 breeds",
    ),
    DataSource(
        name="ofa_weights",
        kind="weights",
        title="once-for-all MobileNetV3: weights of the supernets, widths 1.0 and 1.2",
        files=("ofa_mbv3_d234_e346_k357_w1.0", "ofa_mbv3_d234_e346_k357_w1.2"),
        source="the addresses in the project's ofa/model_zoo.py",
        home="https://github.com/mit-han-lab/once-for-all",
        citation="Cai, Gan, Wang, Zhang & Han, ICLR 2020",
        licence="see the project's LICENSE",
        size="see the project's page",
        shape="ImageNet, 1,000 classes",
    ),
    DataSource(
        name="resnet18",
        kind="weights",
        title="torchvision's ResNet-18, weights of ImageNet: the feature extractor of the paper and of MetaD2A",
        files=("resnet18-f37072fd.pth",),
        source="torchvision's download: resnet18-f37072fd.pth",
        home="https://github.com/pytorch/vision",
        citation="He, Zhang, Ren & Sun, CVPR 2016",
        licence="BSD-3-Clause",
        size="45 MB",
        checksum="sha256 f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        shape="ImageNet, 1,000 classes",
    ),
    DataSource(
        name="imagefolder",
        kind="images",
        title="any ImageNet-style folder: train/<class>/*, val/<class>/*, test/<class>/*",
        files=("imagefolder", "imagenet", "tiny-imagenet-50.tar.xz"),
        source="yours: name the folder on the command line",
        home="https://www.image-net.org",
        citation="Deng, Dong, Socher, Li, Li & Fei-Fei, CVPR 2009 (ImageNet)",
        licence="that of your images",
        size="any",
        shape="any number, size and classes",
    ),
)
"""Everything known, tables first."""
