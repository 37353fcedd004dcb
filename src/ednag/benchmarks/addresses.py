"""Where files that anyone may fetch directly are: addresses, digests, and what to do with them.

A digest is the one that the source publishes, or that torchvision verifies; ``None`` where there is none.
"""

from __future__ import annotations

from typing import NamedTuple


class RemoteFile(NamedTuple):
    """A file to fetch.

    Attributes:
        name: of the file in its folder.
        urls: addresses of the same file, tried in order.
        digest: ``md5:...`` or ``sha256:...``; ``None`` if its source publishes none.
        unpack: whether it is an archive to unpack beside it.
    """

    name: str
    urls: tuple[str, ...]
    digest: str | None = None
    unpack: bool = False


_TORONTO = "https://www.cs.toronto.edu/~kriz"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
_ZALANDO = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
_OFA = ("https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets",)
_TORCH = ("https://download.pytorch.org/models",)
_RESNET18 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
_DROPBOX = "https://www.dropbox.com/s"


def _from(hosts: tuple[str, ...], name: str, digest: str | None = None, unpack: bool = False) -> RemoteFile:
    return RemoteFile(name, tuple(f"{host}/{name}" for host in hosts), digest, unpack)


ADDRESSES: dict[str, tuple[RemoteFile, ...]] = {
    "cifar10": (_from((_TORONTO,), "cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", True),),
    "cifar100": (_from((_TORONTO,), "cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85", True),),
    "fashion_mnist": (
        _from(_ZALANDO, "train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        _from(_ZALANDO, "train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe"),
        _from(_ZALANDO, "t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79"),
        _from(_ZALANDO, "t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    "aircraft": (
        _from(
            (f"{_OXFORD}/fgvc-aircraft/archives",),
            "fgvc-aircraft-2013b.tar.gz",
            "md5:d4acdd33327262359767eeaa97a4f732",
            True,
        ),
    ),
    "pets": (
        _from((f"{_OXFORD}/pets/data",), "images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c", True),
        _from((f"{_OXFORD}/pets/data",), "annotations.tar.gz", "md5:95a8c909bbe2e81eed6a22bccdf3f68f", True),
    ),
    "ofa_weights": (_from(_OFA, "ofa_mbv3_d234_e346_k357_w1.0"), _from(_OFA, "ofa_mbv3_d234_e346_k357_w1.2")),
    "metad2a": (
        RemoteFile(
            "meta_train_tasks_predictor.pt", (f"{_DROPBOX}/wc6kylzo5ehqlem/meta_train_tasks_predictor.pt?dl=1",)
        ),
        RemoteFile("meta_train_task_lst.pt", (f"{_DROPBOX}/0eu01gig3gnxvk4/meta_train_task_lst.pt?dl=1",)),
        RemoteFile("imgnet32bylabel.pt", (f"{_DROPBOX}/7r3hpugql8qgi9d/imgnet32bylabel.pt?dl=1",)),
    ),
    "resnet18": (_from(_TORCH, "resnet18-f37072fd.pth", f"sha256:{_RESNET18}"),),
}
"""By the name in the catalogue."""
