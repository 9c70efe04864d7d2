"""Laws of reports: cleaning, splits by study, what is left out and why, archives that mean harm."""

import csv
import json
import random
import tracemalloc
import zipfile
from dataclasses import asdict
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import archive, reports
from medcap_paddle.files import MedcapError
from medcap_paddle.reports import build, clean

# a small collection of our own ---------------------------------------------------------------------

SENTENCES = [
    "Lungs are clear.",
    "Heart size is normal.",
    "No effusion.",
    "A small nodule is seen.",
    "Spine is straight.",
]


def study(number, findings=None, images=2, mesh=("normal",), **sections):
    """One study as a plain dict; by default it has every part a usable study needs."""
    if findings is None:
        findings = " ".join(random.Random(number).sample(SENTENCES, 3))
    names = [f"CXR{number}_IM-{number:04}-{view}001" for view in range(1, images + 1)]
    return {"number": number, "sections": {"FINDINGS": findings, **sections}, "images": names, "mesh": mesh}


def xml(study):
    sections = "".join(f'<AbstractText Label="{k}">{escape(v)}</AbstractText>' for k, v in study["sections"].items())
    images = "".join(
        f'<parentImage id="{name}"><figureId>F{i}</figureId></parentImage>' for i, name in enumerate(study["images"], 1)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{study["number"]}"/>'
        f"<MedlineCitation><Article><Abstract>{sections}</Abstract></Article></MedlineCitation>"
        f"<MeSH>{''.join(f'<major>{escape(term)}</major>' for term in study['mesh'])}</MeSH>{images}</eCitation>"
    )


def collection(folder, studies, png=True):
    """Write Open-i files; the images are empty, for reports only asks whether they exist."""
    texts, images = folder / "ecgen-radiology", folder / "NLMCXR_png"
    texts.mkdir(parents=True, exist_ok=True)
    images.mkdir(exist_ok=True)
    for one in studies:
        (texts / f"{one['number']}.xml").write_text(xml(one), encoding="utf-8")
        for name in one["images"] if png else []:
            (images / f"{name}.png").touch()
    return folder


def table(path):
    with open(path, encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


def reasons(work):
    return {row["study_id"] or row["file"]: row["reason"] for row in table(work / "left_out.csv")}


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


# cleaning ------------------------------------------------------------------------------------------

# text made of what the rules look at, so that hypothesis finds the odd corners
PIECES = [
    ".",
    "..",
    ". ",
    " ",
    "\n",
    "1. ",
    "2. ",
    " 3. ",
    "5. ",
    "T11. ",
    "No",
    "x-ray",
    "XXXX",
    ",",
    "?",
    "/",
    "'",
    "é",
]
reportlike = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)


@given(reportlike, st.sampled_from(["r2gen", "original"]))
def test_cleaning_twice_changes_nothing(text, rules):
    once = clean(text, rules)
    assert clean(once, rules) == once


@given(reportlike)
def test_cleaned_text_is_lower_case_words_and_full_stops(text):
    cleaned = clean(text)
    assert cleaned == " ".join(cleaned.split())
    assert cleaned == cleaned.lower()
    assert not set(cleaned) & set(",;:?!*%^&_+=@()[]{}<>\"'/\\")
    assert all("." not in token for token in cleaned.split() if token != ".")
    assert cleaned == "" or (cleaned.endswith(" .") and set(cleaned.split()) != {"."})


@given(reportlike)
def test_the_original_cleaning_keeps_letters_only(text):
    words = clean(text, "original").split()
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert "".join(words) == "".join(c for c in text if c.isascii() and c.isalpha()).lower()


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("Heart is large. No effusion.", "heart is large . no effusion ."),
        ("1. Clear lungs. 2. Old fracture.", "clear lungs . old fracture ."),  # enumeration
        ("Clear lungs 2. Old fracture", "clear lungs . old fracture ."),  # ... without a stop before it
        ("Clear lungs.. No effusion...", "clear lungs . no effusion ."),
        ("A nodule of 1.5 cm, (left)?", "a nodule of 15 cm left ."),
        ("X-ray of T11. Stable", "x-ray of t1stable ."),  # R2Gen's accident, kept so that the figures compare
        ("Clear. 6. Old", "clear . 6 . old ."),  # R2Gen knows numbers up to 5
        ("Clear lungs 2..... Old fracture", "clear lungs . old fracture ."),
        ("... ,", ""),
        ("", ""),
    ],
)
def test_the_r2gen_rule(text, cleaned):
    assert clean(text) == cleaned


