"""YAML and JSON from outside: what is read, what is refused in one line, and what reads their values afterwards."""

import json
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from fuzzing import read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st

import crisscross
from crisscross.checkpoints import native
from crisscross.checkpoints.publishers.metadata import with_classes, with_metadata
from crisscross.config import Experiment, apply_overrides, from_dict, load_experiment, override
from crisscross.config.documents import DEPTH, DIGITS, parse_json, parse_yaml, read_json, read_text, read_yaml
from crisscross.data import open_folder
from crisscross.engine.run.log import RunLog, read_log
from crisscross.engine.run.record import read_record
from crisscross.errors import CrissCrossError

PACKAGE = Path(crisscross.__file__).parent
ONE_LINE = r"^[^\n]{1,500}$"


def refusal(act, *arguments) -> str:
    with pytest.raises(CrissCrossError, match=ONE_LINE) as caught:
        act(*arguments)
    return str(caught.value)


def test_there_is_one_reader():
    calls = re.compile(r"\bjson\.loads?\(|\byaml\.(?:safe_|full_|unsafe_)?load(?:_all)?\(")
    found = [path.name for path in PACKAGE.rglob("*.py") if calls.search(path.read_text(encoding="utf-8"))]
    # The other two read what the program itself wrote; `doctor.py` has to run without PyYAML.
    assert set(found) == {"documents.py", "files.py", "doctor.py"}


# --- YAML ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("[1, -2, 0, +3, -0]", [1, -2, 0, "+3", "-0"]),
        ("[1.5, -.5, .5, 1., 1.0e-4, 1.0E+3]", [1.5, "-.5", 0.5, 1.0, 1e-4, 1000.0]),
        (
            "[010, 0o17, 0x1F, 0b1, 1_000, 12:30, 1e-4, 1e5]",
            ["010", "0o17", "0x1F", "0b1", "1_000", "12:30", "1e-4", "1e5"],
        ),
        ("[2026-01-02, 2026-13-45, 2026-01-02T03:04:05Z]", ["2026-01-02", "2026-13-45", "2026-01-02T03:04:05Z"]),
        ("[yes, No, true, off]", [True, False, True, False]),
        ("[~, null, Null]", [None, None, None]),
        ("{a: {b: [c]}, '1': 1, 1: 2}", {"a": {"b": ["c"]}, "1": 1, 1: 2}),
        ("'010'", "010"),
        ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("=", "="),
        ("\ufeffa: 1", {"a": 1}),
        ("9" * DIGITS, int("9" * DIGITS)),
        ("[" * DEPTH + "]" * DEPTH, json.loads("[" * DEPTH + "]" * DEPTH)),
        ("Straße: 街 😀", {"Straße": "街 😀"}),
    ],
)
def test_what_yaml_means(text, value):
    found = parse_yaml(text, "x")
    assert found == value and repr(found) == repr(value)


