"""medcap_paddle: from a chest radiograph to the FINDINGS of its report, in PaddlePaddle.

`ROOMS` lists every module in the order of imports: a module imports only from modules before it. The modules of this
folder are the main line, read from top to bottom; the folders beside them are what the main line uses.

Importing the package loads no large library. It prepares the process for Paddle (see `runtime.cpu`), which reads its
environment once, while it is being imported: import medcap_paddle before paddle.
"""

from .runtime import cpu

__version__ = "0.2.0"

ROOMS = (
    *("runtime.cpu", "runtime.rows", "runtime.files", "runtime.figures", "runtime.settings", "runtime.quiet"),
    *("runtime.cache", "runtime.workers", "runtime.distributed", "runtime.drawing", "runtime.timings", "loss"),
    *("models.decoder", "models.places", "models.stepping", "models.lstm", "models.attention"),
    *("models.attention_lstm", "models.transformer", "models.memory", "models.knowledge", "models"),
    *("config",),
    *("runtime.samplers", "runtime.stages", "runtime.precision", "runtime.averaging", "runtime.loop"),
    *("clinical.findings", "clinical.targets", "clinical.phrasing", "clinical.plain", "clinical.labels"),
    *("clinical.heart_size", "clinical.language", "text", "splits"),
    *("readers.collection", "readers.archive", "readers.images", "readers.annotation", "readers.kaggle"),
    *("readers.openi", "readers.table", "readers.r2gen", "readers.labelled", "readers", "readers.phrased"),
    *("readers.selection", "reports"),
    *("vision.intensity", "vision.doubts", "vision.dicom", "vision.film", "vision.masks", "vision.square", "image"),
    *("vision.pth", "vision.weights", "vision.networks", "vision.depthwise", "vision.lite0", "vision.probe"),
    *("vision.typicality", "vision.augment", "vision.trainable", "vision.pretrain", "vision.job", "encoder"),
    *("vision.predictor", "vision.picture", "vision.labels", "vision.folds", "vision.backbones"),
    *("vision.classification", "feature_file", "features"),
    *("vocab", "dataset", "models.rules", "models.beam", "models.sampling", "models.reliance", "models.train_inputs"),
    *("models.drafts",),
    *("runs", "train", "beam_search"),
    *("metrics.ngrams", "metrics.consensus", "metrics.rewards", "metrics.meteor", "metrics.bootstrap"),
    *("metrics.diversity", "metrics.guards", "metrics.pairs", "metrics.order", "metrics.relevance", "metrics"),
    *("metrics.comparison", "metrics.agreement", "metrics.readers", "metrics.table", "metrics.constant"),
    *("vision.unet", "vision.structures", "vision.mask_losses", "vision.overlap", "vision.anatomy", "vision.masked"),
    *("vision.films", "vision.segmenters", "vision.segmenter_run", "vision.segmentation", "vision.segment"),
    *("vision.measure",),
    *("generate", "reward", "baselines", "evaluate"),
    *("drawing.axes", "drawing.words", "drawing.curves", "drawing.lstm", "show", "notebook"),
    *("drawing.roc", "vision.classifier_run", "vision.classify"),
    *("knowledge.retrieval", "knowledge.template", "knowledge.graph", "knowledge.remember", "knowledge"),
    *("knowledge.systems", "knowledge.__main__", "drawing.graph", "drawing.attention"),
    *("phantom.body", "phantom.film", "phantom.frontal", "phantom.lateral", "phantom.signs", "phantom.lesions"),
    *("phantom.devices", "phantom.draw", "phantom.anatomy", "phantom.folder", "phantom.collection"),
    *("phantom.pneumothorax", "phantom.pretrain", "phantom", "phantom.__main__"),
    *("sequence.cells", "sequence.seq2seq", "sequence.impressions"),
    *("sequence.ctc", "sequence.crnn", "sequence.lines", "sequence.variation", "sequence.reader"),
    *("sequence.alphabet", "sequence.burned_in", "sequence.labelled", "sequence.films"),
    *("demo.words", "demo.sentences", "demo.films", "demo.uploads", "demo.found", "demo.cases"),
    *("demo.reading", "demo.hearts", "demo.pictures", "demo.reader_study", "demo.session", "demo.__main__"),
)

cpu.prepare()
