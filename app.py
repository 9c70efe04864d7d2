"""Read a study in a browser, and judge reports: `make demo`, or `streamlit run app.py`. Not for clinical use.

WORK names the folder of `make run`. What can be decided without a page is decided in medcap_paddle/demo. Text of
reports reaches the page through `demo.sentences` only, which escapes it.
"""

import os
from functools import partial
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import streamlit as st

from medcap_paddle.demo import found, hearts, pictures, reader_study, sentences, uploads, words
from medcap_paddle.demo.cases import Case, Cases
from medcap_paddle.demo.films import RANGES, Film, Look, png
from medcap_paddle.demo.reader_study import MOST_ERRORS, SIDES, Page, ReaderStudy
from medcap_paddle.demo.reading import Reader, Reading
from medcap_paddle.demo.session import linked, once
from medcap_paddle.demo.session import say as t
from medcap_paddle.metrics.readers import CATEGORIES, REFERENCE
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import segmenter_run
from medcap_paddle.vision.measure import Measured
from medcap_paddle.vision.segmenter_run import Run as Segmenter

WORK = Path(os.environ.get("WORK") or "work").resolve()
LINKED = {"bind": "query-params", "persist_state": "session"}  # a widget whose value is part of the link
FLAT = {"horizontal": True, "label_visibility": "collapsed"}


@st.cache_resource(max_entries=4, show_spinner=False)
def reader_of(run: str, changed: float) -> Reader:
    """Loaded once for all guests, and again where the run has `changed`."""
    return Reader.load(WORK / "runs" / run, WORK, os.environ.get("WEIGHTS") or None)


@st.cache_resource(show_spinner=False)
def anatomy() -> Segmenter:
    return segmenter_run.load()


@st.cache_resource(max_entries=1, show_spinner=False)
def cases_of(changed: float) -> Cases:
    uploads.remove_stale()
    return Cases.load(WORK)


