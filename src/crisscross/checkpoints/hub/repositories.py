"""Folders in the layout of the Hugging Face Hub, and the Hub itself. `huggingface_hub` is imported when it is used."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from crisscross.checkpoints import native
from crisscross.checkpoints.hub.card import model_card
from crisscross.checkpoints.loading import load
from crisscross.config import to_dict
from crisscross.errors import CrissCrossError
from crisscross.files import write_text
from crisscross.models import Segmenter

CONFIG, CARD = "config.json", "README.md"
# What `save_pretrained` writes.
FILES = (native.HUB_WEIGHTS, CONFIG, CARD)
Result = TypeVar("Result")


def save_pretrained(
    segmenter: Segmenter,
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    facts: dict[str, Any] | None = None,
    license: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network as a folder: `model.safetensors`, `config.json`, and a model card, `README.md`.

    Loading reads only `model.safetensors`, whose header holds the experiment; `config.json` shows it to people.

    Args:
        segmenter: the network.
        folder: created if missing; existing files of these names are replaced.
        name: of the repository, for the card; by default the folder's.
        facts: scores and the like (`{"val_miou": 0.79}`), stored and shown.
        license: the license of the weights as the Hub writes it, e.g. `cc-by-nc-4.0`; by default that of `facts`, where
            training puts the license of the weights that it started from.
        dtype: store floating-point tensors in this type, e.g. torch.float16.

    Raises:
        CrissCrossError: the folder cannot be written, or the network is a copy made by `crisscross.optimize` or not one
            for semantic segmentation.
    """
    _check_kind(segmenter)
    path, facts = Path(folder), dict(facts or {})
    facts |= {"license": license} if license else {}
    native.save(segmenter, path / native.HUB_WEIGHTS, dtype, facts)
    config = {"format": native.FORMAT, "experiment": to_dict(segmenter.experiment), "facts": facts}
    write_text(path / CONFIG, json.dumps(config, indent=1) + "\n")
    write_text(path / CARD, model_card(segmenter, name or path.resolve().name, facts))


def _check_kind(network: Any) -> None:
    if not isinstance(network, Segmenter):
        raise CrissCrossError(
            f"the Hub's layout is for networks of semantic segmentation, got {type(network).__name__}; crisscross.save "
            "stores it"
        )


def from_pretrained(
    source: str | os.PathLike[str],
    revision: str | None = None,
    device: str = "cpu",
    *,
    trust: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> Segmenter:
    """Load a network from a folder of `save_pretrained` or from a repository of the Hub, in evaluation mode.

    Args:
        source: a folder, or `user/repository`; offline, files come from the Hub's cache.
        revision: branch, tag or commit of a repository.
        device: where to put it.
        trust: as in `crisscross.load`; a repository is trusted by its name, as `source` has it.
        overrides: as in `crisscross.load`.

    Raises:
        CrissCrossError: no such folder or repository, no network, or weights that do not fit.
    """
    if Path(source).is_dir():
        if not (Path(source) / native.HUB_WEIGHTS).is_file():
            raise CrissCrossError(
                f"{source}: no {native.HUB_WEIGHTS} in this folder; crisscross.load takes run folders"
            )
        return load(source, device, trust=trust, **overrides)
    repository = os.fspath(source)

    def fetch() -> str:
        from huggingface_hub import hf_hub_download

        return hf_hub_download(repository, native.HUB_WEIGHTS, revision=revision)

    file = _asked(repository, fetch)
    return load(file, device, trust=Path(file).parent if trust == repository else trust, **overrides)


def push_to_hub(
    segmenter: Segmenter,
    repo_id: str,
    *,
    private: bool = False,
    facts: dict[str, Any] | None = None,
    license: str | None = None,
    dtype: torch.dtype | None = None,
    message: str = "Upload CCNet",
) -> str:
    """Upload what `save_pretrained` writes, creating the repository if necessary; return its address.

    You have to be logged in (`hf auth login`).

    Args:
        segmenter: the network.
        repo_id: `user/repository`.
        private: whether a new repository is private; existing ones stay as they are.
        facts: as in `save_pretrained`, like `license` and `dtype`.
        message: the commit message.

    Raises:
        CrissCrossError: not logged in, not allowed, no network.
    """
    _check_kind(segmenter)

    def upload() -> str:
        from huggingface_hub import HfApi

        api = HfApi()
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            save_pretrained(segmenter, folder, name=repo_id, facts=facts, license=license, dtype=dtype)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        return str(address)

    return _asked(repo_id, upload)


def _asked(repository: str, action: Callable[[], Result]) -> Result:
    """Ask the Hub, and say in one line why it did not answer."""
    from huggingface_hub import errors

    # The first one that fits: later kinds include earlier ones.
    reasons = {
        errors.LocalEntryNotFoundError: "no such folder, no connection to the Hub, and no copy in its cache",
        errors.RepositoryNotFoundError: "no such folder, and no such repository on the Hub, or a private one "
        "(`hf auth login`)",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.EntryNotFoundError: f"the repository has no {native.HUB_WEIGHTS}; it is not one of ours",
        errors.HFValidationError: "no such folder, and not the name of a repository (user/name)",
    }
    try:
        return action()
    except CrissCrossError:
        raise
    # The errors of the library's HTTP client come through, and that client changes with its major versions.
    except Exception as error:
        other = f"the Hub: {' '.join(str(error).split())[:200]}"
        reason = next((said for kind, said in reasons.items() if isinstance(error, kind)), other)
        raise CrissCrossError(f"{repository}: {reason}") from None
