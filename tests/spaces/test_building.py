"""Sizes of networks: what can't be built is refused before anything is."""

import pytest

from ednag.spaces import DARTS, NASBench201, PretrainedLite
from ednag.spaces.building import LARGEST, check_options, check_sizes


@pytest.mark.parametrize("value", [0, -1, 10**9, 1.5, True, "16"])
def test_sizes_out_of_range_are_named(value: object) -> None:
    with pytest.raises(ValueError, match="option channels must be a whole number from 1 to 4,096, got "):
        check_sizes(NASBench201(), {"cells": 1, "channels": value})


def test_sizes_in_range_and_options_of_other_kinds_pass() -> None:
    assert check_options(NASBench201(), {"channels": LARGEST, "cells": 1}) == {"channels": LARGEST, "cells": 1}
    check_options(DARTS(), {"channels": 1})
    check_sizes(PretrainedLite(), {"dropout": 0.5, "pretrained": False})
    with pytest.raises(ValueError, match="have no option 'width'"):
        check_options(NASBench201(), {"width": 3})
