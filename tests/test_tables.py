"""Laws of tables: every row has as many cells as the header has names, else the line is named."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from made_up_predictions import table, texts

from medcap_paddle import evaluate
from medcap_paddle.metrics import meteor
from medcap_paddle.runtime.files import MedcapError, read_table

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    monkeypatch.setattr(meteor.shutil, "which", lambda _: None)


def read(tmp_path, content, columns=("a", "b")):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, list(columns), "do this").to_dict("list")


@pytest.mark.parametrize(
    "content, second",
    [
        ("a,b\n1,2\n", ["2"]),
        ("a,b,\n1,2,\n3,4,\n", ["2", "4"]),  # a comma at the end of every line
        (",a,b\n0,1,2\n1,3,4\n", ["2", "4"]),  # the row numbers of pandas
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", ["2"]),
        ('a,b\n"x\ny",2\n\n3,4\n   \n', ["2", "4"]),
        ("a , b\n1,2\n", ["2"]),
        ('a,b\n1,"2, ""3"""\n', ['2, "3"']),
        ("\na,b\n1,None", ["None"]),
        ("a,b\n", []),
    ],
)
def test_what_is_read_as_it_is_meant(tmp_path, content, second):
    found = read(tmp_path, content)
    assert set(found) == {"a", "b"} and found["b"] == second


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n1,2,\n", "line 2 has 3 cells: expected 2 .a, b."),  # a comma at the end of rows only
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells"),
        ("a,b\n1,2,0.5\n3,4,0.6\n", "line 2 has 3 cells"),  # a column more than names
        ('a,b\n"x\ny",2\n3\n', "line 4 has 1 cells: expected 2"),  # lines of the file, not rows
        ("a,b,\n1,2,\n3,4,x\n", "line 3 has 'x' in column 3, which has no name in line 1"),
        ("a,,b\n1,x,2\n", "line 2 has 'x' in column 2"),
        ("a,b,a\n1,2,3\n", "line 1 has the name a twice"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3: unexpected end of data"),
        ('a,b\n1,"2" x\n', "line 2: ',' expected after"),
        (b"a,b\n1,2\n\xff,3\n", "line 3 is not UTF-8: save it as CSV in UTF-8"),
        ("a;b\n1;2\n", "no column a, b, cells are separated by ';'"),
        ("", "it is empty"),
        ("\n\n", "it is empty"),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_line_and_a_remedy(tmp_path, content, message):
    with pytest.raises(MedcapError, match=f"t.csv .*{message}.*do this"):
        read(tmp_path, content)


def test_a_hundred_thousand_rows_take_seconds(tmp_path):
    path = tmp_path / "t.csv"
    with open(path, "w", newline="") as target:
        rows = csv.writer(target)
        rows.writerows([["a", "b"], *([i, "the heart is normal,\nthe lungs are clear"] for i in range(100_000))])
    start = time.perf_counter()
    assert len(read_table(path, ["a"], "")) == 100_000
    assert time.perf_counter() - start < 10
    with open(path, "a") as target:
        target.write("5,6,7\n")
    with pytest.raises(MedcapError, match="line 200002 has 3 cells"):
        read_table(path, ["a"], "")


# what the command reads beside the predictions ---------------------------------------------------


def test_raw_train_reports_count_as_cleaned_ones(tmp_path):
    """The columns of BenchX. A word that train has often enough does not become <unk>, however it was written."""
    raw = ["The heart is normal. Lungs clear.", "No effusion; mild edema.", "Mild cardiomegaly,\nno edema."]
    rows = pd.DataFrame({"id": "CXR1_IM-1", "report": raw * 3, "image_path": "x/0.png", "split": "train"})
    rows.loc[len(rows)] = ["CXR2_IM-1", "nan", "x/0.png", "train"]
    rows.to_csv(tmp_path / "train.csv", index=False)
    train = evaluate.read_train(tmp_path / "train.csv")
    assert train[0] == "the heart is normal . lungs clear ." and len(train) == 9
    table(raw, raw).to_csv(tmp_path / "perfect.csv", index=False)
    out = tmp_path / "out.json"
    paths = [str(tmp_path / name) for name in ("perfect.csv", "train.csv")]
    evaluate.main([paths[0], "--train", paths[1], "--json", str(out)])
    assert json.loads(out.read_text())[paths[0]]["figures"]["cider"]["value"] == pytest.approx(10)


@pytest.mark.parametrize(
    "content, message",
    [
        ("split,report\nTrain,a b\ntest,c\n", "no row with the split .train. .found: Train, test.: write train"),
        ("split,report\n", "found: no rows"),
        ("split,report\ntrain,nan\ntrain,-\n", "no words in the column report"),
        ("id,report\n1,a\n", "no column split"),
    ],
)
def test_a_table_without_train_reports_is_refused(tmp_path, content, message):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(MedcapError, match=message):
        evaluate.read_train(tmp_path / "train.csv")


def test_white_space_does_not_change_a_score(tmp_path):
    said = [text.replace(" . ", ". ").removesuffix(" .") + "." for text in texts(6, 3)]
    forms = [" ", "\n", "\r\n", "\u00a0", "\t", "\u2009", "<br/>", "&nbsp;", "&amp;lt;br/&amp;gt;", "\u200b"]
    runs = {repr(form): table(said, [text.replace(". ", f".{form}") for text in said]) for form in forms}
    metrics = evaluate.evaluate(runs, number=10)
    assert {round(content["figures"]["cider"]["value"], 9) for content in metrics.values()} == {10.0}


# what the command writes and prints --------------------------------------------------------------


def command(*arguments, stdout=subprocess.PIPE, **environment):
    code = "import medcap_paddle.evaluate as e; from medcap_paddle.metrics import meteor; "
    code += "meteor.shutil.which = lambda _: None; e.main()"
    env = os.environ | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env=env
    )
    return done, done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_a_terminal_without_utf8_prints_the_rest(tmp_path, environment):
    path, out = tmp_path / "预测é.csv", tmp_path / "out.json"
    table(["心 heart .", "lungs ."], ["心 heart .", "lungs ."]).to_csv(path, index=False)
    done, errors = command(str(path), "--json", str(out), **environment)
    assert done.returncode == 0 and "Traceback" not in errors and b"BLEU-1" in done.stdout
    assert list(json.loads(out.read_text(encoding="utf-8"))) == [str(path)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_json_is_there_before_anything_can_fail_to_print(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "out.json"
    table(texts(3, 1), texts(3, 2)).to_csv(path, index=False)
    with open("/dev/full", "w") as full:
        done, errors = command(str(path), "--json", str(out), stdout=full)
    assert done.returncode == 1 and "Traceback" not in errors and "cannot be printed (No space left" in errors
    assert list(json.loads(out.read_text())) == [str(path)]


def test_a_json_that_cannot_be_written_ends_in_a_sentence(tmp_path):
    path, place = tmp_path / "a.csv", tmp_path / "file"
    table(texts(3, 1), texts(3, 2)).to_csv(path, index=False)
    place.write_text("")
    for out in (place / "out.json", tmp_path):
        with pytest.raises(SystemExit, match=f"{re.escape(str(out))} cannot be written"):
            evaluate.main([str(path), "--json", str(out)])
