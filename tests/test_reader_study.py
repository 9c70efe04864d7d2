"""Laws of a reader study: sides are hidden, balanced and seeded; no answer is lost, whoever writes, whatever dies."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from medcap_paddle import evaluate
from medcap_paddle.demo import reader_study
from medcap_paddle.demo.reader_study import SIDES, ReaderStudy, gather
from medcap_paddle.metrics import readers
from medcap_paddle.metrics.readers import CATEGORIES, REFERENCE, Answers
from medcap_paddle.runtime.files import MedcapError, write_table

ROOT = Path(__file__).parent.parent
TEXT = "{source} writes of {study} ."


def made(path, studies=7, sources=("constant", "lstm", REFERENCE), seed=0):
    texts = {f"S{k}": {s: TEXT.format(source=s, study=f"S{k}") for s in sources} for k in range(studies)}
    return ReaderStudy.create(path, texts, seed)


@pytest.fixture
def study(tmp_path):
    return made(tmp_path / "readers.sqlite")


def no_errors(study):
    return [{} for _ in study.sources]


def rows(path):
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT reader, study, preferred, errors FROM answers ORDER BY rowid").fetchall()


# Order ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")])
@pytest.mark.parametrize("count", [1, 5, 12, 31])
def test_each_source_stands_on_each_side_as_often(tmp_path, sources, count):
    study = made(tmp_path / "readers.sqlite", count, sources)
    for reader in ("Li", "Ms Gray"):
        order = study.order(reader)
        assert sorted(s for s, _ in order) == sorted(study.studies) and all(
            set(sides) == set(sources) for _, sides in order
        )
        times = Counter((side, source) for _, sides in order for side, source in enumerate(sides))
        counts = [times[side, source] for side in range(len(sources)) for source in sources]
        assert max(counts) - min(counts) <= 1


def test_the_order_follows_from_seed_and_name(tmp_path, study):
    assert ReaderStudy.load(study.path).order(" Li ") == study.order("Li") != study.order("Wang")
    assert made(tmp_path / "other.sqlite", seed=1).order("Li") != study.order("Li")


def test_a_page_tells_no_source(study):
    page = study.next("Li")
    shown = dict(study.order("Li"))[page.study]
    assert [text.split()[0] for text in page.texts] == list(shown)  # that is, the texts tell; nothing else does
    assert set(vars(page)) == {"study", "texts", "number", "count"}


# Answers --------------------------------------------------------------------------------------------------------------


def test_a_reader_goes_on_where_he_was(study):
    seen = []
    while page := ReaderStudy.load(study.path).next("Li"):  # as if the server began again each time
        assert (page.number, page.count) == (len(seen) + 1, 7)
        seen.append(page.study)
        study.answer("Li", page.study, None, no_errors(study))
    assert seen == [name for name, _ in study.order("Li")] and study.next("Wang").number == 1


def test_what_is_answered_is_of_the_source_on_that_side(study):
    for name, sides in study.order("Li"):
        side = sides.index("lstm")
        errors = [{CATEGORIES[0]: 2} if source == REFERENCE else {} for source in sides]
        study.answer("Li", name, side, errors)
    kept = {(preferred, json.dumps(json.loads(errors), sort_keys=True)) for _, _, preferred, errors in rows(study.path)}
    wanted = {"constant": {}, "lstm": {}, REFERENCE: {CATEGORIES[0]: 2}}
    assert kept == {("lstm", json.dumps(wanted, sort_keys=True))}
    figures = Answers.read(study.path).figures(50)
    assert figures["lstm"]["preferred"]["value"] == 1 and figures["constant"]["preferred"]["value"] == 0
    assert figures[REFERENCE][CATEGORIES[0]]["value"] == figures[REFERENCE]["errors a report"]["value"] == 2


@pytest.mark.parametrize(
    "change",
    [{"study": "S99"}, {"preferred": 3}, {"preferred": -1}, {"preferred": "lstm"}, {"errors": []}]
    + [{"errors": [{"made up": 1}, {}, {}]}]
    + [{"errors": [{CATEGORIES[0]: n}, {}, {}]} for n in (-1, 10, 1.5, True, "1")]
    + [{"reader": name} for name in ("", "   ", "x" * 41, "a\0b", "\u202e")],
)
def test_an_answer_that_no_page_gives_is_refused(study, change):
    answer = {"reader": "Li", "study": "S1", "preferred": 0, "errors": no_errors(study)} | change
    with pytest.raises(MedcapError):
        study.answer(**answer)
    assert not rows(study.path)


@pytest.mark.parametrize("name", ["'; DROP TABLE answers; --", "<script>", "../../etc", "李医生"])
def test_a_name_is_a_name(study, name):
    study.answer(name, "S1", None, no_errors(study))
    assert rows(study.path)[0][0] == name and study.next(name).number == 2


def test_two_readers_at_a_time_lose_nothing(tmp_path):
    study = made(tmp_path / "readers.sqlite", 40, ("a", "b"))

    def read(reader):
        own = ReaderStudy.load(study.path)
        while page := own.next(reader):
            own.answer(reader, page.study, 0, [{}, {}])

    threads = [Thread(target=read, args=[name]) for name in ("Li", "Wang", "Gray")]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert Counter(row[:2] for row in rows(study.path)) == Counter(
        (reader, name) for reader in ("Li", "Wang", "Gray") for name in study.studies
    )


READER = """
import sys
from medcap_paddle.demo.reader_study import ReaderStudy
study = ReaderStudy.load(sys.argv[1])
while page := study.next("Li"):
    study.answer("Li", page.study, 0, [{}, {}])
    print(page.study, flush=True)  # the page goes on
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_server_that_is_killed_has_kept_every_answer(tmp_path):
    study, shown = made(tmp_path / "readers.sqlite", 3000, ("a", "b")), []
    for lines in (1, 2, 5):
        command = [sys.executable, "-c", READER, str(study.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
            shown += [server.stdout.readline().strip() for _ in range(lines)]
            os.kill(server.pid, signal.SIGKILL)
            shown += server.stdout.read().split()
        kept = [name for _, name, _, _ in rows(study.path)]
        assert set(shown) <= set(kept) and len(kept) == len(set(kept)) and len(kept) - len(shown) <= 3
    assert study.next("Li").number == len(kept) + 1


# Beginning ------------------------------------------------------------------------------------------------------------


def test_a_study_is_begun_once(study):
    with pytest.raises(MedcapError, match="is a reader study already: move it away"):
        made(study.path)
    assert ReaderStudy.load(study.path) == study


@pytest.mark.parametrize("sources", [(), ("a",), ("a", "b", "c", "d", "e")])
def test_it_compares_two_to_four_reports(tmp_path, sources):
    with pytest.raises(MedcapError, match=f"2 to {len(SIDES)} reports, not {len(sources)}"):
        made(tmp_path / "readers.sqlite", 2, sources)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "readers.sqlite"
    for content in (b"", b"no database", b"SQLite format 3\0" + bytes(200)):
        path.write_bytes(content)
        for open_it in (ReaderStudy.load, Answers.read):
            with pytest.raises(MedcapError, match=r"readers\.sqlite"):
                open_it(path)
    with pytest.raises(MedcapError, match="not found"):
        Answers.read(tmp_path / "absent.sqlite")


def table(tmp_path, run, studies, text):
    folder = tmp_path / "runs" / run
    folder.mkdir(parents=True)
    written = pd.DataFrame({"study_id": studies, "reference": "clear lungs .", "prediction": text})
    write_table(folder / "predictions.csv", written)
    return folder / "predictions.csv"


def test_texts_are_gathered_from_runs_and_the_radiologist(tmp_path):
    ids = [f"S{k}" for k in range(9)]
    table(tmp_path, "lstm", ids, "large heart ."), table(tmp_path, "constant", ids[:5], "normal .")
    found = gather(tmp_path, ["lstm", REFERENCE], ids[2:], 4, seed=0)
    assert len(found) == 4 and set(found) <= set(ids[2:])
    assert all(texts == {"lstm": "large heart .", REFERENCE: "clear lungs ."} for texts in found.values())
    assert found == gather(tmp_path, ["lstm", REFERENCE], ids[2:], 4, seed=0)
    for sources, number, message in (
        (["lstm", "constant"], 1, "."),
        ([REFERENCE], 1, "choose one at least"),
        (["lstm"], 8, "8 studies are wanted, 7 are there"),
    ):
        with pytest.raises(MedcapError, match=message):
            gather(tmp_path, sources, ids[2:], number, seed=0)


# Figures --------------------------------------------------------------------------------------------------------------


def answered(study, choices):
    """`choices`: {reader: source or "" for each study in the order of the design}."""
    for reader, wanted in choices.items():
        sides = dict(study.order(reader))
        for name, source in zip(study.studies, wanted, strict=False):
            study.answer(reader, name, sides[name].index(source) if source else None, no_errors(study))


def test_shares_add_up_and_intervals_hold_them(study):
    answered(study, {"Li": ["lstm", "lstm", "", "constant", "lstm", REFERENCE, ""], "Wang": ["lstm", "", "constant"]})
    figures = Answers.read(study.path).figures(200)
    shares = {source: entry["preferred"] for source, entry in figures.items()}
    assert sum(share["value"] for share in shares.values()) == pytest.approx(7 / 10)
    assert all(share["low"] <= share["value"] <= share["high"] for share in shares.values())


def test_the_last_answer_of_a_reader_counts(study):
    answered(study, {"Li": ["lstm"]}), answered(study, {"Li": ["constant"]})
    found = Answers.read(study.path)
    assert [answer.preferred for answer in found.answers] == ["constant"] and found.replaced == 1


def test_kappa_is_over_the_studies_that_all_answered(study):
    answered(study, {"Li": ["lstm", "", "constant", "lstm"], "Wang": ["lstm", "", "constant"]})
    assert Answers.read(study.path).kappa() == (1, 2, 3)
    answered(study, {"Gray": ["lstm", "lstm"]})
    value, count, shared = Answers.read(study.path).kappa()
    assert (count, shared) == (3, 2) and value < 1


def test_the_command_prints_them_and_joins_the_table(study, tmp_path, capsys):
    answered(study, {"Li": ["lstm", "", "constant"], "Wang": ["lstm", "lstm", "constant"]})
    evaluate.main(["--readers", str(study.path)])
    told = capsys.readouterr().out
    assert "6 answers (Li: 3, Wang: 3); 1 prefer none" in told and "Cohen's kappa of the preferences" in told
    assert re.search(r"lstm +0\.50 \[", told) and CATEGORIES[-1] in told
    path = table(tmp_path, "lstm", list(study.studies), "clear lungs .")
    evaluate.main([str(path), "--readers", str(study.path)])
    joined = capsys.readouterr().out
    assert re.search(rf"^{re.escape(str(path))} .* 0\.50 \[", joined, re.MULTILINE)
    assert re.search(r"^constant +- .*0\.33", joined, re.MULTILINE)  # a source without a row of its own gets one


def test_a_study_without_answers_is_no_table(study, capsys):
    whole = pd.DataFrame({"CIDEr": ["1"]}, index=["lstm"])
    assert readers.beside(whole, study.path).equals(whole) and readers.beside(whole, study.path / "absent").equals(
        whole
    )
    with pytest.raises(SystemExit, match="has no answer yet"):
        evaluate.main(["--readers", str(study.path)])
    with pytest.raises(SystemExit):
        evaluate.main([])
    assert "give a predictions.csv, or --readers" in capsys.readouterr().err


def test_names_of_the_file_are_said_once():
    assert reader_study.FILE in readers.FIX and reader_study.REFERENCE == REFERENCE
