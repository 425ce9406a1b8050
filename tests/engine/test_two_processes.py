"""Two processes that train together, over gloo on this machine: the same curve, counts, log and files as one.

With plain copies of the weights in both, and with the weights spread over them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from instances_data import TINY, write_coco
from paths import SOURCE, TESTS
from shapes_data import experiment, write_shapes
from two_processes import counts
from waiting import HANGS

from crisscross.checkpoints import native
from crisscross.config import override, to_yaml
from crisscross.data import DataSet, open_folder
from crisscross.data.samples.loader import Batch
from crisscross.engine.loop import freeze_unread
from crisscross.engine.run.log import read_log
from crisscross.engine.run.record import last_start
from crisscross.engine.semantic.task import SemanticLosses
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.instances.config import InstanceExperiment
from crisscross.models import Segmenter

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed"),
]
HELPERS = TESTS / "helpers"
# Statistics of the stored kind and no dropout: what is left must not depend on the number of processes.
EXPERIMENT = experiment(
    "train.iterations=9",
    "train.batch=8",
    "train.accumulate=2",
    "train.validate_every=9",
    "train.checkpoint_every=4",
    "train.batch_norm=frozen",
    "train.ema=0.5",
    "model.head.dropout=0",
    "model.aux_head.dropout=0",
    "optim.clip=0.4",
)
# One process, with passes of as many images as each of two has: rounding depends on that number, and where a unit lies
# within it of 0, so does its gradient.
ALONE = override(EXPERIMENT, ["train.accumulate=4"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three images to validate on, which two processes cannot share evenly, and a split of a single one."""
    root = write_shapes(tmp_path_factory.mktemp("data") / "shapes")
    (root / "single.txt").write_text("p10\n")
    splits = {name: f"{name}.txt" for name in ("train", "val", "single")}
    (root / "dataset.yaml").write_text(json.dumps({"classes": ["ground", "disc", "square"], "splits": splits}))
    (root / "experiment.yaml").write_text(to_yaml(EXPERIMENT))
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> DataSet:
    return open_folder(folder)


