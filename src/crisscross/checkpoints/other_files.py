"""What people have in the place of a checkpoint, by its first bytes."""

import re

# First bytes, and what to tell their owner.
STRANGERS = (
    (rb"\Z", "an empty file; the download failed: fetch it again"),
    (rb"\s*<(!doctype|html|\?xml|head)", "an HTML page, not a checkpoint; the download failed: fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ", "a compressed archive; unpack it and give the file within"),
    (rb"[\t\n\r -~]{64}|[\t\n\r -~]+$", "text, not a checkpoint; the download failed: fetch it again"),
)
# How many bytes of a file are enough.
HEAD = 512


def stranger(head: bytes) -> str | None:
    """What a file that begins so is, where it is certainly no checkpoint of any kind."""
    return next((what for first, what in STRANGERS if re.match(first, head, re.IGNORECASE)), None)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is in the safetensors format: a length of eight bytes, then JSON."""
    return head[7:10] == b'\x00{"'
