"""Production-like streams of requests at several rates, for each system; and one request as a timeline."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from benchmarks.serving.options import add_serving_options
from benchmarks.serving.systems import LABELS, MODELS, OURS, STOCK, AddOns, Request, read_add_ons
from launch.paths import shorten
from launch.problems import LaunchError
from launch.progress import Progress

if TYPE_CHECKING:
    from benchmarks.runs import GrowingReport
    from benchmarks.serving.checkpoints import ServedCheckpoint
    from benchmarks.serving.deployment import Deployment
    from benchmarks.serving.served import Served

DESCRIPTION = """\
Send each system requests with the add-ons of production (the shares of ControlNets and LoRAs of two services, their
popularity, so that caches have something to hit) one by one, and then as a Poisson process at several rates, given as
shares of what it can serve one by one, whether earlier ones are answered or not. Throughput at p95 of at most twice the
unloaded one, hit rates, queue time, failures. trace.json is rewritten after each row, trace.png is drawn at the end. Of
this project one request of each of --timelines is written as trace events for https://ui.perfetto.dev, too, and drawn:
timeline-<controlnets>-<loras>-<GPUs>.json and .png.
"""
CACHED = 10  # LoRAs for which our host cache has room, of --adapters


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_serving_options(parser)
    parser.add_argument("--services", nargs="+", choices=("A", "B"), default=["A", "B"], help="default: both")
    parser.add_argument(
        "--loads",
        type=float,
        nargs="*",
        default=[0.3, 0.45, 0.6],  # with one server and like requests p95 passes twice the unloaded one among these
        metavar="SHARE",
        help="rates, as shares of what comes one by one (default: 0.3 0.45 0.6; none: only timelines)",
    )
    parser.add_argument("--requests", type=int, metavar="N", help="at each rate (default: 40; of shapes 6)")
    parser.add_argument("--unloaded", type=int, metavar="N", help="one by one, before (default: 12; of shapes 4)")
    parser.add_argument("--adapters", type=int, default=60, metavar="N", help="LoRAs there are (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="Euler steps (default: 30; of shapes 4)")
    parser.add_argument(
        "--timelines",
        type=read_add_ons,
        nargs="*",
        default=[AddOns(2, 1)],
        metavar="CONTROLNETS/LORAS",
        help="requests of which a timeline is written (default: 2/1)",
    )


def work(options: argparse.Namespace) -> int:
    """Measure all rows; 1 if one failed, else 0."""
    # Only now, in the environment: what follows is not of the standard library.
    from benchmarks.runs import GrowingReport
    from benchmarks.serving.deployment import Deployment
    from benchmarks.trace.results import draw_rows, format_rows, judge
    from benchmarks.trace.rows import is_same

    if options.loads and not all(0 < load < 2 for load in options.loads):
        raise LaunchError(f"--loads is {options.loads}; allowed: shares above 0 and below 2")
    with Progress("preparing the checkpoint") as progress:
        deployment = Deployment(options, progress)
    small = deployment.checkpoint.name == "shapes"
    options.steps = options.steps or (4 if small else 30)
    options.requests = options.requests or (6 if small else 40)
    options.unloaded = options.unloaded or (4 if small else 12)
    deployment.tuning = replace(deployment.tuning, cache_mb=count_cache_mb(deployment.checkpoint))
    checkpoint = deployment.checkpoint
    report = GrowingReport(
        "trace",
        sys.argv[1:],
        options.out / "trace.json",
        is_same,
        judge,
        options.resume,
        checkpoint=checkpoint.name,
        note=checkpoint.note,
        adapters=options.adapters,
        cached_adapters=CACHED,
    )
    for system in options.systems:
        with Progress(f"measuring {LABELS[system]}") as progress:
            measure_system(system, options, deployment, report, progress)
    if report.rows:
        print(format_rows(report.rows, report.bars))
    if (chart := draw_rows(report.rows, checkpoint.name)) is not None:
        chart.save(options.out / "trace.png")
    print(f"\nSaved in {shorten(options.out)}/")
    return int(any("failed" in row for row in report.rows))


def measure_system(
    system: str, options: argparse.Namespace, deployment: Deployment, report: GrowingReport, progress: Progress
) -> None:
    """Serve one system and measure each service at each rate; what fails becomes a row that says so."""
    from benchmarks.trace.rows import UNLOADED, describe_row

    wanted = [service for service in options.services if not is_measured(system, service, options, deployment, report)]
    timelines = options.timelines if system == OURS else []
    if not (wanted or timelines):
        return
    try:
        with deployment.serve(system, progress) as served:
            names = served.adapters.take(options.adapters)
            for service in wanted:
                measure_service(system, service, names, options, deployment, served, report, progress)
            for add_ons in timelines:
                write_timeline(add_ons, options, deployment, served)
    except LaunchError as problem:
        for service in wanted:
            row = describe_row(system, service, UNLOADED, options.steps, deployment.describe(system))
            if not report.has(row):  # what was measured before another failed stays
                report.add({**row, "failed": str(problem)})


def is_measured(
    system: str, service: str, options: argparse.Namespace, deployment: Deployment, report: GrowingReport
) -> bool:
    """Whether the report has a service's row at each rate, or none is asked for."""
    from benchmarks.trace.rows import describe_row

    rows = [describe_row(system, service, load, options.steps, deployment.describe(system)) for load in options.loads]
    return all(map(report.has, rows))


