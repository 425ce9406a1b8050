"""What can be chosen: one tree of frozen dataclasses, the same in YAML, on the command line and in a checkpoint."""

from crisscross.config.parse import (
    apply_overrides,
    differences,
    from_dict,
    load_experiment,
    override,
    save_experiment,
    to_dict,
    to_yaml,
)
from crisscross.config.tree import (
    AugmentConfig,
    DataConfig,
    Experiment,
    InferenceConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PreprocessConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "Experiment",
    "InferenceConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PreprocessConfig",
    "TrainConfig",
    "apply_overrides",
    "differences",
    "from_dict",
    "load_experiment",
    "override",
    "save_experiment",
    "to_dict",
    "to_yaml",
]
