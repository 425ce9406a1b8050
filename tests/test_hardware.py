"""Facts of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from crisscross import hardware
from crisscross.hardware import emulates, main_memory, processor


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


@pytest.mark.parametrize(
    ("features", "emulated"),
    [
        ({"avx2", "f16c"}, {"bf16", "fp16"}),
        ({"avx512f", "avx512_bf16"}, {"fp16"}),
        ({"amx_bf16", "avx512_fp16"}, set()),
        ({"asimd", "asimdhp", "bf16"}, set()),
        # The system does not say.
        (set(), set()),
    ],
)
def test_half_precision_is_emulated_without_instructions_for_it(features, emulated, monkeypatch):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", features))
    assert {one for one in ("fp32", "tf32", "bf16", "fp16") if emulates(one)} == emulated