def test_unknown_cleaning_is_refused():
    with pytest.raises(MedcapError, match="r2gen"):
        clean("Clear.", "r2d2")


# tables --------------------------------------------------------------------------------------------


def test_every_image_section_and_tag_is_kept(data, work):
    one = study(
        7, "  Clear &lungs.  ", images=5, mesh=("Nodule/lung/left", "Spine"), INDICATION="Cough", COMPARISON="None"
    )
    build(collection(data, [one]), work)
    (row,) = table(work / "reports.csv")
    assert (row["findings"], row["report"]) == ("Clear &lungs.", "clear lungs .")
    assert (row["indication"], row["comparison"], row["impression"]) == ("Cough", "None", "")
    assert row["mesh"] == "Nodule/lung/left;Spine"
    images = table(work / "images.csv")
    assert [image["image_id"] for image in images] == one["images"]
    assert [image["figure_id"] for image in images] == ["F1", "F2", "F3", "F4", "F5"]
    assert all(image["study_id"] == "CXR7" and image["view"] == "" for image in images)
    assert images[0]["path"] == str(data.resolve() / "NLMCXR_png" / f"{one['images'][0]}.png")


def kaggle(folder, studies, images=True):
    """The same studies as the Kaggle release writes them; figures in turn frontal and lateral."""
    folder.mkdir(exist_ok=True)
    with open(folder / "indiana_reports.csv", "w", encoding="utf-8", newline="") as target:
        rows = csv.writer(target)
        rows.writerow(["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"])
        for one in studies:
            sections = [one["sections"].get(k, "") for k in ("INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION")]
            rows.writerow([one["number"], ";".join(one["mesh"]), "", "", *sections])
    with open(folder / "indiana_projections.csv", "w", encoding="utf-8", newline="") as target:
        rows = csv.writer(target)
        rows.writerow(["uid", "filename", "projection"])
        for one in studies:
            for i, name in enumerate(one["images"]):
                rows.writerow([one["number"], f"{name[3:]}.dcm.png", ("Frontal", "Lateral")[i % 2]])
                if images:
                    (folder / f"{name[3:]}.dcm.png").touch()
    return folder


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


def test_the_summary_says_whether_images_are_drawn(data, work):
    collection(data, [study(n) for n in range(10)])
    assert build(data, work).images == "real"
    (data / "phantom.json").write_text('{"reports": "real", "images": "phantom"}')
    summary = build(data, work)
    assert (summary.reports, summary.images) == ("real", "phantom")
    stored = json.loads((work / "collection.json").read_text())
    assert stored["images"] == "phantom" and stored["studies"] == {"train": 7, "val": 1, "test": 2}
    assert "phantom images" in str(summary)


def test_tables_are_not_made_twice_and_every_change_is_noticed(data, work, capsys):
    collection(data, [study(n) for n in range(10)])

    def again(**options):
        """Whether the tables were made again."""
        summary = build(data, work, **options)
        assert json.loads((work / "collection.json").read_text()) == asdict(summary)
        return "nothing to do" not in capsys.readouterr().out

    assert again() and not again()
    first = (work / "reports.csv").read_bytes()
    for options in ({"split": "8:2"}, {"cleaning": "original"}, {"seed": 1}):
        assert again(**options) and not again(**options)
        assert (work / "reports.csv").read_bytes() != first
    assert again() and (work / "reports.csv").read_bytes() == first
    (data / "ecgen-radiology/3.xml").write_text(xml(study(3, "Something else was written.")))
    assert again() and "something else" in (work / "reports.csv").read_text()
    (data / "NLMCXR_png" / f"{study(4)['images'][0]}.png").unlink()
    assert again() and "image file missing" in (work / "left_out.csv").read_text()
    annotate(data, train=range(5), test=range(5, 10))
    assert again() and splits(work)["CXR9"] == "test"
    (work / "images.csv").unlink()
    assert again() and (work / "images.csv").exists()
    (work / "reports.csv").write_bytes(first)
    assert again() and (work / "reports.csv").read_bytes() != first
    assert not again()


