"""Which format a request gets."""

import pytest
from starlette.exceptions import HTTPException

from crisscross.service.answers import choose


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("*/*", "labels"),
        ("image/png", "labels"),
        ("image/*", "labels"),
        ("IMAGE/PNG; q=0.1", "labels"),
        ("application/json", "polygons"),
        ("application/*, text/html", "polygons"),
        ("application/json, image/png", "labels"),
        ("application/json, image/png;q=0.9", "polygons"),
        ("*/*;q=0.2, application/json", "polygons"),
        # The more exact range counts.
        ("image/*;q=0, */*", "polygons"),
        ("image/png;q=0.1, image/*, application/json;q=0.5", "polygons"),
        ("text/html,application/xhtml+xml,image/webp,*/*;q=0.8", "labels"),
    ],
)
def test_accept_chooses(accept, name):
    assert choose(None, accept) == name
    assert choose("rle", accept) == "rle"


@pytest.mark.parametrize("accept", ["text/html", "", "image/png;q=0", "image/jpeg, */html", "*/*;q=x", "png"])
def test_what_cannot_be_met_is_refused(accept):
    with pytest.raises(HTTPException) as caught:
        choose(None, accept)
    assert caught.value.status_code == 406


@pytest.mark.parametrize("name", ["", "png", "labels\n", "x" * 5000])
def test_a_format_that_does_not_exist_is_named(name):
    with pytest.raises(HTTPException) as caught:
        choose(name, "*/*")
    assert caught.value.status_code == 400
    assert len(caught.value.detail) < 250 and "there are labels, color, polygons, rle, fractions" in caught.value.detail
