"""examples/first_steps.ipynb runs from a clean start, and is stored without what it printed."""

import nbformat
import pytest
from nbclient import NotebookClient
from paths import ROOT

NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def test_every_cell_says_what_its_text_announces(executed: nbformat.NotebookNode):
    first, seen, tuned, exported = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert "%" in printed(first)
    assert "changed by attention: " in printed(seen) and "gate -0.008" in printed(seen)
    assert printed(tuned).startswith("mIoU 0.")
    assert float(printed(exported).split()[-1].removesuffix("%")) > 99.9


def test_images_are_shown(executed: nbformat.NotebookNode):
    shown = ["image/png" in output.get("data", {}) for cell in executed.cells for output in cell.get("outputs", ())]
    assert sum(shown) == 3


def test_it_is_stored_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
