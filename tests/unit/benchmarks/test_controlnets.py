"""The ControlNet benchmark without a server: what it serves on how many GPUs, measures, judges and writes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from benchmarks.controlnets.configurations import CONFIGURATIONS, choose_configurations
from benchmarks.controlnets.data_path import count_residuals, give_nothing, make_subject, push_once, start_service
from benchmarks.controlnets.failures import Trial
from benchmarks.controlnets.failures import summarise as summarise_trials
from benchmarks.controlnets.processes import find_descendants, find_stubs, is_server, read_held, read_model
from benchmarks.controlnets.promises import judge
from benchmarks.controlnets.repository import write_lanes, write_shared
from benchmarks.controlnets.results import draw_rows, format_rows
from benchmarks.controlnets.rows import (
    DATA_PATH,
    FAILURES,
    PICTURES,
    SOAK,
    STEPS,
    describe_row,
    is_same,
    leave_out,
)
from benchmarks.controlnets.soak import MOST, count_evictions, count_room, draw_names, link_controlnets
from benchmarks.controlnets.steps import Counts, compare_pictures, summarise
from benchmarks.controlnets.usage import Usage, describe_growth
from benchmarks.runs import GrowingReport
from benchmarks.serving.checkpoints import prepare_checkpoint
from commands.benchmark import parse_options, work
from launch.problems import LaunchError
from launch.progress import Progress
from swiftdiffusion.controlnets.attachment import Attachment, Terms
from swiftdiffusion.controlnets.mailbox import Form, MailboxPool
from swiftdiffusion.errors import Unavailable
from swiftdiffusion.networks.weight_files import count_weights

STEP_MS = {"none": 25.0, "far": 27.0, "near": 40.0, "near_bls": 300.0, "split": 15.0}
SMALL = Form(torch.device("cpu"), torch.float32, (2, 4, 8, 8), 100)


def make_rows(**changes):
    steps = [describe_row(STEPS, name) | {"step_ms": ms} for name, ms in STEP_MS.items()]
    pictures = [
        describe_row(PICTURES, "far_vs_near") | {"relative": 0.0},
        describe_row(PICTURES, "split_vs_none") | {"relative": 0.004},
    ]
    trial = Trial(True, 12, 0, 1.5, "gone", True, 0.5, True, 4.0, 3)
    usages = [
        Usage(900.0, 10.0, 5.0, 100, 500.0, 20),
        Usage(1000.0, 12.0, 6.0, 101, 600.0, 22),
        Usage(1004.0, 12.5, 5.5, 136, 590.0, 22),
    ]
    others = [
        describe_row(DATA_PATH, "far") | {"step_ms": 0.31},
        describe_row(FAILURES, "kill") | summarise_trials([trial] * 20, usages),
        describe_row(SOAK, "random") | {"requests": 200, "right": 199} | describe_growth(usages),
    ]
    return [row | changes.get(row["name"], {}) for row in (*steps, *pictures, *others)]


def test_bars_are_judged_by_the_rows():
    bars = judge(make_rows())
    assert {name: (bar.figure, bar.met) for name, bar in bars.items()} == {
        "step_far_vs_none": (1.08, True),
        "step_far_vs_one_gpu": (0.675, True),
        "data_path_ms": (0.31, True),
        "step_split_vs_one_gpu": (0.6, True),
        "picture_far_vs_near": (0.0, True),
        "picture_split_vs_one_gpu": (0.004, True),
        "kills": (20, True),
        "kills_clean": (1.0, True),
        "kills_slowest_error_s": (1.5, True),
        "kills_following_right": (1.0, True),
        "kills_repaired_right": (1.0, True),
        "kills_gpus_mib_growth": (4.0, True),
        "kills_shared_mib_growth": (0.5, True),
        "kills_server_mib_growth": (-0.5, True),
        "kills_server_threads_growth": (35, False),
        "kills_models_mib_growth": (-10.0, True),
        "kills_models_threads_growth": (0, True),
        "soak_requests": (200, True),
        "soak_right": (0.995, False),
        "soak_gpus_mib_growth": (4.0, True),
        "soak_shared_mib_growth": (0.5, True),
        "soak_server_mib_growth": (-0.5, True),
        "soak_server_threads_growth": (35.0, False),
        "soak_models_mib_growth": (-10.0, True),
        "soak_models_threads_growth": (0.0, True),
    }


def test_a_row_that_failed_has_no_figures():
    bars = judge(make_rows(far={"failed": "attached by bls"}))
    assert bars["step_far_vs_none"].met is None
    assert bars["data_path_ms"].met is None
    assert bars["step_split_vs_one_gpu"].met is True
    assert all(bar.met is None for bar in judge([]).values())
    # by BLS is the better way on one GPU where memory is not shared
    assert judge(make_rows(near={"failed": "no"}))["step_far_vs_one_gpu"].figure == pytest.approx(0.09)


def test_a_step_is_what_longer_requests_take_more():
    seconds = {50: [1.5, 1.6, 9.0], 10: [0.6, 0.5, 0.7]}
    row = summarise(seconds, 3)
    assert (row["step_ms"], row["request_s"], row["steps"]) == (25.0, 1.6, [10, 50])
    assert Counts((10, 50), (1, 4), 5).of(CONFIGURATIONS[0]) == (10, 50)
    assert [one.name for one in CONFIGURATIONS if Counts((10, 50), (1, 4), 5).of(one) == (1, 4)] == [
        "near_bls",
        "far_bls",
    ]


def test_pictures_are_compared_by_their_contrast():
    one = np.zeros((4, 4, 3), np.uint8)
    one[:2] = 200
    other = one.copy()
    other[0, 0, 0] = 196
    assert compare_pictures(one, one)["relative"] == 0
    row = compare_pictures(other, one)
    assert (row["max_difference"], row["contrast"]) == (4, 100.0)
    assert row["relative"] == pytest.approx(4 / np.sqrt(48) / 100, abs=1e-6)
    assert compare_pictures(one, np.zeros_like(one))["relative"] is None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with Progress("checkpoint") as progress:
        return prepare_checkpoint("shapes", tmp_path_factory.mktemp("shapes"), progress)


def read_models(repository):
    """Each model's parameters and the GPUs of its only instance group."""
    models = {}
    for file in repository.models.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), ModelConfig())
        (group,) = config.instance_group
        parameters = {name: value.string_value for name, value in config.parameters.items()}
        models[file.parent.name] = parameters, list(group.gpus)
    return models


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_what_is_compared_can_be_served(checkpoint, tmp_path, gpus):
    with Progress("writing") as progress:
        models = read_models(write_lanes(checkpoint, tmp_path, "auto", gpus, progress))
    here = [0] if gpus else []
    assert {name: places for name, (_, places) in models.items()} == {
        "swiftdiffusion": here,
        "swiftdiffusion_bls": here,
        **({"swiftdiffusion_beside": here} if gpus else {}),
        "text_encoder": here,
        "vae_decoder": here,
        "controlnet_near": here,
        **(
            {"swiftdiffusion_split": [0], "controlnet_far": [1], "controlnet_both": [0], "controlnet_both.gpu1": [1]}
            if gpus == 2
            else {}
        ),
    }
    for one in choose_configurations(gpus):
        parameters, _ = models[one.lane]
        assert all(f"controlnet_{name}" in models for name in one.controlnets)
        assert parameters.get("controlnet_transport", "auto") == ("bls" if one.is_slow else "auto")
        assert parameters.get("controlnet_near_first") == ("false" if one.name == "near_beside" else None)
        assert parameters.get("second_gpu") == ("cuda:1" if one.name.startswith("split") else None)
        assert parameters.get("warm_up") == ("128x128" if gpus else None)
    if gpus == 2:
        assert choose_configurations(gpus) == CONFIGURATIONS
        assert models["controlnet_near"][0] == models["controlnet_far"][0]
        assert {**models["controlnet_both"][0], "name": "both"} == models["controlnet_both.gpu1"][0]
    else:
        beside = ["near_beside"] if gpus else []
        assert [one.name for one in choose_configurations(gpus)] == ["none", "near", *beside, "near_bls"]


