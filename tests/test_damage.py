"""Damaged files: cut short, with flipped bits, thousands of them. Each works or raises our own error, naming the file.

What carries a digest (features, weights, vocabulary, facts of a run) is refused at the flip of any single bit; XML and
PNG have no digest of their own, so there a flipped letter or pixel may pass, and nothing worse.
"""

import json
import random
import re
import zipfile

import numpy as np
import paddle
import pytest
from PIL import Image
from safetensors.numpy import save_file

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from medcap_paddle import encoder, feature_file, image, models, readers, reports, runs
from medcap_paddle.config import ReportSettings, choose
from medcap_paddle.readers import archive
from medcap_paddle.runtime import cache, loop
from medcap_paddle.runtime.files import (
    MedcapError,
    read_json,
    read_sealed,
    read_table,
    write_json,
    write_sealed,
    write_tensors,
)
from medcap_paddle.vision import weights

REPORT = """<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR1"/><MedlineCitation><Article><Abstract>
<AbstractText Label="FINDINGS">The heart is normal in size. The lungs are clear.</AbstractText></Abstract></Article>
</MedlineCitation><MeSH><major>normal</major></MeSH><parentImage id="CXR1_1_IM-0001-3001"><figureId>F1</figureId>
</parentImage></eCitation>"""
DAMAGES = 260  # of each kind of file


def damaged(data: bytes, count: int, seed: int = 0):
    """`data` cut at every part of its length, with one bit flipped, with a stretch zeroed or replaced by noise."""
    rng = random.Random(seed)
    for k in range(count):
        out = bytearray(data)
        at = (k * len(data)) // count
        if k % 4 == 0:
            out = out[:at]
        elif k % 4 == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif k % 4 == 2:
            end = min(len(out), at + rng.randrange(1, 64))
            out[at:end] = bytes(end - at)
        else:
            out[at : at + 8] = rng.randbytes(8)
        if bytes(out) != data:
            yield bytes(out)


def survey(path, read, sealed: bool, count: int = DAMAGES) -> int:
    """Read every damaged version of `path`; how many there were."""
    whole, damages, count = path.read_bytes(), count, 0
    for data in damaged(whole, damages):
        path.write_bytes(data)
        count += 1
        try:
            read()
            passed = True
        except MedcapError as error:
            passed = False
            assert path.name in str(error), error
        assert not (passed and sealed), f"damage {count} of {path.name} went unnoticed"
    path.write_bytes(whole)
    read()
    return count


@pytest.fixture
def run_dir(tmp_path, studies):
    config, (split, _, vocab) = choose("tiny").change(decoder={"embed": 8, "hidden": 8}), studies
    runs.save(tmp_path, config, vocab, split, {"encoder": "made up"})
    model = models.build(config.decoder, split.shapes, len(vocab))
    write_tensors(tmp_path / "weights.safetensors", loop.tensors(model))
    return tmp_path


@pytest.mark.parametrize("name", ["weights.safetensors", "inputs.safetensors", "vocab.json", "model.json"])
def test_runs(name, run_dir):
    assert survey(run_dir / name, lambda: runs.load(run_dir), sealed=True) > 200


def test_settings(run_dir):
    """config.json may be edited, but what the training depended on may not."""
    config = run_dir / "config.json"
    survey(config, lambda: runs.load(run_dir), sealed=False)
    settings = read_json(config, "")
    write_json(config, settings | {"decoder": settings["decoder"] | {"hidden": 16}})
    with pytest.raises(MedcapError, match="config.json is not what the run was trained with"):
        runs.load(run_dir)


def test_features(tmp_path):
    path = tmp_path / "features.h5"
    facts = feature_file.describe(encoder.load("random"))
    pooled = np.random.default_rng(0).random((20, 8)).astype("float32")
    ids = np.array([f"CXR{k}" for k in range(20)])
    part = {"pooled": pooled, "image_id": ids, "unreadable": np.zeros((0, 3), str)}
    feature_file.write(path, [part], facts, {"pooled": (8,)})
    assert survey(path, lambda: feature_file.read(path, ["pooled"]), sealed=True) > 200
    assert survey(feature_file.sidecar(path), lambda: feature_file.read(path, ["pooled"]), sealed=True) > 200


def test_encoders(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"conv1.weight": np.ones((2, 2), np.float32)}, path)

    assert survey(path, lambda: weights.read(path), sealed=False) > 200
    pickled = tmp_path / "mine.pdparams"
    paddle.save(paddle.nn.Linear(2, 2).state_dict(), str(pickled))
    assert survey(pickled, lambda: weights.read(pickled), sealed=False) > 200
    with pytest.raises(MedcapError, match="mine.safetensors lacks .*choose weights of this network"):
        encoder.load("resnet101", path)


