"""Laws of the readers: the same collection in any form gives the same tables; archives that mean harm; the seam."""

import csv
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from iu_xray import annotate, collection, kaggle, reasons, splits, study, table, xml

from medcap_paddle import phantom, readers
from medcap_paddle.config import ReportSettings
from medcap_paddle.readers import archive
from medcap_paddle.readers import table as own_table
from medcap_paddle.readers.collection import Files, Image, LeftOut, Study
from medcap_paddle.reports import build
from medcap_paddle.runtime.files import MedcapError


def touch(folder, *names, content=""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def written(path, rows):
    """A CSV of rows; the first is the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(rows)
    return path


def r2gen(folder, studies, split="train"):
    """The same studies as R2Gen has them: a folder of numbered pictures for each."""
    records = []
    for one in studies:
        name = one["images"][0][:-5] if one["images"] else f"CXR{one['number']}_IM-0000"
        paths = [f"{name}/{k}.png" for k in range(len(one["images"]))]
        touch(folder / "images", *paths)
        records.append({"id": name, "report": one["sections"]["FINDINGS"], "image_path": paths, "split": split})
    touch(folder, "annotation.json", content=json.dumps({split: records}))
    return folder


def own(folder, studies):
    """The same studies as a table of one's own, a row an image."""
    rows = [["id", "report", "image_path", "mesh"]]
    for one in studies:
        for name in one["images"]:
            text = one["sections"]["FINDINGS"]
            rows.append([f"CXR{one['number']}", text, f"films/{name}.png", ";".join(one["mesh"])])
            touch(folder, f"films/{name}.png")
    written(folder / "mine.csv", rows)
    return folder


def nih(folder, studies):
    """Labels of the same studies, as NIH has them."""
    rows = [["Image Index", "Finding Labels", "Follow-up #", "Patient ID"]]
    rows += [[f"{one['number']:08}_000.png", "Effusion|Mass", 0, one["number"]] for one in studies]
    touch(folder, *(f"images/{name}" for name, *_ in rows[1:]))
    written(folder / "Data_Entry_2017.csv", rows)
    return folder


FORMS = {"openi": collection, "kaggle": kaggle, "own_table": own, "r2gen_folder": r2gen, "label_table": nih}

# forms of one collection ---------------------------------------------------------------------------


def test_kaggle_gives_the_same_tables_as_open_i(tmp_path):
    studies = [study(n, mesh=("A/b", "C"), IMPRESSION='Say "so", once', INDICATION="None") for n in range(1, 12)]
    studies += [study(20, findings=""), study(21, images=0)]
    build(collection(tmp_path / "openi", studies), tmp_path / "a")
    build(kaggle(tmp_path / "kaggle", studies), tmp_path / "b")
    assert table(tmp_path / "a" / "reports.csv") == table(tmp_path / "b" / "reports.csv")
    keys = ("image_id", "study_id", "figure_id")
    a, b = (table(tmp_path / name / "images.csv") for name in "ab")
    assert [[row[k] for k in keys] for row in a] == [[row[k] for k in keys] for row in b]
    assert reasons(tmp_path / "a") == reasons(tmp_path / "b") == {"CXR20": "no findings", "CXR21": "no image listed"}


def test_projections_give_the_views_of_open_i_reports(data, work):
    studies = [study(1, "From the XML."), study(2)]
    kaggle(collection(data, studies), [study(1, "From the CSV."), study(2)], images=False)
    build(data, work)
    assert [row["view"] for row in table(work / "images.csv")] == ["frontal", "lateral"] * 2
    assert table(work / "reports.csv")[0]["findings"] == "From the XML."


def test_the_image_names_of_study_1_match_too(data, work):
    one = study(1)
    one["images"] = ["CXR1_1_IM-0001-3001"]
    collection(data, [one], png=False)
    (data / "1_IM-0001-3001.dcm.png").touch()
    build(data, work)
    assert [row["image_id"] for row in table(work / "images.csv")] == ["CXR1_1_IM-0001-3001"]


# folders without a collection ----------------------------------------------------------------------


def test_an_empty_or_missing_folder_says_what_was_looked_for(data, work):
    with pytest.raises(MedcapError, match="not found"):
        build(data, work)
    data.mkdir()
    with pytest.raises(MedcapError, match=r"\*\.xml.*indiana_reports\.csv.*\.zip"):
        build(data, work)
    (data / "notes.xml").write_text("<notes/>")
    with pytest.raises(MedcapError, match="not an Open-i report: 1"):
        build(data, work)
    assert not (work / "reports.csv").exists()


def test_hidden_files_and_our_own_output_are_not_the_collection(data):
    collection(data, [study(1)])
    (data / "ecgen-radiology" / "._1.xml").write_bytes(b"\0\5\x16\7")  # what macOS leaves in archives
    collection(data / "work" / "phantom", [study(2)])
    assert build(data, data / "work").left_out == {}
    assert list(splits(data / "work")) == ["CXR1"]


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path, data, work):
    collection(data, [study(1)])
    (data / "NLMCXR_png").rename(tmp_path / "elsewhere")
    (data / "images").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(data)
    assert build(data, work).studies == {"train": 1}


# the seam ------------------------------------------------------------------------------------------


