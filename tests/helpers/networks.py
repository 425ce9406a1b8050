"""Settings of networks small enough for a test."""

from typing import Any

from crisscross.config.heads import AuxHeadConfig, CCNetConfig


def narrow(channels: int = 16, aux_channels: int = 8, **head: Any) -> dict[str, Any]:
    """Arguments of `ModelConfig`: heads of these widths, and further settings of CCNet's."""
    return {"head": CCNetConfig(channels=channels, **head), "aux_head": AuxHeadConfig(aux_channels)}
