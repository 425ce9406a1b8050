"""The one error that people are meant to read."""


class CrissCrossError(Exception):
    """Bad input or a request that cannot be met.

    The message is one line that names the file or key, the value found and the fix. The command line prints it
    without a traceback and exits with 2.
    """
