"""The page in a real browser, served by the command itself."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from coarse_networks import image_of, small_segmenter
from networks import narrow
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from waiting import wait_until

import crisscross
from crisscross.app import free, open_networks
from crisscross.app.actions import Actions
from crisscross.app.page import create_page
from crisscross.app.running import launch, uploads_in
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.models import Segmenter

CHROMIUM = "/usr/bin/chromium"
IMAGE = image_of(60, 80)
# Milliseconds after which the browser gives up: only what hangs meets it.
HANGS = 300_000


def without_attention():
    model = ModelConfig("test_resnet", 8, **narrow(16, 8, recurrence=0))
    return Segmenter(Experiment(model=model, data=DataConfig(classes=("floor", "wall", "door")))).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def process(folder):
    """`crisscross app` with two networks; its temporary folder is `folder / "temporary"`."""
    crisscross.save(small_segmenter(), folder / "first.safetensors")
    crisscross.save(without_attention(), folder / "second.safetensors")
    (folder / "temporary").mkdir()
    words = [sys.executable, "-m", "crisscross", "app", "first.safetensors", "second.safetensors", "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
    with (folder / "log.txt").open("w") as log:
        started = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "(Ctrl-C stops it)" in (folder / "log.txt").read_text(), started)
        yield started
    finally:
        started.kill()


@pytest.fixture(scope="module")
def address(process, folder):
    return re.search(r"http://127\.0\.0\.1:\d+", (folder / "log.txt").read_text())[0]


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(chromium, address):
    with opened(chromium, address) as found:
        yield found


@contextmanager
def opened(chromium, address):
    """The page, which labels its first scene. Nothing is asked of another address, and no script fails."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    found, asked, errors = context.new_page(), [], []
    found.set_default_timeout(HANGS)
    expect.set_options(timeout=HANGS)
    context.on("request", lambda request: asked.append(request.url))
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(address)
    yield found
    context.close()
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    assert errors == []


def upload(page, path):
    """Choose a file, in place of the one before."""
    for button in page.locator("#upload").get_by_label("Clear").all():
        button.click()
    page.locator("#upload input[type=file]").set_input_files(path)


@pytest.fixture
def labeled(page, folder):
    """The page with `IMAGE`."""
    path = folder / "tiles.png"
    Image.fromarray(IMAGE).save(path)
    page.locator("#x input").fill("")
    upload(page, path)
    expect(page.locator("#x input")).to_have_value("40")
    return page


def test_a_scene_is_shown_by_both_networks_at_once(page):
    expect(page.locator(".pixel h3").first).to_have_text(re.compile("at 360, 180$"))
    assert page.locator(".labels img").count() == 2
    first, second = page.locator(".pixel").all()
    assert first.locator("img").count() == 4 and second.locator("img").count() == 0
    expect(second.locator(".message")).to_have_text(re.compile("has no criss-cross attention"))
    # Side by side.
    boxes = [one.bounding_box() for one in page.locator(".labels").all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    # Another scene.
    before = page.locator("ul.legend").first.inner_text()
    page.locator("#scenes button").nth(2).click()
    expect(page.locator("ul.legend").first).not_to_have_text(before, use_inner_text=True)


def test_a_click_shows_its_pixel(labeled):
    box = labeled.locator(".labels img").first.bounding_box()
    labeled.mouse.click(box["x"] + box["width"] * (60.5 / 80), box["y"] + box["height"] * (12.5 / 60))
    expect(labeled.locator("#x input")).to_have_value("60")
    expect(labeled.locator("#y input")).to_have_value("12")
    (name, value), *_ = crisscross.explain(small_segmenter(), IMAGE, (60, 12)).top(1)
    heading = labeled.locator(".pixel h3").first
    expect(heading).to_have_text(f"{name} at 60, 12")
    expect(labeled.locator(".odds td:last-child").first).to_have_text(f"{value:.1%}")


def test_the_keyboard_is_enough(labeled):
    labeled.locator("#x input").focus()
    labeled.keyboard.press("ControlOrMeta+A")
    labeled.keyboard.type("3")
    labeled.keyboard.press("Tab")
    labeled.keyboard.type("59")
    labeled.keyboard.press("Enter")
    expect(labeled.locator(".pixel h3").first).to_have_text(re.compile("at 3, 59$"))
    before = labeled.locator(".labels img").first.get_attribute("src")
    labeled.locator("#opacity input[type=range]").focus()
    labeled.keyboard.press("ArrowRight")
    expect(labeled.locator(".labels img").first).not_to_have_attribute("src", before)


def test_what_is_wrong_is_one_line(labeled, folder):
    labeled.locator("#y input").fill("60")
    labeled.locator("#show").click()
    alert = labeled.locator("#note .alert")
    expect(alert).to_have_text("x = 40, y = 60 is no pixel of the image: x is 0 to 79, y is 0 to 59")
    legend = labeled.locator("ul.legend").first.inner_text()
    (folder / "broken.png").write_bytes(b"no image")
    upload(labeled, folder / "broken.png")
    expect(alert).to_have_text(re.compile(r"^broken\.png: "))
    assert labeled.locator("ul.legend").first.inner_text() == legend
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_masks_are_downloaded(labeled):
    labeled.locator("#formats").get_by_label("csv").check()
    with labeled.expect_download() as waiting:
        labeled.locator("#download").click()
    assert waiting.value.suggested_filename == "tiles-masks.zip"
    with zipfile.ZipFile(Path(waiting.value.path())) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        content = archive.read("first.safetensors/labels/tiles.png")
    kinds = ("classes.json", "fractions.csv", *(f"{kind}/tiles.png" for kind in ("labels", "color", "overlay")))
    assert names == {f"{one}.safetensors/{name}" for one in ("first", "second") for name in kinds}
    expected = small_segmenter().predictor.predict(IMAGE).labels
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), expected)
    # Without a format the line says so, and nothing is downloaded again.
    for name in ("png", "csv"):
        labeled.locator("#formats").get_by_label(name).uncheck()
    labeled.locator("#download").click()
    expect(labeled.locator("#note .alert")).to_have_text("choose at least one format to download")


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function(
        """() => {
            const found = ['#upload', '.labels', '.pixel', '#download'].map(one => document.querySelector(one));
            if (!found.every(Boolean)) return false;
            const boxes = found.map(one => one.getBoundingClientRect());
            return document.documentElement.scrollWidth == 400
                && boxes.every(box => box.left >= 0 && box.right <= 400)
                && boxes.slice(1).every((box, number) => boxes[number].bottom < box.top)
                // One network below the other.
                && [...document.querySelectorAll('.pixel')].every(one => one.getBoundingClientRect().width > 300);
        }"""
    )