# splits --------------------------------------------------------------------------------------------


def splits(work):
    return {row["study_id"]: row["split"] for row in table(work / "reports.csv")}


def test_splits_do_not_depend_on_file_order_or_names(tmp_path):
    collection(tmp_path / "a", [study(n) for n in range(40)])
    (tmp_path / "b").mkdir()
    for n in range(40):  # the same studies, found in the opposite order
        (tmp_path / "b" / f"{99 - n}.xml").write_text(xml(study(n)))
        for name in study(n)["images"]:
            (tmp_path / "b" / f"{name}.png").touch()
    build(tmp_path / "a", tmp_path / "work_a")
    build(tmp_path / "b", tmp_path / "work_b")
    assert table(tmp_path / "work_a" / "reports.csv") == table(tmp_path / "work_b" / "reports.csv")
    build(tmp_path / "a", tmp_path / "work_c", seed=1)
    assert splits(tmp_path / "work_c") != splits(tmp_path / "work_a")


def test_a_study_is_in_one_split_with_all_its_images(data, work):
    summary = build(collection(data, [study(n, images=1 + n % 5) for n in range(30)]), work)
    of_study = splits(work)
    assert len(of_study) == len(table(work / "reports.csv")) == 30
    counted = {"train": 0, "val": 0, "test": 0}
    for image in table(work / "images.csv"):
        counted[of_study[image["study_id"]]] += 1
    assert summary.studies == {"train": 21, "val": 3, "test": 6}
    assert summary.radiographs == counted


def test_8_2_is_not_shuffled_and_has_no_val(data, work):
    summary = build(collection(data, [study(n) for n in range(1, 11)]), work, split="8:2")
    assert [name for name, split in splits(work).items() if split == "test"] == ["CXR9", "CXR10"]
    assert summary.studies == {"train": 8, "test": 2} and summary.split == "8:2"


def annotate(folder, **ids):
    records = {split: [{"id": f"CXR{n}_IM-000{n}", "report": ""} for n in numbers] for split, numbers in ids.items()}
    (folder / "annotation.json").write_text(json.dumps(records))


def test_annotation_decides_where_there_is_one(data, work):
    collection(data, [study(n) for n in range(1, 6)])
    annotate(data, train=[5, 1], val=[2, 9])  # no test, and study 9 is not here
    summary = build(data, work)
    assert splits(work) == {"CXR1": "train", "CXR2": "val", "CXR5": "train"}
    assert summary.split == "annotation.json" and summary.studies == {"train": 2, "val": 1}
    left = {"CXR3": "not in annotation.json", "CXR4": "not in annotation.json", "CXR9": "not in the collection"}
    assert reasons(work) == left
    assert build(data, work, split="7:1:2").split == "7:1:2 seed 0" and len(splits(work)) == 5


@pytest.mark.parametrize("text", ["[]", '{"train": [{"name": 1}]}', '{"train": []}', "{", '{"train": ["CXR1"]}'])
def test_an_annotation_of_another_shape_is_named(data, work, text):
    (collection(data, [study(1)]) / "annotation.json").write_text(text)
    with pytest.raises(MedcapError, match="annotation.json"):
        build(data, work)


def test_a_study_in_two_splits_is_refused(data, work):
    annotate(collection(data, [study(1)]), train=[1], val=[1])
    with pytest.raises(MedcapError, match="CXR1 in train and in val"):
        build(data, work)


def test_unknown_split_is_refused(data, work):
    with pytest.raises(MedcapError, match="7:1:2"):
        build(collection(data, [study(1)]), work, split="9:1")


# records that are left out -------------------------------------------------------------------------

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE eCitation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><eCitation><uId id="CXR90"/>&c;</eCitation>'
)
EXTERNAL = '<!DOCTYPE eCitation [<!ENTITY x SYSTEM "file:///etc/hostname">]><eCitation><uId id="CXR91"/>&x;</eCitation>'


