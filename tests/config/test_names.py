"""Code by name: what the user writes is imported, what a file asks for only from a folder that is trusted."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import crisscross
from benchmarks.__main__ import create_parser as create_benchmarks_parser
from crisscross.checkpoints.convert import convert
from crisscross.cli import main
from crisscross.config import apply_overrides, import_attribute, to_yaml
from crisscross.errors import CrissCrossError
from crisscross.measurement.network import network_of

pytestmark = pytest.mark.usefixtures("one_thread")

MODULE = """
import pathlib
pathlib.Path({witness!r}).touch()
from crisscross.models.backbones import create_backbone
from torch import nn

class Net(nn.Module):
    def __init__(self, output_stride):
        super().__init__()
        self.inner = nn.ModuleList([nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 8, 3, 2, 1)])
    def forward(self, x):
        fine = self.inner[0](x)
        return [fine, self.inner[1](fine)]

def open_city(root):
    from crisscross.data import open_folder
    return open_folder(root)

def sharp(inputs):
    return 1 - inputs.probabilities.square().mean()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in with a module `mine`, whose import leaves the file `ran`, and a folder `run` of weights."""
    (tmp_path / "mine.py").write_text(MODULE.format(witness=str(tmp_path / "ran")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


def weights(folder: Path, backbone: str = "mine:Net", **changes: Any) -> Path:
    """Weights of a small network with this backbone, whose experiment says what `changes` say."""
    sizes = {"head": {"channels": 8, "reduction": 2}, "aux_head": {"channels": 0}, "output_stride": 8}
    network = crisscross.build("demo", classes=["a", "b"], backbone=backbone, **sizes)
    network.experiment = apply_overrides(network.experiment, changes)
    (folder.parent / "ran").unlink(missing_ok=True)
    sys.modules.pop("mine", None)
    folder.mkdir(exist_ok=True)
    crisscross.save(network, folder / "best.safetensors")
    return folder / "best.safetensors"


def data(folder: Path) -> Path:
    """Two images of two classes, one to train with and one to score."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.zeros((32, 32, 3) if kind == "images" else (32, 32), np.uint8)).save(
                folder / kind / f"{name}.png"
            )
    (folder / "dataset.yaml").write_text(
        "names: [a, b]\nsplits: {train: a.txt, val: b.txt, test: b.txt}\nallow_empty: true\n"
    )
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"{name}\n")
    return folder


OWN_TERM = [{"name": "cross_entropy"}, {"name": "mine:sharp", "weight": 0.0}]


@pytest.mark.parametrize(
    ("key", "name", "changes"),
    [
        ("model.backbone", "mine:Net", {}),
        ("loss.terms", "mine:sharp", {"backbone": "test_resnet", "loss.terms": OWN_TERM}),
    ],
)
def test_what_lies_beside_weights_makes_them_no_more_trusted(place, key, name, changes):
    file = weights(place / "run", **changes)
    for beside in (None, "experiment.yaml", "run.json", "config.json", "dataset.yaml"):
        if beside:
            (place / "run" / beside).touch()
        for act in (crisscross.load, crisscross.from_pretrained, convert, network_of):
            if act is crisscross.from_pretrained:
                (place / "run/model.safetensors").write_bytes(file.read_bytes())
            with pytest.raises(CrissCrossError, match=f"refused: it asks to run code, {key}={name}; .*--trust run"):
                act("run")
    # A state dict has no folder; the one around it is not its own.
    (place / "experiment.yaml").touch()
    assert not (place / "ran").exists()


def test_the_code_of_a_data_set_is_trusted_where_the_data_set_is_opened(place, capsys):
    weights(place / "run", backbone="test_resnet", **{"data.name": "mine:open_city"})
    data(place / "city")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("p.png")
    assert main(["predict", "run", "p.png", "--device", "cpu"]) == 0
    words = ["evaluate", "run", "--data", "city", "--workers", "0", "--device", "cpu"]
    assert main(words) == 2
    assert "refused: it asks to run code, data.name=mine:open_city" in capsys.readouterr().err
    assert not (place / "ran").exists()
    assert main([*words, "--trust", "run"]) == 0 and (place / "ran").exists()
    assert main([*words, "--name", "folder"]) == 0


def test_a_trusted_folder_a_name_said_again_and_nothing_else(place):
    file = weights(place / "run")
    (place / "other").mkdir()
    (place / "link").symlink_to(place / "run", target_is_directory=True)
    for source, trust in (("run", "other"), (str(file), "ru"), ("other/../run", "other")):
        with pytest.raises(CrissCrossError, match="refused"):
            crisscross.load(source, trust=trust)
    for source, trust in (("run", "run"), (file, place / "run"), ("link", "run"), ("run", "link"), ("run", ".")):
        assert crisscross.load(source, trust=trust).experiment.model.backbone == "mine:Net"
    for said in ({"backbone": "mine:Net"}, {"model.backbone": "mine:Net"}):
        assert crisscross.load("run", **said).experiment.model.backbone == "mine:Net"
    for words in (["model.backbone=mine:Net"], ["model={backbone: 'mine:Net'}"]):
        assert convert("run", changes=words).publisher is None
    assert convert("run", trust="run").publisher is None
    # What another key says is not this key's name.
    with pytest.raises(CrissCrossError, match="refused"):
        crisscross.load("run", classes=["mine:Net", "b"])
    weights(place / "other", "test_resnet", **{"loss.terms": OWN_TERM})
    for said in ({"terms": OWN_TERM}, {"loss.terms": OWN_TERM}):
        assert crisscross.load("other", **said).experiment.loss.terms[1].name == "mine:sharp"
    for words in (["loss.terms=[{name: mine:sharp}]"], ["loss={terms: [{name: mine:sharp}]}"]):
        assert convert("other", changes=words).publisher is None
    with pytest.raises(CrissCrossError, match=r"loss\.terms=mine:sharp"):
        crisscross.load("other", backbone="test_resnet", classes=["mine:sharp", "b"])
    assert not (place / "ran").exists()
    # Another loss asks for no code.
    assert crisscross.load("other", terms=[{"name": "dice"}]).classes == ("a", "b")