def test_infinity_and_nan_are_numbers_for_whoever_asks_to_judge():
    assert repr(parse_yaml("[.inf, -.INF, .nan]", "x")) == "[inf, -inf, nan]"
    assert repr(parse_json("[Infinity, NaN, 1e999]", "x")) == "[inf, nan, inf]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!python/name:os.system", "the tag "),
        ("!!int abc", "the tag "),
        ("!!int 5", "the tag "),
        ("!!timestamp 2026-13-45", "the tag "),
        ("!!binary 'not base 64'", "the tag "),
        ("!!float ''", "the tag "),
        ("!mine x", "the tag !mine"),
        ("%TAG ! tag:yaml.org,2002:\n--- !int x", "the tag "),
        ("a: &a [1]\nb: *a", r"the alias \*a: write the value itself"),
        ("a: &a [*a]", "the alias"),
        ("a: &a {b: 1}\nc: {<<: *a}", "the alias"),
        ("a: 1\na: 2", "a twice"),
        ("? [a]\n: 1", "a list or mapping as a key"),
        ("[" * 500, "nested more than 20 deep"),
        ("[" * 500 + "]" * 500, "nested more than 20 deep"),
        ("- " * 500 + "a", "nested more than 20 deep"),
        ("{a: " * 500 + "1" + "}" * 500, "nested more than 20 deep"),
        ("9" * (DIGITS + 1), "a whole number of 21 digits"),
        ("a: -" + "9" * 5000, "a whole number of 5000 digits"),
        ('"\\ud800"', "surrogates not allowed"),
        ('"a\\0b"', "NUL"),
        ("\x07", "special characters"),
        ("a\n---\nb", "another document"),
        ("[a", "expected ',' or ']'"),
    ],
)
def test_yaml_that_nobody_needs_is_refused_in_one_line(text, reason):
    assert re.match(rf"x: not valid YAML: .*{reason}", refusal(parse_yaml, text, "x"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 500 + "]" * 500, "nested more than 20 deep"),
        ("[" * 100_000, "nested more than 20 deep"),
        ('{"a":' * 100_000, "nested more than 20 deep"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested more than 20 deep"),
        ("9" * (DIGITS + 1), "a whole number of 21 digits"),
        ('{"a": -' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ('"\\ud800"', "surrogates not allowed"),
        ('{"\\u0000": 1}', "NUL"),
        ("", r"\(cut off or damaged\?\)"),
        ('{"a": 1', r"\(cut off or damaged\?\)"),
        (b"\xff\xfe", "can't decode"),
    ],
)
def test_json_that_nobody_needs_is_refused_in_one_line(text, reason):
    assert re.match(rf"x: not valid JSON.*{reason}", refusal(parse_json, text, "x"))


def test_json_within_the_limits_is_what_it_says():
    for text in ('{"a": [1, -2.5, "\\ud83d\\ude00", "c:\\\\0", null, true]}', "9" * DIGITS, "[" * DEPTH + "]" * DEPTH):
        assert parse_json(text, "x") == json.loads(text) == parse_json(b"\xef\xbb\xbf" + text.encode(), "x")


@pytest.mark.parametrize("read", [read_yaml, read_json, load_experiment])
def test_only_ordinary_files_of_a_fitting_size_are_opened(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        assert f"{path}: cannot be read: a folder, pipe or device" in refusal(read, path)
    assert "nothing: cannot be read: No such file" in refusal(read, tmp_path / "nothing")
    with (tmp_path / "big").open("wb") as file:
        # A hole: nothing of it is on the disk.
        file.truncate(2**40)
    assert "1,099,511,627,776 bytes, at most" in refusal(read, tmp_path / "big")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert "bytes: not UTF-8 text; save it as UTF-8" in refusal(read, tmp_path / "bytes")
    (tmp_path / "edge").write_bytes(b"12345")
    assert read_text(tmp_path / "edge", 5) == "12345" and "at most 4" in refusal(read_text, tmp_path / "edge", 4)


FRAGMENTS = [
    "a", "- ", "? ", ": ", "{", "}", "[", "]", "&x ", "*x", "!!int ", "!", "|", ">", "\n", "  ", "'", '"', "#", "=",
    "<<", "%YAML 1.1\n", "%TAG ! x\n", "---", "...", "1", "0x1", "1e5", ".inf", "~", "2026-13-45", ",", "\\u",
    "\\x", "\\0", "\t", "@", "`", "\u2028", "\ufeff", "é", "\x85", "9" * 25, "-", "null", "true", "model", "classes",
    "e", "E+", ".",
]  # fmt: skip
LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)
TEXTS = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join), st.text(max_size=20))


def readers_hold(text: str, folder: Path) -> None:
    """No reader of texts raises anything but our one line."""
    (folder / "f").write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / "dataset.yaml").write_bytes((folder / "f").read_bytes())
    (folder / "log.jsonl").write_bytes((folder / "f").read_bytes())
    (folder / "run.json").write_bytes((folder / "f").read_bytes())
    acts = (
        lambda: from_dict(Experiment, parse_yaml(text, "x")),
        lambda: from_dict(Experiment, parse_json(text, "x")),
        lambda: override(Experiment(), [text]),
        lambda: override(Experiment(), [f"data.classes={text}"]),
        lambda: load_experiment(folder / "f"),
        lambda: open_folder(folder),
        lambda: RunLog(folder, 1, 1) and read_log(folder),
        lambda: read_record(folder),
        lambda: with_metadata(Experiment(), {"crisscross": text, "cfg": text, "CLASSES": [text]}, "x"),
    )
    for act in acts:
        read_or_refused(act)


@tries(60)
@given(text=TEXTS)
def test_no_text_breaks_a_reader(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("f")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readers_hold(text, folder)


@pytest.mark.slow
@tries(5000)
@given(text=TEXTS)
def test_no_text_breaks_a_reader_for_a_minute(text, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readers_hold(text, folder)


@tries(150)
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)
    | st.from_regex(r"[-+.0-9eEx_:~nyot]{1,8}", fullmatch=True)
)
def test_what_is_written_as_text_is_read_as_text(name):
    text = yaml.safe_dump({"a": name}, allow_unicode=True, width=110)
    assert parse_yaml(text, "x") == {"a": name}


