"""Why there is no encoder, where there is none; one at work is in `tests/gpu`."""

import sys

import pytest
import torch

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.services.nvjpeg import find_nvjpeg


def test_the_cpu_has_none():
    with pytest.raises(InvalidArgument, match="cpu is no GPU"):
        find_nvjpeg(torch.device("cpu"))


def test_it_needs_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(InvalidArgument, match="torchvision cannot be imported"):
        find_nvjpeg(torch.device("cuda"))
