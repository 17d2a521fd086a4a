"""Runs a function over many files in threads, with a progress bar."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """One thread a core; more than eight wait for the disk and each other."""
    return min(8, os.cpu_count() or 1)


def map_with_progress(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> list[Result]:
    """Apply ``function`` to each item in ``workers`` threads; results in the items' order.

    Threads, since decoding, filtering and encoding release Python's global lock: they share memory, start at
    once, and Ctrl-C cannot leave strays. The first error (or Ctrl-C) cancels what has not begun and is raised
    after what runs has ended, so that its output can be removed safely.
    """
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # frames run in parallel already; OpenCV's own threads would compete with them
    pool = ThreadPoolExecutor(workers)
    try:
        results: Iterator[Result] = pool.map(function, items)
        return list(tqdm(results, total=len(items), desc=description, unit="frame"))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(opencv_threads)
