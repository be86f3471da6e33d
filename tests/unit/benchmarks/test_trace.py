"""Production-like requests, what is made of their answers, and timelines; the server's part is in `tests/server`."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from benchmarks.serving.client import Reply
from benchmarks.serving.systems import Request
from benchmarks.trace.command import choose_warm_up
from benchmarks.trace.open_loop import Queueing
from benchmarks.trace.production import CONTROLNETS, SERVICES, draw_add_ons, draw_arrivals
from benchmarks.trace.results import draw_rows, format_rows, judge
from benchmarks.trace.rows import describe_row, find_throughput, summarise
from benchmarks.trace.timeline import make_trace
from benchmarks.trace.timeline_picture import COLOURS, ROW, TOP, draw_timeline


@pytest.mark.parametrize("name", SERVICES)
def test_add_ons_are_drawn_as_the_service_has_them(name):
    service = SERVICES[name]
    draws = list(islice(draw_add_ons(service, 5, 60), 4000))
    assert draws == list(islice(draw_add_ons(service, 5, 60), 4000))
    assert draws != list(islice(draw_add_ons(service, 5, 60, seed=1), 4000))
    for shares, counts in (
        (service.controlnets, Counter(len(draw.controlnets) for draw in draws)),
        (service.loras, Counter(len(draw.loras) for draw in draws)),
    ):
        assert [counts[number] / 4000 for number in range(len(shares))] == pytest.approx(shares, abs=0.02)
    assert all(len(set(draw.controlnets)) == len(draw.controlnets) for draw in draws)


@pytest.mark.parametrize(("name", "first", "share"), [("A", 5, 0.98), ("B", 8, 0.95)])
def test_controlnets_are_as_popular_as_published(name, first, share):
    weights = [(rank + 1) ** -SERVICES[name].controlnet_exponent for rank in range(CONTROLNETS)]
    assert sum(weights[:first]) / sum(weights) == pytest.approx(share, abs=0.002)


def test_fewer_controlnets_than_wanted_are_all_taken():
    assert {len(draw.controlnets) for draw in islice(draw_add_ons(SERVICES["A"], 1, 9), 100)} == {1}


def test_arrivals_are_a_poisson_process():
    arrivals = draw_arrivals(4.0, 4000)
    assert arrivals == sorted(arrivals) == draw_arrivals(4.0, 4000)
    gaps = [later - earlier for earlier, later in zip([0.0, *arrivals], arrivals, strict=False)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.25, rel=0.05)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)  # 1 / e


def make_reply(sent: float, seconds: float, kept: bool = False, failure: str = "") -> Reply:
    info = {} if failure else {"loras": [{"kept": kept, "cached": True}], "prompt_cached": False}
    return Reply(sent, sent + seconds, info, failure)


def test_failures_and_hits_are_counted():
    replies = [make_reply(0, 1), make_reply(1, 2, kept=True), make_reply(2, 0.1, failure="[UNAVAILABLE] queue is full")]
    row = summarise(replies, 0.5, 0.25)
    assert (row["requests"], row["rate_per_minute"], row["images_per_minute"]) == (3, 30, 40)
    assert (row["p50_s"], row["p99_s"], row["queue_s"]) == (1, 2, 0.25)
    assert row["failures"] == {"[UNAVAILABLE] queue is full": 1}
    assert (row["in_the_weights_share"], row["host_cache_share"], row["prompts_cached_share"]) == (0.5, 0.5, 0)
    assert summarise(replies[2:], None, None)["p95_s"] is None


MACHINE = "2 NVIDIA H200, 32 cores"
PLACE = {"machine": MACHINE, "layout": "one GPU", "lane": {}}


def make_row(system: str, load: float, per_minute: float, p95_s: float, failures: int = 0):
    figures = dict.fromkeys(
        ("rate_per_minute", "p50_s", "p99_s", "queue_s", "in_the_weights_share", "host_cache_share")
    )
    failed = {"full": failures} if failures else {}
    own = {"rate_per_minute": per_minute + 1, "images_per_minute": per_minute, "p95_s": p95_s, "failures": failed}
    return {**describe_row(system, "A", load, 30, PLACE), **figures, **own}


def test_throughput_is_the_most_within_twice_the_unloaded_tail():
    rows = [make_row("ours", 0.0, 45, 1.0), make_row("ours", 0.5, 20, 1.9), make_row("ours", 0.7, 30, 2.0)]
    assert find_throughput(rows, "ours", "A", "one GPU", MACHINE) == (30, 45)
    assert find_throughput([*rows, make_row("ours", 0.9, 40, 2.1)], "ours", "A", "one GPU", MACHINE) == (30, 40)
    failing = make_row("ours", 0.9, 40, 1.0, failures=1)
    assert find_throughput([*rows, failing], "ours", "A", "one GPU", MACHINE) == (30, 41), "as many were asked for"
    low = make_row("ours", 0.3, 15, 2.2)
    assert find_throughput([*rows, low], "ours", "A", "one GPU", MACHINE) == (30, 45), "by chance: a higher one held"
    assert find_throughput([rows[0], low], "ours", "A", "one GPU", MACHINE) == (0, 15)
    assert find_throughput(rows[1:], "ours", "A", "one GPU", MACHINE) == (None, None)
    assert find_throughput(rows[:1], "ours", "A", "one GPU", MACHINE) == (None, 45)
    rows += [make_row("stock", 0.0, 20, 2.0), make_row("stock", 0.5, 10, 4.1)]
    bars = judge(rows)
    assert (bars["throughput_A_stock_one_GPU"].figure, bars["throughput_A_best_one_GPU"].figure) == (3.0, None)
    assert "| A, diffusers, stock, one GPU | one by one |" in format_rows(rows, bars)
    two = [{**row, "layout": "two GPUs"} for row in rows if row["system"] == "ours"]
    assert judge([*rows, *two[1:]])["throughput_A_stock_two_GPUs"].figure is None, "rows of another layout don't count"
    elsewhere = [{**row, "machine": "1 NVIDIA H200, 16 cores"} for row in rows]
    assert judge([*rows[:3], *elsewhere[3:]])["throughput_A_stock_one_GPU"].figure is None, "nor of another machine"
    elsewhere[4]["images_per_minute"] = 15
    assert judge([*rows, *elsewhere])["throughput_A_stock_one_GPU"].figure == 2.0, "the least of both"
    assert "| A, diffusers, stock, one GPU (1 NVIDIA H200, 16 cores) " in format_rows([*rows, *elsewhere], {})
    chart = draw_rows(rows, "sdxl")
    assert chart is not None
    assert chart.width > 500
    assert draw_rows(rows[:1], "sdxl") is None, "nothing but the unloaded row"


def test_queueing_is_a_mean_of_what_came_since():
    assert Queueing(14, 5.0).since(Queueing(10, 3.0)) == 0.5
    assert Queueing(10, 3.0).since(Queueing(10, 3.0)) is None


def test_all_that_may_be_compiled_for_warms_up_once():
    def draw(number: int, loras: int, *controlnets: str) -> Request:
        return {"prompt": [str(number)], "loras": ["x"] * loras, "controlnets": list(controlnets)}

    requests = [draw(0, 0), draw(1, 1), draw(2, 0), draw(3, 1, "a"), draw(4, 1, "a"), draw(5, 1, "a", "b"), draw(6, 2)]
    warm = choose_warm_up(requests)
    assert [one["prompt"][0] for one in warm] == [f"{number}, to warm up" for number in (0, 1, 3, 5, 6)]
    assert choose_warm_up([draw(0, 2, "b", "a"), draw(1, 2, "a")]) == [
        {**draw(0, 2, "b", "a"), "prompt": ["0, to warm up"]}
    ]


def test_a_timeline_has_a_thread_for_each_track():
    spans = [
        {"name": "unet_encoder", "track": "cuda:0", "start": 10.1, "end": 10.2},
        {"name": "loras", "track": "lane", "start": 10.1, "end": 10.1 + 1e-6},
        {"name": "unet_decoder", "track": "cuda:0", "start": 10.2, "end": 10.25},
    ]
    trace = json.loads(json.dumps(make_trace(Reply(10.0, 10.5, {"spans": spans}), "1/1")))
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert list(names.values()) == ["client", "cuda:0"]
    shown = [(names[e["tid"]], e["name"], e["ts"], e["dur"]) for e in trace["traceEvents"] if e["ph"] == "X"]
    assert shown == [
        ("client", "1/1", 0.0, 500000.0),
        ("cuda:0", "unet_encoder", 100000.0, 100000.0),
        ("cuda:0", "unet_decoder", 200000.0, 50000.0),
    ]


def test_a_timelines_picture_has_each_span_in_its_place():
    spans = [
        {"name": "unet_encoder", "track": "cuda:0", "start": 10.0, "end": 10.25},
        {"name": "unet_decoder", "track": "cuda:0", "start": 10.25, "end": 10.5},
        {"name": "vae_decoder", "track": "vae_decoder", "start": 10.5, "end": 11.0},
    ]
    picture = np.asarray(draw_timeline(make_trace(Reply(10.0, 11.0, {"spans": spans}), "1/1")))

    def find(name: str) -> tuple[float, float]:
        """Where it is in the first panel: mean row and column, of the picture's height and width."""
        colour = [int(COLOURS[name][at : at + 2], 16) for at in (1, 3, 5)]
        rows, columns = np.nonzero((picture == colour).all(axis=2))
        first = (rows > 2 * TOP) & (rows < 2 * (TOP + 3 * ROW))
        return rows[first].mean(), columns[first].mean()

    encoder, decoder, vae = map(find, ("unet_encoder", "unet_decoder", "vae_decoder"))
    assert encoder[0] == decoder[0] < vae[0]
    assert encoder[1] < decoder[1] < vae[1]
    assert vae[1] - decoder[1] > decoder[1] - encoder[1]
