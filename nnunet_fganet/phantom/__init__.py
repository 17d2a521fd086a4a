"""Phantom fluoroscopy: sequences with guidewires whose centreline and tip are known.

``write_phantom`` writes a data set in the TCGSeg layout; ``docs/phantom.md`` says what is modelled.
"""

from nnunet_fganet.phantom.writing import write_phantom

__all__ = ["write_phantom"]
