"""The network that a run of semantic segmentation trains, with the weights that it starts from."""

import hashlib

from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.checkpoints.warm_start import start_from
from crisscross.config import Experiment
from crisscross.engine.task import Built, Start
from crisscross.models import create_segmenter
from crisscross.models.backbones import load_backbone_weights


def build_network(experiment: Experiment, start: Start) -> Built:
    """The network of an experiment with the classes of its data.

    Raises:
        CrissCrossError: the backbone cannot be built, or the weights do not fit it.
    """
    if start.resume:
        return Built(create_segmenter(experiment, initialize=False), {})
    fresh = start.backbone is None and start.network is None
    segmenter, facts = create_segmenter(experiment, initialize=fresh), {}
    if start.backbone is not None:
        load_backbone_weights(segmenter.backbone, read_backbone_weights(start.backbone), str(start.backbone))
        digest = hashlib.sha256(start.backbone.read_bytes()).hexdigest()
        facts["backbone_weights"] = {"file": start.backbone.name, "sha256": digest}
    if start.network is not None:
        facts |= start_from(segmenter, start.network)
    return Built(segmenter, facts)
