"""Where the minutes went is what papermill noted."""

import json

import pytest

from medcap_paddle.runtime import timings
from medcap_paddle.runtime.files import MedcapError


def test_the_shares_are_those_of_the_seconds(tmp_path):
    paths = [tmp_path / "01_a.ipynb", tmp_path / "02_longer.ipynb"]
    for path, duration in zip(paths, (30.0, 90.0), strict=True):
        path.write_text(json.dumps({"metadata": {"papermill": {"duration": duration}}}))
    first, second, total = timings.table(paths).splitlines()
    assert first.split() == "01_a 0 min 30 s 25%".split() and second.split() == "02_longer 1 min 30 s 75%".split()
    assert total.split() == "together 2 min 0 s".split()


@pytest.mark.parametrize("text", ["", "{}", '{"metadata": {"papermill": {"duration": null}}}', "[]"])
def test_a_notebook_that_did_not_run_to_its_end_is_refused(tmp_path, text):
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(MedcapError, match="a.ipynb is not the output of papermill"):
        timings.seconds(path)
