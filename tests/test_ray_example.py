"""`examples/ray_predict.py` on a Ray of this machine with two workers."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from coarse_networks import small_segmenter
from paths import ROOT, SOURCE
from PIL import Image
from waiting import HANGS, wait_until

from crisscross.cli import main
from crisscross.data.scenes import draw_scene
from crisscross.deploy.exporting import export

pytestmark = pytest.mark.slow
EXAMPLE = ROOT / "examples/ray_predict.py"
# A list as Parquet: by a Python that has it.
WRITE_LIST = (
    "import sys, pyarrow, pyarrow.parquet as p; p.write_table(pyarrow.table({'path': sys.argv[2:]}), sys.argv[1])"
)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """A Python with Ray: this one, or else one that is made for these tests and sees the packages of this one."""
    if importlib.util.find_spec("ray"):
        return sys.executable
    folder = tmp_path_factory.mktemp("ray")
    venv.create(folder, with_pip=True)
    found = folder / "bin/python"
    (packages,) = folder.glob("lib/python*/site-packages")
    # After its own, so that an environment which has part of Ray's packages does not matter.
    (packages / "outside.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    install = [found, "-m", "pip", "install", "--quiet", "ray[data]"]
    if subprocess.run(install, capture_output=True, timeout=HANGS).returncode:
        pytest.skip("Ray cannot be installed here")
    return str(found)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    export(small_segmenter(), folder, count=1)
    return folder / "model.onnx"


def write_images(folder: Path, count: int) -> list[Path]:
    """Images in two folders, some with one name."""
    paths = [folder / f"{number % 2}" / f"{number // 2:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(number, 48, 64)[0]).save(path)
    return paths


def start(python: str, *words: object) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [python, str(EXAMPLE), *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True)


def run(python: str, *words: object) -> tuple[int, str]:
    """Exit code and standard output."""
    with start(python, *words) as process:
        said, errors = process.communicate(timeout=HANGS)
    print(errors)
    return process.returncode, said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_what_predict_writes_and_goes_on_where_it_stopped(python, network, tmp_path):
    images = write_images(tmp_path / "images", 30)
    broken = tmp_path / "images" / "broken.png"
    broken.write_bytes(b"no image")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    assert main(["predict", str(network), str(tmp_path / "images"), "--out", str(theirs)]) == 2
    code, said = run(python, network, tmp_path / "images", "--out", ours)
    assert (code, said) == (2, f"labeled 30 of 31: {ours}\n")
    found = files(ours)
    listed = found.pop("failed.csv").decode()
    assert found == files(theirs)
    assert listed.startswith(f"image,error\r\n{broken},") and "not an image" in listed and listed.count("\n") == 2

    before = {path: path.stat().st_mtime_ns for path in ours.rglob("*.png")}
    removed = [ours / "labels/0/003.png", ours / "overlay/1/014.png"]
    for path in removed:
        path.unlink()
    names = [*(path.relative_to(tmp_path) for path in images), "images/missing.png"]
    subprocess.run([python, "-c", WRITE_LIST, tmp_path / "list.parquet", *names], check=True)
    code, said = run(python, network, tmp_path / "list.parquet", "--out", ours)
    assert (code, said) == (2, f"labeled 30 of 31: {ours}\n")
    assert "images/missing.png" in (ours / "failed.csv").read_text()
    changed = {path for path in before if path.stat().st_mtime_ns != before[path]}
    kinds, again = ("labels", "color", "overlay"), ("0/003", "1/014")
    assert changed == {ours / f"{kind}/{name}.png" for kind in kinds for name in again}


def test_wrong_words_are_one_line(python, network, tmp_path):
    write_images(tmp_path / "images", 1)
    for words, message in [
        (("nosuch", tmp_path / "images"), "nosuch: no such file"),
        ((network, tmp_path / "none"), f"{tmp_path / 'none'}: no such file or folder"),
        ((network, tmp_path / "images", "--workers", 0), "--workers: must be a whole number, 1 or more, got 0"),
    ]:
        with start(python, *words, "--out", tmp_path / "out") as process:
            _, errors = process.communicate(timeout=HANGS)
        assert process.returncode == 2 and message in errors and "Traceback" not in errors


def finished(out: Path) -> dict[Path, int]:
    """The files of images that have all of theirs, with the times of their changes."""
    labels = [path.relative_to(out / "labels") for path in (out / "labels").rglob("*.png") if path.name[0] != "."]
    images = [[out / kind / name for kind in ("labels", "color", "overlay")] for name in labels]
    return {path: path.stat().st_mtime_ns for paths in images if all(map(Path.is_file, paths)) for path in paths}


def workers_of(driver: int) -> list[int]:
    """The processes of the pool, which are children of a child of the driver."""
    processes = {int(place.name): place for place in Path("/proc").iterdir() if place.name.isdecimal()}
    parents, titles = {}, {}
    for number, place in processes.items():
        with contextlib.suppress(OSError):
            parents[number] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            titles[number] = (place / "cmdline").read_text()
    return [one for one, title in titles.items() if "MapWorker" in title and parents.get(parents[one]) == driver]


def test_a_worker_and_then_the_whole_run_are_killed(python, network, tmp_path):
    write_images(tmp_path / "images", 600)
    out, words = tmp_path / "out", (network, tmp_path / "images", "--out", tmp_path / "out")
    with start(python, *words) as process:
        wait_until(lambda: len(finished(out)) > 60, process)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: len(finished(out)) > 600, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = finished(out)
    assert 600 < len(kept) < 1800
    code, said = run(python, *words)
    assert (code, said) == (0, f"labeled 600 of 600: {out}\n")
    after = finished(out)
    assert len(after) == 1800 and [path.name for path in out.rglob(".*")] == []
    assert {path: after[path] for path in kept} == kept
