"""Laws of the tables: every study once, splits by study, every record left out has its reason."""

import json
import tracemalloc
from dataclasses import asdict

import pytest
from iu_xray import annotate, collection, reasons, splits, study, table, xml

from medcap_paddle import reports
from medcap_paddle.config import ReportSettings
from medcap_paddle.readers import openi
from medcap_paddle.reports import Collection, build
from medcap_paddle.runtime.files import MedcapError

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
        summary = build(data, work, ReportSettings(**options))
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


def test_settings_of_later_stages_do_not_touch_the_tables(data, work, capsys):
    build(collection(data, [study(1)]), work)
    build(data, work, ReportSettings(min_freq=1, max_length=9))
    assert "nothing to do" in capsys.readouterr().out


def test_a_collection_is_loaded_as_it_was_built(data, work):
    built = build(collection(data, [study(n) for n in range(10)]), work)
    assert Collection.load(work) == built
    assert built.has("train") and not built.has("dev") and built.reported_split == "test"
    annotate(data, train=range(5), val=range(5, 10))
    assert build(data, work).reported_split == "val"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '"text"', '{"studies": 3}', "missing field", "wrong kind"])
def test_a_damaged_collection_json_names_the_notebook(data, work, damage):
    build(collection(data, [study(1)]), work)
    path = work / "collection.json"
    content = json.loads(path.read_text())
    fields = {
        "missing field": {k: v for k, v in content.items() if k != "left_out"},
        "wrong kind": {**content, "images": 3},
    }
    path.write_text(json.dumps(fields[damage]) if damage in fields else damage)
    with pytest.raises(MedcapError, match="collection.json.*run 01_reports.ipynb"):
        Collection.load(work)
    path.unlink()
    with pytest.raises(MedcapError, match="collection.json not found: run 01_reports.ipynb"):
        Collection.load(work)


@pytest.mark.parametrize("marker", ["[]", '{"reports": 3}', '{"images": ["phantom"]}', "{"])
def test_a_phantom_json_of_somebody_else_is_named(data, work, marker):
    (collection(data, [study(1)]) / "phantom.json").write_text(marker)
    with pytest.raises(MedcapError, match="phantom.json"):
        build(data, work)


# splits --------------------------------------------------------------------------------------------


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
    build(tmp_path / "a", tmp_path / "work_c", ReportSettings(seed=1))
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
    summary = build(collection(data, [study(n) for n in range(1, 11)]), work, ReportSettings(split="8:2"))
    assert [name for name, split in splits(work).items() if split == "test"] == ["CXR9", "CXR10"]
    assert summary.studies == {"train": 8, "test": 2} and summary.split == "8:2"


def test_annotation_decides_where_there_is_one(data, work):
    collection(data, [study(n) for n in range(1, 6)])
    annotate(data, train=[5, 1], val=[2, 9])  # no test, and study 9 is not here
    summary = build(data, work)
    assert splits(work) == {"CXR1": "train", "CXR2": "val", "CXR5": "train"}
    assert summary.split == "annotation.json" and summary.studies == {"train": 2, "val": 1}
    left = {"CXR3": "not in annotation.json", "CXR4": "not in annotation.json", "CXR9": "not in the collection"}
    assert reasons(work) == left
    assert build(data, work, ReportSettings(split="7:1:2")).split == "7:1:2 seed 0" and len(splits(work)) == 5


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
        build(collection(data, [study(1)]), work, ReportSettings(split="9:1"))


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
        (b"<eCitation>" + b" " * openi.LARGEST_XML + b"</eCitation>", "too large for a report"),
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


def test_the_tables_may_lie_beside_the_collection(data):
    assert build(collection(data, [study(1)]), data).studies == {"train": 1}
    assert (data / "reports.csv").exists()


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


def test_the_hint_of_no_usable_study_names_the_form(data, work):
    collection(data, [study(1, findings="")])
    with pytest.raises(MedcapError, match=r"no findings: 1; see .*left_out.csv\): expected \*\.xml"):
        build(data, work)
    annotate(collection(data, [study(1)]), train=[2])
    with pytest.raises(MedcapError, match='split="7:1:2" ignores annotation.json'):
        build(data, work)
