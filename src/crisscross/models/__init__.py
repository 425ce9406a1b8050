"""Whole systems: images in, labels out."""

from crisscross.models.heads import Logits
from crisscross.models.segmenter import Segmenter
from crisscross.models.video import VideoSegmenter, create_segmenter

__all__ = ["Logits", "Segmenter", "VideoSegmenter", "create_segmenter"]
