"""Read a study in a browser, and judge reports: `make demo`, or `streamlit run app.py`. Not for clinical use.

WORK names the folder of `make run`. All that is decided, is decided in medcap_paddle/demo; here it gets its place.
Text of reports reaches the page by `demo.sentences` only, which escapes it.
"""

import os
from functools import partial
from pathlib import Path

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import streamlit as st

from medcap_paddle.demo import cases, pictures, reader_study, sentences, uploads
from medcap_paddle.demo.cases import Case, Cases
from medcap_paddle.demo.films import Film, Look, png
from medcap_paddle.demo.reader_study import ReaderStudy
from medcap_paddle.demo.reading import Reader, Reading
from medcap_paddle.demo.words import LANGUAGES, say
from medcap_paddle.metrics.readers import CATEGORIES, REFERENCE
from medcap_paddle.runtime.files import MedcapError, digest

WORK = Path(os.environ.get("WORK") or "work").resolve()
LINKED = {"bind": "query-params", "persist_state": "session"}  # its value is part of the link
STYLE = """<style>
.block-container { padding: 2rem 1.2rem 5rem; max-width: 1240px; }
h1 { font-size: 1.7rem !important; padding: 0 !important; }
p.report { font-size: 1.05rem; line-height: 1.75; color: #111; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p.report span { border-radius: 3px; padding: 1px 2px; }
div.never { position: fixed; left: 0; right: 0; bottom: 0; z-index: 999; padding: .55rem 1rem; text-align: center;
            background: #8a1c1c; color: #fff; font-weight: 600; font-size: .95rem; }
</style>"""


@st.cache_resource(max_entries=4, show_spinner=False)
def load_reader(run: str, changed: float) -> Reader:
    """Once for all guests, and again where the run has changed."""
    return Reader.load(WORK / "runs" / run, WORK, os.environ.get("WEIGHTS") or None)


@st.cache_resource(max_entries=1, show_spinner=False)
def load_cases(changed: float) -> Cases:
    return Cases.load(WORK)


def changed(name: str) -> float:
    path = WORK / name
    return path.stat().st_mtime if path.exists() else 0.0


def once(slot: str, key: object, make):
    """What was made for this key, kept for the session; `slot` holds one."""
    if st.session_state.get(slot, (None,))[0] != key:
        st.session_state[slot] = (key, make())
    return st.session_state[slot][1]


def t(key: str, **values: object) -> str:
    return say(st.session_state.get("lang", "en"), key, **values)


def study_list(known: Cases, pick: str, run: str) -> list[str]:
    if pick == "worst":
        return known.worst(WORK / "runs" / run / "predictions.csv")
    return list(known.offered) if pick == "all" else known.having(pick)