@pytest.mark.parametrize(
    "content, reason",
    [
        (xml(study(9))[:-30].encode(), "malformed XML"),
        (b"", "malformed XML"),
        (b"\x89PNG\r\n\x00\x01", "malformed XML"),
        (b'<?xml version="1.0" encoding="klingon"?><eCitation/>', "malformed XML"),
        (BOMB.encode(), "forbidden XML (entities or DTD)"),
        (BOMB.replace('<?xml version="1.0"?>', "").encode("utf-16"), "forbidden XML (entities or DTD)"),
        (EXTERNAL.encode(), "forbidden XML (entities or DTD)"),
        (b'<!DOCTYPE eCitation SYSTEM "http://example.org/x.dtd"><eCitation/>', "forbidden XML (entities or DTD)"),
        (b"<project/>", "not an Open-i report"),
        (b"<eCitation/>", "no study id"),
        (b"<eCitation>" + b" " * reports.LARGEST_XML + b"</eCitation>", "too large for a report"),
        (xml(study(9, findings="")).encode(), "no findings"),
        (xml(study(9, findings=" ... ")).encode(), "empty after cleaning"),
        (xml(study(9, images=0)).encode(), "no image listed"),
        (xml(study(9)).encode(), "no image file"),
        (xml(study(1)).encode(), "duplicate study id"),
    ],
)
def test_a_bad_record_is_left_out_with_its_reason(data, work, content, reason):
    collection(data, [study(n) for n in range(1, 4)])
    bad = data / "ecgen-radiology" / "bad.xml"
    bad.write_bytes(content)
    summary = build(data, work)
    assert summary.left_out == {reason: 1}
    assert [row["file"] for row in table(work / "left_out.csv")] == ["ecgen-radiology/bad.xml"]
    assert sorted(splits(work)) == ["CXR1", "CXR2", "CXR3"]


def test_comments_and_cdata_are_no_reason_to_leave_a_report_out(data, work):
    collection(data, [study(1)])
    text = xml(study(1, "HERE")).replace("HERE", "<![CDATA[Clear lungs.]]>").replace("<uId", "<!-- note --><uId")
    (data / "ecgen-radiology" / "1.xml").write_text(text)
    build(data, work)
    assert table(work / "reports.csv")[0]["report"] == "clear lungs ."


def test_a_study_keeps_the_images_it_has(data, work):
    collection(data, [study(1, images=3), study(2)])
    missing = study(1, images=3)["images"][1]
    (data / "NLMCXR_png" / f"{missing}.png").unlink()
    summary = build(data, work)
    assert summary.left_out == {"image file missing, study kept": 1}
    assert table(work / "left_out.csv")[0]["file"] == missing
    assert [row["figure_id"] for row in table(work / "images.csv")] == ["F1", "F3", "F1", "F2"]


def test_most_images_missing_points_to_drawn_ones(data, work):
    collection(data, [study(n) for n in range(2, 9)], png=False)
    with pytest.raises(MedcapError, match="no image file: 7.*IMAGES=phantom"):
        build(data, work)
    assert "IMAGES=phantom" in str(build(collection(data, [study(1)]), work))


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


def test_the_tables_may_lie_beside_the_collection(data):
    assert build(collection(data, [study(1)]), data).studies == {"train": 1}
    assert (data / "reports.csv").exists()


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
    with pytest.raises(MedcapError, match="no .*xml.* in .*a.zip"):
        build(data, work)
    packed(data / "b.zip", {"x.png": ""})
    with pytest.raises(MedcapError, match="2 zip files"):
        build(data, work)


# the command ---------------------------------------------------------------------------------------


def test_records_are_read_one_at_a_time(tmp_path):
    """Four times the reports, hardly more memory: their paths only."""
    peaks = []
    for count in (100, 400):
        studies = [study(number, f"{number} " + "The lungs are clear. " * 500) for number in range(count)]
        data = collection(tmp_path / str(count), studies, png=False)
        tracemalloc.start()
        assert sum(report.count("lungs") for _, (*_, report) in reports.records(data, tmp_path / "work")) == 500 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 300 * 2000  # bytes; the text of 300 reports would be 3,000,000


def test_the_command_prints_the_summary_or_the_remedy(data, work, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["reports", str(data), str(work)])
    with pytest.raises(SystemExit, match="not found"):
        reports.main()
    collection(data, [study(1), study(2, findings="")])
    reports.main()
    printed = capsys.readouterr().out
    assert "1 studies" in printed and "no findings" in printed
