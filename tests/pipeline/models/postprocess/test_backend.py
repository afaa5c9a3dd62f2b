"""Which way maps are brought to pixels."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.postprocess.backend import path_for


def test_a_cpu_settles_cells_and_other_devices_go_the_plain_way():
    assert path_for(torch.device("cpu")) == "cells"
    assert path_for(torch.device("meta")) == "plain"


def test_a_way_can_be_asked_for():
    assert path_for(torch.device("cpu"), "plain") == "plain"
    with pytest.raises(ValueError, match="'cells' is for a CPU, not for cuda"):
        path_for(torch.device("cuda"), "cells")
