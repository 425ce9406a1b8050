"""The page of `crisscross app`: labels of images and videos, and what attention looks at, with the mouse."""

from crisscross.app.networks import open_networks
from crisscross.app.running import free, show

__all__ = ["free", "open_networks", "show"]
