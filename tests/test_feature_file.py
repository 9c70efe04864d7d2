"""Laws of feature_file.py: what is known without the arrays is read without them; what is damaged is refused."""

import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest

from medcap_paddle import feature_file
from medcap_paddle.runtime.files import MedcapError, write_sealed

FACTS = {"encoder": "made up", "weights": "0123", "preprocessing": {"size": 8, "response": [1.0]}}


def part(ids, unreadable=(), **arrays):
    return {"image_id": np.array(ids, str), "unreadable": np.array(unreadable, str), **arrays}


@pytest.fixture
def made(tmp_path):
    """Two images with two arrays, and one that could not be read."""
    path, rng = tmp_path / "features.h5", np.random.default_rng(0)
    arrays = {"pooled": rng.random((2, 4), np.float32), "grid": rng.random((2, 3, 4), np.float32)}
    rows = part(["é 1", "2"], [("bad", "bad.png", "not a PNG")], **arrays, precision=np.array("bfloat16"))
    feature_file.write(path, [rows], FACTS, {"pooled": (4,), "grid": (3, 4)})
    return path, arrays


def test_round_trip(made):
    path, arrays = made
    rows, found, attributes = feature_file.read(path, ["grid", "pooled"], expect=FACTS)
    assert rows == {"é 1": 0, "2": 1} and found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) and found[name].dtype == np.float32 for name in arrays)
    assert attributes == feature_file.index(path).attributes
    assert FACTS.items() <= attributes.items() and attributes["precision"] == "bfloat16"
    assert list(feature_file.read(path, ["pooled"])[1]) == ["pooled"]


def test_images_are_read_in_the_order_asked_for(tmp_path, monkeypatch):
    """Over the borders of blocks, some of them without a wanted row."""
    monkeypatch.setattr(feature_file, "BLOCK", 4)
    path, ids, array = tmp_path / "features.h5", list("abcdefghijklmnopq"), np.arange(17, dtype="float32")[:, None]
    feature_file.write(path, [part(ids, pooled=array)], FACTS, {"pooled": (1,)})
    for wanted in ("", "q", "qa", "bap", "ponmlkjihgfedcba", "aab"):
        rows, found, _ = feature_file.read(path, ["pooled"], image_ids=list(wanted))
        assert found["pooled"].ravel().tolist() == [ids.index(image) for image in wanted]
        assert all(found["pooled"][row, 0] == ids.index(image) for image, row in rows.items())


def test_the_h5_is_complete_for_other_programs(made):
    path, arrays = made
    with h5py.File(path) as file:
        assert file["image_id"].asstr()[:].tolist() == ["é 1", "2"]
        assert file["unreadable"].asstr()[:].tolist() == [["bad", "bad.png", "not a PNG"]]
        assert np.array_equal(file["grid"][:], arrays["grid"])
        assert file.attrs["encoder"] == "made up" and '"size": 8' in file.attrs["preprocessing"]


