"""Laws of input that means harm: nothing is executed, nothing is read or written outside of the folders given."""

import json
import os
import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medcap_paddle import evaluate, phantom, reports, show
from medcap_paddle.metrics import meteor
from medcap_paddle.readers import openi
from medcap_paddle.readers.collection import LeftOut
from medcap_paddle.runtime import cache, files
from medcap_paddle.runtime.files import MedcapError

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
IN_XML = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
PLACES = [
    "../secret",
    "../../secret",
    "{}/secret",
    "..\\secret",
    "a/../../secret",
    "secret\u202e",
    "~/secret",
    ".",
    "..",
]
TEXTS = [
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x")',
    "הלב תקין בגודלו.",
    "a\u202eb",
    "$\\bad{$",
    "%s {0}",
    "é\u0301",
]


def xml(study_id="CXR1", findings="Clear lungs.", images=("CXR1_IM-1",), mesh="normal"):
    pictures = "".join(f"<parentImage id={quoteattr(i)}><figureId>F1</figureId></parentImage>" for i in images)
    return (
        f"<eCitation><uId id={quoteattr(study_id)}/><MedlineCitation><Article><Abstract>"
        f'<AbstractText Label="FINDINGS">{escape(findings)}</AbstractText></Abstract></Article></MedlineCitation>'
        f"<MeSH><major>{escape(mesh)}</major></MeSH>{pictures}</eCitation>"
    )


def collection(folder, *contents):
    (folder / "NLMCXR_png").mkdir(parents=True)
    for k, content in enumerate(contents):
        (folder / f"{k}.xml").write_bytes(content if isinstance(content, bytes) else content.encode())
    Image.new("L", (8, 8)).save(folder / "NLMCXR_png/CXR1_IM-1.png")
    return folder


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# The parser -----------------------------------------------------------------------------------------------------------


@given(st.text(IN_XML, min_size=1, max_size=30), st.text(IN_XML, max_size=60), st.text(IN_XML, max_size=20))
def test_whatever_a_report_says_is_read_as_it_is(tmp_path_factory, study_id, findings, mesh):
    path = tmp_path_factory.mktemp("xml") / "1.xml"
    path.write_text(xml(study_id, findings, mesh=mesh), encoding="utf-8")
    study = openi.read(str(path), "1.xml")
    if isinstance(study, LeftOut):
        assert study.reason == "no study id" and not study_id.strip()
    else:
        assert (study.study_id, study.findings, study.mesh) == (study_id.strip(), findings.strip(), mesh.strip())


PIECES = st.sampled_from([b"<eCitation>", b"</eCitation>", b'<uId id="1"/>', b"<!DOCTYPE", b"&a;", b"\0", b"\xff\xfe"])


