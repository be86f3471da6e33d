"""The interpreter finds what kernels can do wrong: these are the kernels, each with one mistake."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional

pytest.importorskip("triton")
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from swiftdiffusion_operators.kernels import convolve, geglu_linear_hopper, self_attention

from .gluon_interpreter import Deadlock, KernelError, Misuse, Race
from .gluon_interpreter.barriers import Barrier
from .gluon_interpreter.copies import Descriptor, Fetch

CONVOLVE, GEGLU, ATTENTION = convolve, geglu_linear_hopper, self_attention


@pytest.fixture
def change(tmp_path):
    """Make a copy of a module in whose source a text, which is there once, is another."""

    def change_source(module: ModuleType, text: str, other: str) -> ModuleType:
        source = Path(str(module.__file__)).read_text()
        assert source.count(text) == 1, text
        path = tmp_path / "changed.py"
        path.write_text(source.replace(text, other))
        spec = spec_from_file_location(module.__name__, path)
        assert spec is not None and spec.loader is not None
        changed = module_from_spec(spec)
        spec.loader.exec_module(changed)
        return changed

    return change_source


def run(kernel):
    """A kernel, or a changed one, on fp16 numbers: what it finds and what it should find."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator).half()

    if "convolve" in kernel.__name__:
        kernel.choose_width = lambda *arguments: kernel.WIDTHS[0]
        x, weight, bias, residual = draw(2, 72, 13, 7), draw(336, 72, 3, 3) / 16, draw(336), draw(2, 336, 13, 7)
        wanted = functional.conv2d(x.double(), weight.double(), bias.double(), padding=1) + residual.double()
        weight = weight.to(memory_format=torch.channels_last)
        return kernel.run(x, weight, bias, residual), wanted
    if "geglu" in kernel.__name__:
        x, weight, bias = draw(300, 136), draw(656, 136), draw(656)
        values, gates = functional.linear(x.double(), weight.double(), bias.double()).chunk(2, dim=-1)
        return kernel.run(x, weight, bias), values * functional.gelu(gates)
    qkv = draw(2, 600, 3 * 3 * 64)
    parts = qkv.double().unflatten(-1, (3, 3, 64)).permute(2, 0, 3, 1, 4)
    return kernel.run(qkv, 3), functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def is_right(kernel):
    found, wanted = run(kernel)
    return torch.allclose(found.double(), wanted, rtol=1e-2, atol=1e-2 * wanted.std().item())


