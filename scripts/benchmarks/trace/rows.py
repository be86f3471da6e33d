"""What a system makes of a production-like stream of requests at one rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.serving.client import Reply

Row = dict[str, Any]
SLACK = 2.0  # p95 may be so many times the unloaded one
UNLOADED = 0.0  # the load of the row with one request at a time


def describe_row(system: str, service: str, load: float, steps: int, deployment: Mapping[str, Any]) -> Row:
    """What a row is about, by which it is told from the others; `deployment` as `Deployment.describe` has it."""
    return {"system": system, "service": service, "load": load, "steps": steps, **deployment}


def is_same(row: Row, other: Row) -> bool:
    """Whether both are about the same thing."""
    return all(row[key] == other[key] for key in ("system", "service", "load", "steps", "machine", "layout", "lane"))


def summarise(replies: Sequence[Reply], rate: float | None, queued_s: float | None) -> dict[str, Any]:
    """Latencies, throughput, failures, and how often add-ons and prompts were there already.

    Args:
        replies: of all requests.
        rate: at which they came, a second; None for one after the other.
        queued_s: their mean time in Triton's queue.
    """
    answered = [reply for reply in replies if not reply.failure]
    seconds = [reply.seconds for reply in answered]
    uses = [use for reply in answered for use in reply.info["loras"]]
    lasted = max(reply.received for reply in replies) - min(reply.sent for reply in replies)
    return {
        "requests": len(replies),
        "rate_per_minute": rate and round(60 * rate, 3),
        "images_per_minute": round(60 * len(answered) / lasted, 3),
        **{f"p{share}_s": _quantile(seconds, share) for share in (50, 95, 99)},
        "queue_s": None if queued_s is None else round(queued_s, 4),
        "failures": dict(Counter(reply.failure[:120] for reply in replies if reply.failure)),
        "loras_used": len(uses),
        "in_the_weights_share": _share([use["kept"] for use in uses]),
        "host_cache_share": _share([use["cached"] and not use["kept"] for use in uses]),
        "prompts_cached_share": _share([reply.info["prompt_cached"] for reply in answered]),
    }


def find_throughput(
    rows: Sequence[Row], system: str, service: str, layout: str, machine: str
) -> tuple[float | None, float | None]:
    """Between which limits the most pictures a minute lie at which p95 is at most `SLACK` times the unloaded one.

    Returns:
        The most that were answered within that and without a failure, 0 where they were at no rate that was tried, None
        where none was; and of what lies above it the least rate past the bound (what was asked for, where some failed)
        or that of one by one, about which a server of one picture at a time is at its end. Both None without the row
        of one by one.
    """
    wanted = {"system": system, "service": service, "layout": layout, "machine": machine}
    mine = [row for row in rows if wanted.items() <= row.items() and "p95_s" in row]
    unloaded = next((row for row in mine if row["load"] == UNLOADED), None)
    if unloaded is None:
        return None, None
    tried = [row for row in mine if row["load"] != UNLOADED]
    within, past = [0.0], [unloaded["images_per_minute"]]
    for row in tried:
        if row["failures"]:
            past.append(row["rate_per_minute"])
        else:
            (within if row["p95_s"] <= SLACK * unloaded["p95_s"] else past).append(row["images_per_minute"])
    at_least = max(within)
    return at_least if tried else None, min((rate for rate in past if rate > at_least), default=None)


def _quantile(seconds: list[float], percent: int) -> float | None:
    return round(float(np.quantile(seconds, percent / 100, method="inverted_cdf")), 4) if seconds else None


def _share(truths: list[bool]) -> float | None:
    return round(sum(truths) / len(truths), 3) if truths else None
