"""Laws of the readers: the same collection in any form gives the same tables; archives that mean harm; the seam."""

import json
import zipfile

import pytest
from iu_xray import annotate, collection, kaggle, reasons, splits, study, table, xml

from medcap_paddle import phantom, readers
from medcap_paddle.readers import archive
from medcap_paddle.readers.collection import Files, Image, LeftOut, Study
from medcap_paddle.reports import build
from medcap_paddle.runtime.files import MedcapError


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


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
    forms = {"openi": collection, "kaggle": kaggle}
    assert forms.keys() == readers.READERS.keys()
    for name, write in forms.items():
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
                (folder / image.file).parent.mkdir(exist_ok=True)
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
