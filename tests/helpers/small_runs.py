"""A run that the tests of the functions share: trained on shapes within a second."""

from pathlib import Path

from shapes_data import experiment, write_shapes

import crisscross


def small_run(folder: Path) -> crisscross.Run:
    """The data in `folder / "shapes"` and a run of six iterations in `folder / "run"`."""
    write_shapes(folder / "shapes")
    return crisscross.train(
        experiment(), str(folder / "shapes"), str(folder / "run"), device="cpu", workers=0, progress=False
    )
