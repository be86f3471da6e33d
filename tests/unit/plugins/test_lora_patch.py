"""The grouped patch against float64: torch's own operators, and the kernel, where there is no GPU interpreted."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from swiftdiffusion_operators.lora_patch import Patch, PlainPatch, prepare_patch
from swiftdiffusion_operators.weight_patch import Term, WeightPatch

Prepare = Callable[[Sequence[WeightPatch]], Patch]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float16, torch.bfloat16, torch.float32]


@pytest.fixture(scope="module")
def prepare_grouped() -> Prepare:
    pytest.importorskip("triton")
    from swiftdiffusion_operators.kernels.lora_launch import GroupedPatch

    return GroupedPatch


@pytest.fixture(params=["plain", "grouped"])
def prepare(request: pytest.FixtureRequest) -> Prepare:
    return PlainPatch if request.param == "plain" else request.getfixturevalue("prepare_grouped")


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3).to(DEVICE, dtype)


def make_term(weight: Tensor, rank: int, scale: float, seed: int, dtype: torch.dtype) -> Term:
    ones = [1] * (weight.dim() - 2)
    down = draw(rank, *weight.shape[1:], seed=seed, dtype=dtype)
    return Term(down, draw(weight.shape[0], rank, *ones, seed=seed + 1, dtype=dtype), scale)


def compute_exactly(patch: WeightPatch) -> Tensor:
    """In float64, rounded once."""
    total = patch.pristine.double()
    if patch.gain is not None:
        total = total * patch.gain.double().reshape(-1, *[1] * (total.dim() - 1))
    for term in patch.terms:
        change = term.down.double()
        if term.up is not None:
            change = torch.einsum("or,r...->o...", term.up.double().flatten(1), change)
        total = total + term.scale * change
    return total


def assert_exact(patch: WeightPatch) -> None:
    exact = compute_exactly(patch)
    # bf16 as Triton's interpreter rounds it, towards zero; a GPU rounds to nearest, as torch does
    ulp = {torch.float16: 2**-11, torch.bfloat16: 2**-7, torch.float32: 2**-20}[patch.live.dtype]
    torch.testing.assert_close(patch.live.double(), exact, rtol=1.01 * ulp, atol=1e-5)


def make_weights(dtype: torch.dtype) -> dict[str, Tensor]:
    """Live weights of every kind; two share one buffer, as merged projections do."""
    merged = draw(200, 64, seed=1, dtype=dtype)
    return {
        "linear": draw(136, 264, seed=2, dtype=dtype),
        "odd": draw(13, 21, seed=3, dtype=dtype),
        "merged first": merged[:72],
        "merged second": merged[72:],
        "columns": draw(40, 96, seed=4, dtype=dtype)[:, 16:80],
        "transposed": draw(48, 80, seed=10, dtype=dtype).T,
        "transposed, odd": draw(13, 21, seed=11, dtype=dtype).T,
        "convolution 1x1": draw(24, 40, 1, 1, seed=5, dtype=dtype),
        "convolution 3x3": draw(24, 8, 3, 3, seed=6, dtype=dtype),
        "channels last": draw(24, 16, 3, 3, seed=7, dtype=dtype).contiguous(memory_format=torch.channels_last),
        "channels last, odd": draw(8, 4, 3, 3, seed=8, dtype=dtype).contiguous(memory_format=torch.channels_last),
        "channels last 1x1": draw(8, 16, 1, 1, seed=9, dtype=dtype).contiguous(memory_format=torch.channels_last),
    }


def make_patches(dtype: torch.dtype, factor_dtypes: Sequence[torch.dtype] = (torch.float16,)) -> list[WeightPatch]:
    patches = []
    for number, weight in enumerate(make_weights(dtype).values()):
        ranks = [(4,), (16, 5), (64, 1, 8), (80,)][number % 4]
        terms = tuple(
            make_term(
                weight, rank, 0.7 - 1.1 * index, 10 * number + 3 * index, factor_dtypes[index % len(factor_dtypes)]
            )
            for index, rank in enumerate(ranks)
        )
        patches.append(WeightPatch(weight, weight.clone(), terms))
    return patches


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_weight_is_base_plus_the_sum(dtype: torch.dtype, prepare: Prepare) -> None:
    patches = make_patches(dtype)
    patch = prepare(patches)
    patch.run()
    for done in patches:
        assert not torch.equal(done.live, done.pristine)
        assert_exact(done)


@pytest.mark.parametrize(
    "dtypes", [(torch.bfloat16,), (torch.float32,), (torch.float64,), (torch.float16, torch.bfloat16)]
)
def test_factors_of_any_dtype(dtypes: tuple[torch.dtype, ...], prepare: Prepare) -> None:
    if dtypes == (torch.bfloat16,) and DEVICE == "cpu" and prepare is not PlainPatch:
        pytest.skip("Triton's interpreter multiplies bf16 as if it were integers")
    patches = make_patches(torch.float16, dtypes)
    prepare(patches).run()
    for done in patches:
        assert_exact(done)


def test_a_term_whose_factors_have_different_dtypes(prepare: Prepare) -> None:
    """As a DoRA's, whose up factor is scaled in fp32."""
    patches = []
    for number, weight in enumerate(make_weights(torch.float16).values()):
        term = make_term(weight, 8, 0.5, number, torch.float16)
        assert term.up is not None
        patches.append(WeightPatch(weight, weight.clone(), (Term(term.down, term.up.float() * 1.1, 0.5),)))
    prepare(patches).run()
    for done in patches:
        assert_exact(done)


