"""Labels over HTTP, for any `Predictor`."""

from crisscross.service.app import create_app
from crisscross.service.limits import Limits
from crisscross.service.server import listen, serve

__all__ = ["Limits", "create_app", "listen", "serve"]