def measure_service(
    system: str,
    service: str,
    names: list[str],
    options: argparse.Namespace,
    deployment: Deployment,
    served: Served,
    report: GrowingReport,
    progress: Progress,
) -> None:
    """One by one first, which says what the rates are shares of."""
    from benchmarks.serving.client import ask_in_turn
    from benchmarks.trace.open_loop import read_queueing, send_open_loop
    from benchmarks.trace.production import draw_arrivals
    from benchmarks.trace.rows import UNLOADED, describe_row, summarise

    model, checkpoint = MODELS[system], deployment.checkpoint
    # others at each rate: what was asked for before would be in the caches
    drawn = draw_requests(service, names, checkpoint, options)
    first, *others = (
        list(islice(drawn, count)) for count in (options.unloaded, *[options.requests] * len(options.loads))
    )
    progress.update(f"service {service}, one by one")
    progress.pulse()
    warming = choose_warm_up([*first, *chain(*others)])
    # stock makes nothing for a kind of request, and takes seconds for each
    warm_up = ask_in_turn(served.grpc_url, model, warming[:1] if system == STOCK else warming)
    if failure := next((reply.failure for reply in warm_up if reply.failure), None):
        raise LaunchError(failure)
    alone = ask_in_turn(served.grpc_url, model, first)
    place = deployment.describe(system)
    report.add({**describe_row(system, service, UNLOADED, options.steps, place), **summarise(alone, None, None)})
    answered = [reply.seconds for reply in alone if not reply.failure]
    if not answered:
        raise LaunchError(f"no request was answered: {alone[0].failure}")
    for load, requests in zip(options.loads, others, strict=True):
        row = describe_row(system, service, load, options.steps, place)
        if report.has(row):
            continue
        rate = load / statistics.fmean(answered)
        progress.update(f"service {service}, {60 * rate:.1f} a minute")
        progress.pulse()
        before = read_queueing(served.http_url, model)
        arrivals = draw_arrivals(rate, options.requests)
        replies = send_open_loop(served.grpc_url, model, requests, arrivals)
        queued = read_queueing(served.http_url, model).since(before)
        report.add({**row, **summarise(replies, rate, queued)})


def draw_requests(
    service: str, names: list[str], checkpoint: ServedCheckpoint, options: argparse.Namespace
) -> Iterator[Request]:
    """Endlessly many requests of a service, as production draws them; prompts are all different."""
    from benchmarks.serving.checkpoints import add_controlnets, add_loras, make_request
    from benchmarks.trace.production import SERVICES, draw_add_ons

    controlnets = [folder.name for folder in checkpoint.controlnets]
    draws = draw_add_ons(SERVICES[service], len(controlnets), len(names))
    for number, draw in enumerate(draws):
        yield {
            **make_request(checkpoint, number, options.steps, options.output_format),
            **add_controlnets(checkpoint, [controlnets[rank] for rank in draw.controlnets]),
            **add_loras([names[rank] for rank in draw.loras]),
        }


def choose_warm_up(requests: list[Request]) -> list[Request]:
    """Requests like those that first have something that may be compiled for.

    That is a number of LoRAs, with ControlNets and without, and each ControlNet.
    """
    chosen, known = [], set[Any]()
    for one in requests:
        controlnets = one.get("controlnets", [])
        needed = {(bool(controlnets), len(one.get("loras", []))), *controlnets}
        if needed - known:
            chosen.append({**one, "prompt": [f"{one['prompt'][0]}, to warm up"]})
            known |= needed
    return chosen


def write_timeline(add_ons: AddOns, options: argparse.Namespace, deployment: Deployment, served: Served) -> None:
    """Trace one warm request with these add-ons, LoRAs that nobody has asked for before."""
    from benchmarks.serving.checkpoints import draw_grid_requests
    from benchmarks.serving.client import ask_in_turn
    from benchmarks.trace.timeline import make_trace
    from benchmarks.trace.timeline_picture import draw_timeline

    drawn = draw_grid_requests(deployment.checkpoint, served.adapters, add_ons, options.steps, options.output_format)
    first, second = islice(drawn, 2)
    *_, reply = ask_in_turn(served.grpc_url, MODELS[OURS], [first, {**second, "trace": [True]}])
    if reply.failure:
        raise LaunchError(f"the traced request failed: {reply.failure}")
    layout = deployment.describe(OURS)["layout"]
    trace = make_trace(reply, f"{add_ons}, {options.steps} steps, {layout}")
    name = f"timeline-{add_ons.controlnets}-{add_ons.loras}-{layout.replace(' ', '-')}"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps(trace) + "\n")
    draw_timeline(trace).save(options.out / f"{name}.png")


def count_cache_mb(checkpoint: ServedCheckpoint) -> int:
    """MiB of host memory for `CACHED` LoRAs."""
    largest = max(path.stat().st_size for path in checkpoint.lora_files)
    return -(-CACHED * largest // 2**20)
