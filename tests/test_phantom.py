"""Laws of the phantom: findings, the radiographs drawn from them, and the collection written around both."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from defusedxml import ElementTree

from medcap_paddle import phantom, phrasing
from medcap_paddle.files import MedcapError
from medcap_paddle.findings import KINDS, LABELS, Finding, from_mesh, label_vector, to_mesh
from medcap_paddle.phrasing import LANGUAGE
from medcap_paddle.radiograph import draw
from medcap_paddle.reports import clean

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


# --- findings ---------------------------------------------------------------------------------------------------------


def test_terms_are_read_back_as_they_were_written():
    rng = np.random.default_rng(0)
    for name in KINDS:
        for _ in range(30):
            findings = [phrasing.sample_finding(name, rng, told=False)]
            assert from_mesh(to_mesh(findings)) == findings
    assert from_mesh(to_mesh([])) == []


@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("Opacity/lung/upper lobe/right/mild", Finding("opacity", "right", "upper lobe", "mild")),
        ("opacity / lung/ middle lobe", Finding("opacity", "right", "middle lobe")),
        ("Opacity/lung/lingula/round", Finding("nodule", "left", "lingula")),
        ("Cardiac Shadow/enlarged/borderline", Finding("cardiomegaly", severity="borderline")),
        ("Pleural Effusion/bilateral/large", Finding("pleural effusion", "bilateral", "", "severe")),
        ("Calcified Granuloma/scattered/multiple", Finding("calcified granuloma", "", "scattered")),
    ],
)
def test_qualifiers_become_side_place_and_severity(term, finding):
    assert from_mesh(term) == [finding]


@pytest.mark.parametrize(
    "terms", ["normal", "", "No Indexing", "Unheard Of/left", [], ["normal", "Heart/right/obscured"]]
)
def test_what_cannot_be_drawn_is_ignored(terms):
    assert from_mesh(terms) == []


def test_labels_keep_sides_apart_and_bilateral_is_both():
    left, right, both = (label_vector([Finding("nodule", side)]) for side in ("left", "right", "bilateral"))
    assert left @ right == 0
    assert np.array_equal(left + right, both)
    assert np.array_equal(both, label_vector(from_mesh("Nodule/lung/scattered")))
    assert label_vector([]).sum() == 0
    assert len(set(LABELS)) == len(LABELS)


def test_every_label_can_be_sampled():
    rng = np.random.default_rng(0)
    seen = sum(label_vector([phrasing.sample_finding(name, rng, told=False)]) for name in KINDS for _ in range(60))
    assert [label for label, count in zip(LABELS, seen, strict=True) if not count] == []


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


# --- reports ----------------------------------------------------------------------------------------------------------


def sentences(text: str) -> set[str]:
    return set(re.findall(r"[^.]+\.", text.replace(". ", ".")))


NORMAL = {sentence for phrases in LANGUAGE["normal"].values() for sentence in phrases} | {LANGUAGE["vascularity"]}


def test_a_normal_report_mentions_no_finding():
    for seed in range(50):
        text, impression = phrasing.write_report([], np.random.default_rng(seed))
        assert sentences(text) <= NORMAL
        assert impression in LANGUAGE["no_acute"]


@pytest.mark.parametrize("name", phrasing.PHRASES)
def test_a_report_tells_its_finding_and_does_not_deny_it(name):
    rng = np.random.default_rng(1)
    for _ in range(20):
        finding = phrasing.sample_finding(name, rng)
        text, impression = phrasing.write_report([finding], rng)
        assert sentences(text) - NORMAL
        if name in LANGUAGE["denied"]:
            assert not re.search(rf"\b[Nn]o [\w ]*{name.split()[-1]}", text)
        elif phrasing.PHRASES[name].topic != "pleura":  # a raised diaphragm does not speak for the pleura
            assert not sentences(text) & set(LANGUAGE["normal"].get(phrasing.PHRASES[name].topic, ()))
        for word in ("left", "right"):  # the other side is never named
            if finding.side not in ("", word, "bilateral"):
                assert word not in (text + impression).lower().replace("right upper", "")
        assert not re.search(r"[{}~]|  |\ba [aeiou]| \.", text + impression)


def test_quirks_of_the_real_collection():
    studies = phantom.plan(800, seed=0)
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


# --- reading ----------------------------------------------------------------------------------------------------------


def made_up(studies: int, seed: int = 0):
    """Findings of made-up studies, all kinds by turns, and their FINDINGS."""
    rng = np.random.default_rng(seed)
    findings = [[phrasing.sample_finding(name, rng)] for name in phrasing.PHRASES for _ in range(10)]
    findings += [phrasing.sample_findings(rng) for _ in range(studies)]
    return findings, [phrasing.write_report(study, rng)[0] for study in findings]


def test_a_report_is_read_back():
    for findings, text in zip(*made_up(400), strict=True):
        read = {finding.name: finding for finding in phrasing.read_report(text)}
        assert phrasing.read_report(clean(text)) == list(read.values())
        assert read.keys() == {finding.name for finding in findings}
        for finding in findings:
            told = read[finding.name]
            assert (told.side, told.place) == (finding.side, finding.place)
            assert told.severity in (finding.severity, "")  # some phrases leave it unsaid


def test_nothing_is_read_into_what_is_normal_or_strange():
    for seed in range(50):
        assert phrasing.read_report(phrasing.write_report([], np.random.default_rng(seed))[0]) == []
    for denied in LANGUAGE["denied"].values():
        assert phrasing.read_report(" ".join(denied)) == []
    assert phrasing.read_report("") == phrasing.read_report("The nodule measures < 1 cm. Chest. . ") == []
    mute = Finding("monitor leads")  # drawn, but there are no phrases for it
    assert phrasing.read_report(phrasing.write_report([mute], np.random.default_rng(0))[0]) == []


@pytest.mark.parametrize("lost", ["XXXX", "xxxx", "<unk>"])
def test_a_sentence_that_lost_a_word_tells_nothing(lost):
    told = "there is severe cardiomegaly . there is a small left pleural effusion ."
    assert [finding.name for finding in phrasing.read_report(told)] == ["cardiomegaly", "pleural effusion"]
    assert [finding.name for finding in phrasing.read_report(told.replace("severe", lost))] == ["pleural effusion"]


def test_equal_findings_agree():
    findings, texts = made_up(100)
    figures = phrasing.agreement(findings, [phrasing.read_report(text) for text in texts])
    assert (figures["recall"], figures["false"], figures["side"]) == (1, 0, 1)
    assert figures["n_true"] == figures["n_told"] == sum(map(len, findings)) > figures["n_sided"] > 0


def test_the_other_side_is_told_but_is_the_wrong_side():
    other = {"left": "right", "right": "left"}
    findings = [[finding for finding in study if finding.side in other] for study in made_up(100)[0]]
    swapped = [[replace(finding, side=other[finding.side]) for finding in study] for study in findings]
    figures = phrasing.agreement(findings, swapped)
    assert (figures["recall"], figures["false"], figures["side"]) == (1, 0, 0)


def test_shares_are_of_all_findings_of_all_studies():
    true = [
        [Finding("cardiomegaly"), Finding("nodule", "left"), Finding("mass", "left")],
        [],
        [Finding("scar", "left")],
    ]
    told = [[Finding("nodule", "left")], [Finding("mass", "left")], [Finding("scar", "right"), Finding("kyphosis")]]
    figures = phrasing.agreement(true, told)
    assert figures == {"recall": 2 / 4, "false": 2 / 4, "side": 1 / 2, "n_true": 4, "n_told": 4, "n_sided": 2}
    both = [Finding("nodule", "left"), Finding("nodule", "right")]
    assert phrasing.agreement([[Finding("nodule", "bilateral")]], [both])["side"] == 1
    assert phrasing.agreement([both], [both[:1]])["side"] == 0  # one of two sides is not the side
    assert all(np.isnan(phrasing.agreement([[]], [[]])[share]) for share in ("recall", "false", "side"))


# --- studies ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_plans_the_same_studies_and_another_does_not():
    assert phantom.plan(20, seed=4) == phantom.plan(20, seed=4)
    assert phantom.plan(20, seed=4) != phantom.plan(20, seed=5)
    assert phantom.plan(40, seed=4)[:20] == phantom.plan(20, seed=4)


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
    for study in phantom.plan(12, seed=1):
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
    about = phantom.read_json(one / "phantom.json", "")
    assert (about["reports"], about["images"]) == ("real", "phantom")


def test_redraw_notices_what_has_changed_and_leaves_nothing_of_another_source(tmp_path):
    """The reports lie two folders down, and the copy nearer to the top than they."""
    source = phantom.make(tmp_path / "data/deep/iu", studies=2, seed=3, size=32, workers=1)

    def redrawn(data):
        copy = phantom.redraw(data, tmp_path / "data/copy", size=32, workers=1)
        return {str(name): value for name, value in content(copy).items() if name.suffix in (".xml", ".csv", ".json")}

    assert "indiana_projections.csv" in redrawn(tmp_path / "data")
    (source / "annotation.json").write_text("{}")
    assert redrawn(tmp_path / "data")["annotation.json"] == b"{}"
    report = source / "ecgen-radiology/1.xml"
    report.write_text(report.read_text().replace("phantom collection", "collection"))
    assert redrawn(tmp_path / "data")["ecgen-radiology/1.xml"] == report.read_bytes()

    other = phantom.make(tmp_path / "other", studies=2, seed=4, size=32, workers=1)
    (other / "indiana_projections.csv").unlink()
    assert redrawn(other).keys() == {"ecgen-radiology/1.xml", "ecgen-radiology/2.xml", "phantom.json"}


def test_a_real_collection_is_never_overwritten(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir()
    with pytest.raises(MedcapError, match="another collection"):
        phantom.make(tmp_path, studies=1)
    with pytest.raises(MedcapError, match="another folder"):
        phantom.redraw(tmp_path, tmp_path)
    with pytest.raises(MedcapError, match="Open-i"):
        phantom.redraw(tmp_path / "nothing", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "remedy"), [("IU.zip", "unpack it"), ("tables/indiana_reports.csv", "Kaggle.*unpack")]
)
def test_redraw_says_what_it_needs(tmp_path, name, remedy):
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_text("uid,MeSH\n")
    with pytest.raises(MedcapError, match=f"{re.escape(str(tmp_path / 'in' / Path(name).parts[0]))}.*{remedy}"):
        phantom.redraw(tmp_path / "in" / Path(name).parts[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_fingerprint_covers_every_room_that_draws_or_writes():
    package, needed, waiting = Path(phantom.__file__).parent, set(), ["phantom"]
    while waiting:
        needed.add(room := waiting.pop())
        source = (package / f"{room}.py").read_text()
        names = re.findall(r"^from \.(\w+) import", source, re.MULTILINE)
        for several in re.findall(r"^from \. import ([\w, ]+\w)", source, re.MULTILINE):
            names += set(several.split(", ")) - {"cores"}  # of the package itself, like its version
        waiting += set(names) - needed
    assert needed - {"files", "resume", "crew"} == set(phantom.SOURCES)


def test_the_command_makes_or_redraws(tmp_path, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["phantom", *map(str, arguments), "--size", "32", "--seed", "3"])
        phantom.main()

    run(tmp_path / "made", "--studies", 4)
    assert content(tmp_path / "made") == content(phantom.make(tmp_path / "same", 4, seed=3, size=32))
    run(tmp_path / "drawn", "--redraw", tmp_path / "made")
    assert phantom.read_json(tmp_path / "drawn/phantom.json", "")["reports"] == "real"
    with pytest.raises(SystemExit, match="give the folder of an Open-i collection"):
        run(tmp_path / "other", "--redraw", tmp_path / "nothing")


def test_redraw_takes_the_views_of_the_table_and_copes_with_what_is_no_report(tmp_path):
    source = phantom.make(tmp_path / "source", studies=3, seed=3, size=32, workers=1)
    reports = source / "ecgen-radiology"
    for name, text in (("a", '<?xml version="1.0" encoding="klingon"?><eCitation/>'), ("b", BOMB), ("c", "")):
        (reports / f"{name}.xml").write_text(text)
    (reports / "d.xml").write_text(
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
