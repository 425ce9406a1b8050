"""The configuration: one tree of frozen dataclasses, the same in YAML, on the command line and in a checkpoint."""

from crisscross.config.loss import ConsistencyConfig, LossConfig, LossTerm, OhemConfig
from crisscross.config.names import hint, import_attribute
from crisscross.config.parse import (
    apply_overrides,
    differences,
    from_dict,
    load_experiment,
    override,
    to_dict,
    to_yaml,
)
from crisscross.config.training import OptimConfig, TrainConfig
from crisscross.config.tree import (
    NO_SPLIT,
    AugmentConfig,
    DataConfig,
    Experiment,
    InferenceConfig,
    ModelConfig,
    PreprocessConfig,
)

__all__ = [
    "NO_SPLIT",
    "AugmentConfig",
    "ConsistencyConfig",
    "DataConfig",
    "Experiment",
    "InferenceConfig",
    "LossConfig",
    "LossTerm",
    "ModelConfig",
    "OhemConfig",
    "OptimConfig",
    "PreprocessConfig",
    "TrainConfig",
    "apply_overrides",
    "differences",
    "from_dict",
    "hint",
    "import_attribute",
    "load_experiment",
    "override",
    "to_dict",
    "to_yaml",
]
