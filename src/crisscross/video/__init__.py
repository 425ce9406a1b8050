"""Video files: frames in, labels out, one by one. Files need PyAV: `pip install '.[video]'`.

A module is imported when one of its names is used, so that asking for a suffix imports nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crisscross.video.labeling import VIEWS, VideoResult, predict_video
    from crisscross.video.reading import VIDEO_SUFFIXES, Problem, VideoFrame, VideoReader, is_video_file
    from crisscross.video.writing import OUTPUT_SUFFIXES, VideoWriter

_MODULES = {
    "OUTPUT_SUFFIXES": "writing",
    "VIDEO_SUFFIXES": "reading",
    "VIEWS": "labeling",
    "Problem": "reading",
    "VideoFrame": "reading",
    "VideoReader": "reading",
    "VideoResult": "labeling",
    "VideoWriter": "writing",
    "is_video_file": "reading",
    "predict_video": "labeling",
}

__all__ = [
    "OUTPUT_SUFFIXES",
    "VIDEO_SUFFIXES",
    "VIEWS",
    "Problem",
    "VideoFrame",
    "VideoReader",
    "VideoResult",
    "VideoWriter",
    "is_video_file",
    "predict_video",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'crisscross.video' has no attribute {name!r}")
    return getattr(importlib.import_module(f"crisscross.video.{_MODULES[name]}"), name)