FORMS = {  # of the readers: the files of a small collection
    "openi": {
        "1.xml": REPORT,
        "indiana_projections.csv": "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Frontal\n",
    },
    "kaggle": {
        "indiana_reports.csv": "uid,MeSH,indication,comparison,findings,impression\n"
        '1,normal,"Pain, cough",None.,"The heart is normal.\nThe lungs are clear.",Normal.\n2.0,Mass,,,A mass.,\n',
        "indiana_projections.csv": "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Frontal\n2.0,2_1.png,Lateral\n",
    },
    "r2gen": {
        "annotation.json": '{"train": [{"id": "CXR1_IM-0001", "report": "The lungs are clear.", "split": "train", '
        '"image_path": ["CXR1_1_IM-0001-3001.png", "CXR1_IM-0001/1.png"]}], "valid": [{"id": "a", "study_id": 53, '
        '"subject_id": 10, "report": "A mass is seen.", "image_path": ["p10/s53/a.jpg"]}]}'
    },
    "xml with annotation": {
        "annotation.json": '{"train": [{"id": "CXR1_IM-0001", "image_path": ["CXR1_1_IM-0001-3001.png"]}], "test": []}',
        "1.xml": REPORT.replace("parentImage id", "parentImage name"),
    },
    "own table": {
        "mine.csv": "Study_ID,report,image_path,split,view,mesh,patient_id\n"
        'A,"The heart is normal, lungs clear.",CXR1_1_IM-0001-3001.png|b/2.png,train,PA|LL,normal,p1\n'
        "B,A mass is seen.,\"['/mnt/b/2.png', 'c.dcm']\",validate,,Mass/lung,p2\n"
    },
    "labels": {
        "Data_Entry_2017.csv": "Image Index,Finding Labels,Follow-up #,Patient ID\n"
        "CXR1_1_IM-0001-3001.png,Effusion|Mass,0,1\n00000002_000.png,No Finding,0,2\n"
    },
    "phantom": {"phantom.json": '{"reports": "real", "images": "phantom", "seed": 0}', "1.xml": REPORT},
}
FILES = [(form, name) for form, files in FORMS.items() for name in files]


@pytest.mark.parametrize("form, name", FILES)
def test_collections(tmp_path, form, name):
    """Each form that a reader reads, each of its files: 11 x 400 damaged ones."""
    data = tmp_path / "data"
    data.mkdir()
    Image.new("L", (8, 8)).save(data / "CXR1_1_IM-0001-3001.png")
    for file, text in FORMS[form].items():
        (data / file).write_text(text, encoding="utf-8")
    path, reasons = data / name, "no usable study|no collection|no train study|not found beside|table of labels"
    reasons += "|splits and no reports"

    def read():
        """Tables, or a sentence; the records too, which the sentence may have spared."""
        for whole in (False, True):
            try:
                if whole:
                    reports.build(data, tmp_path / "work", ReportSettings(split="auto"))
                else:
                    reader, files = readers.find(data, tmp_path / "work")
                    assert all(record.file for record in reader.studies(files))
            except MedcapError as error:
                assert path.name in str(error) or re.search(reasons, str(error)), error

    assert survey(path, read, sealed=False, count=440) >= 400


def test_archives(tmp_path):
    path = tmp_path / "collection.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("1.xml", REPORT)
        target.writestr("CXR1_1_IM-0001-3001.png", b"")
    assert survey(path, lambda: archive.unzip(path, tmp_path / "unzipped"), sealed=False) > 200
    assert {p.name for p in tmp_path.iterdir()} <= {"collection.zip", "unzipped"}


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_pictures(mode, tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24, 4) if mode == "RGBA" else (24, 24))
    Image.fromarray(pixels.astype("uint16" if mode == "I;16" else "uint8")).save(path)
    assert survey(path, lambda: image.read(path), sealed=False) > 200


def test_json_and_tables(tmp_path):
    path = tmp_path / "collection.json"
    write_json(path, {"studies": {"train": 3, "val": 1}, "text": "ünïcode"})
    survey(path, lambda: read_json(path, "again"), sealed=False)
    sealed = tmp_path / "sealed.json"
    write_sealed(sealed, {"a": [1, 2.5, "x"], "b": None})
    assert survey(sealed, lambda: read_sealed(sealed, "again"), sealed=True)
    table = tmp_path / "reports.csv"
    table.write_text("study_id,split,report\nCXR1,train,the heart is normal .\nCXR2,val,clear .\n")
    survey(table, lambda: read_table(table, ["study_id", "split", "report"], "again"), sealed=False)


def test_parts_that_are_damaged_are_made_again(tmp_path):
    out, made = tmp_path / "out", []

    def rest(done):
        for k in range(done, 3):
            made.append(k)
            yield {"x": np.full(4, k), "name": np.array([f"n{k}"])}

    def values():
        return [int(part["x"][0]) for part in cache.resumable(out, "inputs", rest)]

    assert values() == [0, 1, 2] and made == [0, 1, 2]
    assert values() == [0, 1, 2] and made == [0, 1, 2]  # nothing is made twice
    second = tmp_path / ".out.parts/inputs/000001.npz"
    for data in damaged(second.read_bytes(), 60):
        second.write_bytes(data)
        assert values() == [0, 1, 2]
    assert [int(part["x"][0]) for part in cache.resumable(out, "other", rest)] == [0, 1, 2]
    assert not second.exists()


def test_a_collection_without_its_facts(tmp_path):
    path = tmp_path / "collection.json"
    for content in ({}, [], {"studies": 3}, "text"):
        path.write_text(json.dumps(content))
        with pytest.raises(MedcapError, match="collection.json.*run 01_reports.ipynb"):
            reports.Collection.load(tmp_path)
