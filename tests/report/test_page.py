"""The report of a run: valid, self-contained, and clear about absent classes."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from crisscross.report import Curves, ImageRow, NetworkColumn, NetworksReport, Report, SceneRow, render, render_networks
from crisscross.report.charts import confusion_chart, curve_chart, curve_color, fractions, percent, smooth, ticks
from crisscross.report.images import data_uri, error_map, shrink, wrong_pixels

VOID = {"meta", "img"}


class Structure(HTMLParser):
    """Records the tags that are opened and closed, the texts, and every address."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.texts, self.addresses = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def a_report(**changes) -> Report:
    row = ImageRow(
        "street <1>",
        np.full((4, 6, 3), 120, np.uint8),
        np.array([[0, 0, 1, 1, 255, 255]] * 4, np.uint8),
        np.array([[0, 1, 1, 1, 0, 1]] * 4, np.uint8),
    )
    facts = {
        "title": "A <run> & its scores",
        "summary": "Two classes.",
        "headline": [("mIoU", "0.675"), ("time", "9 s")],
        "curves": Curves([1, 2, 3], [2.0, 1.0, 0.5], [0.1, 0.05, 0.0], [2, 3], [0.4, None]),
        "classes": ["road", "<sky>"],
        "palette": [(200, 10, 20), (0, 0, 250)],
        "iou": [0.75, 0.8],
        "accuracy": [0.75, 1.0],
        "confusion": [[3, 1], [0, 4]],
        "rows": [row],
        "experiment_yaml": "model: {name: <ccnet>}",
        "command": "crisscross demo",
        "versions": {"torch": "2.x"},
    }
    return Report(**{**facts, **changes})


def test_tags_are_balanced_and_nothing_is_fetched_from_elsewhere():
    page = render(a_report())
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("img") == 4 and structure.tags.count("svg") == 5
    assert all(address.startswith("data:image/") for address in structure.addresses)
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)


def test_names_are_text_and_never_markup():
    texts = Structure(render(a_report())).texts
    for written in ("A <run> & its scores", "<sky>", "street <1>", "model: {name: <ccnet>}"):
        assert written in texts


def test_an_absent_class_says_so_and_shows_no_number():
    whole = Structure(render(a_report())).texts
    assert "absent" not in whole and "0.80" in whole
    lacking = Structure(render(a_report(iou=[0.75, None], accuracy=[0.75, None]))).texts
    assert "absent" in lacking and "0.75" in lacking and "0.80" not in lacking and "0.00" not in lacking


def test_confusion_is_per_cent_of_the_true_class():
    assert fractions([[3, 1], [0, 4]]) == [[0.75, 0.25], [0.0, 1.0]]
    assert fractions([[0, 0], [1, 1]]) == [[None, None], [0.5, 0.5]]
    texts = Structure(confusion_chart(["road", "sky"], [[3, 1], [0, 4]])).texts
    assert [text for text in texts if text.isdigit()] == ["75", "25", "100"]
    assert "truth road, predicted sky: 1 of 4 pixels, 25.0 %" in texts


def test_a_true_class_without_pixels_has_dashes():
    texts = Structure(confusion_chart(["road", "sky"], [[0, 0], [1, 1]])).texts
    assert texts.count("–") == 2 and texts.count("50") == 2


def test_counts_beyond_32_bits_keep_their_fractions():
    assert fractions(np.array([[3 * 10**12, 10**12]])) == [[0.75, 0.25]]


@pytest.mark.parametrize(("share", "shown"), [(0, ""), (0.004, "<1"), (0.006, "1"), (0.25, "25"), (1, "100")])
def test_small_fractions_are_not_shown_as_zero(share, shown):
    assert percent(share) == shown


def test_many_classes_stay_a_small_page():
    count = 150
    chart = confusion_chart([f"class {index}" for index in range(count)], np.eye(count, dtype=int).tolist())
    assert Structure(chart).tags.count("text") < 3 * count and len(chart) < 3_000_000


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.5, 1]), (0, 2.3, [0, 1, 2, 3]), (0, 0.004, [0, 0.002, 0.004])]
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert ticks(low, high, 3) == expected


def test_ticks_of_a_constant_still_span():
    assert ticks(0, 0) == [0, 1] and ticks(5, 5) == [5, 10]


def test_smooth_is_the_mean_of_the_neighbors():
    assert smooth([1, 2, 6, 3, 3], fraction=0.4) == pytest.approx([1.5, 3, 11 / 3, 4, 3])
    assert smooth([1, 2, 6], fraction=0.05) == [1, 2, 6]


def test_points_that_are_not_finite_are_left_out():
    chart = curve_chart([("run", [1, 2, 3, 4], [1.0, float("nan"), float("inf"), 0.5])], "Loss")
    assert "over 2 points, from 1 to 0.5" in chart and "nan" not in chart
    assert "Nothing was recorded" in curve_chart([("run", [1], [None])], "mIoU")
    assert "circle" in curve_chart([("run", [5], [0.3])], "mIoU", scores=True)


def test_empty_parts_of_a_report_are_left_out():
    page = render(a_report(curves=Curves(), rows=[], headline=[], experiment_yaml="", command="", versions={}))
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == ["Classes", "Confusion"]


def test_wrong_pixels_are_counted_among_the_labeled_ones():
    truth, prediction = np.array([[0, 1, 255, 1]]), np.array([[0, 0, 1, 1]])
    wrong, share = wrong_pixels(truth, prediction, 2)
    assert wrong.tolist() == [[False, True, False, False]] and share == pytest.approx(1 / 3)
    assert wrong_pixels(np.array([[255]]), np.array([[0]]), 2)[1] is None
    painted = error_map(np.full((1, 4, 3), 200, np.uint8), wrong)
    assert painted[0, 1].tolist() == [255, 64, 52] and painted[0, 0].tolist() == [90, 90, 90]
    assert "errors, 25.0 %" in Structure(render(a_report())).texts


def test_label_colors_survive_the_data_uri():
    flat = np.random.default_rng(0).integers(0, 256, (24, 3), np.uint8)[np.arange(96).reshape(8, 12) % 24]
    kind, data = data_uri(flat, False).split(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) == flat).all()


def test_large_images_shrink_and_labels_are_never_mixed():
    truth = np.repeat(np.array([[0, 7] * 50], np.uint8), 40, 0).repeat(2, 1)
    row = shrink(ImageRow("wide", np.zeros((40, 200, 3), np.uint8), truth, truth), widest=100)
    assert row.image.shape == (20, 100, 3) and row.truth.tolist() == [[0, 7] * 50] * 20


def test_gates_have_a_chart_of_their_own():
    log = [
        {"iteration": n, "loss": 1.0, "lr": 0.1, "gate_a": gate, "gate_b": -gate} for n, gate in enumerate((0.0, 0.5))
    ]
    curves = Curves.from_log([*log, {"iteration": 1, "val_miou": 0.5}])
    assert curves.gates == {"gate_a": [0.0, 0.5], "gate_b": [-0.0, -0.5]}
    texts = Structure(render(a_report(curves=curves))).texts
    assert "Gate of the attention" in texts and "gate_b" in texts
    assert "Gate of the attention" not in Structure(render(a_report())).texts


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