def test_the_index_needs_no_arrays(made):
    """Nor Paddle, nor HDF5: the file itself may be away."""
    path, _ = made
    index = feature_file.index(path)
    path.unlink()
    assert feature_file.index(path) == index
    assert index.image_ids == ["é 1", "2"] and index.arrays == {"pooled": (2, 4), "grid": (2, 3, 4)}
    assert index.unreadable == [{"image_id": "bad", "file": "bad.png", "reason": "not a PNG"}]
    code = (
        "import sys; from medcap_paddle import feature_file; feature_file.index(sys.argv[1]); "
        "print({'paddle', 'h5py', 'cv2', 'pandas'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent
    assert subprocess.check_output([sys.executable, "-c", code, path], text=True, cwd=root).strip() == "set()"
    with pytest.raises(MedcapError, match="features.h5 not found: run 02_features.ipynb"):
        feature_file.read(path, ["pooled"])


def test_the_index_reads_no_more_than_it_needs(tmp_path):
    path, ids = tmp_path / "features.h5", list(map(str, range(20_000)))
    feature_file.write(path, [part(ids, pooled=np.ones((20_000, 256), "float32"))], FACTS, {"pooled": (256,)})
    tracemalloc.start()
    assert feature_file.index(path).image_ids == ids
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e7 < path.stat().st_size / 2


def test_an_array_that_is_not_there_is_named(made):
    with pytest.raises(MedcapError, match="features.h5 has no array heat: run 02_features.ipynb"):
        feature_file.read(made[0], ["pooled", "heat"])


def test_damaged_files_are_refused(made, tmp_path):
    path, _ = made
    whole, index = path.read_bytes(), feature_file.sidecar(path).read_bytes()
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pooled"] = np.zeros((2, 4), np.float32)
    for content in (
        b"",
        b"not a feature file",
        whole[: len(whole) // 2],
        damaged,
        (tmp_path / "other.h5").read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(MedcapError, match="features.h5 is damaged.*02_features.ipynb again"):
            feature_file.read(path, ["pooled"])
    path.write_bytes(whole)
    for content in (b"", b"{}", index[:-9], index.replace(b'"2"', b'"3"')):
        feature_file.sidecar(path).write_bytes(content)
        for act in (feature_file.index, lambda path: feature_file.read(path, ["pooled"])):
            with pytest.raises(MedcapError, match="features.json .*02_features.ipynb again"):
                act(path)
    write_sealed(feature_file.sidecar(path), {"words": ["a"]})
    with pytest.raises(MedcapError, match="features.json is not the index of a features file"):
        feature_file.index(path)
    for name in ("other.h5", "absent.h5"):
        with pytest.raises(MedcapError, match=f"{name[:-3]}.*02_features"):
            feature_file.read(tmp_path / name, ["pooled"])


def test_the_index_of_older_features_never_stands_beside_new_ones(made, tmp_path, monkeypatch):
    """Whenever the writing is interrupted, even between the two files."""
    path, _ = made

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_file, "write_sealed", stop)
    with pytest.raises(KeyboardInterrupt):
        feature_file.write(path, [part(["3"], pooled=np.ones((1, 4), "float32"))], FACTS, {"pooled": (4,)})
    with pytest.raises(MedcapError, match="features.json not found: run 02_features.ipynb again"):
        feature_file.index(path)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_features_that_are_not_finite_are_never_written(value, tmp_path):
    with pytest.raises(MedcapError, match="made up gives numbers in grid that are not finite"):
        feature_file.write(tmp_path / "f.h5", [part(["a"], grid=np.array([[value]]))], FACTS, {"grid": (1,)})
    assert not list(tmp_path.iterdir())


def test_memory_holds_a_batch_at_a_time(tmp_path):
    """When a part is made, those before the last one are gone."""

    def parts():
        made = []
        for k in range(50):
            rows = np.full((3, 4), k, "float32")
            assert not any(earlier() is not None for earlier in made[:-1])
            made.append(weakref.ref(rows))
            yield part([f"{k}-{i}" for i in range(3)], [[f"bad{k}", "file", "reason"]], pooled=rows)

    feature_file.write(tmp_path / "features.h5", parts(), FACTS, {"pooled": (4,)})
    rows, arrays, _ = feature_file.read(tmp_path / "features.h5", ["pooled"])
    values = arrays["pooled"]
    assert values.shape == (150, 4) and all(values[row, 0] == int(name.split("-")[0]) for name, row in rows.items())
    assert len(feature_file.index(tmp_path / "features.h5").unreadable) == 50


def test_what_was_measured_on_the_first_batch_is_kept(tmp_path):
    parts = [part([k], pooled=np.ones((1, 4), "float32"), difference=np.array(d)) for k, d in (("a", 0.25), ("b", 0.0))]
    feature_file.write(tmp_path / "features.h5", parts, FACTS, {"pooled": (4,)})
    assert feature_file.index(tmp_path / "features.h5").attributes["difference"] == 0.25


def test_a_preprocessing_may_differ_by_rounding(made):
    path, _ = made
    for response, refused in (([1.0005], False), ([1.01], True)):
        expect = {**FACTS, "preprocessing": {"size": 8, "response": response}}
        if refused:
            with pytest.raises(MedcapError, match="features.h5 has another preprocessing .*02_features"):
                feature_file.read(path, ["pooled"], expect)
        else:
            feature_file.read(path, ["pooled"], expect)
