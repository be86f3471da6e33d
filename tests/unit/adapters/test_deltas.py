import torch

from swiftdiffusion.adapters.deltas import Factors, delta


def draw(rank: int, out: int, *columns: int) -> Factors:
    up_shape = (out, rank, *(1 for _ in columns[1:]))
    return Factors(torch.randn(rank, *columns), torch.randn(up_shape), strength=0.5)


def test_products_are_summed_not_factors() -> None:
    torch.manual_seed(0)
    first, second = draw(4, 6, 5), draw(4, 6, 5)
    expected = 2.0 * 0.5 * first.up @ first.down - 3.0 * 0.5 * second.up @ second.down
    torch.testing.assert_close(delta([(first, 2.0), (second, -3.0)], (6, 5)), expected)


def test_a_convolution_is_its_two_in_a_row() -> None:
    torch.manual_seed(0)
    factors = draw(3, 6, 5, 3, 3)
    image = torch.randn(1, 5, 8, 8)
    expected = torch.conv2d(torch.conv2d(image, factors.down, padding=1), factors.up) * 0.5
    kernel = delta([(factors, 1.0)], (6, 5, 3, 3))
    torch.testing.assert_close(torch.conv2d(image, kernel, padding=1), expected)


def test_half_precision_factors_are_summed_in_float32() -> None:
    factors = Factors(torch.full((2, 1), 300.0).half(), torch.full((1, 2), 300.0).half(), 1.0)
    result = delta([(factors, 1.0)], (1, 1))
    assert result.dtype == torch.float32
    assert result.item() == 180_000  # float16 ends at 65,504
