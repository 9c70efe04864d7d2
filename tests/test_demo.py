"""Laws of the page of `make demo`, without a browser: guests are not trusted, text is text, readings are one's own."""

import ast
import html
import os
import re
import string
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import demo_work
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_damage import damaged
from test_dicom import write as dicom
from test_hostile import TEXTS
from test_image import declared, png16

from medcap_paddle import generate
from medcap_paddle.demo import films, found, hearts, pictures, reading, sentences, uploads, words
from medcap_paddle.demo.__main__ import NO_RUN, free_port
from medcap_paddle.demo.cases import ALL, WORST, Cases
from medcap_paddle.demo.films import RANGES, Film, Look
from medcap_paddle.demo.reading import Reader
from medcap_paddle.metrics import ngrams
from medcap_paddle.metrics.pairs import prepare, read_predictions
from medcap_paddle.phantom.draw import draw
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.runtime.loop import WEIGHTS
from medcap_paddle.vision import measure, segmenter_run

ROOT = Path(__file__).parent.parent
USUAL = {name: usual for name, (_, _, usual, _) in RANGES.items()}
WORDS = st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=9), max_size=12).map(
    " ".join
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return demo_work.make(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def cases(work):
    return Cases.load(work)


@pytest.fixture(scope="module")
def readers(work):
    return {name: Reader.load(work / "runs" / name, work) for name in demo_work.RUNS}


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the system keeps temporary files, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def png(pixels):
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


FILM = draw([], "frontal", 5, size=96)


# Uploads --------------------------------------------------------------------------------------------------------------


def corpus(folder):
    """(name, content): damaged films of each kind, and what is no film."""
    film = draw([], "frontal", 1, size=64)
    jpeg = BytesIO()
    Image.fromarray(film).save(jpeg, "JPEG")
    moving = BytesIO()
    Image.fromarray(film).save(moving, "PNG", save_all=True, append_images=[Image.fromarray(film.T)])
    whole = {
        "a.png": png(film),
        "b.jpg": jpeg.getvalue(),
        "c.png": png16(folder / "c.png", film.astype("uint16") << 4).read_bytes(),
        "d.dcm": dicom(folder / "d.dcm", film.astype("uint16") << 4).read_bytes(),
    }
    yield from ((name, data) for name, content in whole.items() for data in damaged(content, 120))
    yield from (("e.png", declared(*size)) for size in ((8, 8), (10_000, 10_001), (6_000, 6_000), (2**31 - 1,) * 2))
    others = (
        b"",
        b"\0" * 5000,
        b"<svg onload=alert(1)>",
        b"%PDF-1.4",
        b"PK\3\4",
        b"GIF89a",
        b"II*\0",
        moving.getvalue(),
    )
    yield from (("f.png", content) for content in (*others, png(np.zeros([64, 64], "uint8"))))


def test_hostile_files_are_films_or_sentences_and_nothing_stays(tmp_path, temporary):
    said = []
    for name, content in corpus(tmp_path):
        try:
            [film] = uploads.films([(name, content)])
            assert film.pixels.dtype == np.uint8 and film.pixels.ndim == 2
        except MedcapError as error:
            said.append(str(error))
        assert not os.listdir(temporary)
    assert len(said) >= 300
    for sentence in said:
        assert sentence.startswith("film 1 ") and str(temporary) not in sentence and "\n" not in sentence


def test_too_many_too_large_and_too_wide_are_told_before_they_are_read(monkeypatch, temporary):
    monkeypatch.setattr(uploads, "MAX_BYTES", 1000)
    with pytest.raises(MedcapError, match="5 files: a study has at most 4 films"):
        uploads.films([("a.png", b"")] * 5)
    with pytest.raises(MedcapError, match="film 2 has .* MB, more than"):
        uploads.films([("a.png", b""), ("b.png", bytes(1001))])
    with pytest.raises(MedcapError, match="film 1 declares 36,000,000 pixels, more than 30,000,000"):
        uploads.films([("a.png", declared(6_000, 6_000))])


def test_a_wide_dicom_is_told_by_its_header(tmp_path, temporary):
    path = dicom(tmp_path / "a.dcm", FILM.astype("uint16") << 4, Rows=6000, Columns=6000)
    with pytest.raises(MedcapError, match="film 1 declares 36,000,000 pixels"):
        uploads.films([("a.dcm", path.read_bytes())])


@pytest.mark.parametrize(
    "name", ["../../secret.png", "/etc/passwd", "a\0b", "", "x" * 5000, "nul", "a.dcm/../b", "<b>"]
)
def test_names_of_guests_go_nowhere(name, temporary):
    [film] = uploads.films([(name, png(FILM))])
    assert film.name == "film 1" and np.array_equal(film.pixels, FILM) and not os.listdir(temporary)


def test_a_dicom_without_its_mark_is_known_by_its_suffix(tmp_path, temporary):
    content = dicom(tmp_path / "a.dcm", FILM.astype("uint16") << 4).read_bytes()[132:]
    [film] = uploads.films([("OLD.DCM", content)])
    assert np.array_equal(film.pixels, FILM)


def test_a_killed_server_leaves_nothing_for_long(temporary):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, own, foreign = (
        temporary / name for name in (f"{uploads.PREFIX}{gone.pid}-x", f"{uploads.PREFIX}{os.getpid()}-x", "x")
    )
    for folder in (left, own, foreign):
        folder.mkdir()
        (folder / "1").write_text("film")
    uploads.remove_stale()
    assert not left.exists() and own.exists() and foreign.exists()


# Films ----------------------------------------------------------------------------------------------------------------


def test_at_the_usual_numbers_all_is_seen_as_it_is():
    assert np.array_equal(Look(**USUAL).of(FILM), FILM)


def test_a_window_stretches_what_lies_in_it():
    seen = Look(**USUAL | {"centre": 100, "width": 50}).of(FILM)
    assert not seen[FILM < 75].any() and (seen[FILM > 125] == 255).all()
    inside = (FILM > 76) & (FILM < 124)
    assert np.abs(seen[inside] - (FILM[inside].astype(float) - 75) * 256 / 50).max() <= 1


@pytest.mark.parametrize("zoom", [1.0, 1.25, 2.0, 4.0])
def test_zooming_shows_a_part_of_its_place(zoom):
    for across, down in ((0, 0), (100, 100), (50, 50), (0, 100)):
        seen = Look(**USUAL | {"zoom": zoom, "across": across, "down": down}).of(FILM)
        side = round(96 / zoom)
        top, left = round((96 - side) * down / 100), round((96 - side) * across / 100)
        assert np.array_equal(seen, FILM[top : top + side, left : left + side])


@given(st.fixed_dictionaries({name: st.floats(low, high) for name, (low, high, *_) in RANGES.items()}))
def test_any_look_shows_something(numbers):
    assert Look(**numbers).of(FILM[:, :40]).size


def test_a_page_is_sent_a_png_of_a_limited_size():
    with Image.open(BytesIO(films.png(np.tile(FILM, (20, 30))))) as picture:
        assert picture.format == "PNG" and max(picture.size) == films.LONGER
    with Image.open(BytesIO(films.png(FILM))) as picture:
        assert np.array_equal(np.asarray(picture), FILM)


# Text is text ---------------------------------------------------------------------------------------------------------


def test_sentences_have_capitals():
    text = "the heart is normal . no effusion , copd or picc ? clear . "
    assert sentences.sentences(text) == "The heart is normal. No effusion, COPD or PICC? Clear."
    assert sentences.sentences("") == ""


def bare(page):
    """The letters of some HTML that has our own tags only."""
    inner = re.fullmatch(r"<p class='report'>(.*)</p>", page, re.DOTALL)[1]
    tag = r'<span title="[^"<>]*" style="background: rgb\(\d+, \d+, \d+\)">|</span>'
    inner = re.sub(tag, "", inner)
    assert "<" not in inner and ">" not in inner
    return html.unescape(inner)


@given(WORDS | st.sampled_from(TEXTS))
def test_whatever_a_report_says_is_shown_as_letters(text):
    values = np.linspace(-9, 9, len(text.split()))
    for page in (sentences.paragraph(text), sentences.shaded(text, values, '{value:+.2f}{times:.1f}"<'.format)):
        assert bare(page) == sentences.sentences(text)
    table = sentences.numbers(text, values, [text])
    assert set(re.findall(r"<[^>]*>", table)) <= set(re.findall(r"<[^>]*>", sentences.numbers("a", [1], ["b"])))
    assert html.unescape(re.sub("<[^>]*>", "", sentences.small(text))) == text


@given(
    st.text(max_size=60) | st.sampled_from([*TEXTS, "![a](http://b)", ":red[x]", "$x$", "<b>", "# a", "- b", "1. c"])
)
def test_markdown_of_others_is_literal(text):
    shown = sentences.literal(text)
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())
    markup = set(string.punctuation) - set(",;:'\"/=@?%^}{") - {"}"}
    assert not [c for i, c in enumerate(shown) if c in markup - {"\\"} and (i == 0 or shown[i - 1] != "\\")]


def test_each_word_has_its_number():
    page = sentences.shaded("a b .", [0, np.log(10), -1], "{value:+.2f}|{times:.2g}".format)
    assert re.findall('title="([^"]*)"', page) == ["+0.00|1", "+2.30|10", "-1.00|0.37"]
    with pytest.raises(ValueError):
        sentences.shaded("a b", [1], lambda value, times: "")


@given(st.floats(-1e6, 1e6))
def test_letters_on_any_color_are_readable(value):
    """WCAG AAA asks for 7 to 1, AA for 4.5."""
    assert sentences.contrast(sentences.INK, sentences.color(value)) >= 7


def test_contrast_is_that_of_the_guideline():
    assert sentences.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert sentences.contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
    assert sentences.color(0) == (255, 255, 255)


def test_both_languages_say_the_same_things():
    for key, texts in words.WORDS.items():
        assert list(texts) == list(words.LANGUAGES), key
        fields = [{name for _, name, *_ in string.Formatter().parse(text) if name} for text in texts.values()]
        assert fields[0] == fields[1] and all(texts.values()), key


def test_what_the_page_says_is_in_the_table_and_all_of_it_is_said():
    source = "".join(p.read_text() for p in (ROOT / "app.py", *sorted((ROOT / "medcap_paddle/demo").glob("*.py"))))
    source += (ROOT / "medcap_paddle/metrics/readers.py").read_text()
    constants = {
        n.value
        for n in ast.walk(ast.parse((ROOT / "app.py").read_text()))
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "t"
        for n in n.args[:1]
        if isinstance(n, ast.Constant)
    }
    assert constants <= words.WORDS.keys() and len(constants) > 20
    source += (ROOT / "medcap_paddle/reports.py").read_text()  # the kinds of reports
    assert not [key for key in words.WORDS if not re.search(f"[\"']{key}[\"']", source)]


def test_the_page_makes_no_markup_of_its_own():
    """Streamlit reads Markdown in what these are given; only `literal` may go there, and HTML only from `sentences`."""
    source = (ROOT / "app.py").read_text()
    assert not re.search(r"st\.(write|markdown|text|code|latex|components)\b|unsafe_allow", source)
    for call in re.findall(r"\b(?:st|right|left|head)\.html\(([^\n]*)\)\n", source):
        assert re.match(
            r"sentences\.|shaded if|Path\(words|f\"<div class='never' role='note'>\{t\('not_clinical'\)\}", call
        ), call
    for call in re.findall(r"st\.(?:warning|error)\(([^\n]*)\)\n", source):
        assert call.startswith("sentences.literal("), call


# Cases ----------------------------------------------------------------------------------------------------------------


def test_the_worst_are_those_of_the_least_cider(work, cases):
    path = work / "runs/lstm/predictions.csv"
    table = read_predictions(path)
    scores = dict(zip(table.study_id, ngrams.cider(*prepare(table)), strict=True))
    worst = cases.choices(path)[WORST]
    assert len(worst) == min(10, len(cases.offered)) and set(worst) <= set(cases.offered)
    assert max(scores[s] for s in worst) <= min([scores[s] for s in cases.offered if s not in worst], default=np.inf)
    assert [scores[s] for s in worst] == sorted(scores[s] for s in worst)


def test_lists_by_finding_hold_those_that_have_it(work, cases):
    lists = cases.choices(work / "absent")
    assert list(lists)[0] == ALL and WORST not in lists and lists[ALL] == list(cases.offered)
    for finding, studies in [*lists.items()][1:]:
        assert studies == [s for s in cases.offered if finding in cases.every[s].findings] != []


def test_the_newest_run_is_first_and_untrained_ones_are_none(tmp_path):
    for age, name in enumerate(("a", "b", "c")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        for file in found.TRAINED:
            (folder / file).write_text("")
        os.utime(folder / WEIGHTS, (1000 - age, 1000 - age))
    (tmp_path / "runs/c/model.json").unlink()
    (tmp_path / "runs/b" / found.PREDICTIONS).write_text("")
    assert found.trained(tmp_path) == ["a", "b"] and found.written(tmp_path) == ["b"]
    assert found.TRAINED[1] == WEIGHTS and found.trained(tmp_path / "absent") == []


def test_films_that_cannot_be_read_are_told(tmp_path, cases):
    from dataclasses import replace

    case = cases.every[cases.offered[0]]
    (tmp_path / "bad.png").write_bytes(b"bad")
    good, unread = replace(case, paths=(*case.paths, str(tmp_path / "bad.png"))).films()
    assert len(good) == len(case.paths) and len(unread) == 1 and unread[0].startswith(f"film {len(good) + 1} ")
    with pytest.raises(MedcapError, match="no film of .* can be read: film 1 "):
        replace(case, paths=(str(tmp_path / "bad.png"),)).films()


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", demo_work.RUNS)
def test_it_reads_what_the_command_reads(work, cases, readers, name):
    case = cases.every[cases.offered[0]]
    told, said = readers[name].read(case.films()[0], case.study_id), generate.caption(work / "runs" / name, case.paths)
    assert told.text == said.reports[0][0] and len(told.reports) == len(said.reports)
    assert np.allclose([s for _, s in told.reports], [s for _, s in said.reports], atol=1e-4)
    assert told.typicality == pytest.approx(said.typicality, abs=0.1)
    table = read_predictions(work / "runs" / name / "predictions.csv").set_index("study_id")
    row = table.loc[case.study_id]
    assert told.text == row.prediction and told.reliance.sum() == pytest.approx(float(row.image_gain), abs=0.05)
    assert len(told.reliance) == len(told.words) == int(row.predicted_words) and told.warnings == []


def test_attention_is_where_the_decoder_has_it(cases, readers):
    lists = cases.every[cases.offered[0]].films()[0]
    assert readers["lstm"].read(lists).attention is None
    told = readers["attention_lstm"].read(lists)
    assert told.attention.shape[:2] == (len(told.words), len(lists))
    assert np.allclose(told.attention.sum((1, 2)), 1, atol=1e-4)
    for picture in pictures.attention(lists, told, 0):
        with Image.open(BytesIO(picture)) as opened:
            assert opened.format == "PNG"


def test_neighbours_are_train_studies_and_never_oneself(work, cases, readers):
    reader = readers["lstm"]
    train = list(reader.train.table.study_id)
    case = cases.every[train[0]]
    guest, own = reader.read(case.films()[0]), reader.read(case.films()[0], case.study_id, case.patient)
    assert guest.neighbours[0] == (case.study_id, case.report)  # who drops a train film finds it
    assert case.study_id not in [study for study, _ in own.neighbours]
    assert len(own.neighbours) == reading.NEIGHBOURS and {s for s, _ in own.neighbours} <= set(train)


def test_a_run_without_its_train_features_says_so(work, tmp_path, cases):
    reader = Reader.load(work / "runs/lstm", tmp_path)
    told = reader.read(cases.every[cases.offered[0]].films()[0])
    assert told.neighbours == [] and "not found" in told.missing and told.text


def test_warnings_are_of_ones_own_film(tmp_path):
    """Warnings are the process's: guests at the same time are told of their own film only."""
    frames = [Image.fromarray(np.roll(FILM, 9 * k)) for k in range(2)]
    frames[0].save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=frames[1:])
    Image.fromarray(FILM).save(tmp_path / "one.png")
    with ThreadPoolExecutor(8) as guests:
        both = list(guests.map(lambda name: Film.of(tmp_path / name, name), ["one.png", "two.jpg"] * 40))
    assert all(film.doubts == () for film in both[::2])
    assert all(film.doubts == ("holds 2 pictures: the first one is read",) for film in both[1::2])


def test_strangers_are_warned_of(readers):
    noise = np.random.default_rng(0).integers(0, 256, [90, 90], np.uint8)
    told = readers["lstm"].read([Film("film 1", noise, False, ("looks odd",))])
    assert [key for key, _ in told.warnings] == ["not_drawn", "unlike", "doubt"]
    for language in words.LANGUAGES:
        assert all("film 1" in words.say(language, key, **values) for key, values in told.warnings[::2])


def test_twenty_guests_get_their_own_readings(cases, readers):
    """In any order, in any thread: each is told what it is told alone."""
    lists = {study: cases.every[study].films()[0] for study in cases.offered[:5]}
    alone = {study: readers["lstm"].read(films, study) for study, films in lists.items()}
    asked = [study for _ in range(8) for study in lists]
    with ThreadPoolExecutor(20) as guests:
        told = list(guests.map(lambda study: readers["lstm"].read(lists[study], study), asked))
    for study, one in zip(asked, told, strict=True):
        assert one.text == alone[study].text and one.neighbours == alone[study].neighbours
        assert np.allclose(one.reliance, alone[study].reliance, atol=1e-4)


def test_hearts_of_drawings_are_not_measured_and_all_that_is_told_has_words(cases):
    films = cases.every[cases.offered[0]].films()[0]
    run = segmenter_run.load()
    found = hearts.hearts(films, run)
    assert [heart.anatomy for heart in found] == [None] * len(films)
    assert all("drawing" in hearts.told(heart)[1]["reason"] for heart in found)
    assert hearts.KEYS.keys() == measure.SIZES.keys()
    assert all("0.62" in words.say("en", key, ratio=0.62, share=0.5) for key in hearts.KEYS.values())


def test_a_heart_is_the_same_in_memory_and_in_a_file(tmp_path):
    """Of a made-up picture: the masks are nonsense, but the same nonsense."""
    pixels = np.random.default_rng(0).integers(0, 256, [96, 80], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    run = segmenter_run.load()
    [here] = hearts.hearts([Film("film 1", pixels, False)], run)
    [there] = measure.measured([tmp_path / "film.png"], run)
    assert here.reason == there.reason
    assert here.masks.keys() == there.masks.keys() and all((here.masks[k] == there.masks[k]).all() for k in here.masks)


@pytest.mark.parametrize("kind, mark", [("pdf", b"%PDF"), ("png", b"\x89PNG")])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_sheet_is_a_file_of_its_kind(kind, mark):
    film = Film("film 1", FILM, True)
    for text in ("the heart is normal .", "", *TEXTS):
        written = [("$lstm$", text, np.zeros(len(text.split()))), ("other", text, None)]
        assert pictures.sheet([film, film, film], text, written, kind).startswith(mark)


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(work, monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("WORK", str(work))
    return lambda **link: _run(AppTest.from_file(str(ROOT / "app.py"), default_timeout=120), link)


def _run(app, link):
    app.query_params.update(link)
    return app.run()


def told(app):
    assert not app.exception, app.exception
    return "\n".join(part.proto.body for part in app.get("html"))


def test_a_page_shows_report_neighbours_and_that_it_is_not_clinical(page, cases):
    for link in ({}, {"lang": "zh", "run": "attention_lstm", "other": "lstm", "pick": WORST}):
        app = page(**link)
        text = told(app)
        assert words.say(link.get("lang", "en"), "not_clinical") in text and not app.error
        assert text.count("<table class='numbers'>") == 1 + ("other" in link)


def test_a_link_brings_the_view_back(page, cases):
    study = cases.offered[-1]
    link = {"study": study, "run": "attention_lstm", "other": "lstm", "lang": "zh", "zoom": "2.0"}
    app = page(**link)
    assert app.selectbox(key="study").value == study and app.slider(key="zoom").value == 2
    assert sentences.paragraph(cases.every[study].report) in told(app)
    again = page(**{name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()})
    assert told(again) == told(app)


@pytest.mark.parametrize("value", ["../../etc", "<script>", "x" * 3000, "", "\0"])
def test_a_link_that_is_made_up_is_the_usual_view(page, cases, value):
    names = ("study", "run", "other", "lang", "page", "pick", "zoom", "centre", "reader")
    app = page(**dict.fromkeys(names, value))
    assert "<script>" not in told(app) and app.selectbox(key="study").value == cases.offered[0]


def test_dropped_films_are_read_and_hostile_ones_told(page, work, cases):
    app = page(run="lstm")
    case = cases.every[cases.offered[1]]
    app.file_uploader(key="dropped").set_value([("a.png", Path(path).read_bytes(), "image/png") for path in case.paths])
    app.run()
    table = read_predictions(work / "runs/lstm/predictions.csv").set_index("study_id")
    assert sentences.sentences(table.loc[case.study_id].prediction) in re.sub("<[^>]*>", "", told(app))
    app.file_uploader(key="dropped").set_value([("a.png", b"<script>", "image/png")])
    app.run()
    assert not app.exception and "film 1 is not a readable PNG" in app.error[0].value.replace("\\", "")


def test_a_work_folder_without_a_run_is_told(page, tmp_path, monkeypatch):
    monkeypatch.setenv("WORK", str(tmp_path))
    command = [sys.executable, "-m", "medcap_paddle.demo", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "has no trained run: make run" in done.stderr
    asked = subprocess.run([*command, "--check"], capture_output=True, text=True, cwd=ROOT)
    assert asked.returncode == NO_RUN and not asked.stderr
    app = page()
    assert not app.exception and "collection.json" in app.error[0].value.replace("\\", "")


def test_a_port_in_use_is_left_alone():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port("127.0.0.1")))
        taken.listen()
        assert free_port("127.0.0.1") != taken.getsockname()[1]


def test_limits_are_said_once():
    config = (ROOT / ".streamlit/config.toml").read_text()
    assert f"maxUploadSize = {uploads.MAX_BYTES // 10**6} " in config and "gatherUsageStats = false" in config
    assert 'address = "127.0.0.1"' in config
