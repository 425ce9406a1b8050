"""Output to terminals of every kind, with control characters escaped, and Ctrl-C."""

import ast
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crisscross
from crisscross import progress, terminal
from crisscross.cli import main
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import user_cache, with_home
from crisscross.progress import Progress
from crisscross.terminal import plain, say

SOURCE = Path(crisscross.__file__).parent
# Red, a cleared screen in eight bits, a line of its own, written from the right, half a character, a bell.
NASTY = "a\x1b[31m\x9b2J\r\nb\u202ec\udc80\x07"
SHOWN = r"a\x1b[31m\x9b2J\r\nb\u202ec\udc80\x07"


def command(words: str, **options) -> subprocess.CompletedProcess:
    """A shell command in which `crisscross` is that of this Python, and OUR_PYTHON this Python."""
    environment = os.environ | {"OUR_PYTHON": sys.executable} | options.pop("environment", {})
    words = re.sub("crisscross (?=zoo|--help)", '"$OUR_PYTHON" -m crisscross ', words)
    return subprocess.run(["sh", "-c", words], env=environment, capture_output=True, text=True, check=False, **options)


def test_control_characters_are_escaped_and_the_rest_stays():
    assert plain(NASTY) == SHOWN
    assert plain("\u2028\u2066\u200f\u061c\x7f\x00") == r"\u2028\u2066\u200f\u061c\x7f\x00"
    for text in ("a\tb", "Straße, 街道, улица, 😀", "a\u200db", "\\x1b", ""):
        assert plain(text) == text
    assert plain(Path("a\nb")) == r"a\nb"


def test_each_argument_is_a_line(capsys):
    say("one", NASTY, 3)
    say()
    say("wrong\nline", error=True)
    assert capsys.readouterr() == (f"one\n{SHOWN}\n3\n\n", "wrong\\nline\n")


def test_nothing_else_in_the_package_prints():
    found = []
    for path in SOURCE.rglob("*.py"):
        if path == SOURCE / "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            inside, _, name = called.rpartition(".")
            if name in ("print", "pprint", "Console") and not (
                name == "print" and inside.endswith(("console", "console()"))
            ):
                found.append(f"{path.name}:{node.lineno}")
            if inside.endswith(("stdout", "stderr", "stdout.buffer", "stderr.buffer")) and name.startswith("write"):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


