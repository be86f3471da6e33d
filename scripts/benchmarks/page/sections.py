"""A benchmark's part of the page, made of its JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, format_bars
from benchmarks.controlnets.results import format_rows as format_controlnets
from benchmarks.grid.results import format_rows as format_grid
from benchmarks.loras.judging import describe_results as format_loras
from benchmarks.loras.rows import arrange
from benchmarks.page.published import compare_with_published
from benchmarks.quality.results import format_rows as format_quality
from benchmarks.report import name_machine
from benchmarks.step.results import Results
from benchmarks.trace.results import format_rows as format_trace

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """What the page says of one benchmark."""

    name: str  # of the command, and of the JSON file
    title: str
    tables: Callable[[Report], str]

    def write(self, folder: Path) -> str:
        """Markdown from the folder's files; the command that makes them where they are missing."""
        file = folder / f"{self.name}.json"
        if not file.exists():
            return f"## {self.title}\n\nNot measured yet: `scripts/benchmark {self.name} --out docs/results` does."
        report = json.loads(file.read_text())
        pictures = sorted(path.name for path in folder.glob(f"{self.name}*.png"))
        parts = [f"## {self.title}", self.tables(report), *(f"![{self.title}]({name})" for name in pictures)]
        timelines = sorted(path.stem for path in folder.glob("timeline-*.json")) if self.name == "trace" else []
        if timelines:
            links = ", ".join(f"[{name}.json]({name}.json)" for name in timelines)
            parts.append(f"Timelines of single requests, for https://ui.perfetto.dev: {links}.")
            parts += [f"![{name}]({name}.png)" for name in timelines]
        parts.append("\n".join(f"- {_describe_run(run)}" for run in _find_runs(report)))
        parts.append(f"Raw figures: [{file.name}]({file.name}).")
        return "\n\n".join(parts)


def read_bars(report: Report) -> dict[str, Bar]:
    """The bars of a report."""
    known = ("figure", "bar", "meaning", "at_least")
    return {
        name: Bar(**{key: value for key, value in values.items() if key in known})
        for name, values in report["bars"].items()
    }


def _format_grid(report: Report) -> str:
    return "\n\n".join([compare_with_published(report), format_grid(report["rows"], read_bars(report))])


def _format_step(report: Report) -> str:
    results = Results({key: report[key] for key in ("settings", "machine", "versions", "date")})
    results.rows, results.first_images = list(report["rows"]), dict(report["first_image_s"])
    results.failures = dict(report["failures"])
    return results.format_tables()


SECTIONS = (
    Section("grid", "ControlNets and LoRAs, served", _format_grid),
    Section("controlnets", "ControlNets as services, guidance on two GPUs",
            lambda report: format_controlnets(report["rows"], read_bars(report), report["runs"])),
    Section("trace", "Production-like load", lambda report: format_trace(report["rows"], read_bars(report))),
    Section("quality", "What the shortcuts cost the picture",
            lambda report: format_quality(report["rows"], read_bars(report))),
    Section("step", "One denoising step", _format_step),
    Section("loras", "LoRAs", lambda report: format_loras(arrange(report["rows"]), read_bars(report))),
)  # fmt: skip


def format_promises(folder: Path) -> str:
    """All bars of the reports that are there, in one table."""
    bars: dict[str, Bar] = {}
    for section in SECTIONS:
        file = folder / f"{section.name}.json"
        if file.exists():
            bars |= {f"{section.name} {name}": bar for name, bar in read_bars(json.loads(file.read_text())).items()}
    return format_bars(bars)


def _find_runs(report: Report) -> list[Report]:
    """Those whose rows are still there; the report itself where it knows of no runs."""
    if "runs" not in report:
        return [report]
    used = {row["run"] for row in report["rows"]}
    return [run for number, run in enumerate(report["runs"]) if number in used]


def _describe_run(run: Report) -> str:
    machine = name_machine(run["machine"])
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    return f"{run['date'][:10]}, commit {run['commit']}: `{run['command']}` on {machine}; {versions}"
