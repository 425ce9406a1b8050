"""Label an image with an exported network by onnxruntime, NumPy and Pillow alone; nothing of crisscross is imported.

    crisscross export camvid-light --to onnx --out exported
    python onnx_without_crisscross.py exported/model.onnx street.jpg labels.png

For networks that label whole images (`inference.mode` whole). `crisscross.predictor` resizes as the network was
measured, bit for bit; here Pillow does, which changes a few labels.
"""

import json
import os
import sys

# ONNX Runtime reads this when it is imported; it would report its use otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from PIL import Image


def open_network(path):
    """The session, and the card: classes, palette, preprocessing."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["crisscross"])


def prepare(image, card):
    """RGB image -> normalized float32 [1, 3, H, W], at the scale that the network was trained for."""
    how = card["preprocess"]
    if how["scale"]:
        factor = min(max(how["scale"]) / max(image.size), min(how["scale"]) / min(image.size))
        image = image.resize([int(side * factor + 0.5) for side in image.size], Image.Resampling.BILINEAR)
    x = np.asarray(image, np.float32)
    x = x[..., ::-1] if how["order"] == "bgr" else x
    x = (x - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def label(session, card, image):
    """Labels uint8 [H, W] of an RGB image."""
    logits = session.run(["logits"], {"images": prepare(image, card)})[0][0]
    # Bilinear, one class after the other. Pillow's pixels are squares: as align_corners=False.
    maps = [Image.fromarray(plane).resize(image.size, Image.Resampling.BILINEAR) for plane in logits]
    return np.stack([np.asarray(plane) for plane in maps]).argmax(0).astype(np.uint8)


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    session, card = open_network(model)
    labels = label(session, card, Image.open(source).convert("RGB"))
    drawn = Image.fromarray(labels)
    drawn.putpalette([part for color in card["palette"] for part in color])
    drawn.save(target)
    for number, count in enumerate(np.bincount(labels.ravel(), minlength=len(card["classes"]))):
        print(f"{card['classes'][number]:>12}  {count / labels.size:6.1%}")
