"""The pipeline on a small phantom, for the tests that stop it: `python tests/pipeline.py WORK`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from medcap_paddle import dataset, encoder, features, generate, phantom, reports, reward, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.config import Config
from medcap_paddle.files import read_table

CONFIG = Config.tiny(epochs=4, embed=32, hidden=32, reward_epochs=2, reward_samples=2)
ARTEFACTS = ("reports.csv", "features.h5", "vocab.json", "runs/lstm/weights.safetensors", "runs/lstm/predictions.csv")


def prepared(work: Path) -> None:
    """What notebooks 01 to 03 write."""
    reports.build(phantom.make(work / "phantom", studies=60, seed=3, size=96, workers=1), work)
    images = read_table(work / "images.csv", ["image_id", "path"], "")
    features.extract(images, encoder.load("random"), work / "features.h5", batch_size=8)
    table = read_table(work / "reports.csv", ["split", "report"], "")
    vocabulary.make(table.report[table.split == "train"], CONFIG.min_freq, work / "vocab.json")


def run(work: Path) -> None:
    prepared(work)
    vocab = vocabulary.load(work / "vocab.json")
    parts = {split: dataset.load(work, split, vocab) for split in ("train", "val", "test")}
    run_dir, facts = work / "runs/lstm", features.read(work / "features.h5")[2]
    model = train.build(CONFIG, parts["train"].feature_dim, len(vocab))
    data, options = (parts["train"], parts["val"]), {name: getattr(CONFIG, name) for name in train.OPTIONS}
    train.fit(model, *data, train.teacher_dir(run_dir, CONFIG), **options)
    train.save_run(run_dir, CONFIG, vocab, parts["train"].feature_dim, facts)
    reward.fit(model, vocab, *data, run_dir, CONFIG)
    model, config, vocab, _ = train.load_run(run_dir)
    generate.predict(model, vocab, parts["test"], config, batch_size=4, out=run_dir / "predictions.csv")


if __name__ == "__main__":
    print("ready", flush=True)  # libraries are loaded: from here on it may be killed
    run(Path(sys.argv[1]))
    print("finished", flush=True)