def choose(known: Cases, runs: list[str]) -> tuple[list[Film], list[str], Case | None, list[str]]:
    """The films, what is wrong with others, whose they are, and the runs that read them."""
    left, right = st.columns(2, gap="large")
    run = right.selectbox(t("run"), runs, key="run", **LINKED)
    others = ["", *(name for name in runs if name != run)]
    other = right.selectbox(t("other"), others, format_func=lambda n: n or t("nobody"), key="other", **LINKED)
    limits = {"files": uploads.MAX_FILES, "megabytes": uploads.MAX_BYTES // 10**6}
    dropped = left.file_uploader(t("drop"), accept_multiple_files=True, help=t("drop_help", **limits), key="dropped")
    findings = known.findings()
    kinds = {"all": t("all", count=len(known.offered)), "worst": t("worst", run=run)}
    kinds |= {name: t("finding", finding=name, count=count) for name, count in findings.items()}
    kinds = kinds if run in cases.written(WORK) else {key: text for key, text in kinds.items() if key != "worst"}
    pick = left.selectbox(t("pick"), list(kinds), format_func=kinds.get, key="pick", **LINKED, disabled=bool(dropped))
    study = right.selectbox(t("study"), study_list(known, pick, run), key="study", **LINKED, disabled=bool(dropped))
    names = [name for name in (run, other) if name]
    if dropped:
        files = [(file.name, file.getvalue()) for file in dropped]
        return once("films", [file.file_id for file in dropped], lambda: uploads.films(files)), [], None, names
    case = known.every[study]
    return *once("films", (study, case.paths), case.films), case, names


def show_films(films: list[Film]) -> None:
    with st.expander(t("look")):
        sliders = {"zoom": (1.0, 4.0, 1.0, 0.25), "across": (0, 100, 50, 5), "down": (0, 100, 50, 5)}
        sliders |= {"centre": (0, 255, 128, 1), "width": (2, 512, 256, 2)}
        columns = st.columns(len(sliders))
        values = {
            name: column.slider(t(name), *limits, key=name, **LINKED)
            for column, (name, limits) in zip(columns, sliders.items(), strict=True)
        }
    for column, film in zip(st.columns(max(2, len(films))), films, strict=False):
        height, width = film.pixels.shape
        caption = t("film", film=film.name, width=width, height=height)
        column.image(png(Look(**values).of(film.pixels)), caption=caption, alt=caption, width="stretch")


def show_reading(run: str, films: list[Film], reading: Reading, known: Cases) -> None:
    st.subheader(t("report", run=sentences.literal(run)), anchor=False)
    for key, values in reading.warnings:
        st.warning(sentences.literal(t(key, **values)))

    def hover(value: float, times: float) -> str:
        return t("hover", value=value, times=times)

    st.html(sentences.shaded(reading.text, reading.reliance, hover) if reading.words else f"<p>{t('empty')}</p>")
    placed = reading.typicality == reading.typicality
    st.caption(t("typical", share=reading.typicality) if placed else t("typical_unknown"))
    for name, found in reading.measures.items():
        st.caption(sentences.literal(f"{name}: {found}"))
    with st.expander(t("numbers")):
        st.html(sentences.numbers(reading.text, reading.reliance, [t("word"), t("nats"), t("times")]))
    with st.expander(t("beams")):
        for text, score in reading.reports:
            st.caption(f"{t('score')} {score:.2f}")
            st.html(sentences.paragraph(text))
    with st.expander(t("attention")):
        show_attention(run, films, reading)
    with st.expander(t("neighbours"), expanded=True):
        show_neighbours(run, reading, known)


def show_attention(run: str, films: list[Film], reading: Reading) -> None:
    if reading.attention is None:
        st.caption(t("no_attention"))
        return
    st.caption(t("attention_help"))
    names = [f"{number}. {word}" for number, word in enumerate(reading.words, 1)]
    first = int(reading.reliance.argmax())
    word = st.selectbox(t("word"), range(len(names)), first, format_func=names.__getitem__, key=f"word {run}")
    made = once(f"attention {run}", (id(reading), word), lambda: pictures.attention(films, reading, word))
    for column, picture in zip(st.columns(max(2, len(made))), made, strict=False):
        column.image(picture, alt=f"{t('attention')}: {names[word]}", width="stretch")


def show_neighbours(run: str, reading: Reading, known: Cases) -> None:
    if reading.missing:
        st.caption(sentences.literal(t("no_neighbours", reason=reading.missing)))
    for number, (study, report) in enumerate(reading.neighbours):
        left, right = st.columns([1, 4])
        if study in known.every:
            path = known.every[study].paths[0]
            small = once(f"neighbour {run} {number}", path, lambda path=path: png(Film.of(path, study).pixels, 256))
            left.image(small, alt=study, width="stretch")
        right.caption(sentences.literal(study))
        right.html(sentences.paragraph(report))


def read_page(known: Cases, runs: list[str]) -> None:
    films, unread, case, names = choose(known, runs)
    for failure in unread:
        st.warning(sentences.literal(failure))
    show_films(films)
    report, written, own = case.report if case else "", [], (case.study_id, case.patient) if case else ()
    if case:
        with st.container(border=True):
            st.subheader(t("radiologist"), anchor=False)
            st.html(sentences.paragraph(report))
    content = digest(*(film.pixels for film in films), *own)
    for column, run in zip(st.columns(len(names), gap="large"), names, strict=True):
        with column, st.container(border=True):
            with st.spinner(t("loading")):
                reader = load_reader(run, changed(f"runs/{run}/{cases.WEIGHTS}"))
            with st.spinner(t("reading")):
                slot = f"reading {names.index(run)}"
                reading = once(slot, (run, content), lambda reader=reader: reader.read(films, *own))
            show_reading(run, films, reading, known)
            written.append((run, reading.text, reading.reliance))
    for column, (kind, mime) in zip(st.columns(2), pictures.KINDS.items(), strict=True):
        make = partial(pictures.sheet, films, report, written, kind)
        column.download_button(t("save", kind=kind.upper()), make, f"report.{kind}", mime, on_click="ignore")


def begin_page(known: Cases) -> None:
    sources = [REFERENCE, *cases.written(WORK)]
    st.write(t("start_help"))
    with st.form("begin", border=True):
        chosen = st.multiselect(t("sources"), sources, max_selections=len(reader_study.SIDES), key="sources")
        number = st.number_input(t("number"), 1, len(known.offered), min(20, len(known.offered)), key="number")
        seed = st.number_input(t("seed"), 0, 9999, 0, key="seed")
        if st.form_submit_button(t("begin"), type="primary"):
            reports = reader_study.gather(WORK, chosen, known.offered, number, seed)
            ReaderStudy.create(WORK / reader_study.FILE, reports, seed)
            st.rerun()


def judge_page(known: Cases) -> None:
    path = WORK / reader_study.FILE
    if not path.exists():
        return begin_page(known)
    name = st.text_input(t("reader"), max_chars=reader_study.NAME, help=t("reader_help"), key="reader", **LINKED)
    if not name.strip():
        return None
    study = ReaderStudy.load(path)
    page = study.next(name)
    if page is None:
        return st.success(t("done", count=len(study.studies), path=sentences.literal(path.name)))
    st.progress((page.number - 1) / page.count, t("progress", number=page.number, count=page.count))
    if page.study in known.every:
        show_films(once("judged", page.study, known.every[page.study].films)[0])
    with st.form(f"answer {name} {page.study}", border=False):
        errors = [show_side(*part) for part in zip(st.columns(len(page.texts)), range(4), page.texts, strict=False)]
        sides = [*range(len(page.texts)), None]
        shown = [t("side", side=side) for side in reader_study.SIDES[: len(page.texts)]] + [t("none")]
        choice = st.radio(t("prefer"), range(len(sides)), index=None, format_func=shown.__getitem__, horizontal=True)
        if st.form_submit_button(t("save_answer"), type="primary"):
            if choice is None:
                return st.warning(t("choose_first"))
            study.answer(name, page.study, sides[choice], errors)
            st.rerun()
    return None


def show_side(column, number: int, text: str) -> dict[str, int]:
    """A report, and the numbers of errors that the reader gives it."""
    side = reader_study.SIDES[number]
    with column, st.container(border=True):
        st.subheader(t("side", side=side), anchor=False)
        st.html(sentences.paragraph(text))
        with st.expander(t("errors", side=side)):
            return {c: st.number_input(t(c), 0, reader_study.MOST_ERRORS, key=f"{side} {c}") for c in CATEGORIES}


def main() -> None:
    st.set_page_config("medcap_paddle", "🩻", layout="wide")
    st.html(STYLE)
    left, right = st.columns([4, 1], vertical_alignment="center")
    languages = list(LANGUAGES)
    right.radio(t("language"), languages, format_func=LANGUAGES.get, horizontal=True, key="lang", **LINKED)
    left.title(t("title"), anchor=False)
    st.html(f"<div class='never' role='note'>{t('not_clinical')}</div>")
    pages = {"read": read_page, "judge": judge_page}
    page = st.radio(t("page"), list(pages), format_func=t, horizontal=True, key="page", **LINKED)
    try:
        known, runs = load_cases(changed("reports.csv")), cases.run_names(WORK)
        if page == "read" and not runs:
            raise MedcapError(f"{WORK.name} has no trained run: make run")
        read_page(known, runs) if page == "read" else judge_page(known)
    except MedcapError as error:
        st.error(sentences.literal(str(error)))


main()
