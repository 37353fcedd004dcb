"""Search spaces. Importing them all here gives each a short name on the command line."""

from ednag.spaces.base import Layout, SearchSpace
from ednag.spaces.darts import DARTS
from ednag.spaces.mobilenetv3 import MobileNetV3
from ednag.spaces.nasbench101 import NASBench101
from ednag.spaces.nasbench201 import NASBench201
from ednag.spaces.pretrained_lite import PretrainedLite
from ednag.spaces.transnas101 import TransNAS101Macro, TransNAS101Micro

__all__ = [
    "DARTS",
    "Layout",
    "MobileNetV3",
    "NASBench101",
    "NASBench201",
    "PretrainedLite",
    "SearchSpace",
    "TransNAS101Macro",
    "TransNAS101Micro",
]
