"""Folders as people and labeling tools make them, drawn by formula: files, and how they are to be read."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

H, W = 12, 16
PHOTO = np.add.outer(np.arange(H), np.arange(W))[..., None] * np.array([3, 5, 7], np.int64) % 256
PHOTO = PHOTO.astype(np.uint8)
# Class 1 is a square in the middle, class 2 a corner.
SQUARE = np.zeros((H, W), np.uint8)
SQUARE[3:9, 4:12] = 1
THREE = SQUARE.copy()
THREE[:2, :2] = 2
BYTES = SQUARE * 255
COLORS = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
POLYGON = [[4, 3], [11, 3], [11, 8], [4, 8]]


def write(root: Path, files: dict[str, Any]) -> Path:
    """Files by their path: arrays as images, texts, and everything else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def pairs(image: str, mask: str, content: np.ndarray, numbers: range = range(6)) -> dict[str, Any]:
    """Images and masks by two patterns of their paths, which hold `{}` for the number."""
    return {pattern.format(n): c for n in numbers for pattern, c in ((image, PHOTO), (mask, content))}


def images(image: str, numbers: range = range(6)) -> dict[str, Any]:
    return {image.format(n): PHOTO for n in numbers}


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def coco(names: list[str], first: int = 1, **more: Any) -> dict[str, Any]:
    flat = [float(value) for x, y in POLYGON for value in (x + (x > 4), y + (y > 3))]
    return {
        "images": [{"id": n, "file_name": name, "height": H, "width": W} for n, name in enumerate(names)],
        "categories": [{"id": first, "name": "cell"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": first, "segmentation": [flat], "iscrowd": 0, "area": 48, **more}
            for n in range(len(names))
        ],
    }


YOLO = "0 " + " ".join(f"{(x + 0.5) / W} {(y + 0.5) / H}" for x, y in POLYGON)
LABELME = {
    "version": "5.0.0",
    "shapes": [{"label": "cell", "points": POLYGON, "shape_type": "polygon"}],
    "imageData": None,
    "imageHeight": H,
    "imageWidth": W,
}
SUPERVISELY = {
    "size": {"height": H, "width": W},
    "objects": [{"classTitle": "cell", "geometryType": "polygon", "points": {"exterior": POLYGON, "interior": []}}],
}
BITMAP = {
    "size": {"height": H, "width": W},
    "objects": [
        {
            "classTitle": "cell",
            "geometryType": "bitmap",
            "bitmap": {
                "data": base64.b64encode(zlib.compress(png(np.ones((6, 8), np.uint8)))).decode(),
                "origin": [4, 3],
            },
        }
    ],
}
TWO = ("background", "foreground")
NUMBERED = ("class 0", "class 1", "class 2")
CELL = ("background", "cell")
HELD = {"train": 4, "val": 2}
SPLIT = {"train": 4, "val": 2}


def split_pairs(image: str, mask: str, content: np.ndarray, train: str = "train", val: str = "val") -> dict[str, Any]:
    """`pairs` in two folders of splits; the patterns hold `{split}` and `{n}`."""
    files = {}
    for split, numbers in ((train, range(4)), (val, range(4, 6))):
        for n in numbers:
            files |= {image.format(split=split, n=n): PHOTO, mask.format(split=split, n=n): content}
    return files


# name -> files, classes, number of pairs in each split, labels of every mask.
READ: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, int], np.ndarray]] = {
    "images, masks": (pairs("images/{}.png", "masks/{}.png", THREE), NUMBERED, HELD, THREE),
    "jpg images": (pairs("images/{}.jpg", "masks/{}.png", THREE), NUMBERED, HELD, THREE),
    "0 and 255": (pairs("images/{}.png", "masks/{}.png", BYTES), TWO, HELD, SQUARE),
    "0 and 1": (pairs("images/{}.png", "masks/{}.png", SQUARE), TWO, HELD, SQUARE),
    "img, mask": (pairs("img/{}.png", "mask/{}.png", THREE), NUMBERED, HELD, THREE),
    "imgs, labels": (pairs("imgs/{}.png", "labels/{}.png", THREE), NUMBERED, HELD, THREE),
    "image, gt": (pairs("image/{}.png", "gt/{}.png", THREE), NUMBERED, HELD, THREE),
    "images, annotations": (pairs("images/{}.png", "annotations/{}.png", THREE), NUMBERED, HELD, THREE),
    "img_dir, ann_dir": (
        split_pairs("img_dir/{split}/{n}.jpg", "ann_dir/{split}/{n}.png", THREE),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "images/train": (split_pairs("images/{split}/{n}.png", "masks/{split}/{n}.png", THREE), NUMBERED, SPLIT, THREE),
    "train/images": (split_pairs("{split}/images/{n}.png", "{split}/masks/{n}.png", BYTES), TWO, SPLIT, SQUARE),
    "training, validation": (
        split_pairs("images/{split}/{n}.png", "annotations/{split}/{n}.png", THREE, "training", "validation"),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "valid": (
        split_pairs("{split}/img/{n}.png", "{split}/mask/{n}.png", THREE, "train", "valid"),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "Train, Val": (
        split_pairs("{split}/images_png/{n}.png", "{split}/masks_png/{n}.png", THREE, "Train", "Val"),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "train, train_masks": (
        split_pairs("{split}/{n}.jpg", "{split}_masks/{n}.png", THREE),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "train_images, train_labels": (
        split_pairs("{split}_images/{n}.jpg", "{split}_labels/{n}.png", THREE),
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "only train": (
        pairs("train/images/{}.png", "train/masks/{}.png", THREE),
        NUMBERED,
        HELD,
        THREE,
    ),
    "_mask": (pairs("images/{}.jpg", "masks/{}_mask.png", THREE), NUMBERED, HELD, THREE),
    "_gt": (pairs("images/a{}.jpg", "gt/a{}_gt.png", THREE), NUMBERED, HELD, THREE),
    "_L": (pairs("images/a{}.png", "labels/a{}_L.png", THREE), NUMBERED, HELD, THREE),
    "_labelIds": (pairs("images/a{}.png", "gt/a{}_labelIds.png", THREE), NUMBERED, HELD, THREE),
    "_segmentation": (pairs("Input/I{}.jpg", "GroundTruth/I{}_segmentation.png", BYTES), TWO, HELD, SQUARE),
    "_sat, _mask in one folder": (pairs("{}_sat.jpg", "{}_mask.png", BYTES), TWO, HELD, SQUARE),
    "one folder, _mask": (pairs("data/{}.png", "data/{}_mask.png", THREE), NUMBERED, HELD, THREE),
    "one folder, jpg and png": (pairs("{}.jpg", "{}.png", THREE), NUMBERED, HELD, THREE),
    "subfolders": (pairs("images/day/{}.png", "masks/day/{}.png", THREE), NUMBERED, HELD, THREE),
    "VOC": (
        pairs("JPEGImages/{}.jpg", "SegmentationClass/{}.png", THREE)
        | {"ImageSets/Segmentation/train.txt": "0\n1\n2\n3\n", "ImageSets/Segmentation/val.txt": "4\n5\n"},
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "labelme2voc": (
        pairs("JPEGImages/{}.jpg", "SegmentationClass/{}.png", THREE)
        | {"class_names.txt": "_background_\ncell\nwall\n"}
        | images("SegmentationClassVisualization/{}.jpg"),
        ("_background_", "cell", "wall"),
        HELD,
        THREE,
    ),
    "lists": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {"train.txt": "0\n1\n2\n3\n", "val.txt": "4\n5\n"},
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "lists of pairs": (
        pairs("images/{}.jpg", "labels/{}.png", THREE)
        | {
            "train.txt": "".join(f"images/{n}.jpg labels/{n}.png\r\n" for n in range(4)),
            "val.txt": "\ufeff# validation\n/data/set/images/4.jpg,labels/4.png\nimages\\5.jpg\n",
        },
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "train_list": (
        pairs("images/{}.jpg", "labels/{}.png", THREE)
        | {
            "train_list.txt": "".join(f"images/{n}.jpg labels/{n}.png\n" for n in range(4)),
            "val_list.txt": "images/4.jpg labels/4.png\nimages/5.jpg labels/5.png\n",
        },
        NUMBERED,
        SPLIT,
        THREE,
    ),
    "classes.txt": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {"classes.txt": "sky\nroad\ncar\n"},
        ("sky", "road", "car"),
        HELD,
        THREE,
    ),
    "one class named": (
        pairs("images/{}.png", "masks/{}.png", BYTES) | {"classes.txt": "cell\n"},
        CELL,
        HELD,
        SQUARE,
    ),
    "CVAT masks": (
        pairs("JPEGImages/{}.png", "SegmentationClass/{}.png", COLORS[THREE])
        | {
            "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n",
            "ImageSets/Segmentation/default.txt": "0\n1\n2\n3\n4\n5\n",
        },
        ("background", "road", "car"),
        HELD,
        THREE,
    ),
    "CVAT CamVid": (
        pairs("default/{}.png", "defaultannot/{}.png", COLORS[THREE])
        | {"label_colors.txt": "0 0 0 background\n128 64 128 road\n0 0 142 car\n", "default.txt": ""},
        ("background", "road", "car"),
        HELD,
        THREE,
    ),
    "colors without names": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE]),
        ("#000000", "#00008e", "#804080"),
        HELD,
        np.array([0, 2, 1], np.uint8)[THREE],
    ),
    "gray levels": (
        pairs("images/{}.png", "masks/{}.png", THREE * 100),
        ("value 0", "value 100", "value 200"),
        HELD,
        THREE,
    ),
    "gray levels up to white": (
        pairs("images/{}.png", "masks/{}.png", np.array([0, 128, 255], np.uint8)[THREE]),
        ("value 0", "value 128", "value 255"),
        HELD,
        THREE,
    ),
    "Roboflow": (
        split_pairs("{split}/{n}_jpg.rf.ab.jpg", "{split}/{n}_jpg.rf.ab_mask.png", SQUARE, "train", "valid")
        | {f"{split}/_classes.csv": "Pixel Value, Class\n0, background\n1, cell\n" for split in ("train", "valid")},
        CELL,
        SPLIT,
        SQUARE,
    ),
    "Ultralytics masks": (
        split_pairs("images/{split}/{n}.jpg", "masks/{split}/{n}.png", THREE)
        | {
            "data.yaml": "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames: {0: sky, 1: road, 2: car}\n"
        },
        ("sky", "road", "car"),
        SPLIT,
        THREE,
    ),
    "Ultralytics polygons": (
        split_pairs("images/{split}/{n}.jpg", "labels/{split}/{n}.txt", YOLO)  # type: ignore[arg-type]
        | {"data.yaml": "train: images/train\nval: images/val\nnames: [cell]\n"},
        CELL,
        SPLIT,
        SQUARE,
    ),
    "YOLO of Roboflow": (
        split_pairs("{split}/images/{n}.jpg", "{split}/labels/{n}.txt", YOLO, "train", "valid")  # type: ignore[arg-type]
        | {"data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cell']\n"},
        CELL,
        SPLIT,
        SQUARE,
    ),
    "YOLO names with dots": (
        pairs("images/a.{}.jpg", "labels/a.{}.txt", YOLO) | {"classes.txt": "cell\n"},  # type: ignore[arg-type]
        CELL,
        HELD,
        SQUARE,
    ),
    "YOLO without YAML": (
        pairs("images/{}.jpg", "labels/{}.txt", YOLO) | {"classes.txt": "cell\n"},  # type: ignore[arg-type]
        CELL,
        HELD,
        SQUARE,
    ),
    "COCO": (
        images("images/{}.jpg") | {"annotations/instances_default.json": coco([f"{n}.jpg" for n in range(6)])},
        CELL,
        HELD,
        SQUARE,
    ),
    "COCO of Roboflow": (
        images("train/{}.jpg", range(4))
        | images("valid/{}.jpg", range(4, 6))
        | {
            "train/_annotations.coco.json": coco([f"{n}.jpg" for n in range(4)]),
            "valid/_annotations.coco.json": coco([f"{n}.jpg" for n in range(4, 6)]),
        },
        CELL,
        SPLIT,
        SQUARE,
    ),
    "COCO with one name in both splits": (
        images("images/train/{}.jpg", range(4))
        | images("images/val/{}.jpg", range(2))
        | {
            "annotations/instances_train.json": coco([f"{n}.jpg" for n in range(4)]),
            "annotations/instances_val.json": coco([f"{n}.jpg" for n in range(2)]),
        },
        CELL,
        SPLIT,
        SQUARE,
    ),
    "COCO of Label Studio": (
        images("images/{}.jpg") | {"result.json": coco([f"images/{n}.jpg" for n in range(6)], 0)},
        CELL,
        HELD,
        SQUARE,
    ),
    "LabelMe": (
        images("{}.jpg") | {f"{n}.json": LABELME | {"imagePath": f"{n}.jpg"} for n in range(6)},
        CELL,
        HELD,
        SQUARE,
    ),
    "LabelMe from Windows": (
        images("images/{}.jpg") | {f"json/{n}.json": LABELME | {"imagePath": f"..\\images\\{n}.jpg"} for n in range(6)},
        CELL,
        HELD,
        SQUARE,
    ),
    "Supervisely polygons": (
        images("ds0/img/{}.jpg")
        | {f"ds0/ann/{n}.jpg.json": SUPERVISELY for n in range(6)}
        | {"meta.json": {"classes": [{"title": "cell", "shape": "polygon", "color": "#FF0000"}], "tags": []}},
        CELL,
        HELD,
        SQUARE,
    ),
    "Supervisely bitmaps": (
        images("ds0/img/{}.jpg")
        | {f"ds0/ann/{n}.jpg.json": BITMAP for n in range(6)}
        | {"meta.json": {"classes": [{"title": "cell", "shape": "bitmap", "color": "#FF0000"}], "tags": []}},
        CELL,
        HELD,
        SQUARE,
    ),
    "a mask for each class": (
        pairs("images/{}.png", "masks/cell/{}.png", BYTES)
        | {f"masks/wall/{n}.png": ((THREE == 2) * 255).astype(np.uint8) for n in range(6)},
        ("background", "cell", "wall"),
        HELD,
        THREE,
    ),
    "a mask for each class, beside the images": (
        pairs("images/{}.jpg", "cell/{}.png", BYTES)
        | {f"wall/{n}.png": ((THREE == 2) * 255).astype(np.uint8) for n in range(6)},
        ("background", "cell", "wall"),
        HELD,
        THREE,
    ),
}

# name -> files, and words of the one line that says what to do.
