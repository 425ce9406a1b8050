"""The benchmark measures what it says: work, goals, files; all contestants compute what they are said to compute."""

import argparse
import json
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.__main__ import main
from benchmarks.commands.options import parse_sizes
from benchmarks.compare import contestants, mmcv
from benchmarks.compare.attention import Entry, Plan, difference, measure, steps, truth
from benchmarks.compare.contestants import (
    FAST,
    FLOAT32,
    GATE,
    LEAN,
    MMCV,
    NON_LOCAL,
    Contestant,
    common_weights,
    give_weights,
)
from benchmarks.compare.goals import MIB, check, ratio
from benchmarks.compare.peers import MaskedSDPA, NonLocal, NonLocalRows
from benchmarks.compare.results import facts, goal_table, markdown, memory_table, time_table
from benchmarks.compare.rows import Row, Size, attention_gflop, layer_gflop, matrix_product, projection_gflop
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.measurement.memory import peak_memory

CPU = torch.device("cpu")


def test_work_at_the_size_of_the_paper() -> None:
    size = Size(97, 97, 512)
    assert projection_gflop(size) == pytest.approx(6.17, abs=0.005)
    assert attention_gflop(size, 97 + 97 - 1) == pytest.approx(2.09, abs=0.005)
    # Two passes are the paper's 16.5 GFLOP, a non-local block its 108.
    assert 2 * layer_gflop(size, criss_cross=True) == pytest.approx(16.5, abs=0.05)
    assert layer_gflop(size, criss_cross=False) == pytest.approx(108, abs=0.5)
    assert matrix_product(CPU, torch.float32, 4)[0] == pytest.approx(128e-9)