# --- whoever uses the values ---


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: [[[[a]]]]", "name must be text"),
        ("data: {classes: [[a], [b]]}", r"data.classes\[0\] must be text"),
        ("data: {palette: [[[1], 2, 3]]}", r"data.palette\[0\]\[0\] must be a whole number"),
        ("data: {palette: 7}", "data.palette must be a list"),
        ("model: {head: {channels: 1000000000}}", "model.head.channels must be at most 16384"),
        ("train: {iterations: 1000000000000}", "train.iterations must be at most"),
        ("train: {iterations: 1e12}", "train.iterations must be a whole number"),
        (f"{'k' * 900}: 1", "unknown key k{100} "),
        (f"name: {[0] * 5000}", "name must be text, got "),
        ("model: {head: {dropout: .inf}}", "model.head.dropout must be finite"),
        ("task: [instances]", "unknown key task|must be"),
    ],
)
def test_an_experiment_of_rubbish_is_one_line(tmp_path, text, reason):
    (tmp_path / "x.yaml").write_text(text)
    assert re.search(reason, refusal(load_experiment, tmp_path / "x.yaml"))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("data.classes={0: sky, 1: road}", "data.classes must be a list of names, got {0: 'sky', 1: 'road'}"),
        ("optim={1: 2}", "unknown key optim.1; "),
        ("model.head={? }", "unknown key model.head.None; "),
    ],
)
def test_keys_that_are_no_text_are_refused_in_one_line(word, reason):
    assert refusal(override, Experiment(), [word]).startswith(reason)


def test_keys_of_several_lines_are_shown_in_one(tmp_path):
    (tmp_path / "dataset.yaml").write_text('classes: [a, b]\n"odd\\nkey": 1\n')
    assert "dataset.yaml: unknown key odd key; " in refusal(open_folder, tmp_path)
    assert "unknown key odd key; " in refusal(override, Experiment(), ["odd\nkey=1"])
    assert refusal(override, Experiment(), ["odd\nkey=[1"]).startswith("--set odd key: not valid YAML: ")
    assert refusal(from_dict, Experiment, {"data": {"odd\nkey": 1}}).startswith("unknown key data.odd key; ")


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("experiment", "[" * 500 + "]" * 500, "its experiment: not valid JSON: .*nested"),
        (
            "experiment",
            '{"train": {"iterations": ' + "9" * 5000 + "}}",
            "its experiment: not valid JSON: a whole number",
        ),
        ("experiment", '{"model": {"channels": 1000000000}}', "model.head.channels must be at most"),
        ("experiment", '{"name": "\\u001b[2J"}', "name must be text of one line"),
        ("experiment", '{"data": {"classes": [["a"]]}}', r"data.classes\[0\] must be text"),
        ("experiment", "7", "must be a mapping"),
        ("facts", "[1]", "its facts must be a mapping"),
        ("facts", "[" * 500, "its facts: not valid JSON"),
    ],
)
def test_a_header_of_rubbish_is_one_line(tmp_path, key, text, reason):
    from safetensors.torch import save_file

    header = {"format": native.FORMAT, "experiment": "{}", "facts": "{}"} | {key: text}
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", header)
    assert re.search(reason, refusal(crisscross.load, tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": [["a"], ["b"]]},
        {"CLASSES": [None, "b"]},
        {"dataset_meta": {"classes": [[[["a"]]], "b"]}},
        {"cfg": "img_norm_cfg = dict(mean=('a', 'b', 'c'), std=(1, 1, 1))"},
        {"cfg": "img_norm_cfg = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])"},
        {"cfg": "model = dict(backbone=dict(strides=('a', 2)))"},
        {"cfg": "model = dict(test_cfg=dict(mode='slide', crop_size=(1.5, 'x'), stride=5))"},
        {"crisscross": "[" * 500},
    ],
)
def test_metadata_of_rubbish_is_one_line(meta):
    experiment = apply_overrides(Experiment(), {"data.classes": ["a", "b"]})
    assert refusal(with_metadata, experiment, meta, "x.pth").startswith("x.pth: ")


def test_palettes_of_rubbish_give_default_colors_and_endless_texts_tell_nothing():
    experiment = apply_overrides(Experiment(), {"data.classes": ["a", "b"]})
    for palette in ([[[1]], 2], "ab", [["1"]], 7):
        assert len(with_classes(experiment, ["c", "d"], palette, "x").data.palette) == 2
    assert with_metadata(experiment, {"cfg": "a = 1\n" * 400_000}, "x") == experiment