@pytest.mark.parametrize("gpus", [0, 2])
def test_there_is_room_for_some_of_the_soaks_controlnets(checkpoint, tmp_path, gpus):
    weights = link_controlnets(checkpoint, tmp_path / "controlnets")
    with Progress("writing") as progress:
        room = count_room(checkpoint, gpus)
        models = read_models(write_shared(checkpoint, tmp_path / "x", room, tmp_path, "auto", gpus, progress))
    parameters, places = models["controlnet_shared"]
    assert places == ([1] if gpus else [])
    assert [name for name in models if name.startswith("controlnet")] == ["controlnet_shared"]
    one = max(count_weights(folder) for folder in weights.values()) * (2 if gpus else 4) / 2**20
    assert MOST <= float(parameters["memory_mb"]) / one < len(weights)


def test_evictions_are_counted_as_the_least_recently_used():
    assert count_evictions([["a", "b", "c"], ["a"], [], ["d"], ["a", "b"]]) == 2  # b goes for d, then c for b
    asked = list(draw_names("abcde", 200))
    assert {len(names) for names in asked} == set(range(MOST + 1))
    assert all(len(set(names)) == len(names) for names in asked)
    assert count_evictions(asked) > 50


def make_usages(*figures):
    """With each figure as the memory of the GPUs."""
    return [Usage(figure, 1.0, 2.0, 3, 4.0, 5) for figure in figures]