def published_form(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer as the authors describe it: column and row logits side by side, the column's own entry at -inf."""
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    height = x.shape[-2]
    column = torch.einsum("bdhw,bdiw->bhwi", q, k)
    column = column - torch.diag(torch.full((height,), torch.inf)).nan_to_num(nan=0.0).to(x)[:, None, :]
    row = torch.einsum("bdhw,bdhj->bhwj", q, k)
    weights = F.softmax(torch.cat([column, row], -1), -1)
    attended = torch.einsum("bhwi,bciw->bchw", weights[..., :height], v)
    return x + layer.gamma * (attended + torch.einsum("bhwj,bchj->bchw", weights[..., height:], v))


@pytest.fixture
def common():
    """Weights with an open gate, an input and an upstream gradient, exact in float32."""
    weights = common_weights(16, torch.float32)
    x, upstream = torch.randn(2, 1, 16, 7, 10, generator=torch.Generator().manual_seed(1))
    return weights, x, upstream


def test_the_truth_is_the_published_form(common) -> None:
    weights, x, upstream = common
    layer, x64 = common_weights(16, torch.float32).double(), x.double().requires_grad_()
    expected = published_form(layer, x64)
    (gradient,) = torch.autograd.grad(expected, x64, upstream.double())
    for found, wanted in zip(truth(weights, x, upstream), (expected, gradient), strict=True):
        assert difference(found, wanted) < 1e-12
    # The gate is open: the layer is far from the identity.
    assert weights.gamma.item() == pytest.approx(GATE) and difference(expected, x64) > 0.05


def agrees(one: Contestant, common) -> None:
    """A contestant's output and input gradient are the truth's, in float64."""
    weights, x, upstream = common
    give_weights(weights, one.layer).double()
    x64 = one.prepare(x).requires_grad_()
    y = one.run(x64)
    (gradient,) = torch.autograd.grad(y, x64, upstream.double())
    for found, wanted in zip((y, gradient), truth(weights, x, upstream), strict=True):
        assert difference(found, wanted) < 1e-12, one.name


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_ours_agrees(memory, common) -> None:
    agrees(Contestant("ours", CrissCrossAttention(16, memory=memory)), common)


@pytest.mark.parametrize("channels_last", [True, False])
def test_masked_sdpa_agrees(channels_last, common) -> None:
    agrees(Contestant("SDPA", MaskedSDPA(16), channels_last), common)


@pytest.mark.parametrize("channels_last", [True, False])
def test_mmcv_agrees_where_its_wheel_is_at_hand(channels_last, common) -> None:
    wheel = mmcv.cache_folder() / mmcv.WHEEL
    if not wheel.is_file():
        pytest.skip("MMCV's wheel is not in the cache; `python -m benchmarks attention` fetches it")
    before = set(sys.modules)
    agrees(Contestant(MMCV, mmcv.mmcv_attention(wheel)(16), channels_last), common)
    assert not {name for name in set(sys.modules) - before if name.startswith(("mmcv", "mmengine"))}


@pytest.mark.parametrize("kind", [NonLocal, NonLocalRows])
def test_a_non_local_block_attends_to_all_pairs(kind, common) -> None:
    weights, x, _ = common
    layer = give_weights(weights, kind(16))
    q, k, v = (getattr(layer, name)(x)[0].flatten(1) for name in ("query", "key", "value"))
    expected = torch.stack([v @ torch.softmax(k.T @ q[:, n], 0) for n in range(70)], -1).view(1, 16, 7, 10)
    assert difference(layer(x), (x + GATE * expected).double()) < 1e-6


def test_the_peak_of_a_layer_by_hand() -> None:
    """A non-local block's forward: query, key and value, then logits and weights together."""
    entry = Entry(Contestant("non-local", NonLocal(16), False), torch.randn(1, 16, 16, 24), torch.empty(0))
    qkv, pairs = (16 + 2 + 2) * 16 * 24 * 4, (16 * 24) ** 2 * 4
    assert peak_memory(lambda: entry.forward(1), CPU).peak == qkv + 2 * pairs


def rows_like(**ratios: float) -> list[Row]:
    """Rows in which MMCV takes 1 second everywhere and ours less by the given ratios."""
    time = {"forward": ratios.get("forward", 1.0), "training": ratios.get("training", 1.0)}
    memory = {"forward_peak": 92 * MIB, "training_peak": 184 * MIB}
    mine = {name: 1 / value for name, value in time.items()}
    small = {name: round(value / ratios.get("memory", 1.0)) for name, value in memory.items()}
    kept = round(ratios.get("kept", 48) * MIB)
    shares = {"share": ratios.get("share", 0.9), "training_share": ratios.get("training_share", 0.9)}
    return [
        *(Row(name, **mine, **small, **shares, kept=kept) for name in (FAST, LEAN)),
        Row(MMCV, forward=1.0, training=1.0, **memory, kept=48 * MIB),
        Row(NON_LOCAL, forward_peak=698 * MIB, training_peak=1392 * MIB),
    ]


def test_goals_reached_and_missed() -> None:
    good = {"forward": 2.6, "training": 2.1, "memory": 3.0, "kept": 1.4}
    rows = rows_like(**good)
    assert ratio(rows, FAST, "forward") == pytest.approx(2.6)
    assert [one.reached for one in check({Size(97, 97, 512): rows})] == [True] * 10
    for name, value, missed in (
        ("share", 0.84, [0]),
        ("training_share", 0.79, [1]),
        ("forward", 2.2, [2]),
        ("forward", 1.9, [2, 3]),
        ("training", 1.9, [4]),
        ("memory", 2.4, [5, 6]),
        ("memory", 2.2, [5, 6, 7, 8]),
        ("kept", 1.6, [9]),
    ):
        checks = check({Size(97, 97, 512): rows_like(**{**good, name: value})})
        assert [index for index, one in enumerate(checks) if not one.reached] == missed, name


def test_goals_over_sizes_and_what_was_not_measured() -> None:
    results = {Size(64, 64, 512): rows_like(forward=2.1), Size(64, 128, 512): rows_like(forward=2.5)}
    checks = check({**results, Size(8, 8, 512): rows_like(forward=3)})
    assert checks[2].found == pytest.approx(2.5) and checks[3].found == pytest.approx(2.1)
    # No 97 x 97 with 512 channels: no verdict on memory.
    assert [one.reached for one in checks[5:]] == [None] * 5
    assert [one.reached for one in check({Size(97, 97, 512): [Row(FAST, forward=1.0)]})] == [None] * 10


def test_goals_of_half_precision_on_a_cpu_are_beside_float32() -> None:
    weights = common_weights(16, torch.bfloat16)
    peers = contestants.create(weights, torch.bfloat16, CPU, ())
    assert {one.name: one.prepare(torch.ones(1, 16, 2, 2)).dtype for one in peers} == {
        FAST: torch.bfloat16,
        LEAN: torch.bfloat16,
        FLOAT32: torch.float32,
    }
    times = {FAST: (2.0, 5.0), LEAN: (2.0, 6.0), FLOAT32: (4.0, 8.0)}
    rows = [Row(name, forward=forward, training=training) for name, (forward, training) in times.items()]
    forward, training = check({Size(9, 9, 16): rows, Size(8, 8, 16): [replace(rows[0], forward=1.0), *rows[1:]]})
    assert (forward.found, forward.reached) == (2.0, True) and (training.found, training.reached) == (1.6, False)


def test_shares_of_the_peak_by_hand(monkeypatch) -> None:
    """Of a machine where a product of 10 GFLOP takes 2 seconds, and so does everything else."""
    monkeypatch.setattr("benchmarks.compare.attention.matrix_product", lambda device, dtype: (10.0, lambda: None))
    monkeypatch.setattr("benchmarks.compare.attention.interleave", lambda works, *_: dict.fromkeys(works, 2.0))
    weights = common_weights(16, torch.float32)
    plan = Plan(torch.float32, CPU, rounds=1, passes=2, quadratic_limit=0)
    row, _ = measure(Size(9, 5, 16), weights, contestants.create(weights, torch.float32, CPU, ()), plan)
    # Two passes: projections to 16 + 2 + 2 channels, then 13 positions times 2 + 16 channels.
    gflop = 2 * 2e-9 * 45 * (16 * 20 + 13 * 18)
    assert row.share == pytest.approx(gflop / 10) and row.training_share == pytest.approx(3 * gflop / 10)


@pytest.fixture
def small_run(monkeypatch):
    """A whole measurement at a tiny size, without MMCV and without a compiler; the yardstick is small as well."""
    monkeypatch.setattr(
        "benchmarks.compare.attention.matrix_product", lambda device, dtype: matrix_product(device, dtype, 64)
    )
    weights = common_weights(16, torch.float32)
    peers = contestants.create(weights, torch.float32, CPU, ["non-local", "sdpa"])
    reports: list[str] = []
    plan = Plan(torch.float32, CPU, rounds=1, passes=1, quadratic_limit=4 * 100 * 100 * 4)
    size = Size(10, 10, 16)
    rows = measure(size, weights, peers, plan, reports.append)
    assert len(reports) <= steps(peers, plan)
    return {size: rows}


def test_a_small_run(small_run) -> None:
    (rows,) = small_run.values()
    fast, lean, non_local, _, sdpa = rows
    for row in (fast, lean):
        assert row.error < 1e-5 and row.gradient_error < 1e-5 and row.left == 0
        assert min(row.forward, row.training, row.gflops, row.share, row.training_share) > 0 and not row.note
        assert row.training_peak > row.forward_peak >= 16 * 100 * 4
    # Logits and weights of all pairs live together.
    assert non_local.forward_peak > 2 * 100 * 100 * 4 and non_local.error is None
    assert sdpa.forward is None and "skipped: needs about" in sdpa.note


def test_who_is_too_slow_for_a_size_is_skipped(common) -> None:
    weights, *_ = common
    one = Contestant("slow", MaskedSDPA(16), most_positions=30)
    plan = Plan(torch.float32, CPU, rounds=1, passes=1, quadratic_limit=2**30)
    (row,) = measure(Size(4, 8, 16), weights, [one], plan)
    assert row.forward is None and row.note == "skipped: too slow on cpu beyond 30 positions"


def test_tables_fit_and_files_hold_everything(small_run) -> None:
    (rows,) = small_run.values()
    tables = [time_table(rows), memory_table(rows), goal_table(check(small_run))]
    for table in tables:
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        # As a ruled table: three more characters a column and one at the end.
        assert sum(widths) + 3 * len(widths) + 1 <= 100
    about = {"device": "made up", "threads": 1}
    text = markdown(small_run, about)
    assert "## 10x10, 16 channels" in text and "| SDPA, masked |" in text and "skipped: needs" in text
    known = json.loads(json.dumps(facts(small_run, about, complete=True)))
    assert known["sizes"][0]["rows"][0]["name"] == FAST and len(known["goals"]) == 10


@pytest.mark.slow
def test_the_image_or_how_to_get_it(small_run, tmp_path, monkeypatch) -> None:
    from benchmarks.compare.image import draw

    with monkeypatch.context() as blocked:
        blocked.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(CrissCrossError, match=r"pip install .\.\[benchmark\]"):
            draw(small_run, tmp_path / "a.png", "")
    pytest.importorskip("matplotlib")
    draw(small_run, tmp_path / "a.png", "made up")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sizes 64", "'64' is not a size"),
        ("--sizes 64x64,0x3", "'0x3' is not a size"),
        ("--sizes 64x64,64x64", "64x64 is there twice"),
        ("--non-local-limit -1", "must be above 0, got -1"),
        ("--dtype float8", "unknown float8; known: float32, bfloat16, float16"),
        ("--device tpu", "unknown tpu"),
        ("--device cuda", "PyTorch finds no GPU"),
        ("--channels 4", "must be at least 8, got 4"),
        ("--peers mmvc", "unknown mmvc; known: mmcv"),
        ("--mmcv-wheel nowhere.whl", "nowhere.whl: no such file"),
        ("--mmcv-wheel pyproject.toml", "not mmcv_lite-2.1.0-py2.py3-none-any.whl as published"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words, message, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["attention", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crisscross: ") and message in line


def test_without_network_the_error_names_the_argument(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mmcv.subprocess, "run", lambda *_, **__: argparse.Namespace(returncode=1))
    reasons: list[str] = []
    weights = common_weights(16, torch.float32)
    found = contestants.create(weights, torch.float32, CPU, ["mmcv"], on_missing=reasons.append)
    assert [one.name for one in found] == [FAST, LEAN]
    assert "--mmcv-wheel mmcv_lite-2.1.0" in reasons[0] and "pip download --no-deps mmcv-lite==2.1.0" in reasons[0]
    with pytest.raises(CrissCrossError, match="cannot be fetched"):
        contestants.create(weights, torch.float32, CPU, ["mmcv"])
    # Nothing half-fetched stays behind.
    assert list(mmcv.cache_folder().iterdir()) == []


def test_a_run_from_the_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "benchmarks.compare.attention.matrix_product", lambda device, dtype: matrix_product(device, dtype, 64)
    )
    words = f"attention --sizes 6x9 --channels 16 --rounds 1 --peers non-local --out {tmp_path}".split()
    monkeypatch.setattr(sys, "argv", ["crisscross", *words])
    assert main(words) == 0
    assert "ours, fast" in capsys.readouterr().out
    known = json.loads((tmp_path / "attention.json").read_text())
    assert known["complete"] and str(tmp_path.parent) not in json.dumps(known)
    assert (tmp_path / "attention.md").is_file()


def test_sizes_are_read() -> None:
    assert parse_sizes("64x128, 97X97", 32) == [Size(64, 128, 32), Size(97, 97, 32)]