def test_one_network_alone(chromium, tmp_path, monkeypatch):
    # gradio sets it where its own analytics are off.
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "True")
    with uploads_in(str(tmp_path)):
        blocks, port = create_page(Actions(open_networks([small_segmenter()]), tmp_path)), free(0)
        try:
            launch(blocks, port)
            with opened(chromium, f"http://127.0.0.1:{port}") as page:
                expect(page.locator(".pixel h3")).to_have_text(re.compile("at 360, 180$"))
                before = page.locator(".labels img").get_attribute("src")
                box = page.locator(".labels img").bounding_box()
                page.mouse.click(box["x"] + 5, box["y"] + 5)
                expect(page.locator(".pixel h3")).not_to_have_text(re.compile("at 360, 180$"))
                expect(page.locator(".labels img")).not_to_have_attribute("src", before)
        finally:
            blocks.close(verbose=False)


def test_fifty_uploads_at_once(address):
    """Each waits for its turn, and gets its answer."""
    with httpx.Client(base_url=address, timeout=HANGS / 1000, trust_env=False) as client:
        (event,) = (
            one["id"]
            for one in client.get("/config").json()["dependencies"]
            if [kind for _, kind in one["targets"]] == ["upload"]
        )
        file = io.BytesIO()
        Image.fromarray(IMAGE).save(file, "PNG")

        def send(session):
            content = file.getvalue() if session % 2 else b"no image"
            (path,) = client.post("/gradio_api/upload", files={"files": (f"{session}.png", content)}).json()
            sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
            body = {"data": [sent, 0.5], "fn_index": event, "session_hash": f"s{session}"}
            assert client.post("/gradio_api/queue/join", json=body).status_code == 200
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": f"s{session}"}) as answer:
                events = (json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:"))
                return next(one["output"]["data"][0] for one in events if one["msg"] == "process_completed")

        with ThreadPoolExecutor(50) as pool:
            notes = list(pool.map(send, range(50)))
    assert all(note == "" for note in notes[1::2])
    assert all(re.search(rf">{2 * number}\.png: [^<]*</p>$", note) for number, note in enumerate(notes[::2]))


def test_ctrl_c_ends_it_and_removes_what_was_uploaded(process, folder):
    """The last one of this file."""
    assert list((folder / "temporary").glob("crisscross-app-*/*/*.png"))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert list((folder / "temporary").glob("crisscross-app-*")) == []
    lines = (folder / "log.txt").read_text().splitlines()
    assert lines[-1] == "stopped" and len(lines) == 2, lines