def test_every_command_that_loads_weights_takes_trust(place, capsys):
    """Where the weights lie does not matter: they were trained elsewhere and moved here."""
    weights(place / "trained", **{"data.name": "mine:open_city", "loss.terms": OWN_TERM})
    (place / "trained").rename(place / "run")
    data(place / "city")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("p.png")
    commands = (
        ["evaluate", "run", "--data", "city", "--workers", "0", "--device", "cpu"],
        ["predict", "run", "p.png", "--device", "cpu"],
        ["convert", "run", "out.safetensors"],
        ["benchmark", "run", "--size", "32x32", "--rounds", "1"],
    )
    for command in commands:
        assert main(command) == 2
        assert "refused: it asks to run code, model.backbone=mine:Net" in capsys.readouterr().err
        assert not (place / "ran").exists()
    for command in commands:
        assert main([*command, "--trust", "run"]) == 0
    for words in (["model", "run"], ["train", "run"], ["evaluate", "run"]):
        assert create_benchmarks_parser().parse_args([*words, "--trust", "run"]).trust == Path("run")


def test_weights_to_start_from_bring_no_code_and_need_no_trust(place, capsys):
    file, moved = weights(place / "run", **{"data.name": "mine:open_city", "loss.terms": OWN_TERM}), place / "moved"
    moved.mkdir()
    file = file.rename(moved / "net.safetensors")
    sizes = "{head: {channels: 8, reduction: 2}, aux_head: {channels: 0}, backbone: '%s'}"
    words = ["--data", str(data(place / "city")), "--workers", "0", "--device", "cpu", "--set", "train.iterations=1"]
    words += ["--set", "optim.warmup=0", "--set", "train.batch=1", "--set", "augment.crop=[32, 32]"]
    # The user's own network: the names of the file are not read.
    start = ["train", "demo", *words, "--init", str(file), "--set"]
    assert main([*start, "model=" + sizes % "test_resnet", "--out", "other"]) == 2
    assert "has shape [8, 8, 3, 3], this configuration needs" in capsys.readouterr().err
    assert not (place / "ran").exists()
    assert main([*start, "model=" + sizes % "mine:Net", "--out", "new"]) == 0
    assert (place / "ran").exists() and capsys.readouterr().out.endswith("--trust new`\n")


def test_a_layout_named_in_the_call_stands_for_the_one_of_training(place, capsys):
    weights(place / "run", "test_resnet", **{"data.name": "evil:open_it"})
    words = ["evaluate", "run", "--data", str(data(place / "city")), "--workers", "0", "--device", "cpu", "--name"]
    assert main([*words, "folder"]) == 0 and main([*words, "mine:open_city"]) == 0
    assert (place / "ran").exists()


def test_a_yaml_named_on_the_command_line_is_the_users_own(place, capsys):
    experiment = crisscross.load(weights(place / "run"), trust=place).experiment
    changes = {"data.name": "mine:open_city", "train.iterations": 1, "optim.warmup": 0, "train.batch": 1}
    changes["loss.terms"] = [{"name": "mine:sharp"}]
    (place / "mine.yaml").write_text(to_yaml(apply_overrides(experiment, changes)))
    words = ["--data", str(data(place / "city")), "--out", "new", "--workers", "0", "--device", "cpu"]
    assert main(["train", "mine.yaml", *words]) == 0
    # What to type next says whom to trust.
    done = capsys.readouterr().out.splitlines()[-1]
    assert done.endswith("`crisscross evaluate new --data {} --trust new`".format(place / "city"))
    assert main(["train", "new/experiment.yaml", *words, "--resume"]) == 0


def test_the_working_folder_comes_last_and_only_when_a_name_is_imported(place):
    before = list(sys.path)
    assert main(["zoo", "demo"]) == 0
    assert sys.path == before
    (place / "json.py").write_text("raise SystemExit('the wrong json')")
    assert import_attribute("mine:Net", "x").__name__ == "Net"
    assert sys.path == [*before, str(place)]
    assert import_attribute("json:dumps", "x")([1]) == "[1]"


@pytest.mark.parametrize("name", [":x", ".mine:Net", "mine..sub:x", "mine/sub:x", "hf-hub:x"])
def test_what_is_no_name_of_a_module_is_not_imported(place, name):
    with pytest.raises(CrissCrossError, match=r"cannot be imported: .* is no name of a module"):
        import_attribute(name, "model.backbone")


def test_a_file_in_the_working_folder_is_no_package_for_the_command(tmp_path):
    (tmp_path / "yaml.py").write_text("open('ran', 'w').close()\nraise ImportError('the wrong yaml')\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "crisscross", "zoo", "nothing"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "no recipe" in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists()