def test_a_leak_rises_all_the_time_and_what_comes_and_goes_does_not():
    leaking = describe_growth(make_usages(*(100.0 + 2 * number for number in range(20))))
    assert leaking["gpus_mib_growth"] == pytest.approx(18)
    swinging = describe_growth(make_usages(*([0.0] * 20 + [100.0, 130.0] * 10)))
    assert abs(swinging["gpus_mib_growth"]) < 5
    assert describe_growth(make_usages(1.0))["gpus_mib_growth"] == 0
    nothing_known = describe_growth(make_usages(None, None))
    assert (nothing_known["gpus_mib"], nothing_known["gpus_mib_growth"]) == ([None, None], None)


def test_what_is_measured_on_another_machine_is_not_compared():
    assert judge(make_rows(none={"run": 0}, near={"run": 0}, far={"run": 1}))["step_far_vs_none"].met is None
    assert judge(make_rows(none={"run": 1}, near={"run": 1}, far={"run": 1}))["step_far_vs_none"].met is True


def test_stubs_are_found_by_their_model_and_their_ancestor(tmp_path):
    code = tmp_path / "controlnet_edges" / "1" / "model.py"
    code.parent.mkdir(parents=True)
    code.write_text("print(flush=True)\ninput()")
    parent = subprocess.Popen(  # the stub is its child
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run([sys.argv[1], sys.argv[2]], executable=sys.executable)",
            "backends/python/triton_python_backend_stub",
            str(code),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline()
        (stub,) = find_stubs(parent.pid, "controlnet_edges")
        assert stub in find_descendants(parent.pid)
        assert find_stubs(parent.pid, "controlnet") == []
        assert find_stubs(stub, "controlnet_edges") == []
        assert (read_model(stub), is_server(stub), read_model(parent.pid)) == ("controlnet_edges", False, "")
        memory, threads = read_held(stub)
        assert memory > 2**20
        assert threads == 1
    finally:
        parent.communicate(b"\n", timeout=30)
    assert read_held(stub) == (0, 0)


def test_residuals_of_a_step_of_sdxl():
    skips = 3 * 320 * 128**2 + (320 + 2 * 640) * 64**2 + (640 + 2 * 1280) * 32**2
    assert count_residuals() == 2 * (skips + 1280 * 32**2)


def test_the_data_paths_process_takes_requests_and_needs_gpus_for_more():
    pool = MailboxPool(1)
    with start_service("cpu", SMALL, 4) as call:
        attachment = Attachment(call, "ready", "ready", make_subject(SMALL, 4), Terms(), pool)
        give_nothing(attachment)
        assert attachment.wait(lambda: None).transport == "bls"
        attachment.close()
        with pytest.raises(Unavailable, match=r"'ready' cannot share memory with the lane.*offers no memory"):
            push_once(call, SMALL, pool, torch.zeros(SMALL.residuals))


def test_a_machine_with_fewer_gpus_keeps_what_another_has_measured(tmp_path):
    path = tmp_path / "controlnets.json"
    report = GrowingReport("controlnets", [], path, is_same, judge, False, checkpoint="sdxl")
    report.add(describe_row(DATA_PATH, "far") | {"step_ms": 0.3})
    resumed = GrowingReport("controlnets", [], path, is_same, judge, True, checkpoint="sdxl")
    for name in ("far", "near"):
        leave_out(resumed, DATA_PATH, name, "takes 2 GPUs; here: 1")
    assert [(row["name"], row.get("step_ms"), row["run"]) for row in resumed.rows] == [
        ("far", 0.3, 0),
        ("near", None, 1),
    ]
    assert resumed.bars["data_path_ms"].met is True


def test_results_say_what_there_is_not():
    runs = [{"date": "2026-01-02T03:04:05", "machine": {"gpus": [{"name": "NVIDIA H200"}] * 2, "processor": "one"}}]
    figures = {"step_ms": 25.0, "request_s": 1.5, "steps": [10, 50], "controlnets": [], "run": 0}
    rows = [
        describe_row(STEPS, "none") | figures,
        describe_row(STEPS, "far") | {"left_out": "takes 2 GPUs; here: 1"},
        describe_row(SOAK, "all") | {"failed": "no server"},
    ]
    text = format_rows(rows, judge(rows), runs)
    assert "Measured on 2 × NVIDIA H200, 2026-01-02." in text
    assert "| no ControlNet | 25.00 |" in text
    assert "steps, ControlNet on the second GPU: left out: takes 2 GPUs; here: 1" in text
    assert "soak, all: failed: no server" in text
    assert draw_rows(rows, "sdxl").width > 1000
    assert draw_rows([], "sdxl").width > 1000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "5", "5"], "--steps is 5 5; allowed: fewer first"),
        (["--slow-steps", "4", "1"], "--slow-steps is 4 1"),
    ],
)
def test_lengths_that_tell_no_step_are_refused(tmp_path, options, sentence):
    with pytest.raises(LaunchError, match=sentence):
        work(parse_options(["controlnets", "--out", str(tmp_path), *options]))
    assert not list(tmp_path.iterdir())