@given(st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join))
def test_any_bytes_are_a_report_or_are_left_out(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("xml") / "1.xml"
    path.write_bytes(data)
    study = openi.read(str(path), "1.xml")
    assert study.reason if isinstance(study, LeftOut) else study.study_id


def test_a_tower_of_elements_is_no_reason_to_fall(tmp_path):
    tower = xml(findings="HERE").replace("HERE", "<a>" * 100_000 + "Clear." + "</a>" * 100_000)
    summary = reports.build(collection(tmp_path / "data", tower, xml("CXR2")), tmp_path / "work")
    assert sum(summary.studies.values()) == 2


# Names that are paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_an_image_id_is_no_path(tmp_path, place):
    place = place.replace("{}", str(tmp_path))
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    data = collection(tmp_path / "data", xml(images=(place, place + ".png")), xml("CXR2"))
    reports.build(data, tmp_path / "work")
    assert "secret" not in (tmp_path / "work/images.csv").read_text()
    before = everything(tmp_path)
    phantom.redraw(data, tmp_path / "drawn", size=32, workers=1)
    assert {path.split(os.sep)[0] for path in everything(tmp_path) - before} <= {"drawn", "data"}


@pytest.mark.parametrize("name", [*PLACES, "CXR1_IM-1\0.png"])
def test_a_file_name_of_the_kaggle_table_is_no_path(tmp_path, name):
    data = collection(tmp_path / "data")
    columns = ["uid", "MeSH", "indication", "comparison", "findings", "impression"]
    pd.DataFrame([["1", "", "", "", "Clear.", ""]], columns=columns).to_csv(data / "indiana_reports.csv")
    rows = [["1", name.replace("{}", str(tmp_path)), "Frontal"], ["1", "1_IM-1.dcm.png", "Lateral"]]
    pd.DataFrame(rows, columns=["uid", "filename", "projection"]).to_csv(data / "indiana_projections.csv")
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    reports.build(data, tmp_path / "work")
    images = files.read_table(tmp_path / "work/images.csv", ["path"], "")
    assert {Path(path).parent for path in images.path} == {data.resolve() / "NLMCXR_png"}


@pytest.mark.parametrize("study_id", [*PLACES, *TEXTS])
def test_a_study_id_is_no_path_and_no_code(tmp_path, study_id):
    study_id = study_id.replace("{}", str(tmp_path))
    reports.build(collection(tmp_path / "data", xml(study_id)), tmp_path / "work")
    assert list(files.read_table(tmp_path / "work/reports.csv", ["study_id"], "").study_id) == [study_id]
    assert {path.split(os.sep)[0] for path in everything(tmp_path)} == {"data", "work"}
    assert {path for path in everything(tmp_path / "work") if not path.startswith(".")} == {
        *("reports.csv", "images.csv", "left_out.csv", "collection.json")
    }


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private/9.xml").write_text(xml("CXR9"))
    data = collection(tmp_path / "data", xml())
    (data / "up").symlink_to(tmp_path)
    (data / "root").symlink_to("/")
    assert reports.build(data, tmp_path / "work").studies == {"train": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_devices_are_no_files(tmp_path):
    data = collection(tmp_path / "data", xml(images=("CXR1_IM-1", "CXR1_IM-2")))
    os.mkfifo(data / "2.xml")  # who opens it waits for ever
    os.mkfifo(data / "annotation.json")
    os.mkfifo(data / "NLMCXR_png/CXR1_IM-2.png")
    (data / "3.xml").symlink_to("/dev/zero")
    summary = reports.build(data, tmp_path / "work")
    assert summary.radiographs == {"train": 1} and summary.split == "7:1:2 seed 0"


# Text that is code ----------------------------------------------------------------------------------------------------


def test_text_of_any_script_goes_through_to_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(meteor.shutil, "which", lambda _: None)  # no Java machine for METEOR
    data = collection(tmp_path / "data", *(xml(f"CXR{k}", text + " Normal.") for k, text in enumerate(TEXTS)))
    reports.build(data, tmp_path / "work")
    table = files.read_table(tmp_path / "work/reports.csv", reports.REPORTS, "")
    assert list(table.findings) == [text + " Normal." for text in TEXTS]
    written = table.assign(reference=table.report, prediction=table.report)[["study_id", "reference", "prediction"]]
    files.write_table(tmp_path / "predictions.csv", written)
    read = evaluate.read_predictions(tmp_path / "predictions.csv")
    assert evaluate.evaluate({"run": read}, number=10)["run"]["figures"]["bleu1"]["value"] == pytest.approx(1)
    assert reports.Collection.load(tmp_path / "work").has("train")


def test_html_in_a_report_is_text_in_a_notebook():
    """Tables escape what they show; nothing else makes HTML."""
    assert "<script>" not in pd.DataFrame({"report": TEXTS}, index=TEXTS)._repr_html_()
    for path in NOTEBOOKS:
        code = "".join(line for cell in json.loads(path.read_text())["cells"] for line in cell["source"])
        assert not re.search(r"\b(HTML|Markdown|Javascript|display_html)\(|escape=False|%%html", code), path.name


@pytest.mark.filterwarnings("ignore:Glyph")
def test_dollars_in_a_report_are_no_formula(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    table = pd.DataFrame({"split": "train", "report": TEXTS, "mesh": TEXTS})
    pictures = [
        show.tags(table),
        show.lengths(table, 60),
        show.radiographs([tmp_path / "a.png"] * len(TEXTS), TEXTS),
        show.reading([([tmp_path / "a.png"], text, [("$\\bad{$", text, None)]) for text in TEXTS]),
    ]
    for picture in pictures:
        picture.savefig(tmp_path / "out.png")


# Disks that are full --------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path):
    """By a limit on the size of files: every library meets it in the middle of its own writing."""
    resource = pytest.importorskip("resource")
    from medcap_paddle import feature_file
    from medcap_paddle.phantom import collection

    big = np.random.default_rng(0).random((100, 400)).astype("float32")
    ids = np.array([f"CXR{k}" for k in range(100)])
    part = {"pooled": big, "image_id": ids, "unreadable": np.zeros((0, 3), str)}
    writers = {
        "table.csv": lambda path: files.write_table(path, pd.DataFrame(big)),
        "facts.json": lambda path: files.write_json(path, big.tolist()),
        "weights.safetensors": lambda path: files.write_tensors(path, {"a": big}),
        "features.h5": lambda path: feature_file.write(path, [part], {"encoder": "made up"}, {"pooled": (400,)}),
        "000000.npz": lambda path: list(cache.resumable(tmp_path / "out", "inputs", lambda done: [{"a": big}])),
        "CXR1.png": lambda path: collection._draw_study(tmp_path, [], [("CXR1.png", "frontal")], 0, 256),
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in writers.items():
        old = tmp_path / name
        if name in ("table.csv", "facts.json", "weights.safetensors", "features.h5"):
            old.write_text("old")
        before = everything(tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            with pytest.raises(MedcapError, match=f"{name} cannot be written .*free some space"):
                write(old)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        left = [path for path in everything(tmp_path) - before if not (tmp_path / path).is_dir()]
        assert not [path for path in left if Path(path).name != ".begun"], "something was left behind"
        assert not old.exists() or old.read_text() == "old"
        write(old)  # with space again
