"""The planner, whose suggestions must pass the checks."""

import itertools

import pytest

from swiftdiffusion.errors import InvalidArgument
from swiftdiffusion_build.placement.checking import check_placement
from swiftdiffusion_build.placement.footprints import Footprints
from swiftdiffusion_build.placement.gpus import GIB, Gpu, describe_gpus
from swiftdiffusion_build.placement.planner import suggest_placement
from swiftdiffusion_build.placement.server_placement import CPU, ServerPlacement


def footprints(*controlnets):
    """A lane of 6 GiB, text encoders of 2, a VAE of 1, and ControlNets a, b, … of so many GiB."""
    named = {chr(ord("a") + place): size * GIB for place, size in enumerate(controlnets)}
    return Footprints(6 * GIB, 2 * GIB, GIB, named)


def test_controlnets_go_largest_first_to_the_least_loaded_of_the_other_gpus():
    suggestion = suggest_placement(footprints(1, 4, 2, 3), describe_gpus(3, 80))
    assert suggestion.placement == ServerPlacement(
        (0,), (0,), {"first": (0,)}, {"b": (1,), "d": (2,), "c": (2,), "a": (1,)}
    )
    assert list(suggestion.placement.controlnets) == ["b", "d", "c", "a"]
    reasons = " ".join(suggestion.reasons)
    assert "GPU 0 (9.00 of 80.00 GiB)" in reasons
    assert "GPU 1 (5.00 of 80.00 GiB), GPU 2 (5.00" in reasons
    assert "Nothing is on" not in reasons


SPLIT = ServerPlacement((0,), (0,), {"first": (0, 1)}, resident=("a", "b"))
SPLIT_SERVED = ServerPlacement((0,), (0,), {"first": (0, 1)}, {"a": (0, 1), "b": (0, 1)})


def test_guidance_is_split_over_two_gpus_with_every_controlnet_on_both():
    suggestion = suggest_placement(footprints(1, 4), describe_gpus(3, 80), split_guidance=True)
    assert suggestion.placement == SPLIT
    served = suggest_placement(footprints(1, 4), describe_gpus(3, 80), split_guidance=True, resident=False)
    assert served.placement == SPLIT_SERVED
    assert "A model of each ControlNet is on both" in " ".join(served.reasons)
    reasons = " ".join(suggestion.reasons)
    assert "The lane runs each ControlNet itself on both" in reasons
    assert "GPU 0 (14.00 of 80.00 GiB) and GPU 1 (11.00 of 80.00 GiB): each predicts a half of guidance" in reasons
    assert "Nothing is on GPU 2" in reasons


def test_two_gpus_split_guidance_if_all_fits_and_nobody_minds():
    needs, roomy, narrow = footprints(1, 4), describe_gpus(2, 80), describe_gpus(2, 14)
    apart = ServerPlacement((0,), (0,), {"first": (0,)}, {"b": (1,), "a": (1,)})
    assert suggest_placement(needs, roomy).placement == SPLIT
    assert suggest_placement(needs, roomy, split_guidance=False).placement == apart
    assert suggest_placement(needs, narrow).placement == apart
    with pytest.raises(InvalidArgument, match=r"the ControlNet 'b' needs 4\.00 GiB"):
        suggest_placement(needs, narrow, split_guidance=True)


@pytest.mark.parametrize(("gpus", "sentence"), [
    ((), "guidance cannot be split over 0 GPUs; allowed: 2 or more"),
    (describe_gpus(1, 80), "guidance cannot be split over 1 GPUs"),
    ((Gpu(80 * GIB), Gpu(7 * GIB)), "the lane's second half needs 6.00 GiB, and the most that is left .* is 5.25"),
    ((Gpu(80 * GIB), Gpu(9 * GIB)), "the ControlNet 'a' needs 3.00 GiB, and the most that is left of a GPU is 0.75"),
])  # fmt: skip
def test_guidance_that_cannot_be_split_is_refused(gpus, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        suggest_placement(footprints(3), gpus, split_guidance=True)


def test_on_one_gpu_all_are_together():
    suggestion = suggest_placement(footprints(3, 3), describe_gpus(1, 24))
    assert set(suggestion.placement.entries().values()) == {(0,)}
    assert suggestion.placement.resident == ("a", "b")
    assert "The lane runs a, b itself: two processes would get its GPU only by turns." in suggestion.reasons
    served = suggest_placement(footprints(3, 3), describe_gpus(1, 24), resident=False)
    assert served.placement.controlnets == {"a": (0,), "b": (0,)}
    assert suggestion.reasons[0].startswith("There is one GPU: all is on GPU 0 (15.00 of 24.00 GiB")


def test_without_a_gpu_all_are_on_the_cpu():
    suggestion = suggest_placement(footprints(3), ())
    assert set(suggestion.placement.entries().values()) == {CPU}
    assert suggestion.reasons == ("There is no GPU: all is on the CPU.",)


def test_gpus_that_stay_free_are_named():
    reasons = " ".join(suggest_placement(footprints(3), describe_gpus(4, 80)).reasons)
    assert "Nothing is on GPU 2, 3: a further lane there draws a further picture" in reasons


def test_the_lanes_gpu_takes_a_controlnet_only_where_no_other_has_room():
    suggestion = suggest_placement(footprints(5, 4), (Gpu(80 * GIB), Gpu(8 * GIB)))
    assert suggestion.placement == ServerPlacement((0,), (0,), {"first": (0,)}, {"a": (1,)}, ("b",))
    assert "No other GPU has room for b, which takes turns with the UNet." in suggestion.reasons


def test_a_small_first_gpu_leaves_the_lane_to_another():
    suggestion = suggest_placement(footprints(3), (Gpu(4 * GIB), Gpu(80 * GIB)))
    assert suggestion.placement == ServerPlacement((1,), (1,), {"first": (1,)}, {"a": (0,)})


@pytest.mark.parametrize(("gpus", "sentence"), [
    (describe_gpus(3, 7.9), "the lane needs 6.00 GiB, and the most that is left of a GPU is 5.92, where 75% of"),
    (describe_gpus(1, 11), "the VAE needs 1.00 GiB, and the most that is left of a GPU is 0.25"),
    (describe_gpus(2, 12), "the ControlNet 'b' needs 5.00 GiB, and the most that is left of a GPU is 4.00"),
])  # fmt: skip
def test_what_fits_nowhere_is_refused(gpus, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        suggest_placement(footprints(5, 5, 5), gpus)


def test_whatever_is_suggested_passes_the_checks():
    suggested = 0
    for count, memory, controlnets, split_guidance, resident in itertools.product(
        (1, 2, 3, 8), (8, 12, 24, 80), ((), (3,), (3, 3), (3, 1, 5)), (None, False, True), (False, True)
    ):
        needs, gpus = footprints(*controlnets), describe_gpus(count, memory)
        try:
            placement = suggest_placement(needs, gpus, split_guidance, resident).placement
        except InvalidArgument:
            continue
        check_placement(placement, needs, gpus, "tensorrt")
        suggested += 1
    assert suggested >= 220
