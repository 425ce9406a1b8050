"""The data sets that are known by name, one file each."""

from crisscross.data.sets.ade20k import ADE20K
from crisscross.data.sets.camvid import CAMVID
from crisscross.data.sets.camvid32 import CAMVID32
from crisscross.data.sets.cityscapes import CITYSCAPES, CITYSCAPES_COARSE
from crisscross.data.sets.coco_stuff import COCO_STUFF
from crisscross.data.sets.folder import FOLDER
from crisscross.data.sets.lip import LIP
from crisscross.data.sets.record import BuiltIn
from crisscross.data.sets.voc import VOC2012, VOC2012AUG

# `auto` takes the first that recognizes a folder, so a narrower layout stands before a wider one.
DATASETS: dict[str, BuiltIn] = {
    "folder": FOLDER,
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "cityscapes-coarse": CITYSCAPES_COARSE,
    "voc2012aug": VOC2012AUG,
    "voc2012": VOC2012,
    "lip": LIP,
    "camvid32": CAMVID32,
    "ade20k": ADE20K,
    "coco-stuff": COCO_STUFF,
}