class Notes:
    """A form that the package does not know: a line of JSON a study, images in folders of their own."""

    LOOKS_FOR = "notes.jsonl"

    def matches(self, files):
        return bool(files.named("notes.jsonl"))

    def sources(self, files):
        return [files.named("notes.jsonl")]

    def studies(self, files):
        with open(files.named("notes.jsonl"), encoding="utf-8") as source:
            for number, line in enumerate(source):
                try:
                    note = json.loads(line)
                except ValueError:
                    yield LeftOut("", "notes.jsonl", f"line {number} is no JSON")
                    continue
                found = {files.relative(path): path for path in files.images}
                names = [(f"films/{note['id']}/{view}.png", view) for view in ("frontal", "lateral")]
                images = [
                    Image(f"{note['id']}-{view}", f"F{k}", view, name, found.get(name, ""))
                    for k, (name, view) in enumerate(names, 1)
                ]
                yield Study(note["id"], "notes.jsonl", note["text"], mesh=note["tags"], images=images)


@pytest.fixture
def notes(data, monkeypatch):
    """A folder of that form, ten studies and a bad line, with its reader registered."""
    monkeypatch.setitem(readers.READERS, "notes", Notes())
    data.mkdir()
    lines = [json.dumps({"id": f"N{n}", "text": "Clear.", "tags": "Nodule/lung/left" if n else ""}) for n in range(10)]
    (data / "notes.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    return data


def test_a_reader_from_outside_is_used_by_the_tables(notes, work):
    with pytest.raises(MedcapError, match="no image file: 10, line 10 is no JSON: 1.*IMAGES=phantom"):
        build(notes, work)
    for n in range(10):
        (notes / f"films/N{n}").mkdir(parents=True)
        (notes / f"films/N{n}/frontal.png").touch()
    built = build(notes, work)
    assert built.studies == {"train": 7, "val": 1, "test": 2} and built.radiographs == built.studies
    assert built.left_out == {"image file missing, study kept": 10, "line 10 is no JSON": 1}
    assert table(work / "images.csv")[0]["path"] == str(notes.resolve() / "films/N0/frontal.png")


def test_a_reader_from_outside_is_used_by_the_phantom(notes, tmp_path, work):
    drawn = phantom.redraw(notes, tmp_path / "drawn", size=32, workers=1)
    built = build(drawn, work)
    assert (built.reports, built.images) == ("real", "phantom")
    assert built.radiographs == {"train": 14, "val": 2, "test": 4} and built.left_out == {"line 10 is no JSON": 1}


def test_messages_list_what_every_reader_looks_for(notes, data, work):
    (notes / "notes.jsonl").unlink()
    with pytest.raises(MedcapError, match=r"0 files looked at.*\*\.xml.*indiana_reports\.csv.*notes\.jsonl.*\.zip"):
        build(data, work)


def test_every_reader_keeps_the_seam(tmp_path):
    """Sources are files of the collection; images lie below it, under a relative name."""
    assert FORMS.keys() == readers.READERS.keys()
    for name, write in FORMS.items():
        folder = write(tmp_path / name, [study(n) for n in range(4)])
        reader, files = readers.find(folder, tmp_path / "work")
        assert reader is readers.READERS[name] and reader.LOOKS_FOR
        assert set(reader.sources(files)) == set(files.paths) - set(files.images)
        studies = list(reader.studies(files))
        assert len(studies) == 4 and all(image.path in files.images for one in studies for image in one.images)
        for path in files.images:
            (tmp_path / path).unlink()
        for one in studies:
            for image in one.images:
                (folder / image.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / image.file).touch()
        again = list(reader.studies(Files(folder, tmp_path / "work")))
        assert [[i.path for i in s.images] for s in again] == [[str(folder / i.file) for i in s.images] for s in again]


def test_a_redrawn_kaggle_collection_is_the_redrawn_xml_of_it(tmp_path):
    tags = [("Nodule/lung/left",), ("Cardiomegaly/mild", "Opacity/lung/base"), ("normal",)]
    studies = [study(n, mesh=tags[n % 3], IMPRESSION='Say "so", once', INDICATION="None") for n in range(1, 12)]
    studies += [study(20, findings=""), study(21, images=0)]
    studies[0]["images"] = ["CXR1_IM-0001-3001", "CXR1_IM-0001-4001"]
    collection(tmp_path / "openi", studies, png=False)
    kaggle(tmp_path / "kaggle", studies, images=False)
    tables, pictures, views = {}, {}, {}
    for name in ("openi", "kaggle"):
        annotate(tmp_path / name, train=range(1, 8), val=[8, 9], test=[10, 11])
        drawn = phantom.redraw(tmp_path / name, tmp_path / "drawn" / name, size=32, workers=1)
        built = build(drawn, tmp_path / "work" / name)
        assert built.images == "phantom" and built.studies == {"train": 7, "val": 2, "test": 2}
        images = table(tmp_path / "work" / name / "images.csv")
        tables[name] = table(tmp_path / "work" / name / "reports.csv")
        pictures[name] = {row["image_id"]: open(row["path"], "rb").read() for row in images}
        views[name] = {row["view"] for row in images}
        assert reasons(tmp_path / "work" / name) == {"CXR20": "no findings", "CXR21": "no image listed"}
    assert tables["openi"] == tables["kaggle"]
    assert pictures["openi"] == pictures["kaggle"] and len(set(pictures["openi"].values())) == 22
    assert views == {"openi": {""}, "kaggle": {"frontal", "lateral"}}
    assert {path.name for path in (tmp_path / "drawn/kaggle/images").iterdir()} == {
        f"{name[3:]}.dcm.png" for one in studies for name in one["images"]
    }


def test_a_kaggle_image_without_a_suffix_is_drawn_as_png(tmp_path):
    folder = kaggle(tmp_path / "data", [study(1)], images=False)
    path = folder / "indiana_projections.csv"
    path.write_text(path.read_text().replace(".dcm.png", ""))
    drawn = phantom.redraw(folder, tmp_path / "drawn", size=32, workers=1)
    assert build(drawn, tmp_path / "work").radiographs == {"train": 2}


# archives ------------------------------------------------------------------------------------------


class GbkName(zipfile.ZipInfo):
    """An entry as Chinese Windows writes it: the name in GBK, no UTF-8 flag."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("gbk"), 0


def packed(path, entries):
    """A zip of {name or ZipInfo: text}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as target:
        for name, text in entries.items():
            target.writestr(name, text)
    return path


@pytest.mark.parametrize(
    "entry", [GbkName, str, lambda name: name.replace("/", "\\")], ids=["gbk", "utf-8", "backslash"]
)
def test_a_zip_is_unpacked_with_its_chinese_names(data, work, entry):
    folder = "IU数据集/NLMCXR"
    entries = {entry(f"{folder}_reports/ecgen-radiology/1.xml"): xml(study(1)), entry("读我.txt"): "not needed"}
    entries |= {entry(f"{folder}_png/{name}.png"): "" for name in study(1)["images"]}
    packed(data / "IU数据集.zip", entries)
    assert build(data, work).studies == {"train": 1}
    assert build(data / "IU数据集.zip", work).radiographs == {"train": 2}
    image = work.resolve() / "unzipped" / f"{folder}_png" / f"{study(1)['images'][0]}.png"
    assert table(work / "images.csv")[0]["path"] == str(image)
    assert image.exists() and not (work / "unzipped" / "读我.txt").exists()


def test_a_zip_is_unpacked_once_and_again_when_it_changes(tmp_path):
    path, folder = tmp_path / "a.zip", tmp_path / "unzipped"
    archive.unzip(packed(path, {"1.xml": "one"}), folder)
    (folder / "1.xml").write_text("touched")
    archive.unzip(path, folder)
    assert (folder / "1.xml").read_text() == "touched"
    archive.unzip(packed(path, {"1.xml": "two"}), folder)
    assert (folder / "1.xml").read_text() == "two"


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    "entry",
    ["../out.xml", "a/../../out.xml", "/out.xml", "C:\\out.xml", "..\\out.xml", link("link.xml"), "../out.txt"],
    ids=["up", "up inside", "absolute", "drive", "backslash", "link", "not even wanted"],
)
def test_an_entry_that_leaves_the_folder_stops_everything(tmp_path, entry):
    path = packed(tmp_path / "evil.zip", {"1.xml": "fine", entry: "../../out.xml"})
    with pytest.raises(MedcapError, match="evil.zip.*nothing was unpacked"):
        archive.unzip(path, tmp_path / "deep" / "unzipped")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip"]


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("1.xml", b"\0" * 10_000_000)
    with pytest.raises(MedcapError, match="10,000,000 bytes"):
        archive.unzip(path, tmp_path / "unzipped")
    packed(path, {"1.xml": "a" * 1000})
    with pytest.raises(MedcapError, match="more than the 999 allowed"):
        archive.unzip(path, tmp_path / "unzipped", limit=999)
    assert not (tmp_path / "unzipped").exists()


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("1.xml", b"\0" * 10_000_000)
    size = (10_000_000).to_bytes(4, "little")
    assert path.read_bytes().count(size) == 2
    path.write_bytes(path.read_bytes().replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(MedcapError, match="liar.zip cannot be unpacked"):
        archive.unzip(path, tmp_path / "unzipped")
    assert not (tmp_path / "unzipped").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_broken_zip_is_named(tmp_path, content):
    path = packed(tmp_path / "broken.zip", {"1.xml": "<a/>" * 100})
    if content is None:  # damaged within
        content = path.read_bytes().replace(b"<a/><a/>", b"<a/><b/>", 1)
    path.write_bytes(content)
    with pytest.raises(MedcapError, match="broken.zip cannot be unpacked.*give the folder"):
        build(path, tmp_path / "work")
    assert not (tmp_path / "work" / "unzipped").exists()


def test_several_zips_or_one_without_reports_are_refused(data, work):
    packed(data / "a.zip", {"x.png": ""})
    with pytest.raises(MedcapError, match=r"no collection in .*a.zip: .*\*\.xml"):
        build(data, work)
    packed(data / "b.zip", {"x.png": ""})
    with pytest.raises(MedcapError, match="2 zip files"):
        build(data, work)


# R2Gen's folder ------------------------------------------------------------------------------------


def texts(work):
    return [[row[name] for name in ("study_id", "split", "findings", "report")] for row in table(work / "reports.csv")]


def test_r2gens_folder_gives_ids_splits_and_texts_of_the_xml(tmp_path):
    studies = [study(n) for n in range(1, 12)] + [study(30, images=5), study(31, images=1)]
    build(r2gen(tmp_path / "r2gen", studies), tmp_path / "a")
    collection(tmp_path / "openi", studies)
    (tmp_path / "openi/annotation.json").write_text((tmp_path / "r2gen/annotation.json").read_text())
    build(tmp_path / "openi", tmp_path / "b")
    assert texts(tmp_path / "a") == texts(tmp_path / "b") and len(texts(tmp_path / "a")) == 13
    images = table(tmp_path / "a/images.csv")
    assert images[0]["image_id"] == "CXR1_IM-0001/0" and len({row["image_id"] for row in images}) == len(images) == 28
    assert [row["figure_id"] for row in images if row["study_id"] == "CXR30"] == ["F1", "F2", "F3", "F4", "F5"]


SHARED = Path(__file__).parents[2] / "shared/iu_xray"


@pytest.mark.skipif(not SHARED.exists(), reason="needs IU X-Ray")
def test_r2gens_folder_of_iu_xray_gives_ids_splits_and_texts_of_its_xml(tmp_path):
    annotation = json.loads((SHARED / "annotation.json").read_text())
    for folder in ("r2gen", "openi"):
        touch(tmp_path / folder, "annotation.json", content=json.dumps(annotation))
    (tmp_path / "openi/reports").symlink_to(SHARED / "ecgen-radiology")
    paths = [path for split in annotation.values() for record in split for path in record["image_path"]]
    touch(tmp_path / "r2gen/images", *paths)
    (tmp_path / "openi/images").symlink_to(tmp_path / "r2gen/images")
    for folder in ("r2gen", "openi"):
        built = build(tmp_path / folder, tmp_path / "work" / folder)
        assert built.studies == {"train": 2069, "val": 296} and sum(built.radiographs.values()) == 4730
    assert texts(tmp_path / "work/r2gen") == texts(tmp_path / "work/openi")


@pytest.mark.parametrize("key", ["val", "valid", "validate", "Validation", "DEV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_annotation_names_val_as_it_likes(data, work, key, encoding):
    """With a mark of the byte order too; beside XML, and alone."""
    studies = [study(1), study(2)]
    for write in (collection, r2gen):
        write(data, studies)
        ids = {"train": "CXR1_IM-0001", key: "CXR2_IM-0002", "info": {"version": 1}}
        records = {
            k: [{"id": v, "report": "Clear.", "image_path": f"{v}/0.png"}] if isinstance(v, str) else v
            for k, v in ids.items()
        }
        (data / "annotation.json").write_text(json.dumps(records), encoding=encoding)
        assert build(data, work).studies == {"train": 1, "val": 1}
        for path in data.glob("ecgen-radiology/*"):
            path.unlink()


def test_mimic_has_a_record_an_image(data, work):
    """study_id is the study, subject_id the patient, whatever the id of the record."""
    split = {"train": (50, 51, 50), "val": (52,), "test": (53,)}
    records = {
        name: [
            {
                "id": f"{n}-{k}",
                "study_id": n,
                "subject_id": 10 + n // 52 * n,
                "report": f"Lungs {n} clear. ",
                "image_path": [f"p10/p{n}/s{n}/{n}-{k}.jpg"],
            }
            for k, n in enumerate(studies)
        ]
        for name, studies in split.items()
    }
    for name in ("mimic_annotation_all.json", "annotation.json"):
        touch(data, name, content=json.dumps(records))
        paths = [record["image_path"][0] for group in records.values() for record in group]
        built = build(touch(data, *(f"images/{path}" for path in paths)), work)
        assert built.studies == {"train": 2, "val": 1, "test": 1} and built.radiographs["train"] == 3
        assert built.split == name and built.left_out == {}
        images = table(work / "images.csv")
        assert [row["image_id"] for row in images if row["study_id"] == "50"] == ["50-0", "50-2"]
        (data / name).unlink()
    records["test"][0]["subject_id"] = 10
    touch(data, "annotation.json", content=json.dumps(records))
    with pytest.raises(MedcapError, match="annotation.json has patient 10 in train and in test"):
        build(data, work)


def test_a_record_that_contradicts_another_is_left_out(data, work):
    record = {"id": "a", "study_id": 1, "subject_id": 1, "report": "Clear.", "image_path": ["a.png"]}
    records = [record, record | {"study_id": 2}, record | {"study_id": 2, "report": "Not clear."}]
    records += [record | {"study_id": 3}, record | {"study_id": 3, "subject_id": 2}]
    records += [record | {"study_id": 4, "report": None}, record | {"study_id": 5, "image_path": 7}]
    touch(data, "annotation.json", "images/a.png")
    (data / "annotation.json").write_text(json.dumps({"train": records}))
    assert build(data, work).studies == {"train": 1}
    several = {"2": "one study id, several reports", "3": "one study id, several patients"}
    assert reasons(work) == several | {"4": "no findings", "5": "no image listed"}


def test_splits_without_reports_are_no_collection(data, work):
    touch(data, "annotation.json", content=json.dumps({"train": [{"id": "CXR1_IM-0001", "image_path": []}]}))
    with pytest.raises(MedcapError, match="annotation.json gives splits and no reports"):
        build(data, work)
    touch(data, "annotation.json", content=json.dumps({"train": [{"id": "CXR1"}], "holdout": [{"id": "CXR2"}]}))
    with pytest.raises(MedcapError, match='annotation.json has the key "holdout", which is none of train, val, test'):
        build(data, work)


@pytest.mark.parametrize("form", ["openi", "kaggle", "r2gen_folder", "own_table"])
def test_without_train_studies_it_ends_at_once(data, work, form):
    """Not in notebook 03, which learns the words of train."""
    FORMS[form](data, [study(1), study(2)])
    if form == "own_table":
        written(
            data / "mine.csv", [["id", "report", "path", "split"], ["A", "Clear.", "films/CXR1_IM-0001-1001", "test"]]
        )
    else:
        r2gen(data, [study(1), study(2)], split="test")
    with pytest.raises(MedcapError, match=r'(annotation.json|mine.csv) has no train study.*split="7:1:2"'):
        build(data, work)
    assert build(data, work, ReportSettings(split="7:1:2")).has("train")


@pytest.mark.parametrize("form", [collection, kaggle])
def test_reports_find_r2gens_pictures(data, work, form):
    """Nothing is lost: the sections and terms of the reports, the pictures of R2Gen."""
    studies = [study(n, mesh=("A/b",), IMPRESSION="Fine.") for n in (1, 2, 3)]
    form(data, studies, False)
    r2gen(data, studies[:2])
    built = build(data, work)
    assert built.studies == {"train": 2} and built.radiographs == {"train": 4}
    assert reasons(work) == {"CXR3": "no image file"}
    assert table(work / "reports.csv")[0]["impression"] == "Fine."
    assert table(work / "images.csv")[1]["path"] == str(data.resolve() / "images/CXR1_IM-0001/1.png")
    touch(data, f"{studies[0]['images'][0]}.png")  # a picture of its own comes first
    assert build(data, work).radiographs == {"train": 3}


def test_ids_with_an_underscore_stay_apart(data, work):
    records = [{"id": f"study_{n}", "report": "Clear.", "image_path": [f"study_{n}/0.png"]} for n in range(3)]
    touch(data, "annotation.json", content=json.dumps({"train": records}))
    touch(data / "images", *(f"study_{n}/0.png" for n in range(3)))
    build(data, work)
    assert sorted(splits(work)) == ["study_0", "study_1", "study_2"]


# a table of one's own ------------------------------------------------------------------------------

TABLES = {
    "benchx": [["id", "report", "image_path"], ["S1", "Clear.", "a/1.png"], ["S1", "Clear.", "a/2.png"]],
    "capitals": [["Study_ID", "Findings", "Path"], ["S1", "Clear.", "a/1.png;a/2.png"]],
    "blanks": [["study id", "FINDINGS", "image path"], ["S1", " Clear. ", " a/1.png ; a/2.png "]],
    "bar": [["study_id", "report", "image_path"], ["S1", "Clear.", "a/1.png|a/2.png"]],
    "json": [["study_id", "report", "image_path"], ["S1", "Clear.", '["a\\/1.png", "a/2.png"]']],
    "python": [["study_id", "report", "image_path"], ["S1", "Clear.", "['a/1.png', 'a/2.png']"]],
    "numpy": [["study_id", "report", "image_path"], ["S1", "Clear.", "['a/1.png' 'a/2.png']"]],
    "comma": [["study_id", "report", "image_path"], ["S1", "Clear.", "a/1.png, a/2.png"]],
    "backslash": [["id", "report", "path"], ["S1", "Clear.", "a\\1.png;.\\a\\2.png"]],
    "dicom": [["id", "report", "path"], ["S1", "Clear.", "a/1.dcm;a/2.dcm.png"]],
    "no suffix": [["id", "report", "path"], ["S1", "Clear.", "a/1;a/2"]],
    "elsewhere": [["id", "report", "path"], ["S1", "Clear.", "/mnt/disk/set/a/1.png;C:\\set\\a\\2.png"]],
    "numbered": [["", "id", "report", "path"], ["0", "S1", "Clear.", "a/1.png"], ["1", "S1", "Clear.", "a/2.png"]],
    "repeated": [["id", "report", "path"], *[["S1", "Clear.", "a/1.png"], ["S1", "", "a/2.png;a/1.png"]] * 2],
}


@pytest.mark.parametrize("where", ["", "tables/"])
@pytest.mark.parametrize("form", TABLES)
def test_a_table_of_ones_own_in_any_form(data, work, form, where):
    touch(data, where + "a/1.png", where + "a/2.png", "Masks/a/1.png")
    written(data / where / "mine.csv", TABLES[form])
    built = build(data, work)
    assert built.left_out == {} and built.radiographs == {"train": 2}
    assert [row["path"] for row in table(work / "images.csv")] == [
        str(data.resolve() / where / f"a/{k}.png") for k in (1, 2)
    ]
    assert table(work / "reports.csv")[0]["findings"] == "Clear."


def test_columns_of_chexpert_plus(data, work):
    header = ["path_to_image", "frontal_lateral", "deid_patient_id", "report", "section_findings", "section_impression"]
    rows = [
        [f"train/patient{n}/study1/view{k}.jpg", view, f"patient{n}", "WHOLE", f"Lungs {n}.", "Fine."]
        for n in (1, 2)
        for k, view in enumerate(("Frontal", "Lateral"), 1)
    ]
    written(data / "df_chexpert_plus.csv", [header, *rows])
    touch(data, *(f"PNG/{row[0][:-4]}.png" for row in rows))
    assert sum(build(data, work).radiographs.values()) == 4
    assert {row["findings"] for row in table(work / "reports.csv")} == {"Lungs 1.", "Lungs 2."}
    assert [row["view"] for row in table(work / "images.csv")] == ["frontal", "lateral"] * 2
    assert table(work / "reports.csv")[0]["study_id"] == "train/patient1/study1"


def test_splits_of_a_table_are_kept(data, work):
    names = ["train", "Training", "val", "valid", "validate", "validation", "dev", "test", "TESTING", "", "holdout"]
    rows = [[f"S{n:02}", "Clear.", f"{n}.png", name] for n, name in enumerate(names)]
    written(data / "mine.csv", [["id", "report", "path", "split"], *rows])
    touch(data, *(row[2] for row in rows))
    built = build(data, work)
    assert built.studies == {"train": 2, "val": 5, "test": 2} and built.split == "mine.csv"
    assert reasons(work) == {"S09": "no split given", "S10": 'split "holdout" is none of train, val, test'}
    assert build(data, work, ReportSettings(split="8:2")).split == "8:2"


@pytest.mark.parametrize("column", ["patient_id", "Subject_ID"])
def test_a_patient_is_in_one_split(data, work, column):
    rows = [[f"S{n}", "Clear.", f"{n}.png", n % 20, "train" if n % 20 < 10 else "test"] for n in range(60)]
    written(data / "mine.csv", [["id", "report", "path", column, "split"], *rows])
    touch(data, *(row[2] for row in rows))
    for ratio in ("auto", "7:1:2", "8:2"):
        build(data, work, ReportSettings(split=ratio))
        split_of = splits(work)
        assert len(split_of) == 60 and len(set(split_of.values())) > 1
        assert all(len({split_of[f"S{n}"] for n in range(p, 60, 20)}) == 1 for p in range(20))
    rows[0][4] = "test"
    written(data / "mine.csv", [["id", "report", "path", column, "split"], *rows])
    with pytest.raises(MedcapError, match="mine.csv has patient 0 in test and in train"):
        build(data, work)


def test_rows_of_a_table_that_contradict_each_other_are_left_out(data, work):
    header = ["id", "report", "path", "split", "patient_id"]
    rows = [
        ["A", "Clear.", "a.png", "train", 1],
        ["B", "Clear.", "a.png", "train", 1],
        ["B", "Not.", "b.png", "train", 1],
    ]
    rows += [["C", "Clear.", "a.png", "train", 1], ["C", "Clear.", "a.png", "test", 1]]
    rows += [
        ["D", "Clear.", "a.png", "train", 1],
        ["D", "Clear.", "b.png", "train", 2],
        ["", "Clear.", "a.png", "test", 3],
    ]
    written(touch(data, "a.png", "b.png") / "mine.csv", [header, *rows])
    assert build(data, work).studies == {"train": 1}
    whats = {"B": "reports", "C": "splits", "D": "patients"}
    several = {name: f"one study id, several {what}" for name, what in whats.items()}
    assert reasons(work) == several | {"mine.csv": "row 8 has no study id"}


def test_a_listed_path_is_found_where_it_is_unambiguous(data, work):
    """By its own place, by an absolute one, by its end, by its name; never another study's."""
    outside = touch(data.parent / "outside", "o.png") / "o.png"
    listed = {"own": "x/1234.png", "absolute": str(outside), "end": "set/p1/s1/0.png", "name": "far/abcd.png"}
    listed |= {"other": "p3/s1/0.png", "twice": "twice.png", "up": "../outside/o.png", "mask": "masks/m.png"}
    listed |= {"same name 1": "q1/efgh.png", "same name 2": "q2/efgh.png"}
    written(data / "mine.csv", [["id", "report", "path"], *([k, "Clear.", v] for k, v in listed.items())])
    touch(data, "x/1234.png", "y/1234.png", "img/p1/s1/0.png", "img/p2/s1/0.png", "films/abcd.png", "masks/m.png")
    touch(data, "films/efgh.png", "films/a/twice.png")
    touch(data, "films/b/twice.png", content="another")
    build(data, work)
    found = {row["study_id"]: row["path"] for row in table(work / "images.csv")}
    expected = {"own": "x/1234.png", "end": "img/p1/s1/0.png", "name": "films/abcd.png", "mask": "masks/m.png"}
    assert found == {k: str(data.resolve() / v) for k, v in expected.items()} | {"absolute": str(outside)}
    left = dict.fromkeys(["other", "up", "same name 1", "same name 2"], "no image file")
    assert {k: v for k, v in reasons(work).items() if k in listed} == left | {"twice": "several files for one image"}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_with_other_marks_than_commas_is_named(data, work, mark):
    touch(data, "mine.csv", content=mark.join(["id", "report", "path"]) + "\n")
    with pytest.raises(MedcapError, match="mine.csv has no column id.*separated by"):
        build(data, work)


def test_two_tables_are_not_one_collection(data, work):
    for name in ("train.csv", "val.csv"):
        written(data / name, [["id", "report", "path"], ["A", "Clear.", "a.png"]])
    with pytest.raises(MedcapError, match=r"train.csv and .*val.csv could each be the collection"):
        build(data, work)


def test_a_table_is_redrawn(tmp_path):
    paths = ["a/1.png", "/mnt/b/2.jpg", "..\\c\\3.dcm", "images/4"]
    rows = [["id", "report", "path", "mesh"], *([f"S{k}", "Clear.", p, "Nodule/lung"] for k, p in enumerate(paths))]
    written(tmp_path / "data/sub/mine.csv", rows)
    drawn = phantom.redraw(tmp_path / "data", tmp_path / "drawn", size=32, workers=1)
    built = build(drawn, tmp_path / "work")
    assert built.images == "phantom" and sum(built.radiographs.values()) == 3  # none where a path leaves the folder
    assert all("drawn/images/" in row["path"] for row in table(tmp_path / "work/images.csv"))


@pytest.mark.parametrize(
    "cell", ["[", "]", "[]", "()", "[;", "''", "['", ";;|", "[[[[", '["a', "['a]", "[,]", "\\", "/", "."]
)
def test_a_cell_that_lists_nothing_is_no_image(data, work, cell):
    assert all(isinstance(path, str) and path for path in own_table.paths_in(cell))
    written(data / "mine.csv", [["id", "report", "path"], ["A", "Clear.", "a.png"], ["B", "Clear.", cell]])
    assert build(touch(data, "a.png"), work).studies == {"train": 1} and "B" in reasons(work)


# which file is the image ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mask", "Masks", "MASK", "lung_masks", "LungMasks", "labels", "Label", "a/Labels/b", "thumbs"]
)
@pytest.mark.parametrize("form", FORMS)
def test_folders_of_masks_are_no_radiographs(data, work, form, name):
    FORMS[form](data, [study(n) for n in range(1, 5)])
    reader, files = readers.find(data, work)
    true = {str(Path(path).relative_to(files.folder)): path for path in files.images}
    for path in true:
        touch(data / name, path, Path(path).name, content="a mask")
    images = [image for one in reader.studies(Files(data, work)) for image in one.images]
    assert images and all(image.path in true.values() and not image.rivals for image in images)
    for path in true.values():
        Path(path).unlink()
    with pytest.raises(MedcapError, match="no image file: 4"):
        build(data, work)
    assert reasons(work)[name.removesuffix("/b")].startswith("folder of masks")


@pytest.mark.parametrize("second", ["{}.png", "thumbnailed/{}.png", "NLMCXR_png/{}.jpg", "other/{}.PNG", "{}.jpeg"])
def test_two_files_for_one_image_are_named_and_none_is_taken(data, work, second):
    collection(data, [study(1, images=1), study(2)])
    (first,), (other, _) = study(1, images=1)["images"], study(2)["images"]
    touch(data, second.format(first), second.format(other), content="another")
    built = build(data, work)
    assert built.left_out == {"several files for one image": 1, "several files for one image, study kept": 1}
    assert built.radiographs == {"train": 1}
    rows = table(work / "left_out.csv")
    assert all("NLMCXR_png/" in row["file"] and second[:4].replace("{}.", "") in row["file"] for row in rows)
    (data / "ecgen-radiology/2.xml").unlink()
    with pytest.raises(MedcapError, match=rf"{first}.*, .*{first}.*: keep one of them"):
        build(data, work)


def test_two_files_of_one_content_are_one_image(data, work):
    collection(data, [study(1)])
    names = [f"{name}.png" for name in study(1)["images"]]
    touch(data, *names, *(f"again/{name}" for name in names))
    assert build(data, work).radiographs == {"train": 2}
    touch(data / "NLMCXR_dcm", *(name.replace("CXR", "").replace(".png", ".dcm") for name in names), content="DICM")
    assert build(data, work).radiographs == {"train": 2}  # the PNG is preferred
    for path in data.rglob("*.png"):
        path.unlink()
    assert {Path(row["path"]).suffix for row in (build(data, work), table(work / "images.csv"))[1]} == {".dcm"}


def test_two_annotations_at_one_height_are_named(data, work):
    for name in ("iu_xray", "mimic_cxr"):
        r2gen(data / name, [study(len(name))])
    with pytest.raises(MedcapError, match=r"iu_xray/annotation.json and .*mimic_cxr/annotation.json differ: keep one"):
        build(data, work)
    r2gen(data, [study(1)])
    assert build(data, work).studies == {"train": 1}


# what is packed, missing or foreign ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["openi", "kaggle", "own_table", "r2gen_folder"])
@pytest.mark.parametrize("name", ["NLMCXR_png.zip", "images.tgz", "pictures/all.tar.gz", "IMAGES.TAR"])
def test_packed_images_are_named(data, work, form, name):
    FORMS[form](data, [study(1), study(2)])
    for path in [*data.rglob("*.png")]:
        path.unlink()
    touch(data, name)
    with pytest.raises(MedcapError, match=f"no image file: 2.*{name} is packed: unpack it beside the reports"):
        build(data, work)
    assert reasons(work)[name] == "packed archive, not read"


def test_an_archive_beside_complete_images_is_of_no_interest(data, work):
    assert build(touch(collection(data, [study(1)]), "NLMCXR_png.tgz"), work).left_out == {}


def test_a_packed_collection_is_named(data, work):
    touch(data, "note.txt")
    with tarfile.open(data / "NLMCXR_reports.tgz", "w:gz") as target:
        target.add(data / "note.txt")
    with pytest.raises(MedcapError, match="no collection anywhere.*unpack NLMCXR_reports.tgz and give the folder"):
        build(data, work)


def test_a_zip_within_a_zip_is_named(tmp_path, data, work):
    packed(data / "inner.zip", {"1.xml": xml(study(1))})
    packed(tmp_path / "a.zip", {"data/inner.zip": (data / "inner.zip").read_bytes()})
    with pytest.raises(MedcapError, match=r"no collection in .*a.zip: unpack a.zip/data/inner.zip and give the folder"):
        build(tmp_path / "a.zip", work)
    packed(tmp_path / "b.zip", {"1.xml": xml(study(1)), "png.tgz": "packed"})
    with pytest.raises(MedcapError, match=r"no image file: 1.*b.zip/png.tgz is packed: unpack it"):
        build(tmp_path / "b.zip", work)


def test_a_missing_kaggle_table_is_named(data, work):
    for name, other in (("indiana_projections", "indiana_reports"), ("indiana_reports", "indiana_projections")):
        kaggle(data, [study(1)])
        (data / f"{name}.csv").unlink()
        with pytest.raises(MedcapError, match=f"{name}.csv not found beside .*{other}.csv: get both CSV files"):
            build(data, work)


@pytest.mark.parametrize(
    "content", ["<notes/>", "", "<svg xmlns='a'/>", "no XML", "<annotation><object/></annotation>"]
)
@pytest.mark.parametrize("form", ["kaggle", "own_table", "r2gen_folder"])
def test_foreign_xml_does_not_hide_a_table(data, work, form, content):
    touch(FORMS[form](data, [study(1)]), "a/notes.xml", content=content)
    assert build(data, work).studies == {"train": 1}
    assert form != "kaggle" or reasons(work) == {"a/notes.xml": "not an Open-i report"}


def test_one_report_of_open_i_does_not_hide_a_table_in_silence(data, work):
    kaggle(data, [study(n) for n in range(1, 4)])
    touch(data, "1.xml", content=xml(study(1)))
    assert build(data, work).left_out == {"in Kaggle's table only, the XML was read": 2}


@pytest.mark.parametrize("form", ["{}.0", "{}.00", " {} ", "CXR{}"])
@pytest.mark.parametrize("name", ["indiana_reports.csv", "indiana_projections.csv", "*.csv"])
def test_a_uid_is_a_number(data, work, form, name):
    kaggle(data, [study(1), study(10)])
    for path in data.glob(name):
        header, *lines = path.read_text().splitlines()
        cells = [line.split(",", 1) for line in lines]
        path.write_text("\n".join([header, *(f"{form.format(uid)},{rest}" for uid, rest in cells)]))
    assert build(data, work).left_out == {} and sorted(splits(work)) == ["CXR1", "CXR10"]


@pytest.mark.parametrize("table_name", ["indiana_reports.csv", "indiana_projections.csv"])
@pytest.mark.parametrize("end", [",", ",,", ",x"])
def test_rows_longer_than_the_header_are_named(data, work, table_name, end):
    path = kaggle(data, [study(1)]) / table_name
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(line + end for line in lines)]))
    with pytest.raises(MedcapError, match=rf"{table_name} .*line 2 has \d+ cells"):
        build(data, work)


def test_sections_that_are_joined_end_with_a_stop(data, work):
    for text, joined in (("HERE", "Lungs clear. Heart normal."), ("HERE!", "Lungs clear! Heart normal."), ("", "")):
        one = xml(study(1, "HERE")).replace(
            ">HERE<", f">{text.replace('HERE', 'Lungs clear')}</AbstractText>"
            '<AbstractText Label="FINDINGS">Heart normal.</AbstractText><AbstractText Label="X"><'
        )  # fmt: skip
        touch(collection(data, [study(1)]), "ecgen-radiology/1.xml", content=one)
        build(data, work)
        assert table(work / "reports.csv")[0]["findings"] == (joined or "Heart normal.")


def test_a_line_break_of_a_kaggle_table_is_a_blank(data, work):
    kaggle(data, [study(1, "No pneumothorax.\nCardiomegaly.\r\n\nEffusion."), study(2, "Clear.<br/>Normal.")])
    build(data, work)
    reports = [row["report"] for row in table(work / "reports.csv")]
    assert reports == ["no pneumothorax . cardiomegaly . effusion .", "clear . normal ."]
