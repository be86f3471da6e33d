"""The README's commands work as pasted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", README.read_text(), re.DOTALL)


def test_blocks_are_found():
    assert [kind for kind, _ in BLOCKS] == ["bash", "bash", "python", "bash", "bash"]


@pytest.mark.parametrize(("kind", "block"), BLOCKS, ids=["curl", "stream", "tritonclient", "perf_analyzer", "adapters"])
def test_block(server, tmp_path, kind, block):
    block = block.replace("localhost:8000", server.http_url)
    block = block.replace("scripts/perf_analyzer", f"{README.parent}/scripts/perf_analyzer --venv {sys.prefix}")
    shell = ["bash", "-euo", "pipefail", "-c", block]
    command = shell if kind == "bash" else [sys.executable, "-c", block]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    if "picture.png" in block:
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    if "generate_stream" in block:
        assert '"image":"' in run.stdout
        assert '"step":30,"steps":30' in run.stdout
    if "perf_analyzer" in block:
        assert re.search(r"Throughput: [\d.]+ infer/sec", run.stdout)
    if "adapters/infer" in block:
        assert '\\"name\\": \\"night\\"' in run.stdout
