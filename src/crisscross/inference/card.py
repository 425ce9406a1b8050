"""Everything but the weights that a prediction depends on."""

from dataclasses import dataclass, field
from typing import Literal, Self

from crisscross.config import Experiment, InferenceConfig, PreprocessConfig
from crisscross.data.palette import default_palette
from crisscross.data.samples.windows import places_of


@dataclass(frozen=True)
class Card:
    """What must travel with weights, whatever computes them.

    Label k is `classes[k]` and has the RGB color `palette[k]` (0..255); `ignore` is no class. `flip_pairs` are classes
    that change places when an image is mirrored. A network for clips takes `frames` of them, of which it labels those
    that `label` says; one for single images takes clips of one frame.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    align_corners: bool = False
    flip_pairs: tuple[tuple[int, int], ...] = ()
    ignore: int = 255
    frames: int = 1
    label: Literal["middle", "last", "every"] = "middle"

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """The card of a network that was built from an experiment; default colors where that has none."""
        model, data = experiment.model, experiment.data
        return cls(
            classes=data.classes,
            palette=data.palette or default_palette(data.classes),
            preprocess=experiment.preprocess,
            inference=experiment.inference,
            align_corners=model.align_corners,
            flip_pairs=data.flip_pairs,
            ignore=data.ignore,
            frames=max(model.frames, 1),
            label=model.label,
        )

    @property
    def places(self) -> tuple[int, ...]:
        """Which frames of a clip are labeled."""
        return places_of(self.frames, self.label)