WAIT_FREE = "            mbarrier.wait(free.index(stage), (step // STAGES & 1) ^ 1)"
# a kernel, a text in it, what is there instead, and what the interpreter says
MISTAKES = {
    "pixels not waited for": (
        CONVOLVE, "            mbarrier.wait(ready.index(stage), step // STAGES & 1)\n", "", KernelError,
    ),
    "stage freed while its product runs": (CONVOLVE, "warpgroup_mma_wait(2, ", "warpgroup_mma_wait(3, ", Race),
    "product of no tile's last step waited for": (
        CONVOLVE, "            left, right = warpgroup_mma_wait(0, deps=[left, right])\n", "            pass\n",
        KernelError,
    ),
    "stage fetched while its result leaves": (
        CONVOLVE, "        tma.store_wait(0)  # the result of the tile before this one has left its stage\n", "", Race,
    ),
    "residual fetched to a stage in use": (CONVOLVE, WAIT_FREE + "\n            if ADDS", "            if ADDS", Race),
    "residual not waited for": (
        CONVOLVE, "        mbarrier.wait(ready.index(held), (step + GROUP) // STAGES & 1)\n", "", KernelError,
    ),
    "result not fenced": (
        CONVOLVE, "in_narrow, ADDS)\n        fence_async_shared()\n", "in_narrow, ADDS)\n", Race,
    ),
    "first round waits for stages that nobody frees": (
        CONVOLVE, WAIT_FREE + "  #", WAIT_FREE.replace(" ^ 1", "") + "  #", Deadlock,
    ),
    "one group frees too little": (
        CONVOLVE, "mbarrier.init(free.index(stage), count=2)", "mbarrier.init(free.index(stage), count=3)", Deadlock,
    ),
    "bytes miscounted": (CONVOLVE, "(2 * UNIT + WIDE + NARROW) * DEPTH * 2", "(UNIT + WIDE) * DEPTH * 2", KernelError),
    "last result not waited for": (CONVOLVE, "    tma.store_wait(0)\n\n\n@gluon.jit(do", "\n\n@gluon.jit(do", Misuse),
    "neighbours shifted": (CONVOLVE, "tap // SIDE - SIDE // 2", "tap // SIDE", None),
    "stage freed as soon as it is multiplied": (
        GEGLU, "free.index((step + STAGES - 1) % STAGES), count=1, pred=k > 0", "free.index(stage), count=1",
        KernelError,
    ),
    "product used while it runs": (GEGLU, "        product = warpgroup_mma_wait(0, deps=[product])\n", "", Misuse),
    "result overwritten while it leaves": (
        GEGLU, "        tma.store_wait(0)  # the tile before this one has left\n", "", Race,
    ),
    "wrong phase waited for": (GEGLU, "ready.index(stage), step // STAGES & 1)", "ready.index(stage), 1)", KernelError),
    "sum of all tiles": (GEGLU, "use_acc=k > 0", "use_acc=True", None),
    "values not waited for": (
        ATTENTION, "                mbarrier.wait(value_ready.index(last), last_parity)\n", "", KernelError,
    ),
    "next keys not waited for": (ATTENTION, "pred=step + 1 < steps)", "pred=False)", KernelError),
    "queries fetched while they are multiplied": (
        ATTENTION, "                    mbarrier.wait(query_free.index(group), (place - first & 1) ^ 1)\n", "", Race,
    ),
    "values freed by two of three groups": (
        ATTENTION, "mbarrier.init(value_free.index(stage), count=GROUPS)",
        "mbarrier.init(value_free.index(stage), count=GROUPS - 1)", KernelError,
    ),
    "weights used while the product runs": (
        ATTENTION, "warpgroup_mma_wait(1, deps=[scores])", "warpgroup_mma_wait(2, deps=[scores])", Misuse,
    ),
    "nobody begins": (ATTENTION, "        mbarrier.arrive(turns.index(0), count=1)", "        pass", Deadlock),
    "keys past the last one": (ATTENTION, "(key < tokens)", "(key < steps * KEYS)", None),
    "unknown assembly": (ATTENTION, "fma.rn.ftz.f32 p, $1, $2, $3;", "fma.rz.f32 p, $1, $2, $3;", Misuse),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(interpret, change, mistake, seed):
    kernel, text, other, error = MISTAKES[mistake]
    changed = change(kernel, text, other)
    interpret(changed, seed)
    if error is None:
        assert not is_right(changed)
    else:
        with pytest.raises(error):
            run(changed)


@pytest.mark.parametrize("kernel", [CONVOLVE, GEGLU, ATTENTION], ids=lambda kernel: kernel.__name__)
def test_none_is_found_where_there_is_none(interpret, change, kernel):
    """At whatever times."""
    unchanged = change(kernel, "\n\nimport torch\n", "\n\nimport torch\n")
    for seed in range(4):
        interpret(unchanged, seed)
        assert is_right(unchanged)


def test_a_deadlock_says_who_waits_for_what(interpret, change):
    changed = change(GEGLU, "count=ROWS // SHARE)", "count=3)")
    interpret(changed)
    with pytest.raises(Deadlock) as caught:
        run(changed)
    lines = str(caught.value).splitlines()
    places = [line.partition(",")[0] for line in lines[::2]]
    assert places == ["project_and_gate", "multiply_and_gate", "multiply_and_gate", "fetch"]
    assert "mbarrier.wait(free.index(stage)" in lines[6]
    assert lines[7].endswith("parity 0 to end at a barrier in phase 0 that awaits 1 arrivals and 0 bytes")


def test_a_seed_is_an_order(interpret, monkeypatch):
    """In which copies land: the same one the same each time, others others."""
    landed, land = [], Fetch.land

    def note_and_land(fetch):
        landed.append(fetch.place)
        land(fetch)

    monkeypatch.setattr(Fetch, "land", note_and_land)

    def list_landed(seed):
        landed.clear()
        interpret(GEGLU, seed)
        run(GEGLU)
        return landed.copy()

    first = list_landed(1)
    assert list_landed(1) == first != list_landed(2)
    assert sorted(first) == sorted(landed)


def test_a_barrier_ends_a_phase_when_all_have_arrived_and_all_bytes_have_come():
    barrier = Barrier()
    barrier.init(2)
    assert barrier.has_passed(1) and not barrier.has_passed(0)
    barrier.complete(16, 0b001)  # bytes may come before they are expected
    barrier.expect(48, 0)
    barrier.arrive(1, 0b010)
    assert not barrier.has_passed(0) and barrier.known == 0
    barrier.complete(32, 0b100)
    assert barrier.has_passed(0) and not barrier.has_passed(1) and barrier.known == 0b111
    with pytest.raises(Misuse):
        barrier.arrive(3, 0)
    with pytest.raises(Misuse):
        barrier.has_passed(2)
    with pytest.raises(Misuse):
        Barrier().has_passed(1)


@pytest.mark.parametrize("place", [[0, 0], [-1, -8], [-1, 16], [4, 8], [-9, 0], [5, 0], [0, 40], [-2, 24]], ids=str)
def test_a_box_is_zero_outside_the_tensor_and_writes_nothing_there(place):
    whole = torch.arange(1.0, 1 + 5 * 64).half().view(5, 64)
    part = whole[:, :24]  # whose rows are further apart than they are long
    box = Descriptor(TensorDescriptor.from_tensor(part, [4, 32], gl.NVMMASharedLayout(64, 16)))
    padded = functional.pad(part, (64, 64, 32, 32))
    wanted = padded[32 + place[0] :, 64 + place[1] :][:4, :32]
    found = torch.full((4, 32), torch.nan).half()
    box.read(place, found)
    assert torch.equal(found, wanted)
    box.write(place, found * 2)
    assert torch.equal(whole[:, 24:], torch.arange(1.0, 1 + 5 * 64).half().view(5, 64)[:, 24:])
    padded[32 + place[0] :, 64 + place[1] :][:4, :32] *= 2
    assert torch.equal(part, padded[32:37, 64:88])
