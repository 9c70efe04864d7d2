"""Laws of the reader of labels: a report says every label and no more, NIH's lists are a split, doubt is left out."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from iu_xray import reasons, splits, table
from PIL import Image

from medcap_paddle import evaluate, phantom, readers
from medcap_paddle.clinical.findings import from_mesh
from medcap_paddle.clinical.phrasing import UNQUALIFIED, read_report
from medcap_paddle.config import ReportSettings
from medcap_paddle.readers import labelled
from medcap_paddle.reports import build, records
from medcap_paddle.runtime.files import MedcapError

SHARED = Path(__file__).parents[2] / "shared"
NIH = "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema"
NIH = [*f"{NIH} Emphysema Fibrosis Pleural_Thickening Hernia".split(), "Tuberculosis"]
HEADER = ["Image Index", "Finding Labels", "Patient ID"]


def written(folder, rows, header=HEADER):
    """Data_Entry.csv and a small picture for each row."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, *_ in rows:
        Image.new("L", (8, 8)).save(folder / "images" / name)
    with open(folder / "Data_Entry.csv", "w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([header, *rows])
    return folder


def nih(folder, patients=40, images=2):
    """`images` images of each patient; the labels by turns, alone and in pairs."""
    labels = [*NIH, *map("|".join, zip(NIH, NIH[3:], strict=False)), *["No Finding"] * 8]
    return written(
        folder,
        [[f"{p:08}_{k:03}.png", labels[(2 * p + k) % len(labels)], p] for p in range(patients) for k in range(images)],
    )


# reports -------------------------------------------------------------------------------------------


def test_a_report_says_every_label_and_no_other(data, work):
    built = build(nih(data), work)
    assert (built.reports, built.images) == ("phrased", "real") and not built.left_out
    with open(data / "Data_Entry.csv", encoding="utf-8") as source:
        labels = {row["Image Index"][:-4]: row["Finding Labels"] for row in csv.DictReader(source)}
    for row in table(work / "reports.csv"):
        named = {labelled.finding_of(label) for label in labels[row["study_id"]].split("|")} - labelled.NORMAL
        for text in (row["findings"], row["report"]):
            assert {finding.name for finding in read_report(text)} == named
        assert row["impression"] and (row["mesh"] == "normal") == (not named)


def test_the_same_labels_make_the_same_report_whatever_study_seed_or_order(tmp_path):
    nih(tmp_path / "a")
    with open(tmp_path / "a/Data_Entry.csv", encoding="utf-8") as source:
        header, *rows = csv.reader(source)
    written(tmp_path / "b", rows[::-1])
    texts = {}
    for name, folder, seed in (("a", "a", 0), ("b", "b", 0), ("seed", "a", 1)):
        build(tmp_path / folder, tmp_path / "work" / name, ReportSettings(seed=seed))
        found = table(tmp_path / "work" / name / "reports.csv")
        texts[name] = {row["study_id"]: row["findings"] for row in found}
        assert len({row["findings"] for row in found}) == len({row["mesh"] for row in found})
    assert texts["a"] == texts["b"] == texts["seed"]
    assert {study: cells[3] for study, cells in records(tmp_path / "b", tmp_path / "w")} == texts["a"]


def test_nothing_is_denied_that_the_source_does_not_label(data, work):
    build(written(data, [["a.png", "1"], ["b.png", "0"]], ["image", "tuberculosis"]), work)
    sick, healthy = (row["findings"] for row in table(work / "reports.csv"))
    assert len(re.findall(r"\.", sick)) == 1 and "tubercul" in sick  # whether the heart is large, nobody has said
    assert not read_report(healthy) and re.search("heart|cardiac", healthy, re.I) and "lung" in healthy.lower() + "lung"


def test_a_label_without_a_phrase_is_never_phrased_as_normal(data, work):
    rows = [["a.png", "Scoliosis", 1], ["b.png", "Mass|Gizmo", 2], ["c.png", "", 3], ["d.png", "Mass|No Finding", 4]]
    written(data, [*rows, ["e.png", "Mass", 5], ["f.png", "Effusion", 6], ["f.png", "Edema", 6]])
    assert build(data, work).studies == {"train": 1}
    assert reasons(work) == {
        "a": 'label "Scoliosis" has no phrase',
        "b": 'label "Gizmo" has no phrase',
        "c": "no label",
        "d": 'label "No Finding" beside others',
        "f": labelled.CONFLICT,
    }
    assert build(data, work).left_out[labelled.CONFLICT] == 2
    written(data, rows)
    with pytest.raises(MedcapError, match='no usable study.*label "Scoliosis" has no phrase: 1.*effusion.*pneumonia'):
        build(data, work)


def test_labels_that_exclude_each_other_are_both_told(data, work):
    build(
        written(data, [["a.png", "Effusion|Pneumothorax|Consolidation|Edema|Emphysema", 1], ["b.png", "Mass", 2]]), work
    )
    (row, _) = table(work / "reports.csv")
    names = {"pleural effusion", "pneumothorax", "consolidation", "pulmonary edema", "emphysema"}
    assert {finding.name for finding in read_report(row["findings"])} == names
    assert not re.search(r"\b[Nn]o (pleural )?(effusion|pneumothorax)", row["findings"])


def test_an_answer_that_is_neither_yes_nor_no_is_left_out(data, work):
    written(data, [["a.png", "maybe"], ["b.png", "1"]], ["image", "tuberculosis"])
    (data / "Data_Entry.csv").open("a").write(",1\n")
    build(data, work)
    assert reasons(work) == {
        "a": 'tuberculosis "maybe" is neither yes nor no',
        "Data_Entry.csv": "row 3 has no image",
    }


def test_what_is_phrased_is_said_wherever_a_figure_stands(data, work):
    built = build(nih(data), work)
    assert "reports PHRASED from labels" in str(built) and json.loads((work / "collection.json").read_text())
    features = {"encoder": "small", "source": "a file", "weights": "abc", "precision": "float32"}
    line = evaluate.provenance(built, features, "test")
    assert "PHRASED from labels, not written by a radiologist: no figure compares with published ones; real" in line


# drawings ------------------------------------------------------------------------------------------


def test_labels_become_terms_that_we_understand():
    kinds = [from_mesh(labelled.to_mesh(name)) for name in [*NIH, "Pneumoperitoneum"]]
    assert all(len(found) == 1 for found in kinds) and len({found[0].name for found in kinds}) == 15
    assert labelled.to_mesh("No Finding") == labelled.to_mesh("no_findings") == "normal"
    assert labelled.to_mesh("Effusion|Something new|Effusion") == "Pleural Effusion;Something new"
    assert {labelled.finding_of(name) for name in NIH} <= UNQUALIFIED.keys()


LABELS = {
    "nih": [HEADER, ["1_000.png", "Mass|Edema", 1], ["2_000.png", "No Finding", 2]],
    "tb": [["image", "mask", "tuberculosis"], ["1_000.png", "1_000.png", 1], ["2_000.png", "2_000.png", "no"]],
    "one label": [["image", "label", "patient"], ["1_000.png", "pneumonia", 1], ["2_000.png", "no_findings", 2]],
}


@pytest.mark.parametrize("form", LABELS)
def test_a_table_of_labels_is_drawn_and_its_reports_are_the_same(tmp_path, data, work, form):
    header, *rows = LABELS[form]
    written(data, rows, header)
    drawn = phantom.redraw(data, tmp_path / "drawn", size=32, workers=1)
    assert json.loads((drawn / "phantom.json").read_text())["reports"] == "phrased"
    given, made = build(data, work), build(drawn, tmp_path / "again")
    assert (given.reports, given.images, made.reports, made.images) == ("phrased", "real", "phrased", "phantom")
    assert table(work / "reports.csv") == table(tmp_path / "again/reports.csv")
    reader, files = readers.find(drawn, work)
    sick, healthy = reader.studies(files)
    assert from_mesh(sick.mesh) and healthy.mesh == "normal" and sick.images[0].path != healthy.images[0].path


# NIH's lists ---------------------------------------------------------------------------------------


def listed(folder, train_val, test):
    (folder / "train_val_list.txt").write_text("".join(f"{name}\n" for name in train_val))
    (folder / "test_list.txt").write_text("\n".join(test))
    return folder


def test_nihs_lists_are_the_split_and_val_is_cut_by_patient(tmp_path, data, work):
    names = [f"{p:08}_{k:03}.png" for p in range(40) for k in range(2)]
    listed(nih(data), names[:63], names[64:78])
    found = {}
    for seed in (0, 1):
        built = build(data, work, ReportSettings(seed=seed))
        found[seed] = splits(work)
        assert built.split == f"train_val_list.txt and test_list.txt, val 1 in 8 seed {seed}"
        assert built.left_out == {"no split given": 3}
        assert {f"{name}.png" for name, split in found[seed].items() if split == "test"} == set(names[64:78])
        of_patient = {}
        for name, split in found[seed].items():
            of_patient.setdefault(name[:8], set()).add(split)
        assert all(len(split) == 1 for split in of_patient.values())
        assert Counter(map(min, of_patient.values())) == {"train": 28, "val": 4, "test": 7}
    assert found[0] != found[1]
    assert build(data, work, ReportSettings(split="7:1:2")).split == "7:1:2 seed 0" and len(splits(work)) == 80
    drawn = phantom.redraw(data, tmp_path / "drawn", size=32, workers=1)
    assert build(drawn, tmp_path / "again").split.startswith("train_val_list.txt and test_list.txt")


def test_lists_that_make_no_split_are_refused(data, work):
    names = [f"{p:08}_{k:03}.png" for p in range(4) for k in range(2)]
    nih(data, patients=4)
    with pytest.raises(MedcapError, match="test_list.txt has 00000001_001, which train_val_list.txt has too"):
        build(listed(data, names[:4], names[3:]), work)
    with pytest.raises(MedcapError, match="train_val_list.txt and test_list.txt has patient 1 in train and in test"):
        build(listed(data, names[:3], names[3:]), work)
    with pytest.raises(MedcapError, match="no split given: 8"):
        build(listed(data, ["a.png"], ["b.png"]), work)
    (data / "test_list.txt").unlink()
    with pytest.raises(MedcapError, match="test_list.txt not found.*give both of .*, or neither"):
        build(data, work)


# the collections beside the project ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nih_cxr", "tb_cxr", "cxr_png"])
def test_real_tables_of_labels(work, name):
    if not (SHARED / name).exists():
        pytest.skip("no collection beside the project")
    built = build(SHARED / name, work)
    assert (built.reports, built.images, built.left_out) == ("phrased", "real", {})
    for row in table(work / "reports.csv"):
        read = {finding.name for finding in read_report(row["report"])}
        drawn = {finding.name for finding in from_mesh(row["mesh"].replace("Tuberculosis", ""))}
        assert read - {"tuberculosis"} == drawn and ("tuberculosis" in read) == ("Tuberculosis" in row["mesh"])
