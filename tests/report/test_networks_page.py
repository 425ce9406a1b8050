"""The page of networks side by side."""

import re
from dataclasses import replace

import numpy as np
from page_structure import Structure

from crisscross.report import Curves, NetworkColumn, NetworksReport, SceneRow, render_networks
from crisscross.report.charts import curve_color


def networks_report(**changes) -> NetworksReport:
    image, truth = np.full((4, 6, 3), 120, np.uint8), np.array([[0, 0, 1, 1, 1, 1]] * 4, np.uint8)
    curves = Curves([1, 2], [2.0, 1.0], [0.1, 0.0])
    facts = {
        "title": "A <title>",
        "summary": "Two networks.",
        "classes": ["sea", "<land>"],
        "palette": [(200, 10, 20), (0, 0, 250)],
        "networks": [
            NetworkColumn("R = 0", 0.25, [0.5, None], curves),
            NetworkColumn("R = 2", 0.875, [0.75, 1.0], replace(curves, gates={"gate": [0.0, -0.4]})),
        ],
        "rows": [SceneRow("scene", image, truth, [np.zeros_like(truth), truth])],
        "attention": [("pass 1", image)],
        "attention_note": "What <it> sees.",
    }
    return NetworksReport(**{**facts, **changes})


def test_networks_stand_side_by_side():
    page = render_networks(networks_report())
    structure = Structure(page)
    assert structure.open == [] and all(address.startswith("data:image/") for address in structure.addresses)
    # Image, truth, two predictions; the attention.
    assert structure.tags.count("img") == 5 and structure.tags.count("svg") == 2
    for text in (
        "A <title>",
        "<land>",
        "0.250",
        "0.875",
        "R = 0, 67 % wrong",
        "R = 2, 0 % wrong",
        "absent",
        "What <it> sees.",
    ):
        assert text in " ".join(structure.texts), text


def test_a_network_without_a_gate_keeps_its_color():
    page = render_networks(networks_report(rows=[], attention=[]))
    (chart,) = re.findall(r"<svg[^>]*Gate of the attention.*?</svg>", page, re.DOTALL)
    assert curve_color(1) in chart and curve_color(0) not in chart
    assert "Predictions" not in page and "attends to" not in page
