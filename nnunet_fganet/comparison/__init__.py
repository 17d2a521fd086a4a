"""The paper's two tables on any data set: what ``fganet compare`` and ``fganet ablate`` do."""
