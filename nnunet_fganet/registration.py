"""Makes nnU-Net find our trainers without a step by the user.

nnU-Net looks for trainers outside its own package in the folders that the environment variable
``nnUNet_extTrainer`` names. The file ``nnunet_fganet.pth``, installed beside the package, calls
:func:`register` whenever a Python interpreter of the environment starts. Imports only the standard
library: it runs in every process, whatever that process is for.
"""

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "nnUNet_extTrainer"
TRAINER_FOLDER = Path(__file__).resolve().parent / "nnunet_trainers"


def register() -> None:
    """Append our trainer folder to ``nnUNet_extTrainer``; what the user has set stays, and first."""
    folders = [folder for folder in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if folder]
    if str(TRAINER_FOLDER) not in folders:
        os.environ[ENVIRONMENT_VARIABLE] = os.pathsep.join([*folders, str(TRAINER_FOLDER)])
