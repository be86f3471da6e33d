"""What a run has found so far, as JSON, as tables and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.bars import Bar
from benchmarks.step.promises import judge
from benchmarks.step.settings import LABELS, PARTS
from benchmarks.table import format_table

if TYPE_CHECKING:
    from PIL import Image

Row = dict[str, Any]
HOST_BOUND = 0.8  # of a step's time: a host that takes so much of it is what the step waits for
VERDICTS = {True: "met", False: "missed", None: "not measured"}


class Results:
    """Rows, one for each system and size, times to the first image, and what went wrong."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        """Args: `run`, what the report begins with; its ``settings`` have the sizes, the first one the bars'."""
        self._run = run
        self._size: str = run["settings"]["sizes"][0]
        self.rows: list[Row] = []
        self.first_images: dict[str, dict[str, float]] = {}
        self.failures: dict[str, str] = {}

    def add_failure(self, what: str, sentence: str) -> None:
        """Note what could not be measured, and why."""
        self.failures[what] = sentence

    def add_row(self, system: str, row: Row) -> None:
        """Note a system's row as its process gave it; parts that failed count as failures."""
        self.rows.append({"system": system, **row})
        self.failures |= {
            f"{LABELS[system]}, {row['size']}, {PARTS[part]}": values["failed"]
            for part, values in row["parts"].items()
            if "failed" in values
        }

    def add_first_image(self, system: str, start: str, seconds: float) -> None:
        """Note seconds from a process's start; `start` is ``first`` or ``again``, as `judge` has them."""
        self.first_images.setdefault(system, {})[start] = seconds

    @property
    def bars(self) -> dict[str, Bar]:
        """The bars by name, as far as is known."""
        return judge(self.rows, self.first_images, self._size)

    def as_json(self) -> dict[str, Any]:
        """The whole report."""
        return {
            **self._run,
            "bars": {name: bar.as_json() for name, bar in self.bars.items()},
            "bars_at": self._size,
            "first_image_s": self.first_images,
            "rows": self.rows,
            "failures": self.failures,
        }

    def format_tables(self) -> str:
        """Medians in ms with relative errors, and the bars."""
        header = [
            "size, system",
            *(f"{label}, ms" for label in PARTS.values()),
            "host, ms/step",
            "memory, GB",
            *(f"{part} error" for part in PARTS),
        ]
        measured = [
            [
                f"{row['size']}, {LABELS[row['system']]}",
                *(_format(row, part, "median_ms", ".2f") for part in PARTS),
                _format(row, "image", "host_ms", ".2f"),
                "–" if row["peak_memory_gb"] is None else f"{row['peak_memory_gb']:.1f}",
                *(_format(row, part, "relative_error", ".1e") for part in PARTS),
            ]
            for row in self.rows
        ]
        bars = [
            [bar.meaning, "–" if bar.figure is None else f"{bar.figure:.3f}", f"≤ {bar.bar}", VERDICTS[bar.met]]
            for bar in self.bars.values()
        ]
        starts = [
            [LABELS[system], *(f"{times[start]:.1f}" if start in times else "–" for start in ("first", "again"))]
            for system, times in self.first_images.items()
        ]
        note = "" if self._run["settings"]["checkpoint"] == "sdxl" else " (promised of SDXL on a GPU)"
        tables = [
            format_table(header, measured),
            format_table(["start to first image, s", "nothing on disk", "caches on disk"], starts),
            format_table([f"bar, at {self._size}{note}", "figure", "bar", ""], bars),
            *(f"{what}: {sentence}" for what, sentence in self.failures.items()),
            *self._explain_hosts(),
            *self._compare_with_graph(),
        ]
        return "\n\n".join(tables)

    def _explain_hosts(self) -> list[str]:
        """A sentence where a system's UNet step took as long as its host needed: its figure is then the host's."""
        bound = []
        for row in self.rows:
            unet = row["parts"]["unet"]
            host, step = unet.get("host_ms"), unet.get("median_ms")
            if host and step and host > HOST_BOUND * step:
                bound.append(
                    f"{LABELS[row['system']]} at {row['size']} ({host:.0f} ms of host in a step of {step:.0f})"
                )
        if not bound:
            return []
        return [
            f"Bound by this machine's host, not by its GPU: {'; '.join(bound)}. On a faster host these take less, and "
            "the ratios to them are nearer to 1."
        ]

    def _compare_with_graph(self) -> list[str]:
        """Ratios that no host has a part in: ours to eager's own kernels as CUDA graphs, at the bars' size."""
        parts = {row["system"]: row["parts"] for row in self.rows if row["size"] == self._size}
        ratios = []
        for part, label in PARTS.items():
            ours, graph = (parts.get(system, {}).get(part, {}).get("median_ms") for system in ("ours", "graph"))
            if ours and graph:
                ratios.append(f"{label} {ours / graph:.3f}")
        if not ratios:
            return []
        return [f"{LABELS['ours']} / {LABELS['graph']}, which waits for no host, at {self._size}: {'; '.join(ratios)}."]

    def draw(self) -> Image.Image:
        """The medians as bars."""
        from benchmarks.chart import draw_chart

        systems = [system for system in LABELS if any(row["system"] == system for row in self.rows)]
        sizes = [size for size in self._run["settings"]["sizes"] if any(row["size"] == size for row in self.rows)]
        found = {(row["size"], LABELS[row["system"]]): row["parts"] for row in self.rows}
        steps = self._run["settings"]["steps"]
        panels = {
            f"{label}{f' ({steps} steps)' if part == 'image' else ''}, ms": {
                size: {
                    LABELS[system]: found.get((size, LABELS[system]), {}).get(part, {}).get("median_ms")
                    for system in systems
                }
                for size in sizes
            }
            for part, label in PARTS.items()
        }
        return draw_chart(self._title(), self._subtitle(), [LABELS[system] for system in systems], panels)

    def _title(self) -> str:
        settings = self._run["settings"]
        device = self._run["machine"]["gpus"][0]["name"] if settings["device"] == "cuda" else "CPU"
        return f"{settings['checkpoint']}, {settings['dtype']}, guidance batch 2, {device}"

    def _subtitle(self) -> str:
        versions = self._run["versions"]
        return (
            f"medians, warm; torch {versions['torch']}, diffusers {versions['diffusers']}; {self._run['date'][:10]}; "
            "shorter is better"
        )


def _format(row: Row, part: str, name: str, form: str) -> str:
    values = row["parts"].get(part)
    if values is None:  # a run from before it was measured
        return "–"
    if "failed" in values:
        return "failed"
    return "–" if values[name] is None else format(values[name], form)
