"""Keep the C library from handing memory back between two frames or training steps."""

import ctypes
import platform

# Parameters of mallopt(3) in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30  # bytes


def keep_freed_memory() -> None:
    """Let blocks of up to 1 GiB that are freed be used again instead of returned to the system.

    glibc maps every block above 32 MiB anew, and the system then fills it with zeros page by page:
    at 512 x 512 that is every full-resolution feature map, and a seventh of a frame's time. Holds
    for the whole process, whose memory then stays near its peak. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST - 1)
