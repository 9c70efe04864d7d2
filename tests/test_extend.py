"""The five examples of docs/extend.md, outside of the package, go through the commands from 01 to the table.

A decoder, an encoder, a reader, a metric and a baseline; the trainings are killed and resumed on the way.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SENTENCES
from PIL import Image

from medcap_paddle.runtime.files import read_json

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extend.md").read_text(encoding="utf-8"), re.DOTALL)
# At the end of mine.py: the commands, killed after the stage and epoch that KILL names, and what no command does.
END = """
import os
from medcap_paddle import baselines, train, vocab
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.files import read_table

store = loop.store
def killing(path, inputs, module, optimizer, history):
    store(path, inputs, module, optimizer, history)
    if os.environ.get("KILL") == f"{stage} {len(history)}":
        os._exit(9)
loop.store = killing

def do_vocab(work):
    table = read_table(work / "reports.csv", ["split", "report"], "")
    vocab.make(table.report[table.split == "train"], 1, work / "vocab.json")
    config.save(work / "gru.json")

def do_runs(work):
    from medcap_paddle import dataset, generate, runs
    run = runs.load(work / "runs/gru")
    _, known, val = train.splits(work, run.config, run.vocab, run.features)
    studies = dataset.load(work, "test", run.vocab, run.config, run.features)
    generate.predict(run.model, run.vocab, studies, run.config, out=work / "runs/gru/predictions.csv", known=run.known)
    baselines.write("shortest", work / "runs", known, val, studies)

if __name__ == "__main__":
    for command in " ".join(sys.argv[1:]).split(" then "):
        sys.argv[1:] = command.split()
        stage = sys.argv[1]
        if stage.startswith("do_"):
            globals()[stage](Path(sys.argv[2]))
        else:
            importlib.import_module(f"medcap_paddle.{sys.argv.pop(1)}").main()
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A function that starts mine.py with commands; its exit code and output."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text("\n\n".join(BLOCKS) + END, encoding="utf-8")

    def start(*commands, **environment):
        command = [sys.executable, folder / "mine.py", " then ".join(commands)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment |= {"PATH": str(Path(sys.executable).parent)}  # no Java machine for METEOR
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path} | environment, cwd=folder
        )
        return done.returncode, done.stdout + done.stderr

    return start


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A collection of the made-up form: 60 studies whose image is bright where the report has a sentence."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = []
    for k in range(60):
        shown = rng.random(4) < 0.5
        pixels = np.kron(np.where(shown.reshape(2, 2), 220, 40), np.ones((32, 32))).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{k}.png")
        findings = " ".join(s for s, yes in zip(SENTENCES, shown, strict=True) if yes) or "normal chest ."
        lines.append(f"S{k} | {k}.png | {findings}")
    (folder / "reports.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_five_examples_go_through_the_commands(mine, data, tmp_path):
    work = tmp_path / "work"

    def training(run):
        return [f"{stage} {work} --run {run} --config {work}/gru.json" for stage in ("train", "reward")]

    tables = f"reports {data} {work}", f"features {work} --encoder brightness", f"do_vocab {work}"
    code, out = mine(*tables, *training("whole"))
    assert code == 0, out
    for kill in ("train 1", "train 3", "reward 1"):
        assert mine(*training("gru"), KILL=kill)[0] == 9
    paths = [work / f"runs/{run}/predictions.csv" for run in ("gru", "shortest")]
    evaluate = f"evaluate {paths[0]} {paths[1]} --train {work}/reports.csv --json {work}/out.json"
    code, out = mine(*training("gru"), f"do_runs {work}", evaluate)
    assert code == 0 and "same length" in out, out
    for end in ("", "_teacher"):
        whole, killed = (work / f"runs/{run}{end}/weights.safetensors" for run in ("whole", "gru"))
        assert whole.read_bytes() == killed.read_bytes()

    metrics = read_json(work / "out.json", "")
    for path in paths:
        entry = metrics[str(path)]["figures"]["same_length"]
        assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1
    assert 0 < entry["p"] <= 1
    assert metrics[str(paths[0])]["figures"]["image_reliance"]["value"] != 0
    assert "image_reliance" not in metrics[str(paths[1])]["figures"]  # it has no model
    assert read_json(work / "features.json", "")["attributes"]["encoder"] == "brightness"
    assert read_json(work / "runs/gru/config.json", "")["decoder"] == {"name": "gru", "hidden": 64}


def test_a_decoder_of_ones_own_keeps_the_law_of_the_seam(tmp_path):
    import paddle

    scope = {"__name__": "examples"}
    from medcap_paddle import baselines, encoder, metrics, models, readers

    tables = (baselines.BASELINES, encoder.ENCODERS, metrics.METRICS, models.DECODERS, readers.READERS)
    before = [dict(table) for table in tables]
    try:
        exec("\n".join(BLOCKS), scope)
        model = models.build(scope["GRUSettings"](), {"pooled": (6,)}, 11)
        inputs, tokens = {"pooled": paddle.rand([3, 2, 6])}, paddle.randint(0, 11, [3, 5])
        state = model.init_state(inputs)
        for t in range(5):
            logits, state = model.step(tokens[:, t], state)
            np.testing.assert_allclose(logits.numpy(), model(inputs, tokens)[:, t].numpy(), atol=1e-5)
    finally:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)
