"""The placement file.

People write it and keep it beside their configurations; the planner's reasons stand in it as comments.

    text_encoder = 0          # a GPU, as CUDA counts them
    vae_decoder = 0

    [lanes]                   # a UNet with its denoising loop; each draws one picture at a time
    first = 0

    [controlnets]             # as requests name them
    edges = 1
    layout = [1, 2]           # a model on each
    scribble = "cpu"
    depth = "lane"            # each lane runs it itself, on each of its GPUs
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomlkit

from swiftdiffusion.errors import InvalidArgument, shorten
from swiftdiffusion_build.placement.server_placement import CPU, Gpus, ServerPlacement
from swiftdiffusion_build.toml_file import read_toml

SINGLE = ("text_encoder", "vae_decoder")
TABLES = ("lanes", "controlnets")
IN_LANE = "lane"  # of a ControlNet: each lane runs it itself
WIDTH = 110  # characters of a comment's line


def read_placement(path: Path) -> ServerPlacement:
    """Read a placement file.

    Raises:
        NotFound: there is no file that can be read.
        InvalidArgument: it is no TOML, or says something that no machine could serve.
    """
    return read_toml(path, "placement", _interpret)


def format_placement(placement: ServerPlacement, reasons: Iterable[str] = ()) -> str:
    """A placement as `read_placement` reads it, under a comment with the reasons, each a sentence or more."""
    document = tomlkit.document()
    for reason in reasons:
        for line in textwrap.wrap(reason, WIDTH):
            document.add(tomlkit.comment(line))
    for name in SINGLE:
        document.add(name, tomlkit.item(_simplify(getattr(placement, name))))
    for title in TABLES:
        table = tomlkit.table()
        for name, gpus in getattr(placement, title).items():
            table.add(name, tomlkit.item(_simplify(gpus)))
        for name in placement.resident if title == "controlnets" else ():
            table.add(name, IN_LANE)
        document.add(tomlkit.nl())
        document.add(title, table)
    return tomlkit.dumps(document)


def _interpret(content: Mapping[str, Any]) -> ServerPlacement:
    if unknown := sorted(content.keys() - {*SINGLE, *TABLES}):
        raise InvalidArgument(f"{shorten(unknown[0])} is not known; known: {', '.join((*SINGLE, *TABLES))}")
    if missing := [name for name in SINGLE if name not in content]:
        raise InvalidArgument(f"{missing[0]!r} is missing; allowed: a GPU's number, or several, or 'cpu'")
    text_encoder, vae_decoder = (_read_gpus(name, content[name]) for name in SINGLE)
    tables = {title: _read_table(title, content.get(title, {})) for title in TABLES}
    resident = tuple(name for name, value in tables["controlnets"].items() if value == IN_LANE)
    lanes, controlnets = (
        {
            name: _read_gpus(f"{title}.{name}", value, " or 'lane'" if title == "controlnets" else "")
            for name, value in table.items()
            if title == "lanes" or name not in resident
        }
        for title, table in tables.items()
    )
    return ServerPlacement(text_encoder, vae_decoder, lanes, controlnets, resident)


def _read_table(title: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{title} is {shorten(str(table))}; allowed: a table of names and GPUs")
    return table


def _read_gpus(entry: str, value: Any, further: str = "") -> Gpus:
    if value == "cpu":
        return CPU
    gpus = value if isinstance(value, list) else [value]
    if not gpus or any(type(gpu) is not int for gpu in gpus):  # a boolean is an int, too
        raise InvalidArgument(
            f"{entry} is {shorten(str(value))}; allowed: a GPU's number, several such as [0, 1], or 'cpu'{further}"
        )
    return tuple(gpus)


def _simplify(gpus: Gpus) -> int | list[int] | str:
    if gpus == CPU:
        return "cpu"
    return gpus[0] if len(gpus) == 1 else list(gpus)
