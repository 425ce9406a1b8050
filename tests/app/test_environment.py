"""The environment that gradio has of its own: its packages before those of the main one, this checkout in it."""

from importlib.metadata import version

import gradio
import PIL
from paths import SOURCE

import crisscross


def test_gradio_finds_the_pillow_it_asks_for():
    assert int(version("pillow").split(".")[0]) < 13
    assert PIL.__version__ == version("pillow")
    assert gradio.__version__ == version("gradio")


def test_the_app_of_this_checkout_is_tested():
    assert crisscross.__file__ == str(SOURCE / "crisscross" / "__init__.py")
