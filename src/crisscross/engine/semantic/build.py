"""The network that a run of semantic segmentation trains, with the weights that it starts from."""

from crisscross.checkpoints.backbone import BackboneWeights, find_backbone_weights, shipped_backbone
from crisscross.checkpoints.license import license_note
from crisscross.checkpoints.warm_start import start_from
from crisscross.config import Experiment
from crisscross.engine.task import Built, Start, facts_of_file
from crisscross.models import create_segmenter
from crisscross.models.backbones import load_backbone_weights
from crisscross.models.pretrained import NoPretrained


def build_network(experiment: Experiment, start: Start) -> Built:
    """The network of an experiment with the classes of its data.

    Raises:
        CrissCrossError: the backbone cannot be built, or the weights are not available or do not fit it.
    """
    if start.network is not None and not start.resume:
        segmenter = create_segmenter(experiment, initialize=False)
        return Built(segmenter, *start_from(segmenter, start.network))
    if start.backbone is not None and not start.resume:
        line = f"--backbone-weights {start.backbone}: the backbone is taken over, the heads start anew"
        return _with_backbone(experiment, find_backbone_weights(start.backbone), line)
    try:
        return Built(create_segmenter(experiment, initialize=not start.resume), {})
    except NoPretrained as error:
        if (shipped := shipped_backbone(experiment.model.backbone)) is None:
            raise
        line = f"the ImageNet weights of {error.name} are {error.reason}: the backbone starts from that of {shipped}"
        return _with_backbone(experiment, find_backbone_weights(shipped), line)


def _with_backbone(experiment: Experiment, weights: BackboneWeights, line: str) -> Built:
    segmenter = create_segmenter(experiment, initialize=False)
    load_backbone_weights(segmenter.backbone, weights.tensors, str(weights.path))
    license = {"license": weights.license} if weights.license else {}
    facts = {"backbone_weights": facts_of_file(weights.path), **license}
    return Built(segmenter, facts, [f"{line}{license_note(weights.license)}"])
