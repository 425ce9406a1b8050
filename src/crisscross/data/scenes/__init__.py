"""Street-like scenes drawn by formula: a data set that needs no download, for `crisscross demo` and the tests."""

from crisscross.data.scenes.canvas import CLASSES, PALETTE
from crisscross.data.scenes.compose import IGNORE, draw_scene
from crisscross.data.scenes.files import scene_seeds, write_scenes

__all__ = ["CLASSES", "IGNORE", "PALETTE", "draw_scene", "scene_seeds", "write_scenes"]
