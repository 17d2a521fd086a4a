"""FGA-Net for nnU-Net v2: guidewire segmentation in X-ray fluoroscopy.

This module stays free of imports: every Python process of the environment imports it when it
starts (see :mod:`nnunet_fganet.registration`).
"""

__version__ = "0.1.0"
