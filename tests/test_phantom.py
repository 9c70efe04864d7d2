"""Laws of the phantom: the radiographs drawn from findings, and the collection written around both."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from defusedxml import ElementTree

from medcap_paddle import phantom, reports
from medcap_paddle.clinical import phrasing
from medcap_paddle.clinical.findings import KINDS, Finding, from_mesh
from medcap_paddle.phantom import __main__ as command
from medcap_paddle.phantom import collection
from medcap_paddle.phantom import folder as marked
from medcap_paddle.phantom.draw import draw
from medcap_paddle.readers.collection import Image, LeftOut, Study
from medcap_paddle.runtime.files import MedcapError

SIZE = 224  # what an encoder sees
SEED = 3
# their sign crosses the midline, whatever their side is called: a curved spine, organs that move over
ACROSS = {"scoliosis", "mediastinal shift", "volume loss", "mastectomy"}


def example(name: str, side: str = "", severity: str = "") -> Finding:
    place = phrasing.PHRASES[name].places[0] if name in phrasing.PHRASES else ""
    return Finding(name, side, place, severity)


@cache
def healthy(view: str) -> np.ndarray:
    return draw([], view, SEED, size=SIZE)


def change(finding: Finding, view: str) -> np.ndarray:
    """How much a finding changes its patient's picture, [SIZE, SIZE]."""
    return np.abs(draw([finding], view, SEED, size=SIZE).astype(int) - healthy(view))


# --- radiographs ------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_patient():
    findings = [Finding("pneumonia", "left", "lingula"), Finding("hyperinflation")]
    for view in ("frontal", "lateral"):
        picture = draw(findings, view, SEED)
        assert picture.dtype == np.uint8 and picture.ndim == 2 and picture.shape[0] == picture.shape[1]
        assert np.array_equal(picture, draw(findings, view, SEED))
        assert not np.array_equal(picture, draw(findings, view, SEED + 1))
        assert not np.array_equal(picture, draw(findings, view, SEED, take=1))