def choose(known: Cases, runs: list[str]) -> tuple[list[Film], list[str], Case | None, list[str]]:
    """The films, what is wrong with others, the case that they are of, and the runs that read them."""
    left, right = st.columns(2, gap="medium")
    limits = {"files": uploads.MAX_FILES, "megabytes": uploads.MAX_BYTES // 10**6}
    dropped = left.file_uploader(t("drop"), accept_multiple_files=True, help=t("drop_help", **limits), key="dropped")
    one, two = left.columns(2)
    run = linked(one.selectbox, "run", runs)
    others = ["", *(name for name in runs if name != run)]
    other = linked(two.selectbox, "other", others, lambda name: name or t("nobody"))
    names = [name for name in (run, other) if name]
    if dropped:
        right.html(sentences.small(t("dropped")))
        files = [(file.name, file.getvalue()) for file in dropped]
        return once("films", [file.file_id for file in dropped], partial(uploads.films, files)), [], None, names
    predictions = WORK / "runs" / run / found.PREDICTIONS
    lists = once("lists", (run, found.changed(predictions)), partial(known.choices, predictions))
    listed = {key: t(key if key in words.WORDS else "finding", finding=key, count=len(lists[key])) for key in lists}
    pick = linked(right.selectbox, "pick", list(lists), listed.get)
    study = linked(right.selectbox, "study", lists[pick])
    return *once("films", study, known.every[study].films), known.every[study], names


def show_films(films: list[Film]) -> None:
    with st.expander(t("look")):
        columns = zip(st.columns(len(RANGES)), RANGES.items(), strict=True)
        look = Look(**{name: column.slider(t(name), *values, key=name, **LINKED) for column, (name, values) in columns})
    columns = st.container(key="films").columns(max(3, len(films)), wrap=False)
    for number, (column, film) in enumerate(zip(columns, films, strict=False), 1):
        caption = t("film", number=number, width=film.pixels.shape[1], height=film.pixels.shape[0])
        column.image(png(look.of(film.pixels)), caption=caption, alt=caption, width="stretch")


def show_hearts(measured: list[Measured]) -> None:
    with st.expander(t("hearts")):
        for column, heart in zip(st.columns(max(2, len(measured)), wrap=False), measured, strict=False):
            key, values = hearts.told(heart)
            if heart.masks:
                column.image(hearts.picture(heart), alt=t("hearts"), width="stretch")
            column.html(sentences.small(t(key, **values)))


def show_reading(run: str, films: list[Film], measured: list[Measured], reading: Reading, known: Cases) -> None:
    st.header(t("report", run=sentences.literal(run)), anchor=False)
    for key, values in reading.warnings:
        st.warning(sentences.literal(t(key, **values)))
    shaded = sentences.shaded(reading.text, reading.reliance, partial(t, "hover"))
    st.html(shaded if reading.words else sentences.small(t("empty")))
    for heart in (heart for heart in measured if heart.doubt(reading.text)):
        st.warning(sentences.literal(t("heart_disagrees", ratio=heart.anatomy.ratio)))
    typical = t("typical", share=reading.typicality) if reading.placed else t("typical_unknown")
    st.html(sentences.small(typical))
    with st.expander(t("neighbours")):
        show_neighbours(run, reading, known)
    with st.expander(t("beams")):
        for text, score in reading.reports:
            st.html(sentences.small(f"{t('score')} {score:.2f}") + sentences.paragraph(text))
    with st.expander(t("attention")):
        show_attention(run, films, reading)
    with st.expander(t("numbers")):
        st.html(sentences.numbers(reading.text, reading.reliance, [t("word"), t("nats"), t("times")]))


def show_attention(run: str, films: list[Film], reading: Reading) -> None:
    st.html(sentences.small(t("no_attention" if reading.attention is None else "attention_help")))
    if reading.attention is not None:
        names = [f"{number}. {word}" for number, word in enumerate(reading.words, 1)]
        first = int(reading.reliance.argmax())
        word = st.selectbox(
            t("word"), range(len(names)), first, format_func=names.__getitem__, key=f"word {id(reading)}"
        )
        made = once(f"attention {run}", (reading, word), partial(pictures.attention, films, reading, word))
        for column, picture in zip(st.columns(max(2, len(made)), wrap=False), made, strict=False):
            column.image(picture, alt=f"{t('attention')}: {names[word]}", width="stretch")


def show_neighbours(run: str, reading: Reading, known: Cases) -> None:
    if reading.missing:
        st.html(sentences.small(t("no_neighbours", reason=reading.missing)))
    for number, (study, report) in enumerate(reading.neighbours):
        left, right = st.columns([1, 5], wrap=False)
        left.image(once(f"near {run} {number}", study, partial(known.thumbnail, study)), alt=study, width="stretch")
        right.html(sentences.small(study) + sentences.paragraph(report))


def read_page(known: Cases) -> None:
    runs = found.trained(WORK)
    if not runs:
        raise MedcapError(t("no_run", work=WORK.name))
    films, unread, case, names = choose(known, runs)
    for failure in unread:
        st.warning(sentences.literal(failure))
    show_films(films)
    measured = once("hearts", tuple(films), lambda: hearts.hearts(films, anatomy()))
    show_hearts(measured)
    own, written = (case.study_id, case.patient) if case else (), []
    if case:
        with st.container(border=True):
            st.header(t("reference", kind=t(known.reports)), anchor=False)
            st.html(sentences.paragraph(case.report))
    for column, (place, run) in zip(st.columns(len(names), gap="medium"), enumerate(names), strict=True):
        with column, st.container(border=True):
            with st.spinner(t("reading")):
                reader = reader_of(run, found.changed(WORK / "runs" / run / found.TRAINED[1]))
                reading = once(f"reading {place}", (reader, *films), partial(reader.read, films, *own))
            show_reading(run, films, measured, reading, known)
            written.append((run, reading.text, reading.reliance))
    st.html(sentences.small(t("legend")))
    with st.container(horizontal=True):
        for kind, mime in pictures.KINDS.items():
            make = partial(pictures.sheet, films, case.report if case else "", written, kind)
            st.download_button(t("save", kind=kind.upper()), make, f"report.{kind}", mime, on_click="ignore")


def begin_page(known: Cases) -> None:
    st.html(sentences.small(t("start_help")))
    with st.form("begin"):
        sources = st.multiselect(t("sources"), [REFERENCE, *found.written(WORK)], max_selections=len(SIDES))
        number = st.number_input(t("number"), 1, len(known.offered), min(20, len(known.offered)))
        seed = st.number_input(t("seed"), 0, 9999, 0)
        if st.form_submit_button(t("begin"), type="primary"):
            reports = reader_study.gather(WORK, sources, known.offered, number, seed)
            ReaderStudy.create(WORK / reader_study.FILE, reports, seed)
            st.rerun()


def judge_page(known: Cases) -> None:
    path = WORK / reader_study.FILE
    if not path.exists():
        return begin_page(known)
    name = st.text_input(t("reader"), max_chars=reader_study.NAME, help=t("reader_help"), key="reader", **LINKED)
    study = ReaderStudy.load(path)
    page = study.next(name) if name.strip() else None
    if name.strip() and not page:
        st.success(t("done", count=len(study.studies), path=sentences.literal(path.name)))
    return show_page(known, study, name, page) if page else None


def show_page(known: Cases, study: ReaderStudy, name: str, page: Page) -> None:
    st.progress((page.number - 1) / page.count, t("progress", number=page.number, count=page.count))
    show_films(once("judged", page.study, known.every[page.study].films)[0])
    with st.form(f"{name}, {page.study}", border=False):
        sides, errors = [t("side", side=side) for side in SIDES[: len(page.texts)]], []
        for column, side, text in zip(st.columns(len(sides)), sides, page.texts, strict=True):
            with column, st.container(border=True):
                st.header(side, anchor=False)
                st.html(sentences.paragraph(text))
                with st.expander(t("errors")):
                    keys = {category: f"{name}, {page.study}, {side}, {category}" for category in CATEGORIES}
                    errors.append({c: st.number_input(t(c), 0, MOST_ERRORS, key=key) for c, key in keys.items()})
        answer = st.radio(t("prefer"), [*sides, t("none")], index=None, horizontal=True)
        if st.form_submit_button(t("save_answer"), type="primary"):
            if not answer:
                raise MedcapError(t("choose_first"))
            study.answer(name, page.study, sides.index(answer) if answer in sides else None, errors)
            st.rerun()


def main() -> None:
    st.set_page_config("medcap_paddle", "🩻", layout="wide")
    st.html(Path(words.__file__).with_name("style.css"))
    head, (left, right) = st.container(), st.columns([4, 1])
    linked(right.radio, "lang", list(words.LANGUAGES), words.LANGUAGES.get, **FLAT)
    head.title(t("title"), anchor=False)
    head.html(f"<div class='never' role='note'>{t('not_clinical')}</div>")
    page = {"read": read_page, "judge": judge_page}[linked(left.radio, "page", ["read", "judge"], t, **FLAT)]
    try:
        page(cases_of(found.changed(WORK / "reports.csv")))
    except MedcapError as error:
        st.error(sentences.literal(str(error)))


main()
