import pytest
import torch

from swiftdiffusion.denoising.controls import Control, start_controls, sum_residuals, wait_for_first
from swiftdiffusion.errors import Internal

SHAPES = [torch.Size((1, 2, 2, 2)), torch.Size((1, 3, 1, 1))]


class Ready:
    """A link whose residuals are known."""

    def __init__(self, values, goes_first):
        self._values, self.goes_first, self.steps, self.asked = values, goes_first, 0, 0

    def start_step(self, sample, timestep):
        self.steps += 1

    def residuals(self):
        self.asked += 1
        return self._values


def make_control(values, scale=1.0, start=0.0, end=1.0, goes_first=False):
    return Control("edges", Ready(values, goes_first), scale, start, end)


def run(*controls, step=0, steps=4):
    acting = start_controls(controls, torch.zeros(1), torch.tensor(1), step, steps)
    wait_for_first(acting)
    return sum_residuals(acting, SHAPES, torch.zeros(1))


def test_scaled_residuals_add_up():
    first, second = torch.arange(11.0), torch.ones(11)
    down, mid = run(make_control(first, 0.5), make_control(second, 2.0))
    assert torch.equal(down, (first * 0.5 + 2)[:8].view(1, 2, 2, 2).permute(0, 3, 1, 2))
    assert torch.equal(mid, (first * 0.5 + 2)[8:].view(1, 3, 1, 1))


def test_a_links_own_residuals_are_not_written():
    values = torch.ones(11)
    run(make_control(values), make_control(values))
    assert torch.equal(values, torch.ones(11))


def test_what_one_gives_unscaled_is_taken_where_it_lies():
    values = torch.arange(11.0)
    down, mid = run(make_control(values))
    assert down.data_ptr() == values.data_ptr()
    assert torch.equal(mid.flatten(), values[8:])


def test_only_those_that_go_first_are_waited_for_first():
    controls = [make_control(torch.ones(11), goes_first=goes_first) for goes_first in (False, True, False)]
    wait_for_first(start_controls(controls, torch.zeros(1), torch.tensor(1), 0, 4))
    assert [(control.link.steps, control.link.asked) for control in controls] == [(1, 0), (1, 1), (1, 0)]


def test_those_that_go_first_are_added_in_the_requests_order():
    """1e8 + 1 is 1e8 in fp32: another order would leave the 1."""
    values = [(1.0, False), (1e8, True), (-1e8, True)]
    down, mid = run(*(make_control(torch.full((11,), value), goes_first=first) for value, first in values))
    assert (down.abs().sum(), mid.abs().sum()) == (0, 0)


def test_where_none_acts_there_are_no_residuals():
    assert run() is None


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 0.5), (0.3, 0.7), (0.5, 1), (0.25, 0.75), (0, 0.01)])
def test_start_and_end_follow_diffusers(start, end):
    steps = 20
    control = make_control(torch.ones(11), start=start, end=end)
    # pipeline_controlnet_sd_xl.py, "7.1 Create tensor stating which controlnets to keep"
    keeps = [1.0 - float(i / steps < start or (i + 1) / steps > end) for i in range(steps)]
    assert [float(control.acts_in(step, steps)) for step in range(steps)] == keeps


def test_a_controlnet_that_does_not_act_is_not_started():
    control = make_control(torch.ones(11), start=0.5)
    assert start_controls([control], torch.zeros(1), torch.tensor(1), 0, 4) == []
    assert control.link.steps == 0


def test_a_controlnet_of_another_base_model_is_named():
    with pytest.raises(Internal, match="'edges' gave 7 residuals where this UNet takes 11"):
        run(make_control(torch.ones(7)))
