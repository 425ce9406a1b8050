"""Colors of weights, and the mark of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crisscross.explanation import Explanation, LayerAttention, figure, heat_map, mark
from crisscross.explanation.drawing import layer_panels
from crisscross.explanation.heat import DARK, HEAT, LIT, MARK


def test_the_largest_weight_is_lightest_and_no_weight_shows_the_image():
    image = np.full((2, 3, 3), 255, np.uint8)
    weights = np.array([[0, 0.01, 0.16], [0.64, 0, 0.0]])
    drawn = heat_map(image, weights).astype(int)
    assert drawn[1, 0].tolist() == HEAT[-1].tolist()
    # The square root of a quarter is the middle of the scale.
    assert drawn[0, 2].tolist() == np.rint(0.8 * HEAT[2] + 0.2 * 255 * LIT).tolist()
    assert drawn[0, 0].tolist() == [round(255 * LIT)] * 3
    # An eighth of the scale, with a fifth of the color.
    color = (HEAT[0] + HEAT[1]) / 2
    assert drawn[0, 1].tolist() == np.rint(0.2 * color + 0.8 * 255 * LIT).tolist()
    darker = heat_map(image, weights, lit=np.array([[True, False, True], [True, True, True]]), top=0.04)
    assert darker[0, 1].tolist() == np.rint(0.8 * HEAT[2] + 0.2 * 255 * DARK).tolist()
    assert (darker[1, 0] == HEAT[-1]).all() and (darker[0, 2] == HEAT[-1]).all()
    assert heat_map(image, np.zeros((2, 3))).min() > 0


@pytest.mark.parametrize("at", [(20, 15), (0, 0), (39, 29)])
def test_the_mark_surrounds_its_pixel_and_leaves_the_rest(at):
    image = np.zeros((30, 40, 3), np.uint8)
    drawn = mark(image, at, radius=4)
    rows, columns = np.where((drawn == MARK).all(-1))
    assert len(rows) and not image.any()
    assert np.abs(rows - at[1]).max() <= 10 and np.abs(columns - at[0]).max() <= 10
    assert (drawn[at[1], at[0]] == 0).all()
    if at == (20, 15):
        assert abs(rows.mean() - 14.5) < 1 and abs(columns.mean() - 19.5) < 1


def explanation(passes, cell, labels=True, height=30, width=40):
    image = np.full((height, width, 3), 200, np.uint8)
    maps = tuple(np.zeros(size, np.float32) for size in passes)
    for one in maps:
        one[cell] = 1
    layer = LayerAttention("a.layer", 0.5, cell, maps, maps)
    zeros = np.zeros((height, width), np.uint8)
    odds = np.array([0.75, 0.25], np.float32)
    said = (odds, odds, zeros, zeros) if labels else (None, None, None, None)
    return Explanation((3, 4), image, ("sky", "road"), ((9, 9, 9), (99, 0, 0)), *said, (layer,), (1.0, 1.0))


def test_figures_have_a_panel_for_each_pass_and_for_all_together():
    found = explanation([(3, 4), (3, 4)], (0, 0))
    (row,) = layer_panels(found, found.layers[0])
    assert [panel.title for panel in row] == ["pass 1", "pass 2", "both passes together"]
    # The cross is the first row and the first column of cells, 10 pixels each.
    assert [panel.pixels[15, 15].max() < panel.pixels[5, 25].max() for panel in row] == [True, True, False]
    (one,) = layer_panels(found, explanation([(3, 4)], (0, 0)).layers[0])
    assert [panel.title for panel in one] == ["pass 1"]
    clip = explanation([(2, 3, 4)] * 3, (1, 0, 0))
    rows = layer_panels(clip, clip.layers[0])
    assert [len(row) for row in rows] == [2, 2, 2, 2] and rows[3][
        1
    ].title == "all 3 passes together, frame 2 of 2: 100%"
    for made in (found, clip, explanation([(3, 4)], (0, 0), labels=False), explanation([(3, 4)], (0, 0), height=400)):
        assert isinstance(figure(made), Image.Image)


def test_weights_on_padding_are_named():
    found = explanation([(4, 4)], (0, 0))
    found.layers[0].passes[0][:, 0] = 0.25
    # The image fills the upper half of the input.
    half = Explanation(**{**vars(found), "content": (0.5, 1.0)})
    assert half.on_padding(found.layers[0].passes[0]) == pytest.approx(0.5)
    ((panel,),) = layer_panels(half, found.layers[0])
    assert panel.title == "pass 1 (50% on padding)"
