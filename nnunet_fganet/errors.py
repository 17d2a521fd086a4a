"""The one exception that bad input raises, and what the system's own are in words."""

import errno


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message is one sentence that names the file (or option) and the way out. The command line
    prints it without a traceback and exits with code 2.
    """


def describe_os_error(error: OSError) -> str:
    """One sentence on what failed in the file system or the network."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'while writing'}): free some space, then run it again."
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
