"""The command: `crisscross`, or `python -m crisscross`."""

import os
import sys


def main() -> int:
    """Run the command of this process's arguments; returns its exit code."""
    try:
        from crisscross.terminal import prepare, stop_at_once_while_importing

        stop_at_once_while_importing()
        prepare()
        from crisscross.cli import main as run

        return run()
    except KeyboardInterrupt:
        os.write(2, b"crisscross: stopped\n")
        return 130


if __name__ == "__main__":
    # Python puts the working folder in front of everything, where a file of any name would stand for a package.
    try:
        if sys.path[0] == os.getcwd():
            del sys.path[0]
    except OSError:
        pass
    sys.exit(main())