@pytest.mark.parametrize("name", KINDS)
def test_every_finding_can_be_seen(name):
    seen = max(np.count_nonzero(change(example(name), view) > 15) for view in ("frontal", "lateral"))
    assert seen >= 25  # a disc of 2.5% of the width has 25 pixels


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.side and name not in ACROSS])
def test_a_left_sided_finding_is_on_the_right_of_the_picture(name):
    for side in ("left", "right"):
        changed = change(example(name, side), "frontal")
        halves = {"right": changed[:, : SIZE // 2].sum(), "left": changed[:, SIZE // 2 :].sum()}
        assert halves[side] > 2 * (sum(halves.values()) - halves[side])


@pytest.mark.parametrize(
    "name",
    ["cardiomegaly", "pleural effusion", "pneumothorax", "consolidation", "low lung volumes", "tortuous aorta", "mass"],
)
def test_a_severe_finding_changes_more_than_a_mild_one(name):
    mild, moderate, severe = (
        change(example(name, "left" if KINDS[name].side else "", severity), "frontal").sum()
        for severity in ("mild", "moderate", "severe")
    )
    assert mild < moderate < severe


def test_lung_findings_follow_their_lobe():
    rows = np.arange(SIZE)[:, None]
    for name in ("opacity", "nodule", "calcified granuloma"):
        heights = []
        for place in ("apex", "upper lobe", "", "base"):
            changed = change(Finding(name, "right", place), "frontal")
            heights.append((changed * rows).sum() / changed.sum())
        assert heights == sorted(heights)


# --- studies ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_plans_the_same_studies_and_another_does_not():
    assert collection.plan(20, seed=4) == collection.plan(20, seed=4)
    assert collection.plan(20, seed=4) != collection.plan(20, seed=5)
    assert collection.plan(40, seed=4)[:20] == collection.plan(20, seed=4)


def test_quirks_of_the_real_collection():
    studies = collection.plan(800, seed=0)
    texts = [study.sections["FINDINGS"] for study in studies]
    share = {
        "normal": np.mean([not study.findings for study in studies]),
        "no findings section": np.mean([not text for text in texts]),
        "no image": np.mean([not study.images for study in studies]),
        "XXXX": np.mean(["XXXX" in text for text in texts]),
        "trailing space": np.mean([text.endswith(" ") for text in texts]),
        "several terms": np.mean([len(study.findings) > 1 for study in studies]),
    }
    low = dict(zip(share, (0.2, 0.01, 0.005, 0.08, 0.04, 0.25), strict=True))
    high = dict(zip(share, (0.4, 0.06, 0.04, 0.18, 0.16, 0.6), strict=True))
    assert all(low[name] < value < high[name] for name, value in share.items()), share
    views = Counter(len(study.images) for study in studies)
    assert set(views) == {0, 1, 2, 3, 4} and views[2] > 0.7 * len(studies)
    assert any("<" in text for text in texts)
    assert len(set(texts)) > 0.5 * len(texts)
    words = np.array([len(text.split()) for text in texts if text])
    assert 15 < np.median(words) < 50


# --- collections ------------------------------------------------------------------------------------------------------


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_collection_is_the_same_whatever_the_number_of_processes(tmp_path):
    one, two = (phantom.make(tmp_path / str(n), studies=18, seed=2, size=64, workers=n) for n in (1, 2))
    assert content(one) == content(two)
    before = {path: path.stat().st_mtime_ns for path in one.rglob("*.png")}
    phantom.make(one, studies=18, seed=2, size=64)  # already there
    assert before == {path: path.stat().st_mtime_ns for path in one.rglob("*.png")}
    phantom.make(one, studies=3, seed=2, size=64)  # another one replaces it, and leaves nothing of it
    assert len(list(one.glob("ecgen-radiology/*.xml"))) == 3


def test_xml_has_the_schema_of_open_i(tmp_path):
    folder = phantom.make(tmp_path / "phantom", studies=12, seed=1, size=32, workers=1)
    for study in collection.plan(12, seed=1):
        root = ElementTree.parse(folder / "ecgen-radiology" / f"{study.number}.xml").getroot()
        assert root.tag == "eCitation"
        assert root.find("uId").get("id") == study.id
        labels = {e.get("Label"): e.text or "" for e in root.findall("MedlineCitation/Article/Abstract/AbstractText")}
        assert labels == study.sections
        assert from_mesh([e.text for e in root.findall("MeSH/major")]) == study.findings
        images = root.findall("parentImage")
        assert [image.get("id") for image in images] == [image for image, _ in study.images]
        for image in images:
            assert image.findtext("figureId") and image.findtext("caption") and image.findtext("panel/url")
            picture = cv2.imread(str(folder / "NLMCXR_png" / f"{image.get('id')}.png"), cv2.IMREAD_UNCHANGED)
            assert picture.shape == (32, 32)


def test_redraw_keeps_the_reports_and_draws_their_terms(tmp_path):
    source = phantom.make(tmp_path / "source", studies=6, seed=3, size=32, workers=1)
    (source / "ecgen-radiology" / "broken.xml").write_text("<eCitation><uId")
    (source / "annotation.json").write_text("{}")
    one, two = (phantom.redraw(source, tmp_path / name, size=48, workers=1) for name in ("one", "two"))
    assert content(one) == content(two)
    for name in ("ecgen-radiology/1.xml", "ecgen-radiology/broken.xml", "annotation.json", "indiana_projections.csv"):
        assert (one / name).read_bytes() == (source / name).read_bytes()
    drawn, expected = ({path.name for path in folder.glob("NLMCXR_png/*.png")} for folder in (one, source))
    assert drawn == expected
    about = json.loads((one / "phantom.json").read_text())
    assert (about["reports"], about["images"]) == ("real", "phantom")


def test_redraw_notices_what_has_changed_and_leaves_nothing_of_another_source(tmp_path):
    """The reports lie two folders down, and the copy nearer to the top than they."""
    source = phantom.make(tmp_path / "data/deep/iu", studies=2, seed=3, size=32, workers=1)

    def redrawn(data):
        copy = phantom.redraw(data, tmp_path / "data/copy", size=32, workers=1)
        return {str(name): value for name, value in content(copy).items() if name.suffix in (".xml", ".csv", ".json")}

    assert "deep/iu/indiana_projections.csv" in redrawn(tmp_path / "data")
    (source / "annotation.json").write_text("{}")
    assert redrawn(tmp_path / "data")["deep/iu/annotation.json"] == b"{}"
    report = source / "ecgen-radiology/1.xml"
    report.write_text(report.read_text().replace("phantom collection", "collection"))
    assert redrawn(tmp_path / "data")["deep/iu/ecgen-radiology/1.xml"] == report.read_bytes()

    other = phantom.make(tmp_path / "other", studies=2, seed=4, size=32, workers=1)
    (other / "indiana_projections.csv").unlink()
    assert redrawn(other).keys() == {"ecgen-radiology/1.xml", "ecgen-radiology/2.xml", "phantom.json"}
    assert not (tmp_path / "data/copy/deep").exists()


def test_a_real_collection_is_never_overwritten(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir()
    with pytest.raises(MedcapError, match="another collection"):
        phantom.make(tmp_path, studies=1)
    with pytest.raises(MedcapError, match="another folder"):
        phantom.redraw(tmp_path, tmp_path)
    with pytest.raises(MedcapError, match="not found: give a folder with .*Open-i"):
        phantom.redraw(tmp_path / "nothing", tmp_path / "out")


@pytest.mark.parametrize(
    "holds", ["absent", ["../outside"], [".."], ["."], [""], ["/tmp"], [3], "NLMCXR_png", ["a/../.."]]
)
def test_a_marker_of_another_version_removes_nothing(tmp_path, holds):
    outside, folder = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    phantom.make(folder, studies=1, size=32, workers=1)
    about = json.loads((folder / "phantom.json").read_text())
    del about["holds"]
    (folder / "phantom.json").write_text(json.dumps(about if holds == "absent" else about | {"holds": holds}))
    before = content(tmp_path)
    with pytest.raises(MedcapError, match=f"phantom.json .*delete {re.escape(str(folder))}"):
        phantom.make(folder, studies=2, size=32, workers=1)
    assert content(tmp_path) == before and outside.exists()


def test_a_linked_folder_of_pictures_is_unlinked_and_not_emptied(tmp_path):
    folder = phantom.make(tmp_path / "in", studies=2, seed=3, size=32, workers=1)
    (folder / "NLMCXR_png").rename(tmp_path / "elsewhere")
    (folder / "NLMCXR_png").symlink_to(tmp_path / "elsewhere")
    kept = content(tmp_path / "elsewhere")
    phantom.make(folder, studies=2, seed=4, size=32, workers=1)
    assert content(tmp_path / "elsewhere") == kept and not (folder / "NLMCXR_png").is_symlink()


def test_an_interrupted_phantom_is_completed(tmp_path):
    folder = phantom.make(tmp_path / "in", studies=6, seed=3, size=32, workers=1)
    whole = content(folder)
    kept, *lost = sorted(folder.glob("NLMCXR_png/*.png"))
    marker = folder / "phantom.json"
    marker.write_text(marker.read_text().replace('"complete": true', '"complete": false'))
    for path in lost:
        path.unlink()
    before = kept.stat().st_mtime_ns
    phantom.make(folder, studies=6, seed=3, size=32, workers=1)
    assert content(folder) == whole and kept.stat().st_mtime_ns == before


def test_redraw_needs_reports_with_terms(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    with pytest.raises(MedcapError, match=r"no collection anywhere in .*\*\.xml.*indiana_reports\.csv"):
        phantom.redraw(source, tmp_path / "out")
    (source / "indiana_projections.csv").write_text("uid,filename,projection\n")
    (source / "indiana_reports.csv").write_text("uid,MeSH\n")
    with pytest.raises(MedcapError, match="indiana_reports.csv has no column"):
        phantom.redraw(source, tmp_path / "out")
    (source / "indiana_reports.csv").write_text(
        "uid,MeSH,indication,comparison,findings,impression\n1,,,,A mass is seen.,\n"
    )
    with pytest.raises(MedcapError, match="no study of .* has MeSH terms"):
        phantom.redraw(source, tmp_path / "out")
    assert all(path.name.startswith(".") for path in (tmp_path / "out").iterdir())  # the lock at most


def test_a_zip_is_redrawn_like_its_folder(tmp_path):
    source = phantom.make(tmp_path / "source", studies=4, seed=3, size=32, workers=1)
    with zipfile.ZipFile(tmp_path / "IU数据集.zip", "w") as target:
        for path in [*source.glob("*/*.xml"), source / "indiana_projections.csv"]:
            target.write(path, path.relative_to(source))
    one = phantom.redraw(source, tmp_path / "one", size=32, workers=1)
    two = phantom.redraw(tmp_path / "IU数据集.zip", tmp_path / "two", size=32, workers=1)
    drawn = [{path: data for path, data in content(f).items() if path.suffix in (".png", ".xml")} for f in (one, two)]
    assert drawn[0] == {path: data for path, data in drawn[1].items() if path.parts[0] != ".unzipped"}
    built = [reports.build(folder, tmp_path / f"work {folder.name}") for folder in (one, two)]
    assert built[0].radiographs == built[1].radiographs
    before = (two / "phantom.json").stat().st_mtime_ns
    phantom.redraw(tmp_path / "IU数据集.zip", two, size=32, workers=1)  # unpacked and drawn once
    assert (two / "phantom.json").stat().st_mtime_ns == before


def test_names_that_would_not_be_found_again_are_not_drawn():
    safe = ["NLMCXR_png/CXR1_IM-1.png", "images/1_IM-1.dcm.png", "IU 数据集/a b.png", "a"]
    unsafe = ["../a.png", "a/../b.png", "/a.png", "a//b.png", "a/.b.png", "", "a\0.png", "C:\\a.png", "a/" + "é" * 80]
    assert all(map(collection._is_safe, safe)) and not any(map(collection._is_safe, unsafe))


def test_an_image_that_two_studies_list_is_drawn_once():
    image = Image("CXR1_IM-1", "F1", "", "NLMCXR_png/CXR1_IM-1.png")
    studies = [Study(name, "", mesh="normal", images=[image]) for name in ("CXR1", "CXR2")]
    assert [images for _, images, _ in collection._jobs([*studies, LeftOut("", "", "")], Path("here"), 0)] == [
        [("NLMCXR_png/CXR1_IM-1.png", "frontal")], []
    ]  # fmt: skip


def test_the_fingerprint_covers_everything_that_draws_or_writes():
    """Every module that `collection` imports, but for those that read and run."""
    package = Path(phantom.__file__).parents[1]
    needed, waiting = set(), {package / "phantom/collection.py"}
    while waiting:
        needed.add(path := waiting.pop())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parents[node.level - 1] / (node.module or "").replace(".", "/")
                places = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
                waiting |= {place for place in places if place.exists()} - needed
    checking = {package / f"clinical/{name}.py" for name in ("language", "labels", "plain")}  # decides, draws nothing
    needed -= checking
    drawing = {path for path in needed if path.parent.name in ("phantom", "clinical")}
    assert len(drawing) > 10 and drawing <= set(marked.SOURCES)
    assert {path.parent.name for path in needed - drawing} <= {"readers", "runtime", "medcap_paddle"}
    assert package / "clinical/phrases.json" in marked.SOURCES


def test_drawing_alone_loads_no_reader():
    code = "import sys, medcap_paddle.phantom.draw; print([name for name in sys.modules if '.readers' in name])"
    root = Path(phantom.__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root).strip() == "[]"
    code = "from medcap_paddle import phantom; print(phantom.draw.SIZE, phantom.make.__name__, phantom.redraw.__name__)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root) == "320 make redraw\n"
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        phantom.paint  # noqa: B018


def test_the_command_makes_or_redraws(tmp_path, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["phantom", *map(str, arguments), "--size", "32", "--seed", "3"])
        command.main()

    run(tmp_path / "made", "--studies", 4)
    assert content(tmp_path / "made") == content(phantom.make(tmp_path / "same", 4, seed=3, size=32))
    run(tmp_path / "drawn", "--redraw", tmp_path / "made")
    assert json.loads((tmp_path / "drawn/phantom.json").read_text())["reports"] == "real"
    with pytest.raises(SystemExit, match="nothing not found: give a folder"):
        run(tmp_path / "other", "--redraw", tmp_path / "nothing")


def test_redraw_takes_the_views_of_the_table_and_copies_files_that_are_no_reports(tmp_path):
    source = phantom.make(tmp_path / "source", studies=3, seed=3, size=32, workers=1)
    folder = source / "ecgen-radiology"
    for name, text in (("a", '<?xml version="1.0" encoding="klingon"?><eCitation/>'), ("b", BOMB), ("c", "")):
        (folder / f"{name}.xml").write_text(text)
    (folder / "d.xml").write_text(
        '<eCitation><uId id="CXR9"/><parentImage id="CXR9_1"/><parentImage id="CXR9_2"/></eCitation>'
    )
    table = source / "indiana_projections.csv"
    pictures = []
    for rows in ("", "9,9_1.dcm.png,Lateral\n9,9_2.dcm.png,Frontal\n"):
        table.write_text("uid,filename,projection\n" + rows)
        out = phantom.redraw(source, tmp_path / f"out{len(pictures)}", size=32, workers=1)
        assert (out / "ecgen-radiology/b.xml").read_text() == BOMB  # kept as it is, for 01 to leave it out
        pictures.append([(out / f"NLMCXR_png/CXR9_{k}.png").read_bytes() for k in (1, 2)])
    table.unlink()
    assert pictures[0] == pictures[1][::-1] and pictures[0][0] != pictures[0][1]


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>'


def test_processes_draw_what_one_draws(tmp_path):
    folders = [phantom.make(tmp_path / str(k), studies=40, seed=2, size=32, workers=k) for k in (1, 2)]
    assert content(folders[0]) == content(folders[1])


def test_reports_that_are_not_english_are_refused_before_they_are_drawn(tmp_path):
    """As 01 would refuse them, after the hours of drawing."""
    source = phantom.make(tmp_path / "source", studies=12, size=32, workers=1)
    for path in source.rglob("*.xml"):
        text = path.read_text(encoding="utf-8")
        german = "Das Herz ist normal groß. Kein Erguss, kein Pneumothorax. Die Lunge ist frei von Infiltraten."
        text = re.sub('(Label="FINDINGS")(>[^<]*</AbstractText>| />)', rf"\1>{german}</AbstractText>", text)
        path.write_text(text, encoding="utf-8")
    with pytest.raises(MedcapError, match="not in English"):
        phantom.redraw(source, tmp_path / "drawn", size=32, workers=1)
    assert not list((tmp_path / "drawn").rglob("*.png"))
