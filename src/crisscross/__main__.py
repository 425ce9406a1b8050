"""The command `crisscross`, also `python -m crisscross`."""

import os
import sys


def main() -> int:
    """Run the command that this process's arguments name; return its exit code."""
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
    # Python searches the working folder first, where any file could shadow a package.
    try:
        if sys.path[0] == os.getcwd():
            del sys.path[0]
    except OSError:
        pass
    sys.exit(main())
