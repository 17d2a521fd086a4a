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


def is_lack_of_memory(error: Exception) -> bool:
    """Whether memory was refused to Python, numpy or torch, which on CPUs has no exception of its own for that."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )


def is_of_another_network(error: Exception) -> bool:
    """Whether torch refused weights because the network has others; it has no exception of its own for that."""
    return "loading state_dict" in str(error)
