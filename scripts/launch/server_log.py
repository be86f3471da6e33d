"""What tritonserver's log says about its models."""

import re
from collections.abc import Iterable

LOADING = re.compile(r'"?loading: ([^:]+):\d+')
LOADED = re.compile(r"successfully loaded '([^']+)'")
FAILURES = (
    re.compile(r"(failed to load '[^']+' version \d+: .*)"),
    re.compile(r"(Poll failed for model directory .*)"),
    re.compile(r"(Error parsing text-format inference\.ModelConfig.*)"),
    re.compile(r"(failed to start \w+ service.*|.*already in use.*)", re.IGNORECASE),
    re.compile(r"^(error: .*)"),
    re.compile(r"(unrecognized option .*|option .* requires an argument.*|.*invalid option .*)"),
)
LAST_LINES = 15


def count_models(lines: Iterable[str]) -> tuple[int, int]:
    """Count the models that were loaded and those that began to load."""
    loading: set[str] = set()
    loaded: set[str] = set()
    for line in lines:
        if match := LOADING.search(line):
            loading.add(match[1])
        elif match := LOADED.search(line):
            loaded.add(match[1])
    return len(loaded), len(loading)


def find_failures(lines: Iterable[str]) -> list[str]:
    """Pick the lines that say why the server or a model did not start, else the last ones."""
    lines = list(lines)
    found = []
    for line in lines:
        match = next((match for pattern in FAILURES if (match := pattern.search(line))), None)
        if match:
            # glog's quotes and escapes: the traceback is one line in the log
            found.append(match[1].rstrip('"').replace("\\n", "\n    ").replace('\\"', '"').rstrip())
    return found or lines[-LAST_LINES:]
