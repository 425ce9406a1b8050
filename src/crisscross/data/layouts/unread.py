"""What to do with a folder that holds no masks that can be read: what lies there instead, and how to convert it."""

from collections import Counter
from pathlib import Path

from crisscross.data.files.folders import files_in
from crisscross.data.layouts.folders import class_folders_beside, folder_tops
from crisscross.data.layouts.sources import common, holds, image_files, text_files
from crisscross.data.layouts.vocabulary import IMAGES, MASKS, meaning
from crisscross.errors import CrissCrossError

# Files that hold masks for other programs, and how to make PNG files of them.
OTHER_MASKS = {
    ".gif": "Image.open(file).save(file.with_suffix('.png'))",
    ".npy": "Image.fromarray(np.load(file).astype('uint8')).save(file.with_suffix('.png'))",
    ".npz": "take the array out of each and save it as PNG",
    ".mat": "take the array out of each with scipy.io.loadmat and save it as PNG",
    ".nii": "export slices as PNG",
    ".gz": "export slices as PNG",
    ".h5": "take the arrays out and save them as PNG",
    ".svg": "export them as PNG, without anti-aliasing",
}
# Words at the head of a file, its types, what it is, what to do.
FORMATS: tuple[tuple[tuple[bytes, ...], tuple[str, ...], str, str], ...] = (
    ((b"all_points_x",), (".json",), "polygons of the VGG Image Annotator", "export them from VIA as COCO"),
    ((b'"item"', b'"annotations"'), (".json",), "V7's JSON", "export from V7 as COCO, or as semantic masks"),
    ((b'"data_row"',), (".ndjson", ".json"), "Labelbox's export, which links masks", "download the masks into masks/"),
    ((b"EncodedPixels",), (".csv",), "run lengths of Kaggle", "decode them to index PNG files in masks/"),
    ((b"rle_mask",), (".csv",), "run lengths of Kaggle", "decode them to index PNG files in masks/"),
    ((b'"segments_info"',), (".json",), "COCO's panoptic format", "export as COCO instances, or as semantic masks"),
    ((b"<annotation>",), (".xml",), "boxes or polygons in XML", "export as COCO, or as segmentation masks"),
    ((b"<annotations>",), (".xml",), "CVAT's XML", "export from CVAT as COCO, or as `Segmentation mask`"),
)
MOST_FILES = 20


def nothing_found(root: Path) -> CrissCrossError:
    """Why no image has a mask, and what to do."""
    counts = Counter(path.suffix.lower() for path in files_in(root))
    if counts[".parquet"]:
        return CrissCrossError(f"{root}: Parquet files are not read; save images and masks as files: images/, masks/")
    for words, types, what, cure in FORMATS:
        for file in text_files(root, *types)[:MOST_FILES]:
            if holds(file, *words):
                return CrissCrossError(f"{root}: {file.name} holds {what}, which are not read; {cure}")
    images = image_files(root)
    for suffix, cure in OTHER_MASKS.items():
        files = [path for path in files_in(root, suffix) if _is_mask(root, path)]
        if files and counts[suffix] >= len(images) // 2:
            how = f"with Pillow: `{cure}`" if "(" in cure else cure
            return CrissCrossError(f"{root}: masks are {suffix} files ({files[0].name}), which are not read; {how}")
    if not images:
        return CrissCrossError(
            f"{root}: no images with masks found: no images at all; put images into images/, masks with the same names "
            "into masks/ (docs/data.md lists the layouts that are recognized)"
        )
    if any(path.stem.startswith("task-") and "-annotation-" in path.stem for path in images):
        return CrissCrossError(
            f"{root}: PNG files of Label Studio do not tell their image; export as JSON or COCO, with images"
        )
    if any(path.name == "label_names.txt" for path in text_files(root, ".txt")):
        return CrissCrossError(
            f"{root}: folders of labelme_export_json number the classes anew in each; put the JSON files of LabelMe "
            "beside their images in place of these"
        )
    above = root.resolve().parent
    beside = next((path for path in sorted(above.iterdir()) if path.is_dir() and path.name.lower() in MASKS), None)
    if root.resolve().name.lower() in IMAGES and beside:
        return CrissCrossError(f"{root}: holds images alone; give the folder above it, which also holds {beside.name}/")
    if found := class_folders_beside(folder_tops(root, images)):
        shown = ", ".join(f"{name}/" for name in found.classes)
        return CrissCrossError(
            f"{root}: no images with masks found: files in {shown} have the names of images in {found.images}/; if "
            f"they are masks of two values, a folder for each class, move these folders into {root / 'masks'}/"
        )
    folder = root / common(path.parent.relative_to(root).as_posix() for path in images)
    return CrissCrossError(
        f"{root}: no images with masks found: {len(images)} images in {folder}/, no masks; put masks with the same "
        f"names (PNG, each pixel the number of its class) into {root / 'masks'}/ (docs/data.md lists the layouts); "
        "`crisscross predict` needs no masks"
    )


def _is_mask(root: Path, path: Path) -> bool:
    parts = path.relative_to(root).parts
    return any(meaning(part).role == "mask" for part in (*parts[:-1], path.name.split(".")[0]))
