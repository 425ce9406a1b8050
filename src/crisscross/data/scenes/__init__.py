"""Scenes drawn by formula, data sets that need no download: streets, and islands that need context."""

from crisscross.data.scenes.canvas import CLASSES, PALETTE
from crisscross.data.scenes.compose import IGNORE, draw_scene
from crisscross.data.scenes.files import KINDS, scene_seeds, write_scenes
from crisscross.data.scenes.islands import draw_islands

__all__ = ["CLASSES", "IGNORE", "KINDS", "PALETTE", "draw_islands", "draw_scene", "scene_seeds", "write_scenes"]
