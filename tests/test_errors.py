"""What errors show, and the one line about a package that is not installed."""

import json

import pytest

from crisscross.errors import CrissCrossError, import_extra, shown, shown_name


def test_a_missing_package_names_itself_and_the_extra():
    assert import_extra("json.decoder", "reading", "files").JSONDecoder is json.JSONDecoder
    with pytest.raises(CrissCrossError) as caught:
        import_extra("not_there.part", "reading clips", "video")
    said = str(caught.value)
    assert said.startswith("reading clips needs not_there: run `pip install '.[video]'` in a checkout of crisscross (")
    assert "\n" not in said


def test_values_are_cut_and_names_are_one_line():
    assert shown("a\nb") == r"'a\nb'" and shown_name("a\n  b") == "a b"
    assert len(shown("x" * 1000)) < 120 and len(shown_name("x" * 1000)) < 120
