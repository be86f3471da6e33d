"""How the lock file is written."""

import re

from launch.paths import LOCK_FILE
from maintain.lock import Resolution, merge, read_report


def test_versions_that_differ_get_markers():
    old = Resolution("3.10", {"numpy": "1.26.4", "tomli": "2.5.0", "pillow": "12.3.0"})
    new = Resolution("3.11", {"numpy": "1.26.4", "pillow": "13.0.0"})
    assert merge([old, new]) == [
        "numpy==1.26.4",
        'pillow==12.3.0 ; python_version == "3.10"',
        'pillow==13.0.0 ; python_version == "3.11"',
        'tomli==2.5.0 ; python_version == "3.10"',
    ]


def test_report_loses_the_project_cuda_and_local_versions():
    packages = {"Torch": "2.13.0+cpu", "swiftdiffusion": "0.1.0", "nvidia-cublas": "13.1", "nvidia_pytriton": "0.7.0"}
    report = {
        "environment": {"python_version": "3.11"},
        "install": [{"metadata": {"name": name, "version": version}} for name, version in packages.items()],
    }
    assert read_report(report) == Resolution("3.11", {"torch": "2.13.0", "nvidia-pytriton": "0.7.0"})


def test_every_line_pins_and_none_names_an_index():
    lines = [line for line in LOCK_FILE.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .*)?", line) for line in lines)
    assert "numpy==1.26.4" in lines