class Screen(io.StringIO):
    """A terminal that records its output."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("live", [True, False])
def test_tables_and_progress_show_names_as_they_are(monkeypatch, live):
    out, err = (Screen(), Screen()) if live else (io.StringIO(), io.StringIO())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0)
    monkeypatch.setenv("COLUMNS", "200")
    print_table([["class", "IoU"], [NASTY, NASTY]])
    # Brackets are no markup, which would end in an error here.
    with Progress(f"[/red]{NASTY}", 2) as shown:
        shown.update(1, fact=f"[/bold]{NASTY}")
        shown.say(f"[/x]{NASTY}")
    assert out.getvalue().count(SHOWN) == 2 and err.getvalue().count(SHOWN) >= 3
    assert "[/red]" in err.getvalue() and "[/bold]" in err.getvalue() and "[/x]" in err.getvalue()
    assert not {"\x1b[31m", "\x9b", "\r\nb", "\u202e", "\x07"} & {out.getvalue(), err.getvalue()}
    for text in (out.getvalue(), err.getvalue()):
        assert not any(mark in text for mark in ("\x1b[31m", "\x9b", "\u202e", "\x07"))


def test_names_of_files_and_classes_reach_the_terminal_as_text(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("red\x1b[31m\n.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save("ok.png")
    assert main(["predict", "camvid-light", ".", "--out", "out", "--device", "cpu"]) == 2
    assert main(["predict", "no\x1b[2J", "ok.png"]) == 2
    with pytest.raises(SystemExit):
        main(["zoo", "a", "b\x1b[2J"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr("crisscross.cli.zoo.run", lambda arguments: warnings.warn(NASTY, CrissCrossWarning, 1) or 0)
        assert main(["zoo"]) == 0
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x9b" not in said
    assert r"red\x1b[31m\n.png: " in said and r"no\x1b[2J: no such file" in said and r"b\x1b[2J" in said
    assert f"crisscross: warning: {SHOWN}\n" in said


def test_characters_that_a_stream_cannot_encode_are_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    say("Straße 街", error=True)
    assert stream.buffer.getvalue() == rb"Stra\xdfe \u8857" + b"\n"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(9, "Bad file descriptor")


def test_a_closed_standard_error_is_ignored_and_a_closed_output_is_not(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (Gone(), closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        say("anything", error=True)
        with Progress("work", 1) as shown:
            shown.update(1)
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(OSError, match="Bad file"):
        say("a result")


def test_the_number_of_a_closed_stream_is_not_reused(tmp_path):
    code = (
        "from crisscross.terminal import prepare\nimport os, sys\nprepare()\n"
        "sys.exit(0 if os.open('file', os.O_CREAT | os.O_WRONLY) > 2 and sys.stderr and sys.stdout else 1)"
    )
    words = f'"$OUR_PYTHON" -c {shlex.quote(code)} <&- >&- 2>&-'
    assert command(words, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        ("crisscross zoo nothing-like-it 2>&-", 2, ""),
        ("crisscross zoo demo 2>&1 >&-", 0, ""),
        ("PYTHONIOENCODING=ascii crisscross zoo Straße 2>&1", 2, r"crisscross: no recipe 'Stra\xdfe'"),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 crisscross zoo Straße 2>&1", 2, r"crisscross: no recipe 'Stra"),
        ("crisscross zoo 2>&1 | head -c 5", 0, "Citys"),
        ("crisscross --help 2>&1 | true", 0, ""),
        ("mkdir gone && cd gone && rmdir ../gone && crisscross zoo 2>&1", 2, "crisscross: the working folder was"),
        ("env -u HOME crisscross zoo nothing 2>&1", 2, "crisscross: no recipe 'nothing'"),
    ],
)  # fmt: skip
def test_unusual_environments_give_at_most_one_line(tmp_path, words, code, shown):
    done = command(words, cwd=tmp_path)
    assert done.returncode == code, done
    assert done.stdout.startswith(shown) and "Traceback" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_no_home_folder(monkeypatch):
    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    for act in (lambda: user_cache("checkpoints"), lambda: with_home("~/weights")):
        with pytest.raises(CrissCrossError, match="this user has no home folder; set HOME or XDG_CACHE_HOME"):
            act()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user_cache("a") == Path("/caches/crisscross-seg/a")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/me")
    assert user_cache("a") == Path("/me/.cache/crisscross-seg/a") and with_home("~/b") == Path("/me/b")


# A package that is interrupted during its import and, as some do, turns that into another error.
SLOW = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
except BaseException as error:
    raise ImportError("something is wrong with this package") from error
"""


@pytest.mark.parametrize("when", ["import yaml", "from crisscross.cli import main"])
def test_ctrl_c_during_an_import_ends_with_130_and_one_line(tmp_path, when):
    (tmp_path / "argparse.py").write_text(SLOW)
    (tmp_path / "yaml.py").write_text(SLOW)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['crisscross', 'zoo', 'demo']\n" + (
        "from crisscross.__main__ import main; sys.exit(main())"
        if "cli" in when
        else "from crisscross.terminal import stop_at_once_while_importing as s; s()\nimport yaml"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "crisscross: stopped\n", "")


def test_ctrl_c_elsewhere_is_pythons_own_and_a_child_leaves_its_parent_alone(tmp_path):
    code = (
        "import os, signal, sys\nfrom crisscross.terminal import stop_at_once_while_importing as s\ns()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    for _ in range(1000): pass\n"
        "except KeyboardInterrupt:\n    print('caught')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "caught\n")


def test_a_child_process_ends_as_it_always_did(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    code = (
        f"import os, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from crisscross.terminal import stop_at_once_while_importing as s\ns()\n"
        "child = os.fork()\n"
        "if not child:\n    try:\n        import slow\n    except ImportError: os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    import signal

    former = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        terminal.stop_at_once_while_importing()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
