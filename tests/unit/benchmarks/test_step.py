"""The step benchmark on the small checkpoint and the CPU: what it measures, judges and writes, and no times."""

from dataclasses import replace

import pytest

from benchmarks.step.command import share_out
from benchmarks.step.promises import judge
from benchmarks.step.results import Results
from benchmarks.step.settings import LABELS, PARTS, REFERENCE, Job, Settings, Size
from benchmarks.step.worker import run
from benchmarks.step.workers import run_workers
from commands.benchmark import parse_options, work
from launch.problems import LaunchError
from launch.progress import Progress

SIZE = Size(64, 96)


def make_job(system, folder, **changes):
    settings = Settings("shapes", "cpu", (SIZE,), repeats=2, steps=2, engine="auto")
    return Job(settings, system, (SIZE,), str(folder), **changes)


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Events of each system, by system."""
    folder = tmp_path_factory.mktemp("reference")

    def collect(system):
        found = []
        run(make_job(system, folder), lambda kind, **values: found.append((kind, values)))
        return found

    return {system: collect(system) for system in (REFERENCE, "eager", "ours")}


@pytest.mark.parametrize("system", ["eager", "ours"])
def test_a_row_has_every_part_close_to_the_reference(events, system):
    assert not [values for kind, values in events[system] if kind == "failed"]
    ((row),) = [values for kind, values in events[system] if kind == "row"]
    assert row["size"] == "64x96"
    assert list(row["parts"]) == list(PARTS)
    for values in row["parts"].values():
        assert 0 < values["p10_ms"] <= values["median_ms"] <= values["p90_ms"]
        assert values["repeats"] == 2
        assert 0 < values["relative_error"] < 1e-3


def test_a_first_image_comes_before_what_is_measured(events):
    kinds = [kind for kind, _ in events["ours"] if kind != "telling"]
    assert kinds == ["first_image", "row"]


def test_a_job_survives_its_command_line(tmp_path):
    job = make_job("ours", tmp_path, only_first_image=True, started=1.5)
    assert Job.from_json(job.to_json()) == job


def make_row(system, unet_ms, error, **others):
    def part(median_ms):
        return {"median_ms": median_ms, "relative_error": error, "host_ms": 0.25}

    parts = {"unet": part(unet_ms), "controlnet": part(10.0), "vae": part(10.0), "image": part(1000.0)}
    return {"system": system, "size": "1024x1024", "parts": parts | others}


def test_bars_are_ratios_of_the_figures_at_their_size():
    rows = [
        make_row("eager", 50.0, 1e-3, vae={"failed": "RuntimeError: no memory"}),
        make_row("compile", 30.0, 2e-3),
        make_row("ours", 24.0, 1.5e-3, controlnet={"median_ms": 5.0}),
        {**make_row("ours", 1.0, 1e-3), "size": "512x512"},
    ]
    first_images = {"ours": {"first": 60.0, "again": 12.0}, "compile": {"first": 120.0, "again": 30.0}}
    bars = judge(rows, first_images, "1024x1024")
    assert {name: (bar.figure and round(bar.figure, 6), bar.met) for name, bar in bars.items()} == {
        "unet_step_vs_compile": (0.8, True),
        "unet_step_vs_eager": (0.48, True),
        "controlnet_step_vs_eager": (0.5, False),
        "vae_decode_vs_eager": (None, None),
        "first_image_vs_compile": (0.1, True),
        "step_error_vs_eager": (1.5, False),
        "host_ms_per_step": (0.25, True),
    }


def test_ratios_to_eagers_kernels_as_graphs_stand_below_the_bars():
    results = Results({"settings": {"sizes": ["1024x1024"], "checkpoint": "sdxl"}})
    for system, unet_ms in (("graph", 48.0), ("ours", 24.0)):
        row = make_row(system, unet_ms, 1e-3)
        results.add_row(system, {name: row[name] for name in ("size", "parts")} | {"peak_memory_gb": 10.0})
    last = results.format_tables().splitlines()[-1]
    assert "UNet step 0.500; ControlNet step 1.000; VAE decode 1.000; whole image 1.000." in last


@pytest.mark.parametrize(
    ("gpus", "shares"),
    [
        (0, ["64x64 64x96 96x64 96x96"]),
        (1, ["64x64 64x96 96x64 96x96"]),
        (2, ["64x64", "64x96 96x64 96x96"]),
        (3, ["64x64", "64x96 96x96", "96x64"]),
        (8, ["64x64", "64x96", "96x64", "96x96"]),
    ],
)
def test_the_first_size_has_a_gpu_to_itself(gpus, shares):
    sizes = (Size(64, 64), Size(64, 96), Size(96, 64), Size(96, 96))
    assert [" ".join(map(str, share)) for share in share_out(sizes, gpus)] == shares


def test_jobs_at_the_same_time_tell_their_events_apart(tmp_path):
    right = make_job("eager", tmp_path)
    wrong = replace(right, settings=replace(right.settings, engine="none"), system="ours", gpu=1)
    with Progress("measuring") as progress:
        found = list(run_workers([(right, {}), (wrong, {})], progress, tmp_path / "log", 120))
    assert [event["kind"] for job, event in found if job == right] == ["first_image", "row"]
    ((failure),) = [event for job, event in found if job == wrong]
    assert failure["kind"] == "failed"
    assert "'none'" in failure["sentence"]


def test_jobs_that_take_too_long_are_ended(tmp_path):
    with Progress("measuring") as progress:
        found = list(run_workers([(make_job("eager", tmp_path), {})], progress, tmp_path / "log", 0.5))
    assert [event for _, event in found] == [{"kind": "failed", "sentence": "stopped after 0 s"}]


@pytest.mark.parametrize("text", ["1024", "1024x", "64x-64", "100x128", "32x64", "8192x64", "64x64x64"])
def test_impossible_sizes_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        parse_options(["step", "--sizes", text])
    assert f"'{text}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--checkpoint", "sdxl"], "takes a GPU; allowed here: shapes"),
        (["--systems", "graph"], "'graph', which takes a GPU; allowed here: eager, ours"),
        (["--systems", "compile"], "'compile', which takes a GPU; allowed here: eager, ours"),
        (["--gpus", "99"], "--gpus is 99, but torch sees"),
        (["--compile-sizes", "64x64"], "64x64, which is not measured; allowed: 128x128"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(arguments, sentence):
    with pytest.raises(LaunchError, match=sentence):
        work(parse_options(["step", "--device", "cpu", *arguments]))


def test_every_system_can_be_named():
    assert parse_options(["step", "--systems", *LABELS]).systems == list(LABELS)
