"""What models take of a GPU's memory, against the networks themselves."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import save_file

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion.networks.weight_files import count_weights
from swiftdiffusion_build.placement.footprints import PROCESS_BYTES, read_footprints


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_weights_are_counted_in_fp16_and_each_process_is_added(checkpoint):
    footprints = read_footprints(checkpoint)
    networks = {name: subject.load() for name, subject in checkpoint.subjects().items()}
    unet = count(networks["unet_encoder"], networks["unet_decoder"])
    text_encoders = count(networks["text_encoder"], networks["text_encoder_2"])
    controlnet = count(networks["controlnet_edges"])
    vae = count(AutoencoderKL.from_pretrained(checkpoint.pipeline / "vae"))
    assert footprints.of("lanes.any") == 2 * unet + PROCESS_BYTES
    assert footprints.of("text_encoder") == 2 * text_encoders + PROCESS_BYTES
    assert footprints.of("vae_decoder") == 2 * vae + PROCESS_BYTES
    assert footprints.of("controlnets.edges") == 2 * controlnet + PROCESS_BYTES
    assert footprints.controlnets.keys() == {"edges"}


def test_shards_count_together_and_other_variants_do_not(checkpoint, tmp_path):
    whole = checkpoint.controlnets[0]
    model = ControlNetModel.from_pretrained(whole)
    model.save_pretrained(tmp_path, max_shard_size="500KB")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1
    model.half().save_pretrained(tmp_path, variant="fp16")
    assert count_weights(tmp_path) == count_weights(whole) == count(model)


def test_a_folder_without_sound_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(
        InvalidArgument, match=r"has no weights; allowed: diffusion_pytorch_model\.safetensors or model"
    ):
        count_weights(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(4, 4)}, file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InvalidArgument, match=r"model\.safetensors is cut short or damaged"):
        count_weights(tmp_path)
