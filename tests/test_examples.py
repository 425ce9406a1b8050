"""Every example runs as its reader would run it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from coarse_networks import small_segmenter
from paths import ROOT
from PIL import Image
from waiting import HANGS

from crisscross.data.scenes import draw_scene
from crisscross.deploy.exporting import export

# Takes an exported network and an image; has its own test, as has the one for Ray.
ON_FILES = ROOT / "examples/onnx_without_crisscross.py"
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - {ON_FILES, ROOT / "examples/ray_predict.py"})
# What the reader should see in the end.
LAST_WORDS = {
    "attention_in_a_transformer": "  seen of the image: 6% before, 100% with an open gate",
    "attention_in_a_torchvision_fcn": "unchanged at the start: True\ngate after three steps: ",
    "attention_in_your_network": "R = 2: the output at (4, 5) sees 108 of 108",
    "own_backend": "CrissCrossAttention3d: agrees with the built-in ones: True",
    "stereo_matcher": "end-point error on unseen pairs: ",
    "own_backbone": "strides (2, 4, 8, 16)\nlogits [1, 3, 65, 97]",
    "own_dataset": "images {'train': 2, 'val': 1} classes ('soil', 'crop', 'weed')",
    "own_head": "finished: False\nresumed and finished: True\nASPPHead (64, 128)",
    "own_loss": "resumed and finished: True\nterms: ['cross_entropy', 'own_loss:tversky']",
    "own_network": "finished: False\nresumed and finished: True\nUNet (64, 128)",
    "own_task": "resumed and finished: True\naccuracy: 1.0\npredicted: ",
    "train_from_python": "labels (64, 128)",
    "vessels_in_a_unet": "with attention: IoU artery ",
}

# Long trainings: what the example says, and what a default run puts in its place. `-m slow` runs them as they are.
SHORTER = {"stereo_matcher": ("range(200)", "range(5)"), "vessels_in_a_unet": ("48, 96, 4, 100", "48, 96, 4, 5")}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path):
    if example.stem in SHORTER:
        text, instead = SHORTER[example.stem]
        source = example.read_text()
        assert source.count(text) == 1
        example = tmp_path / example.name
        example.write_text(source.replace(text, instead))
    run_example(example, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORTER)
def test_a_long_example_as_it_is(name: str, tmp_path: Path):
    run_example(ROOT / "examples" / f"{name}.py", tmp_path)


@pytest.fixture(scope="module")
def deployed(exports, tmp_path_factory):
    """A folder with an exported network, an image in two formats, and the network's own labels of it."""
    folder = tmp_path_factory.mktemp("deployed")
    segmenter = small_segmenter()
    export(segmenter, folder, count=1)
    image = Image.fromarray(draw_scene(0, 96, 160)[0])
    for suffix in ("png", "ppm"):
        image.save(folder / f"image.{suffix}")
    return folder, segmenter.predict(image).labels


def test_an_exported_network_without_crisscross(deployed, tmp_path: Path):
    folder, labels = deployed
    # Isolated, and no package of ours to be found.
    hidden = "import sys, runpy; sys.modules['crisscross'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    words = [ON_FILES, folder / "model.onnx", folder / "image.png", tmp_path / "labels.png"]
    command = [sys.executable, "-I", "-c", f"{hidden}runpy.run_path(sys.argv[0], run_name='__main__')", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["floor", "wall", "door"]
    assert (np.asarray(Image.open(tmp_path / "labels.png")) == labels).mean() > 0.999
    assert len(ON_FILES.read_text().splitlines()) <= 60


@pytest.mark.slow
def test_an_exported_network_in_node(deployed, tmp_path: Path):
    folder, labels = deployed
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-node"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=HANGS).returncode:
        pytest.skip("npm cannot install onnxruntime-node here")
    words = ["node", ROOT / "examples/onnx_in_node.mjs", folder / "model.onnx", folder / "image.ppm", "labels.pgm"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert result.returncode == 0, result.stderr
    assert (np.asarray(Image.open(tmp_path / "labels.pgm")) == labels).mean() > 0.999


def run_example(example: Path, tmp_path: Path) -> None:
    command = [sys.executable, example]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS)
    assert result.returncode == 0, result.stderr
    assert LAST_WORDS[example.stem] in result.stdout
    assert len(example.read_text().splitlines()) < 100
