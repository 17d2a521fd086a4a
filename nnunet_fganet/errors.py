"""The one exception that bad input raises."""


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message is one sentence that names the file (or option) and the way out. The command line
    prints it without a traceback and exits with code 2.
    """
