"""The command, as far as it takes little: what it refuses, and a LoRA of the smallest rank."""

import pytest
import torch
from safetensors.torch import load_file

from sdxl.architecture import describe_unet
from sdxl.random_checkpoint import count_bytes, parse_options, write_lora


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--controlnets", "-1"], "--controlnets is -1; allowed: 0 to 100"),
        (["--rank", "0"], "--rank is 0; allowed: 1 to 640"),
        (["--controlnets", "100", "--loras", "10000", "--rank", "640", "--dtype", "fp32"], "GB are needed"),
    ],
)
def test_impossible_options_are_refused(tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        parse_options(["--out", str(tmp_path), *arguments])
    assert sentence in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "precious").touch()
    with pytest.raises(SystemExit):
        parse_options(["--out", str(tmp_path)])
    assert "allowed: an empty folder" in capsys.readouterr().err


def test_size_is_that_of_sdxl(tmp_path):
    assert count_bytes(parse_options(["--out", str(tmp_path)])) == 2 * 3_468_837_867
    with_adapters = parse_options(["--out", str(tmp_path), "--controlnets", "2", "--loras", "1"])
    assert count_bytes(with_adapters) == 2 * (3_468_837_867 + 2 * 1_251_014_160) + 185_794_560


def test_lora_fits_the_unet(tmp_path):
    options = parse_options(["--out", str(tmp_path), "--rank", "1"])
    for number in (1, 2):
        write_lora(options, number)
    one, other = (load_file(tmp_path / f"loras/random_{number}.safetensors") for number in (1, 2))
    weights = dict(describe_unet().named_parameters())
    for name in (name for name in one if name.endswith("lora_A.weight")):
        a, b = one[name], one[name.replace("lora_A", "lora_B")]
        weight = weights[name.removeprefix("unet.").replace("lora_A.", "")]
        assert (b.shape[0], a.shape[1]) == weight.shape
        assert a.dtype == b.dtype == torch.float16
        assert not torch.equal(a, other[name])
