"""Makes nnU-Net find our trainers without a step by the user.

nnU-Net looks for trainers outside its own package in the folders that the environment variable
``nnUNet_extTrainer`` names. The file ``nnunet_fganet.pth``, installed beside the package, calls
:func:`register` whenever a Python interpreter of the environment starts. It runs in every process,
whatever that process is for: so it imports nothing but ``os``, which is loaded already (``pathlib``
alone would double the start of an interpreter). ``docs/registration.md`` tells the whole story.
"""

import os

ENVIRONMENT_VARIABLE = "nnUNet_extTrainer"
TRAINER_FOLDER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "nnunet_trainers")  # noqa: PTH118, PTH120


def register() -> None:
    """Append our trainer folder to ``nnUNet_extTrainer``; what the user has set stays, and first."""
    folders = [folder for folder in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if folder]
    if TRAINER_FOLDER not in folders:
        os.environ[ENVIRONMENT_VARIABLE] = os.pathsep.join([*folders, TRAINER_FOLDER])
