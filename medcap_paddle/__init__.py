"""medcap_paddle: from a chest radiograph to the FINDINGS of its report, in PaddlePaddle.

`ROOMS` lists every module in the order of imports: a module imports only from modules before it. The modules of this
folder are the main line, read from top to bottom; the folders beside them are what the main line uses.

Importing the package loads no large library. It prepares the process for Paddle (see `runtime.cpu`), which reads its
environment once, while it is being imported: import medcap_paddle before paddle.
"""

from .runtime import cpu

__version__ = "0.2.0"

ROOMS = (
    *("runtime.cpu", "runtime.files", "runtime.cache", "runtime.workers", "runtime.distributed", "runtime.loop"),
    *("clinical.findings", "clinical.phrasing", "clinical.labels"),
    *("text", "splits", "readers.archive", "readers.collection", "readers.openi", "readers.kaggle", "readers"),
    *("models.decoder", "models.lstm", "models", "config", "reports"),
    *("image", "vision.weights", "vision.networks", "feature_file", "vocab", "dataset"),
    *("vision.pretrain", "encoder", "vision.predictor", "vision.probe", "features"),
    *("loss", "runs", "train", "beam_search", "metrics.ngrams", "metrics.meteor", "metrics.bootstrap", "metrics"),
    *("generate", "reward", "baselines", "evaluate", "show", "notebook"),
    *("phantom.body", "phantom.film", "phantom.frontal", "phantom.lateral", "phantom.signs", "phantom.lesions"),
    *("phantom.devices", "phantom.draw", "phantom.collection", "phantom.pretrain", "phantom", "phantom.__main__"),
)

cpu.prepare()
