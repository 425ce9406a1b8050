"""The paths of the service, without a server."""

import io
import threading

import numpy as np
import pytest
from filter_bank import image_of
from pycocotools import mask as coco
from served import CARD, NAMES, file_of, labels_of, predictor
from starlette.testclient import TestClient

from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.service import Limits, create_app

IMAGE = image_of(75, 101, 1)
PNG = file_of(IMAGE)
EXPECTED = predictor().predict(IMAGE).labels


def client_of(app) -> TestClient:
    return TestClient(app, "http://localhost")


@pytest.fixture(scope="module")
def client():
    with client_of(create_app(predictor(), Limits(size=100_000, pixels=20_000))) as found:
        yield found


def good(client) -> None:
    """The service answers rightly."""
    assert np.array_equal(labels_of(client.post("/predict", content=PNG).content), EXPECTED)


def test_labels_are_the_predictors_own_in_every_format(client):
    found = {name: client.post(f"/predict?format={name}", content=PNG) for name in NAMES}
    assert {answer.status_code for answer in found.values()} == {200}
    assert len(np.unique(EXPECTED)) > 3
    image = labels_of(found["labels"].content)
    assert image.ndim == 2 and np.array_equal(image, EXPECTED)
    assert np.array_equal(labels_of(found["color"].content), np.array(CARD.palette, np.uint8)[EXPECTED])
    document = found["rle"].json()
    assert document["images"] == [{"id": 1, "file_name": "image", "width": 101, "height": 75}]
    masks = {one["category_id"] - 1: coco.decode(one["segmentation"]) for one in document["annotations"]}
    assert masks.keys() == set(np.unique(EXPECTED).tolist())
    assert all(np.array_equal(mask, label == EXPECTED) for label, mask in masks.items())
    shares = found["fractions"].json()
    assert shares == {name: pytest.approx((label == EXPECTED).mean()) for label, name in enumerate(CARD.classes)}
    outlines = found["polygons"].json()
    assert (outlines["width"], outlines["height"]) == (101, 75)
    areas = {name: 0.0 for name in CARD.classes}
    for one in outlines["polygons"]:
        areas[one["name"]] += _area(one["polygon"]) - sum(map(_area, one["holes"]))
    assert {name: area / EXPECTED.size for name, area in areas.items()} == shares


def _area(ring) -> float:
    x, y = np.array(ring, float).T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_every_kind_of_image_file_is_read(client, kind):
    content = file_of(IMAGE, kind)
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    found = client.post("/predict", content=content)
    assert np.array_equal(labels_of(found.content), predictor().predict(pixels).labels)


def test_a_form_is_an_image_too(client):
    answer = client.post("/predict", files={"image": ("a.png", PNG)})
    assert np.array_equal(labels_of(answer.content), EXPECTED)
    answer = client.post("/predict", files={"image": ("a.png", PNG)}, data={"format": "fractions"})
    assert answer.json().keys() == set(CARD.classes)
    # The address comes before the form.
    answer = client.post("/predict?format=rle", files={"image": ("a.png", PNG)}, data={"format": "fractions"})
    assert "annotations" in answer.json()


def test_what_the_service_tells_about_itself(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert (client.get("/ready").status_code, client.get("/ready").json()) == (200, {"status": "ready"})
    classes = client.get("/classes").json()
    assert [one["name"] for one in classes] == list(CARD.classes) and classes[2]["label"] == 2
    good(client)
    text = client.get("/metrics").text
    assert 'crisscross_requests_total{path="/predict",status="200"}' in text and "crisscross_under_way 0" in text
    missing = client.get("/no/such/path")
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})
    assert client.get("/predict").status_code == 405
    assert 'path="other",status="404"' in client.get("/metrics").text and "/no/such" not in client.get("/metrics").text


def test_the_page_loads_nothing_from_outside(client):
    page = client.get("/docs")
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    schema = client.get("/openapi.json").json()
    for path in schema["paths"]:
        assert path in page.text
    one = schema["paths"]["/predict"]["post"]
    assert one["parameters"][0]["schema"]["enum"] == list(NAMES)
    assert {"200", "413", "415", "429"} <= one["responses"].keys() and "image/*" in one["requestBody"]["content"]


def test_no_header_lets_other_pages_read(client):
    answer = client.get("/health", headers={"origin": "http://localhost"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/predict", headers={"access-control-request-method": "POST"}).status_code == 405


@pytest.mark.parametrize("limits", [Limits(requests=3), Limits(requests=1)])
def test_more_requests_than_may_wait_are_told_to_come_again(limits):
    entered, go = threading.Semaphore(0), threading.Event()
    inner = predictor()

    def logits_of(x):
        entered.release()
        assert go.wait(60)
        return inner.stages.encode(x)

    found, codes = Predictor(logits_of, CARD), []
    go.set()
    app = create_app(found, limits)
    while entered.acquire(blocking=False):
        pass
    go.clear()
    with client_of(app) as client:
        ask = [
            threading.Thread(target=lambda: codes.append(client.post("/predict", content=PNG).status_code))
            for _ in range(limits.requests)
        ]
        for one in ask:
            one.start()
        assert entered.acquire(timeout=60)
        while f"crisscross_under_way {limits.requests}\n" not in client.get("/metrics").text:
            pass
        refused = client.post("/predict", content=PNG)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json() == {"error": f"{limits.requests} requests are waiting already; try again in a second"}
        assert client.get("/ready").status_code == 200
        go.set()
        for one in ask:
            one.join()
        assert codes == [200] * limits.requests
        good(client)


def test_an_answer_that_takes_too_long_is_given_up():
    go = threading.Event()
    go.set()
    inner = predictor()

    def logits_of(x):
        assert go.wait(60)
        return inner.stages.encode(x)

    with client_of(create_app(Predictor(logits_of, CARD), Limits(timeout=2))) as client:
        go.clear()
        # The first is being computed, the second still waits when its time is over: it is never computed.
        for _ in range(2):
            late = client.post("/predict", content=PNG)
            assert (late.status_code, late.json()) == (504, {"error": "no answer after 2 seconds"})
        assert "crisscross_under_way 0" in client.get("/metrics").text
        go.set()
        good(client)
        assert "crisscross_images_total 2\n" in client.get("/metrics").text


def test_an_error_inside_is_one_line_and_the_log_has_the_rest(capsys):
    def logits_of(x):
        if x.shape[-1] == 101:
            raise RuntimeError("secret of the network")
        return predictor().stages.encode(x)

    with client_of(create_app(Predictor(logits_of, CARD))) as client:
        answer = client.post("/predict", content=PNG)
        assert answer.status_code == 500 and answer.headers["x-request-id"] in answer.json()["error"]
        assert "secret" not in answer.text and "Traceback" not in answer.text
        assert client.post("/predict", content=file_of(IMAGE[:, :90])).status_code == 200
    lines = [line for line in capsys.readouterr().err.splitlines() if answer.headers["x-request-id"] in line]
    assert len(lines) == 2 and "secret of the network" in lines[0] and '"status": 500' in lines[1]


def test_a_predictor_that_does_not_work_is_refused_at_the_start():
    with pytest.raises(CrissCrossError, match="must return logits"):
        create_app(Predictor(lambda x: x, CARD))


def test_the_worker_ends_with_the_application():
    def workers() -> int:
        return sum(thread.name == "network" for thread in threading.enumerate())

    before = workers()
    with client_of(create_app(predictor())) as client:
        good(client)
        assert workers() == before + 1
    assert workers() == before
