"""medcap_paddle: from a chest radiograph to the FINDINGS of its report, in PaddlePaddle.

`ROOMS` lists every module in the order of imports: a module imports only from modules before it. The modules of this
folder are the main line, read from top to bottom; the folders beside them are what the main line uses.

Importing the package loads no large library. It prepares the process for Paddle (see `runtime.cpu`), which reads its
environment once, while it is being imported: import medcap_paddle before paddle.
"""

from .runtime import cpu

__version__ = "0.2.0"

ROOMS = (
    *("runtime.cpu", "runtime.rows", "runtime.files", "runtime.settings", "runtime.quiet", "runtime.cache"),
    *("runtime.workers", "runtime.distributed", "runtime.drawing", "models.decoder", "models.lstm", "models.attention"),
    *("models.places", "models.attention_lstm", "models.transformer", "models", "config", "runtime.loop"),
    *("clinical.findings", "clinical.targets", "clinical.phrasing", "clinical.plain", "clinical.labels"),
    *("clinical.language", "text", "splits"),
    *("readers.collection", "readers.archive", "readers.images", "readers.annotation", "readers.kaggle"),
    *("readers.openi", "readers.table", "readers.r2gen", "readers.labelled", "readers", "readers.phrased"),
    *("readers.selection", "reports"),
    *("vision.intensity", "vision.doubts", "vision.dicom", "vision.film", "image"),
    *("vision.pth", "vision.weights", "vision.networks", "vision.lite0", "vision.probe", "vision.typicality"),
    *("vision.augment", "vision.trainable", "vision.pretrain", "vision.job", "encoder", "vision.predictor"),
    *("vision.picture", "vision.labels", "vision.folds", "vision.backbones"),
    *("feature_file", "features"),
    *("vocab", "dataset", "loss", "models.rules", "models.sampling", "models.reliance", "models.train_inputs"),
    *("runs", "train", "beam_search"),
    *("metrics.ngrams", "metrics.rewards", "metrics.meteor", "metrics.bootstrap", "metrics.diversity", "metrics.pairs"),
    *("metrics.order", "metrics.relevance", "metrics", "metrics.table", "metrics.comparison", "metrics.constant"),
    *("generate", "reward", "baselines", "evaluate", "drawing.words", "show", "notebook"),
    *("drawing.roc", "vision.classify"),
    *("knowledge.retrieval", "knowledge.template", "knowledge.graph", "knowledge", "drawing.graph"),
    *("phantom.body", "phantom.film", "phantom.frontal", "phantom.lateral", "phantom.signs", "phantom.lesions"),
    *("phantom.devices", "phantom.draw", "phantom.collection", "phantom.pretrain", "phantom", "phantom.__main__"),
)

cpu.prepare()