def test_gains_and_full_matrices(prepare: Prepare) -> None:
    patches = []
    for number, weight in enumerate(make_weights(torch.float16).values()):
        full = Term(draw(*weight.shape, seed=number, dtype=torch.float16), None, -0.4)
        terms = (make_term(weight, 4, 0.5, number, torch.float16), full)[number % 2 :]
        gain = 1 + draw(weight.shape[0], seed=number) if number % 3 else None
        patches.append(WeightPatch(weight, weight.clone(), terms, gain))
    prepare(patches).run()
    for done in patches:
        assert_exact(done)


@pytest.mark.parametrize("scales", [(0.0,), (0.0, 1.0, 0.0), (1e-30, -2.0), (10.0, 1e-6, 1e-3)])
def test_scales_of_any_size(scales: tuple[float, ...], prepare: Prepare) -> None:
    weight = draw(72, 40, seed=1)
    terms = tuple(make_term(weight, 8, scale, seed, torch.float32) for seed, scale in enumerate(scales))
    done = WeightPatch(weight, weight.clone(), terms)
    prepare([done]).run()
    assert_exact(done)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_terms_the_base_comes_back_bit_for_bit(dtype: torch.dtype, prepare: Prepare) -> None:
    patches = make_patches(dtype)
    for patch in patches:
        patch.pristine[0] = -0.0
    prepare(patches).run()
    prepare([WeightPatch(patch.live, patch.pristine) for patch in patches]).run()
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    for patch in patches:
        assert torch.equal(patch.live.contiguous().view(integer), patch.pristine.contiguous().view(integer))


def test_what_lies_beside_a_weight_stays(prepare: Prepare) -> None:
    buffer = draw(48, 96, seed=1)
    before = buffer.clone()
    weight = buffer[8:40, 16:80]
    prepare([WeightPatch(weight, weight.clone(), (make_term(weight, 4, 1.0, 2, torch.float32),))]).run()
    changed = buffer != before
    assert changed[8:40, 16:80].float().mean() > 0.99
    changed[8:40, 16:80] = False
    assert not changed.any()


def test_a_patch_can_run_again(prepare: Prepare) -> None:
    patches = make_patches(torch.float32)
    patch = prepare(patches)
    patch.run()
    once = [done.live.clone() for done in patches]
    patch.run()
    assert all(torch.equal(done.live, first) for done, first in zip(patches, once, strict=True))


def test_refuses_rows_with_gaps(prepare_grouped: Prepare) -> None:
    weight = draw(16, 64, seed=1)[:, ::2]
    with pytest.raises(ValueError, match="rows with gaps"):
        prepare_grouped([WeightPatch(weight, weight.clone())])


def test_the_cpu_takes_the_plain_way() -> None:
    assert isinstance(prepare_patch(make_patches(torch.float32)), PlainPatch)
    prepare_patch([]).run()
