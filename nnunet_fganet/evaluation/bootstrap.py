"""Bootstrap intervals that resample groups of frames.

Frames of a sequence look alike, so that ten frames of one sequence say little more than one: an
interval that resamples frames is far too narrow. Whole groups (sequences or patients) are drawn with
replacement, as many as there are, and the figure is computed anew from the frames of the groups drawn
(the cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
"""

import numpy as np
import numpy.typing as npt

from nnunet_fganet.evaluation.masks import Numbers

RESAMPLINGS = 2000
FEWEST_GROUPS = 2  # with a single group every resampling is the same
_LEVEL = (2.5, 97.5)


def resampling_weights(groups: int, resamplings: int = RESAMPLINGS, seed: int = 0) -> npt.NDArray[np.int64]:
    """How often each group counts in each resampling.

    Parameters
    ----------
    groups
        Their number, G.
    resamplings
        Their number, R.
    seed
        Same seed, same draws: two runs over the same groups are paired.

    Returns
    -------
    weights
        (1 + R, G). The first row counts every group once: the data as they are.
    """
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamplings)
    return np.concatenate((np.ones((1, groups), dtype=np.int64), draws))


def percentile_interval(resampled: Numbers) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of resampled figures, shape (R,); resamplings without a value are left out.

    Not a number where no resampling has a value.
    """
    known = resampled[~np.isnan(resampled)]
    if known.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, _LEVEL)
    return float(low), float(high)
