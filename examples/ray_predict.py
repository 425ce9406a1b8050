"""Label many images on a Ray cluster, or on the cores of this machine, as `crisscross predict --resume` does.

    pip install '.[ray]'
    python ray_predict.py camvid-light images/ --out labeled --workers 8
    python ray_predict.py model.onnx images.parquet --out labeled       # its column `path` names the images

Only names go through Ray: every worker reads its images, labels them and writes their files. Images that have all of
their files are passed over, so the same command goes on where it stopped. What fails is tried once more, alone; what
fails again is listed in `failed.csv`, and the exit code is 2. One run at a time may write to a folder.
"""

import argparse
import csv
import os
import sys
from collections import Counter
from pathlib import Path

# Ray reads these when it is imported. It would report its use otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")

import pyarrow
import ray
from pyarrow import parquet
from ray.actor import ActorHandle

from crisscross.api.networks import wanted
from crisscross.cli.options import positive
from crisscross.engine.formats import outputs
from crisscross.engine.predict import find_images, names_apart, predict_files, unfinished
from crisscross.errors import CrissCrossError
from crisscross.progress import Progress

ATTEMPTS = 3
LOST = "its worker had an error or was lost; Ray's log says more"


@ray.remote(num_cpus=0)
class Attempts:
    """How often each task was begun: Ray would try one that ends its worker, for want of memory say, for ever."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def begin(self, task: str) -> int:
        """Count, and return the count."""
        self.counts[task] += 1
        return self.counts[task]


class Labeler:
    """A worker with a network of its own, which stays loaded."""

    def __init__(self, network: str, out: Path, attempts: ActorHandle) -> None:
        source = wanted(network)
        self.task, self.out, self.attempts = source.task(), out, attempts
        self.network = source.load(source.find_device(), {})

    def __call__(self, batch: dict) -> dict:
        """Label images; for each the reason why it could not be read, or ""."""
        images = dict(zip(map(Path, batch["image"]), map(Path, batch["output"]), strict=True))
        missing = unfinished(images, lambda one: outputs(one, self.out, self.task.kinds))
        if ray.get(self.attempts.begin.remote(batch["image"][0])) > ATTEMPTS:
            return {"image": batch["image"], "error": [LOST * (Path(name) in missing) for name in batch["image"]]}
        failed = predict_files(self.task, self.network, missing, self.out)
        errors = {str(one.source): one.error for one in failed}
        return {"image": batch["image"], "error": [errors.get(name, "") for name in batch["image"]]}


def find(options: argparse.Namespace) -> dict[str, str]:
    """The images, each with the name of its outputs below `--out`: the names that `crisscross predict` gives."""
    place = options.images.resolve()
    if place.suffix == ".parquet":
        paths = [place.parent / name for name in parquet.read_table(place, columns=["path"])["path"].to_pylist()]
        found = names_apart({path: Path(path.stem) for path in paths})
    else:
        found = find_images([place], options.out, wanted(options.network).task().kinds)
    return {str(image): str(output) for image, output in found.items()}


def label(images: dict[str, str], together: int, options: argparse.Namespace) -> dict[str, str]:
    """Label images, `together` in a task of Ray; those that failed, with the reason."""
    table = pyarrow.table({"image": list(images), "output": list(images.values())})
    tasks = [table.slice(start, together) for start in range(0, len(images), together)]
    results = ray.data.from_arrow(tasks).map_batches(
        Labeler,
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(options.workers, len(tasks))),
        fn_constructor_args=(options.network, options.out, Attempts.remote()),
        num_cpus=options.cpus,
        num_gpus=options.gpus,
    )
    failed = dict.fromkeys(images, LOST)
    with Progress("predict", len(images)) as progress:
        for row in results.iter_rows():
            if row["error"]:
                failed[row["image"]] = row["error"]
            else:
                del failed[row["image"]]
            progress.update(progress.done + 1)
    return failed


def main() -> int:
    """Label, try what failed again, list what failed twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="zoo name, run folder, file of weights or exported file")
    parser.add_argument("images", type=Path, help="a folder, or a .parquet file")
    parser.add_argument("--out", type=Path, required=True, help="a folder that all machines see")
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--cpus", type=float, default=1, help="cores of a worker (default 1)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker (default 0)")
    options = parser.parse_args()
    options.out, network = options.out.resolve(), Path(options.network)
    options.network = str(network.resolve() if network.exists() else network)
    images = find(options)
    # What is wrong with the network shows here, in one line, and not in every worker.
    wanted(options.network).load("cpu", {})
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.max_errored_blocks = False, -1
    failed = label(images, min(64, len(images) // (4 * options.workers) + 1), options)
    failed = failed and label({image: images[image] for image in failed}, 1, options)
    # Of workers that were killed.
    for temporary in options.out.rglob(".*.crisscross.tmp"):
        temporary.unlink()
    print(f"labeled {len(images) - len(failed)} of {len(images)}: {options.out}")
    if failed:
        with open(options.out / "failed.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image", "error"), *failed.items()])
        print(f"{len(failed)} failed: {options.out / 'failed.csv'}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CrissCrossError as error:
        print(f"ray_predict.py: {error}", file=sys.stderr)
        sys.exit(2)
