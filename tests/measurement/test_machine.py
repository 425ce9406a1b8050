"""Facts of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from crisscross.measurement.machine import main_memory, processor


@pytest.mark.skipif(not shutil.which("lscpu"), reason="no lscpu to compare with")
def test_the_processor_is_that_of_lscpu():
    said = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
    facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    name, features = processor()
    assert name == facts["Model name"].strip() and features == set(facts["Flags"].split())


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="Linux only")
def test_memory_is_that_of_the_system():
    with open("/proc/meminfo", encoding="ascii") as file:
        kilobytes = int(next(file).split()[1])
    assert main_memory() == kilobytes * 1024
