"""Draw a data set, train, evaluate and predict from Python; a few iterations, to show the calls.

python examples/train_from_python.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import crisscross
from crisscross.data.scenes import write_scenes


def main(folder: Path) -> None:
    data = folder / "data"
    write_scenes(data, {"train": 8, "val": 2, "test": 2}, height=64, width=128)

    run = crisscross.train("demo", data, folder / "run", iterations=4, warmup=1, batch=2, crop=[64, 128])
    print("finished:", run.finished)

    result = crisscross.evaluate(run, data, "test")
    print(result)

    segmenter = run.load()
    prediction = segmenter.predict(data / "images" / "test_0000.png", probabilities=True)
    assert prediction.probabilities is not None
    print("labels", prediction.labels.shape, "probabilities", prediction.probabilities.shape)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
