"""Whether timm's pretrained weights can be had: from its caches, or from a server that answers within seconds."""

import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch

from crisscross.errors import CrissCrossError
from crisscross.files import is_offline

# Without a network huggingface_hub tries again for almost a minute.
SECONDS = 4.0
CURE = (
    "give a local file or a run with --backbone-weights FILE, or start from scratch with --set model.pretrained=false"
)


class NoPretrained(CrissCrossError):
    """The pretrained weights of a backbone are not available."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"no pretrained weights for {name} are available ({reason}); {CURE}")
        self.name, self.reason = name, reason


def pretrained_options(name: str) -> dict[str, Any]:
    """What timm has to be given to load the weights of a network: the file in its cache, nothing where it downloads.

    Raises:
        NoPretrained: they are in no cache, and the server does not answer or must not be asked.
    """
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise NoPretrained(name, "timm has none")
    if cached := _cached(config):
        return {"pretrained_cfg_overlay": {"file": str(cached)}}
    if is_offline():
        raise NoPretrained(name, "not in the cache, and downloads are off")
    server = str(config.url)
    if config.hf_hub_id:
        from huggingface_hub import constants

        server = constants.ENDPOINT
    if not answers(server):
        raise NoPretrained(name, f"not in the cache, and {server.split('/')[2]} does not answer")
    return {}


def _cached(config: Any) -> Path | None:
    """The file that timm downloaded earlier, if any."""
    from huggingface_hub import try_to_load_from_cache

    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        for name in filter(None, (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin")):
            found = try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(found, str):
                return Path(found)
    if config.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / config.url.rpartition("/")[2]
        return path if path.is_file() else None
    return None


def answers(address: str) -> bool:
    """Whether a server answers within `SECONDS`, whatever it says."""
    heard = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=SECONDS).close()
        except urllib.error.HTTPError:
            pass
        except urllib.error.URLError as error:
            # The certificates of others may be known to the libraries that download.
            if not isinstance(error.reason, ssl.SSLError):
                return
        except OSError:
            return
        heard.set()

    # In a thread: looking up a name takes as long as it takes, whatever the timeout of the connection.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return heard.is_set()
