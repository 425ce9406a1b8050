"""What is wrong without weights is said before they are downloaded."""

import pytest

import crisscross
from crisscross.cli import main
from crisscross.errors import CrissCrossError

# Weights of both would have to be downloaded.
PUBLISHED, INSTANCES = "ccnet_r50-d8_4xb2-40k_cityscapes-512x1024", "maskrcnn_r50_fpn_rcca_coco"
PIXELS = f"{INSTANCES} is of the task instances; {{}} takes networks that label pixels"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("CRISSCROSS_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"serve {INSTANCES} --port 0", PIXELS.format("serve")),
        (f"explain {PUBLISHED} missing.png --at 1,1", "missing.png: no such file"),
        (f"explain {PUBLISHED} --data missing --report out", "missing: no such folder; give the data set's folder"),
        (f"export {PUBLISHED} --to onnx --out out --images missing", "missing: no such folder"),
        (f"benchmark {PUBLISHED} --data missing", "missing: no such folder"),
        (f"evaluate {PUBLISHED} --data missing", "missing: no such folder"),
        (f"predict {PUBLISHED} missing.png --out out", "missing.png: no such file or folder"),
    ],
)
def test_commands(words, message, capsys):
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"crisscross: {message}") and shown.err.count("\n") == 1 and not shown.out


def test_a_predictor():
    with pytest.raises(CrissCrossError) as caught:
        crisscross.predictor(INSTANCES)
    assert str(caught.value) == PIXELS.format("crisscross.predictor")
