"""Video files: frames in, labels out, one by one. Files need PyAV: `pip install '.[video]'`."""

from crisscross.video.labeling import VIEWS, VideoResult, predict_video
from crisscross.video.reading import VIDEO_SUFFIXES, Problem, VideoFrame, VideoReader, is_video_file
from crisscross.video.writing import OUTPUT_SUFFIXES, VideoWriter

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
