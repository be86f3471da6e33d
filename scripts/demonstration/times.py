"""Where the time went, as a table."""

from collections.abc import Mapping


def format_times(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """Give a line for each request and a column for each stage, in milliseconds; a stage that did not run is blank."""
    stages = list(dict.fromkeys(stage for times in seconds.values() for stage in times if stage != "total"))
    stages.append("total")
    first = max(len(label) for label in seconds)
    widths = {stage: max(len(stage), 6) for stage in stages}
    lines = [" ".join([" " * first, *(stage.rjust(widths[stage]) for stage in stages)])]
    for label, times in seconds.items():
        cells = (f"{times[stage] * 1000:.0f}" if stage in times else "" for stage in stages)
        lines.append(" ".join([label.ljust(first), *(c.rjust(widths[s]) for c, s in zip(cells, stages, strict=True))]))
    return "\n".join(lines)
