"""The one module that nnU-Net's search for trainers imports: it only names them.

nnU-Net imports each module of this folder under its bare file name and forgets it afterwards. The
classes themselves live in the installed package, so that they keep one identity, can be pickled and
compiled. Nothing else belongs in this folder (``docs/registration.md``).
"""

from nnunet_fganet.training.comparator import nnUNetTrainerComparator
from nnunet_fganet.training.fganet_trainer import nnUNetTrainerFGANet, nnUNetTrainerFGANetPaperSchedule

__all__ = ["nnUNetTrainerComparator", "nnUNetTrainerFGANet", "nnUNetTrainerFGANetPaperSchedule"]
