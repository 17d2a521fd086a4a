"""One page that shows what a comparison found, and where and why predictions fail: ``fganet report``."""