@pytest.fixture(scope="module")
def alone(dataset: DataSet, tmp_path_factory) -> Path:
    """The run of a single process that others are compared with."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert train(ALONE, dataset, out).finished
    return out


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A function that runs a training in two processes: (exit code, stdout, stderr) of both."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(HELPERS)])}
    command = [sys.executable, str(HELPERS / "two_processes.py")]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    # Those that hang are ended and fail the test.
    watch = threading.Timer(HANGS, os.killpg, (server.pid, signal.SIGKILL))
    watch.start()

    def run(folder: Path, out: Path, *words: str, event: str = "none", at: int = 0, counts: str = "-") -> list:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path_factory.mktemp("log") / "said"
        given = [
            "train",
            str(folder / "experiment.yaml"),
            "--data",
            str(folder),
            "--out",
            str(out),
            "--device",
            "cpu",
            "--workers",
        ]
        request = {"arguments": [event, str(at), counts, *given, "0", *words], "port": port, "log": str(log)}
        print(json.dumps(request), file=server.stdin, flush=True)
        codes = json.loads(server.stdout.readline())
        texts = [[Path(f"{log}.{rank}.{kind}").read_text() for kind in ("out", "err")] for rank in range(2)]
        return [(code, *said) for code, said in zip(codes, texts, strict=True)]

    yield run
    watch.cancel()
    server.communicate()


def losses(run: Path) -> list[float]:
    """By iteration; every iteration is there once."""
    entries = [entry for entry in read_log(run) if "loss" in entry]
    assert [entry["iteration"] for entry in entries] == list(range(1, len(entries) + 1))
    return [entry["loss"] for entry in entries]


def assert_same_weights(one: Path, other: Path, name: str, atol: float = 2e-6) -> None:
    ours, theirs = (native.read(run / f"{name}.safetensors")[0] for run in (one, other))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def test_two_processes_train_the_curve_of_one(together, folder, alone, tmp_path):
    out = tmp_path / "run"
    results = together(folder, out, counts=str(tmp_path / "counts.json"))
    assert [result[0] for result in results] == [0, 0], results
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    assert max(losses(alone)) - min(losses(alone)) > 0.02
    for name in ("last", "best"):
        assert_same_weights(alone, out, name)
    # Who speaks and writes is one process.
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir())
    assert "done: " in results[0][1] and results[1][1] == "" and "train 9/9" not in results[1][2]
    assert json.loads((out / "run.json").read_text())["starts"][0]["hardware"]["processes"] == 2
    scored = json.loads((tmp_path / "counts.json").read_text())
    assert scored == counts(str(folder))
    # Each image has 64 x 80 pixels, one row of which is ignored.
    sums = {split: sum(map(sum, rows)) for split, rows in scored.items()}
    assert sums == {"val": 3 * 63 * 80, "single": 63 * 80}
    assert min(Counter(row.index(max(row)) for row in scored["val"]).values()) >= 1


UNREAD = ("backbone.net.next.", "backbone.net.classify.", "backbone.net.token")


@pytest.mark.parametrize(
    ("words", "unread"),
    [
        ((), ()),
        (("loss.aux_weight=0",), ("aux_head.",)),
        (("model.backbone=two_processes:Unread",), UNREAD),
        (("model.head=ce2p", "loss.aux_weight=0"), ("head.classify_before.",)),
        (
            ("loss.terms=[{name: dice}, {name: category_consistent}]", "model.frozen=[layer1]"),
            ("backbone.net.layer1.",),
        ),
    ],
)
def test_weights_that_no_gradient_reaches_are_found_once(words, unread):
    torch.manual_seed(0)
    experiment = override(EXPERIMENT, ["data.classes=[a, b, c]", "train.batch_norm=train", *words])
    segmenter, accelerator = Segmenter(experiment), Accelerator(cpu=True)
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    size = experiment.augment.crop
    batch = Batch(torch.zeros(2, 3, *size), torch.zeros(2, *size, dtype=torch.uint8), [], frozenset({0}))
    freeze_unread(segmenter, SemanticLosses(experiment), batch, accelerator)
    left_out = {name for name, parameter in segmenter.named_parameters() if not parameter.requires_grad}
    assert left_out == {name for name, _ in segmenter.named_parameters() if name.startswith(unread or "nothing")}
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())
    assert all(parameter.grad is None for parameter in segmenter.parameters())


@pytest.mark.parametrize("more", [(), pytest.param(("--shard",), marks=pytest.mark.slow)], ids=["plain", "shard"])
def test_two_processes_train_a_network_with_weights_that_nothing_reads(together, folder, dataset, tmp_path, more):
    changes = (
        "loss.aux_weight=0",
        "model.backbone=two_processes:Unread",
        "train.iterations=3",
        "train.validate_every=0",
        # The valid pixels are those of both shares together: of the same pass, the same sum.
        "loss.normalizer=valid",
        "train.accumulate=1",
    )
    alone, out = tmp_path / "alone", tmp_path / "together"
    train(override(EXPERIMENT, changes), dataset, alone)
    results = together(folder, out, *more, *(word for change in changes for word in ("--set", change)))
    assert [result[0] for result in results] == [0, 0], results
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    assert_same_weights(alone, out, "last")


def test_ctrl_c_at_one_of_two_stops_both_and_one_process_goes_on(together, folder, dataset, alone, tmp_path):
    out = tmp_path / "run"
    results = together(folder, out, event="interrupt", at=5)
    assert [result[0] for result in results] == [130, 130], results
    assert "stopped after iteration 5" in results[0][1] and "Traceback" not in results[0][2] + results[1][2]
    assert train(ALONE, dataset, out, resume=True).finished
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    assert_same_weights(alone, out, "last")


@pytest.mark.parametrize("event", ["kill", pytest.param("fail", marks=pytest.mark.slow)])
def test_two_processes_go_on_for_one_and_end_when_one_dies(together, folder, dataset, alone, tmp_path, event):
    class Crash(Exception):
        pass

    def crash(step):
        if step.iteration == 6:
            raise Crash

    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(ALONE, dataset, out, listener=crash)
    (code, _, said), (other_code, _, other_said) = together(folder, out, "--resume", event=event, at=8)
    assert code == 2 and said.splitlines()[-1].startswith("crisscross: another process of this training ended"), said
    assert other_code == (2 if event == "fail" else -9)
    assert ("the second process found a broken image" in other_said) == (event == "fail")
    assert "Traceback" not in said + other_said
    # From iteration 4 on, the last that was saved, these are theirs.
    assert losses(out) == pytest.approx(losses(alone)[: len(losses(out))], rel=2e-5) and len(losses(out)) >= 7
    assert native.read(out / "last.safetensors")[2]["position"]["iteration"] in (4, 8)


def test_two_processes_that_hold_half_of_everything_train_the_curve_of_one(together, folder, alone, tmp_path):
    out = tmp_path / "run"
    results = together(folder, out, "--shard", event="hold", at=3)
    assert [result[0] for result in results] == [0, 0], results
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    norms, expected = ([entry["grad_norm"] for entry in read_log(run) if "loss" in entry] for run in (out, alone))
    assert norms == pytest.approx(expected, rel=2e-4) and max(norms) > 0.4 > min(norms)
    # Names, shapes (the gate has no dimension) and values; `last` has the optimizer's state and the average too.
    for name in ("last", "best"):
        assert_same_weights(alone, out, name)
    assert native.read(out / "last.safetensors")[0]["head.attend.attention.gamma"].shape == ()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir())
    assert json.loads((out / "run.json").read_text())["starts"][0]["machine"]["shard"] is True
    tensors = native.read(alone / "last.safetensors")[0]
    total = sum(value.numel() for key, value in tensors.items() if key.endswith("/momentum_buffer"))
    held = [json.loads((tmp_path / f"run.held{rank}").read_text()) for rank in (0, 1)]
    for kind in ("weights", "gradients", "momentum", "average"):
        assert sum(one[kind] for one in held) == total
        assert all(0.45 * total < one[kind] < 0.55 * total for one in held), held


@pytest.mark.slow
def test_a_run_goes_from_one_process_to_shards_and_back(together, folder, dataset, alone, tmp_path):
    class Crash(Exception):
        pass

    def crash(step):
        if step.iteration == 6:
            raise Crash

    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(ALONE, dataset, out, listener=crash)
    # From iteration 4 on these are theirs.
    results = together(folder, out, "--resume", "--shard", event="interrupt", at=7)
    assert [result[0] for result in results] == [130, 130], results
    assert "stopped after iteration 7" in results[0][1] and f"crisscross train --resume {out}\n" in results[0][1]
    # The command repeats the options of the machine that the run has stored.
    assert last_start(out)["shard"] is True
    assert "Traceback" not in results[0][2] + results[1][2]
    assert train(ALONE, dataset, out, resume=True).finished
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    for name in ("last", "best"):
        assert_same_weights(alone, out, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--set", "optim.name=adamw", "--set", "optim.lr=1e-3"],
        ["--set", "train.memory=recompute"],
        ["--set", "train.memory=lean"],
        ["--set", "loss.terms=[{name: cross_entropy}, {name: category_consistent, weight: 0.1}]"],
        # Its `blocks` are never called as one module.
        ["--set", "model.backbone=test_efficientnet"],
    ],
    ids=["adamw", "recompute", "lean", "embedding", "efficientnet"],
)
def test_shards_go_with_other_choices(together, folder, tmp_path, words):
    """As two plain processes do it: where a term looks at a whole pass, one process has other passes."""
    short = ["--set", "train.iterations=5", "--set", "train.validate_every=5"]
    plain, sharded = tmp_path / "plain", tmp_path / "sharded"
    for out, choice in ((plain, []), (sharded, ["--shard"])):
        results = together(folder, out, *choice, *short, *words)
        assert [result[0] for result in results] == [0, 0], results
    assert losses(sharded) == pytest.approx(losses(plain), rel=2e-5)
    # AdamW divides by the size of gradients, however small.
    assert_same_weights(plain, sharded, "last", 2e-5 if "optim.name=adamw" in words else 2e-6)
    # A finished run has nothing left to do, but reads all of its state.
    again = together(folder, sharded, "--shard", "--resume", *short, *words)
    assert [result[0] for result in again] == [0, 0], again


@pytest.mark.slow
def test_shards_name_a_backbone_that_they_do_not_suit(together, folder, tmp_path):
    words = ["--shard", "--set", "model.backbone=two_processes:Peeping"]
    for code, _, said in together(folder, tmp_path / "run", *words):
        assert code == 2 and "Traceback" not in said
    assert "--shard cannot be used with this backbone" in said


@pytest.mark.parametrize(
    ("words", "compiled", "reason"),
    [
        (["train.precision=fp16"], False, r"--shard and train\.precision=fp16 cannot be used together: train in bf16"),
        ([], True, r"--shard and --compile cannot be used together: leave one out"),
    ],
)
def test_what_shards_do_not_go_with_is_refused(dataset, tmp_path, words, compiled, reason):
    with pytest.raises(CrissCrossError, match=reason):
        train(experiment(*words), dataset, tmp_path / "run", Machine(device="cpu", compile=compiled, shard=True))
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_one_process_has_nothing_to_shard(dataset, tmp_path, capsys):
    words = ["train.iterations=1", "train.validate_every=0"]
    train(experiment(*words), dataset, tmp_path / "one")
    assert "--shard" not in capsys.readouterr().err
    train(experiment(*words), dataset, tmp_path / "two", Machine(device="cpu", shard=True))
    assert "--shard is without effect: one process trains alone and holds everything" in capsys.readouterr().err
    assert_same_weights(tmp_path / "one", tmp_path / "two", "last")


@pytest.mark.slow
def test_two_processes_train_instances_with_copies_and_with_parts_of_the_weights(together, tmp_path):
    folder = write_coco(tmp_path / "coco")
    (folder / "experiment.yaml").write_text(to_yaml(override(InstanceExperiment(), [*TINY, "train.ema=0.5"])))
    for out, words in (("plain", ()), ("shard", ("--shard",))):
        results = together(folder, tmp_path / out, *words)
        assert [result[0] for result in results] == [0, 0], results
    assert losses(tmp_path / "plain") == pytest.approx(losses(tmp_path / "shard"), rel=1e-4)
    # The boxes that are sampled follow from iteration and process, not from how the weights are held.
    tensors = [native.read_tensors(tmp_path / out / "last.safetensors") for out in ("plain", "shard")]
    assert tensors[0].keys() == tensors[1].keys()
    for key, value in tensors[0].items():
        torch.testing.assert_close(tensors[1][key], value, rtol=1e-3, atol=1e-5)
