"""The placement file: what it can say, and what is refused."""

import re
from pathlib import Path

import pytest

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.placement.file import format_placement, read_placement
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement

WHOLE = """\
# two lanes share two ControlNets
text_encoder = 0
vae_decoder = [0, 1]
[lanes]
first = 0
second = [1]
[controlnets]
edges = [2, 3]
"layout.v2" = "cpu"
depth = "lane"
"""


README = Path(__file__).resolve().parents[4] / "README.md"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "placement.toml"
        path.write_text(text)
        return read_placement(path)

    return read


def test_a_file_names_the_gpus_of_each_model(read):
    assert read(WHOLE) == ServerPlacement(
        text_encoder=(0,),
        vae_decoder=(0, 1),
        lanes={"first": (0,), "second": (1,)},
        controlnets={"edges": (2, 3), "layout.v2": CPU},
        resident=("depth",),
    )


def test_the_file_of_the_readme_is_one(read):
    (example,) = re.findall(r"<!-- test: placement.toml -->\n```toml\n(.*?)```", README.read_text(), re.DOTALL)
    placement = read(example)
    assert placement.controlnets == {"edges": (1,), "layout": (1, 2)}
    assert placement.resident == ("depth",)


def test_what_is_written_is_read_back_with_its_reasons_as_comments(read):
    placement = read(WHOLE)
    reason = "This sentence is so long that it does not fit " + "in one line " * 10
    text = format_placement(placement, [reason])
    assert read(text) == placement
    comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) > 1
    assert " ".join(comments) == reason.strip()


START = "text_encoder = 0\nvae_decoder = 0\n"


@pytest.mark.parametrize(("text", "sentence"), [
    (START, r"there is no lane; allowed: at least one in \[lanes\]"),
    (START + "[lanes]", "there is no lane"),
    (START + "lanes = 0", "lanes is '0'; allowed: a table of names and GPUs"),
    (START + "[lanes]\na = [0, 0]", "lanes.a names GPU 0 twice; allowed: an instance on each GPU"),
    (START + "[lanes]\na = [0, 1, 2]", r"lanes.a names 3 GPUs, \[0, 1, 2\]; allowed: one, or two that share"),
    (START + "[lanes]\na = 1\nb = 1", "lanes.b and lanes.a name the same GPU 1"),
    (START + '[lanes]\na = 1\nb = "cpu"', "some lanes are on a GPU and others on the CPU"),
    (START + '[lanes]\n"a b" = 1', "a lane is called 'a b'; allowed: up to 32 letters"),
    (START + "[lanes]\na = true", r"lanes.a is 'True'; allowed: a GPU's number, several such as \[0, 1\], or 'cpu'"),
    (START + '[lanes]\na = "lane"', r"lanes.a is 'lane'; allowed: a GPU's number, several such as \[0, 1\], or 'cpu'$"),
    (START + '[lanes]\na = 0\n[controlnets]\nedges = "here"',
     r"controlnets.edges is 'here'; allowed: .* or 'cpu' or 'lane'"),
    (START + "[lanes]\na = []", r"lanes.a is '\[\]'; allowed: a GPU's number"),
    (START + "[lanes]\na = 0\n[controlnets]\nedges = -1", "controlnets.edges names GPU -1; they are counted from 0"),
    (START + "[lanes]\na = 0\n[controlnets]\nedges = [1, 1]", "controlnets.edges names GPU 1 twice"),
    (START + '[lanes]\na = 0\n[controlnets]\n"edges.gpu1" = 0\nedges = [0, 1]',
     "controlnets.edges.gpu1 and controlnets.edges would both have a model 'edges.gpu1'; allowed"),
    (START + "[lanes]\na = 0\n[controlnets.edges]\npinned = true", "controlnets.edges is .*'pinned': True.*; allowed"),
    ("text_encoder = 'gpu'\nvae_decoder = 0", "text_encoder is 'gpu'; allowed: a GPU's number"),
    ("text_encoder = 0\n[lanes]\na = 0", "'vae_decoder' is missing"),
    (START + "unet = 0", "'unet' is not known; known: text_encoder, vae_decoder, lanes, controlnets"),
    (START + "[lanes", "is no TOML: .* line 3"),
    (START + "text_encoder = 1", "is no TOML: .*text_encoder.* already exists"),
])  # fmt: skip
def test_what_no_machine_could_serve_is_refused(read, text, sentence):
    with pytest.raises(InvalidArgument, match=rf"placement .*placement\.toml.*{sentence}"):
        read(text)
