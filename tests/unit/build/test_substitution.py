"""Modules put in the place of diffusers'."""

from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from swiftdiffusion_build.export.substitution import substitute


def test_nothing_of_diffusers_is_left_and_parameters_keep_their_names(checkpoint):
    for subject in checkpoint.subjects().values():
        network = subject.load()
        before = dict(network.named_parameters())
        substitute(network)
        after = dict(network.named_parameters())
        assert before.keys() == after.keys()
        assert all(before[name] is after[name] for name in before)
        assert not any(isinstance(m, (nn.GroupNorm, GEGLU, ResnetBlock2D, Upsample2D)) for m in network.modules())
