"""The model card: a description of the weights for their web page."""

from collections.abc import Mapping
from typing import Any

from crisscross.checkpoints.publishers.table import PUBLISHERS
from crisscross.config import Experiment
from crisscross.models import Segmenter

LIBRARY = "crisscross-seg"
TITLES = {
    "val_miou": "mIoU on the validation split",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "iteration": "iteration",
}


def model_card(segmenter: Segmenter, name: str, facts: Mapping[str, Any]) -> str:
    """Markdown with YAML front matter, as the Hugging Face Hub reads it.

    Args:
        segmenter: the network.
        name: the repository or folder, for the title and the line that loads it.
        facts: scores and origin, as stored with the weights; their `license` is that of the weights, as the Hub writes
            it.
    """
    license = facts.get("license")
    parts = [
        _front_matter(license),
        f"# {name}",
        _summary(segmenter, facts),
        _usage(name),
        _scores(facts),
        _input(segmenter.experiment),
        _classes(segmenter),
        "## License\n\n" + (f"`{license}`." if license else "Not stated; ask the author of these weights."),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(license: str | None) -> str:
    import yaml

    values = {
        "library_name": LIBRARY,
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "ccnet", "criss-cross-attention"],
        **({"license": license} if license else {}),
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False, default_flow_style=None)}---"


def _summary(segmenter: Segmenter, facts: Mapping[str, Any]) -> str:
    model = segmenter.experiment.model
    count = sum(parameter.numel() for parameter in segmenter.parameters())
    lines = [f"{model.title}: {len(segmenter.classes)} classes, {count / 1e6:.2f} million parameters."]
    if (publisher := str(facts.get("publisher"))) in PUBLISHERS:
        lines.append(f"The weights were trained with {PUBLISHERS[publisher].title} and converted.")
    return "\n".join(lines)


def _usage(name: str) -> str:
    return (
        "## Use\n\n```sh\npip install .  # in a checkout of crisscross\n```\n\n```python\nimport crisscross\n\n"
        f'segmenter = crisscross.from_pretrained("{name}")\n'
        'labels = segmenter.predict("image.jpg").labels  # uint8 [H, W]\n```'
    )


def _scores(facts: Mapping[str, Any]) -> str:
    known = {title: facts[key] for key, title in TITLES.items() if isinstance(facts.get(key), int | float)}
    rows = [f"| {title} | {value if isinstance(value, int) else f'{value:.4f}'} |" for title, value in known.items()]
    return "## Scores\n\n| | |\n|---|---|\n" + "\n".join(rows) if rows else ""


def _input(experiment: Experiment) -> str:
    values, inference = experiment.preprocess, experiment.inference
    size = f"resized to fit {values.scale[0]} x {values.scale[1]}" if values.scale else "at their original size"
    how = "in one pass"
    if inference.mode == "slide":
        how = f"in windows of {list(inference.window)} every {list(inference.stride)} pixels (height, width)"
    return (
        f"## Input\n\n`predict` takes images {size}, subtracts {list(values.mean)} from their "
        f"{values.order.upper()} values in 0..255, divides by {list(values.std)}, and labels them {how}."
    )


def _classes(segmenter: Segmenter) -> str:
    rows = [
        f"| {index} | {name.replace('|', chr(92) + '|')} | {', '.join(map(str, color))} |"
        for index, (name, color) in enumerate(zip(segmenter.classes, segmenter.palette, strict=True))
    ]
    return "## Classes\n\n| label | class | color (RGB) |\n|---|---|---|\n" + "\n".join(rows)
