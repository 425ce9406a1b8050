"""The report of a run: valid, self-contained, and clear about absent classes."""

import base64
import io
import re

import numpy as np
import pytest
from page_structure import Structure
from PIL import Image

from crisscross.metrics import Calibration
from crisscross.report import Curves, ImagePanels, ImageRow, Report, render
from crisscross.report.charts import (
    bar_chart,
    confusion_chart,
    confusions,
    curve_chart,
    fractions,
    percent,
    smooth,
    ticks,
)
from crisscross.report.examples import examples
from crisscross.report.images import data_uri, error_map, shrink, wrong_pixels
from crisscross.report.page import figures
from crisscross.report.reliability import reliability_chart


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


@pytest.mark.parametrize(("count", "phone"), [(2, True), (11, True), (12, True), (19, True), (40, False)])
def test_the_matrix_of_a_dozen_classes_is_read_on_a_phone(count, phone):
    chart = confusion_chart([f"long name {n:02d}" for n in range(count)], np.eye(count, dtype=int).tolist())
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', chart)[1])
    scale = min(365 / width, 1)
    if count <= 12:
        # Letters of 11.5 units, and numbers of half a cell.
        assert 11.5 * scale > 11 and min(map(float, re.findall(r"font-size:([\d.]+)px", chart))) * scale > 9
    assert ("min-width" not in chart) == phone


def test_confusions_are_ordered_by_pixels():
    counts = [[10, 0, 30], [5, 5, 0], [0, 0, 0]]
    assert confusions(["a", "b", "c"], counts) == [("a", "c", 30 / 35, 30 / 40), ("b", "a", 5 / 35, 5 / 10)]
    assert confusions(["a", "b"], [[3, 0], [0, 4]]) == []
    assert len(confusions([*"abcd"], np.ones((4, 4), int).tolist(), most=5)) == 5


def test_bars_have_their_intervals():
    bars = ["a", "b", "c"], [(1, 2, 3)] * 3, [0.5, 0.25, None], [None] * 3
    chart = bar_chart(*bars, what="mask AP", intervals=[(0.4, 0.7), (0.25, 0.25), None])
    assert "a: mask AP 0.500, 95 % interval 0.400 to 0.700" in chart and "b: mask AP 0.250<" in chart
    # Left of the bars are 16 + 7.6 units, right of them 56; the line goes from 0.4 to 0.7 between.
    left, right = re.search(r"M([\d.]+) [\d.]+v8M[\d.]+ [\d.]+H([\d.]+)M", chart).groups()
    assert float(left) == pytest.approx(23.6 + 0.4 * 370.4, abs=0.1)
    assert float(right) == pytest.approx(23.6 + 0.7 * 370.4, abs=0.1)
    assert chart.count('class="whisker"') == 1 and "whisker" not in bar_chart(*bars)


def test_the_calibration_curve_has_a_bar_for_each_bin_with_pixels():
    counts = np.zeros((3, 15))
    counts[:, 7], counts[:, 14] = (10, 5, 4), (30, 29, 30)
    chart = reliability_chart(Calibration(counts))
    assert "probability 0.500: 0.400 right, 25.00% of the pixels" in chart
    heights = [float(height) for height in re.findall(r'<rect y="[\d.]+" height="([\d.]+)"', chart)]
    # Accuracy of 260 units above, the fraction of the largest of 50 below.
    assert heights == pytest.approx([104, 50 / 3, 260, 50], abs=0.01) and chart.count("<circle") == 2
    page = render(a_report(calibration=Calibration(counts)))
    # 1/4 |0.4 - 0.5| + 3/4 |1 - 29/30|
    assert "<h2>Calibration</h2>" in page and "over all pixels: 0.050" in page


def test_a_whole_evaluation_is_self_contained():
    counts = np.ones((3, 15))
    page = render(
        a_report(
            iou_intervals=[(0.7, 0.8), None],
            boundary_iou=[0.5, None],
            boundary_intervals=[(0.4, 0.6), None],
            class_table=[["class", "<b>"], ["<i>", "1"]],
            scores_note="<u>",
            calibration=Calibration(counts),
            machine={"device": "<cpu>"},
            rows=[ImagePanels("<p>", [("<c>", np.zeros((3, 4, 3), np.uint8))])],
        )
    )
    structure = Structure(page)
    assert structure.open == [] and structure.tags.count("img") == 1 and 'style="--panels:1"' in page
    assert all(address.startswith("data:image/") for address in structure.addresses)
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    for written in ("<b>", "<i>", "<u>", "<cpu>", "<p>", "<c>"):
        assert written in structure.texts


def test_parts_of_the_loss_and_further_scores_have_curves():
    entries = [
        {"iteration": 1, "loss": 3.0, "loss_mask": 1.0, "loss_box": 2.0, "lr": 0.1},
        {"iteration": 1, "val_mask_ap": 0.25, "val_box_ap": 0.5},
        {"iteration": 2, "loss": 2.0, "loss_mask": 0.5, "lr": 0.1},
    ]
    curves = Curves.from_log(entries, "val_mask_ap", ["val_box_ap"])
    assert curves.parts == {"mask": [1.0, 0.5], "box": [2.0, None]} and curves.more_scores == {"box AP": [0.5]}
    page = render(a_report(curves=curves, score_title="mask AP"))
    headings = re.findall("<h3>(.*?)</h3>", page)
    assert headings[:5] == ["Loss", "Parts of the loss", "Validation mask AP", "Validation box AP", "Learning rate"]


def test_examples_are_what_was_written_and_nothing_else():
    uri = data_uri(np.zeros((2, 2, 3), np.uint8), True)
    written = [("street <1> & 2", [("image", uri), ("truth <a>", uri)]), ("other", [("image", uri)])]
    page = render(a_report(rows=[], rows_note="")).replace(
        "</main>", "".join(figures(name, panels) for name, panels in written) + "</main>"
    )
    assert examples(page) == written
    foreign = (
        '<section class="row"><h3>x<script>alert(1)</script></h3><img src="http://a/b.png">'
        '<img src="data:image/svg+xml;base64,AAAA"></section><img src="' + uri + '">'
    )
    assert examples(foreign) == [] and examples("") == [] and examples("<section class=row><h3>") == []


def test_gates_have_a_chart_of_their_own():
    log = [
        {"iteration": n, "loss": 1.0, "lr": 0.1, "gate_a": gate, "gate_b": -gate} for n, gate in enumerate((0.0, 0.5))
    ]
    curves = Curves.from_log([*log, {"iteration": 1, "val_miou": 0.5}])
    assert curves.gates == {"gate_a": [0.0, 0.5], "gate_b": [-0.0, -0.5]}
    texts = Structure(render(a_report(curves=curves))).texts
    assert "Gate of the attention" in texts and "gate_b" in texts
    assert "Gate of the attention" not in Structure(render(a_report())).texts
