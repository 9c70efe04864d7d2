"""General and specific knowledge: what train reports say of studies like this one, and what findings mean.

Importing this room enters its runs in `BASELINES`: `medoid` (see `retrieval`) and `template` (see `template`).
"""

from ..baselines import BASELINES
from . import retrieval, template

BASELINES |= {"medoid": retrieval.baseline, "template": template.baseline}
