"""Draw a data set, train, evaluate and predict from Python; a few iterations, to show the calls.

python examples/train_from_python.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import crisscross
from crisscross import zoo
from crisscross.config import override
from crisscross.data.scenes import write_scenes
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.train import train


def main(folder: Path) -> None:
    write_scenes(folder / "data", {"train": 8, "val": 2, "test": 2}, height=64, width=128)
    dataset = crisscross.open_dataset("folder", folder / "data")

    changes = ["train.iterations=4", "optim.warmup=1", "train.batch=2", "augment.crop=[64, 128]"]
    experiment = override(zoo.recipe("demo"), changes)
    outcome = train(experiment, dataset, folder / "run")
    print("finished:", outcome.finished)

    segmenter = crisscross.load(folder / "run")
    result = evaluate(segmenter, dataset, "test")
    print("mIoU after four iterations:", result.scores.miou)

    prediction = segmenter.predict(dataset.split("test")[0].image, probabilities=True)
    assert prediction.probabilities is not None
    print("labels", prediction.labels.shape, "probabilities", prediction.probabilities.shape)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
