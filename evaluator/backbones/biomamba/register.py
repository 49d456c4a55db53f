"""BioMamba: the wav2vec 2.0 convolutions and a stack of Mamba-2 blocks, as a model of transformers.

Importing this module registers ``biomamba`` with ``AutoConfig``, ``AutoModel`` and ``AutoModelForPreTraining``.
"""

from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

from evaluator.backbones.biomamba.configuration import BioMambaConfig
from evaluator.backbones.biomamba.modeling import BioMambaForPreTraining, BioMambaModel

AutoConfig.register(BioMambaConfig.model_type, BioMambaConfig, exist_ok=True)
AutoModel.register(BioMambaConfig, BioMambaModel, exist_ok=True)
AutoModelForPreTraining.register(BioMambaConfig, BioMambaForPreTraining, exist_ok=True)

__all__ = ["BioMambaConfig", "BioMambaForPreTraining", "BioMambaModel"]
