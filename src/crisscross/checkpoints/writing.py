"""Writing safetensors files: the same tensors and metadata give the same bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# The types of weights and counters -> their names in safetensors, in the order of its files.
TYPES = {
    **{torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32"},
    **{torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16"},
    **{torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"},
}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: the length of its header, that as JSON, then the tensors, widest types first.

    The library's own writer puts metadata in random order, and first fills a file of another name, which is left behind
    if the process is killed.
    """
    kinds = list(TYPES)
    order = sorted(tensors, key=lambda key: (kinds.index(tensors[key].dtype), key))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for key in order:
        value = tensors[key]
        begin, end = end, end + value.nbytes
        header[key] = {"dtype": TYPES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            file.write(tensors[key].reshape(-1).view(torch.uint8).numpy().data)
