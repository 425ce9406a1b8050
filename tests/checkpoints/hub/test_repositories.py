"""Folders for the Hugging Face Hub, the model card, and the Hub itself behind a stand-in."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import crisscross
from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, apply_overrides, from_dict
from crisscross.errors import CrissCrossError


def test_a_network_of_another_task_is_refused_before_anything_is_written(tmp_path):
    for act in (crisscross.save_pretrained, crisscross.push_to_hub):
        with pytest.raises(CrissCrossError, match="for networks of semantic segmentation, got Linear"):
            act(torch.nn.Linear(1, 1), tmp_path / "new")
    assert not (tmp_path / "new").exists()


TINY = {
    "model.backbone": "test_resnet",
    "model.head.channels": 16,
    "model.aux_head.channels": 8,
    "model.head.recurrence": 3,
    "data.classes": ["ground", "sky|air"],
    "data.palette": [[128, 64, 0], [0, 128, 255]],
    "preprocess.scale": [64, 48],
}
FACTS = {"val_miou": 0.512345, "iteration": 40, "torch": "2.15.0", "publisher": "mmseg"}


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    return crisscross.Segmenter(apply_overrides(Experiment(), TINY)).eval()


@pytest.fixture(scope="module")
def folder(segmenter, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "my-ccnet"
    crisscross.save_pretrained(segmenter, path, facts=FACTS, license="cc-by-4.0")
    return path


def test_a_folder_holds_weights_configuration_and_card(folder, segmenter):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for load in (crisscross.from_pretrained, crisscross.load):
        again = load(folder)
        assert again.experiment == segmenter.experiment and not again.training
        assert all(torch.equal(value, segmenter.state_dict()[key]) for key, value in again.state_dict().items())
    assert crisscross.from_pretrained(str(folder), recurrence=1).experiment.model.head.recurrence == 1
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert from_dict(Experiment, config["experiment"]) == segmenter.experiment
    facts = {**FACTS, "license": "cc-by-4.0"}
    assert config["facts"] == facts == native.read_header(folder / "model.safetensors")[1]


def test_the_card_says_what_is_known(folder, segmenter, tmp_path):
    card = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "crisscross-seg" and front["pipeline_tag"] == "image-segmentation"
    assert front["license"] == "cc-by-4.0"
    for words in (
        "# my-ccnet\n",
        "CCNet (R = 3) on test_resnet at output stride 8",
        "trained with MMSegmentation and converted",
        'crisscross.from_pretrained("my-ccnet")',
        "| mIoU on the validation split | 0.5123 |",
        "| 1 | sky\\|air | 0, 128, 255 |",
        "resized to fit 64 x 48",
    ):
        assert words in card
    # Nothing is made up where nothing is known.
    crisscross.save_pretrained(segmenter, tmp_path / "plain", dtype=torch.float16)
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    assert "license" not in card.split("---\n")[1] and "Scores" not in card and "Not stated" in card
    tensors = native.read(tmp_path / "plain" / "model.safetensors")[0]
    assert {value.dtype for value in tensors.values()} == {torch.float16, torch.int64}


def test_convert_writes_such_a_folder_and_takes_one(folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "again"), "--half"]) == 0
    assert "classes: 2 (ground, sky|air)" in capsys.readouterr().out
    assert native.read_header(tmp_path / "again" / "model.safetensors") == (
        native.read_header(folder / "model.safetensors")
    )


class FakeHub:
    """Records the calls of `HfApi`, and the content of the uploaded folder."""

    def __init__(self, calls, error=None):
        self.calls, self.error = calls, error

    def create_repo(self, repository, *, private, exist_ok):
        if self.error:
            raise self.error
        self.calls.append(("create", repository, private, exist_ok))
        return f"https://huggingface.co/{repository}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = sorted(path.name for path in Path(folder_path).iterdir())
        card = (Path(folder_path) / "README.md").read_text(encoding="utf-8")
        again = crisscross.from_pretrained(folder_path)
        self.calls.append(("upload", repo_id, names, f'from_pretrained("{repo_id}")' in card, again.experiment))


def test_push_creates_the_repository_and_uploads_the_folder(segmenter, monkeypatch):
    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: FakeHub(calls))
    address = crisscross.push_to_hub(segmenter, "me/ccnet", private=True, facts=FACTS)
    assert address == "https://huggingface.co/me/ccnet"
    names = ["README.md", "config.json", "model.safetensors"]
    assert calls == [("create", "me/ccnet", True, True), ("upload", "me/ccnet", names, True, segmenter.experiment)]


def test_a_repository_is_fetched_at_its_revision(folder, segmenter, monkeypatch):
    asked = []

    def fetch(repository, name, *, revision):
        asked.append((repository, name, revision))
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert crisscross.from_pretrained("me/ccnet", revision="v2", recurrence=2).experiment.model.head.recurrence == 2
    assert asked == [("me/ccnet", "model.safetensors", "v2")]


def hub_error(name, text="some\nlong reason"):
    from huggingface_hub import errors

    # Their constructors want the response of an HTTP library, which is another one in each major version. Before 1.0
    # an entry that the Hub does not have had no error of its own.
    kind = getattr(errors, name, errors.EntryNotFoundError)
    error = kind.__new__(kind, text)
    Exception.__init__(error, text)
    return error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LocalEntryNotFoundError", "no such folder, no connection to the Hub, and no copy in"),
        (
            "RepositoryNotFoundError",
            "no such folder, and no such repository on the Hub, or a private",
        ),
        ("GatedRepoError", "no such folder, and no such repository on the Hub, or a private"),
        ("RevisionNotFoundError", "the repository has no such revision"),
        ("RemoteEntryNotFoundError", "the repository has no model.safetensors; it is not one of ours"),
        ("HfHubHTTPError", "the Hub: some long reason"),
    ],
)
def test_errors_of_the_hub_are_one_line(name, message, monkeypatch, segmenter):
    def fail(*_, **__):
        raise hub_error(name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(CrissCrossError) as caught:
        crisscross.from_pretrained("me/ccnet")
    assert str(caught.value).startswith(f"me/ccnet: {message}") and "\n" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: FakeHub([], hub_error("HfHubHTTPError")))
    with pytest.raises(CrissCrossError, match=r"^me/ccnet: the Hub: some long reason$"):
        crisscross.push_to_hub(segmenter, "me/ccnet")


def test_names_that_are_neither_folder_nor_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        CrissCrossError, match=r"^a/b/c: no such folder, and not the name of a repository \(user/name\)$"
    ):
        crisscross.from_pretrained("a/b/c")
    with pytest.raises(CrissCrossError, match=r"no model\.safetensors in this folder"):
        crisscross.from_pretrained(tmp_path)


def test_offline_without_a_cache_is_one_line(tmp_path):
    """In a process of its own, because the library reads its settings when it is imported."""
    ask = "try:\n    crisscross.from_pretrained('me/ccnet')\nexcept crisscross.CrissCrossError as e:\n    print(e)"
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", f"import crisscross\n{ask}"], env=os.environ | settings, capture_output=True, text=True
    )
    assert done.stdout.startswith("me/ccnet: no such folder, no connection"), done.stderr


def test_classes_without_colors_get_the_default_ones(segmenter, tmp_path):
    data = DataConfig(classes=("a", "b"))
    plain = crisscross.Segmenter(replace(segmenter.experiment, data=data)).eval()
    assert plain.palette == ((128, 0, 0), (0, 128, 0))
    crisscross.save_pretrained(plain, tmp_path / "hub")
    assert "| 1 | b | 0, 128, 0 |" in (tmp_path / "hub" / "README.md").read_text()
    loaded = crisscross.from_pretrained(tmp_path / "hub")
    assert loaded.palette == plain.palette and loaded.experiment == plain.experiment


def test_an_optimized_network_is_not_saved(segmenter, tmp_path):
    with pytest.raises(CrissCrossError, match="save the original"):
        crisscross.save_pretrained(crisscross.optimize(segmenter), tmp_path / "x")
    assert not (tmp_path / "x").exists()
