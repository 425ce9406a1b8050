"""Code in a Python of its own, with some packages blocked."""

import os
import subprocess
import sys

from paths import SOURCE

# First on the path of finders: an import of a blocked package fails as if it were not installed.
BLOCK = """
import sys

class Blocked:
    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by the test)", name=name)
        return None

sys.meta_path.insert(0, Blocked(*%r))
"""


def run_python(code: str) -> str:
    """What the code prints; fails with its standard error where it does not end well."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
