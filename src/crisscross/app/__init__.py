"""The page of `crisscross app`: labels of images and videos, and what attention looks at, with the mouse."""

from crisscross.app.networks import Network, open_networks
from crisscross.app.page import create_page
from crisscross.app.running import free, show

__all__ = ["Network", "create_page", "free", "open_networks", "show"]
