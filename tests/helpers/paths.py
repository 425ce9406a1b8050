"""Where the tests find the project, and the data that lies beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SOURCE = ROOT / "src"
# Real data and other systems' outputs; tests that need them are skipped where they are not there.
SHARED = ROOT.parent / "shared"
