"""Laws of features.py: a row depends on its image and its encoder only, and the file says which."""

import json
import os
import tracemalloc
import weakref

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medcap_paddle import encoder, features
from medcap_paddle.files import MedcapError


@pytest.fixture(scope="module")
def random():
    return encoder.load("random")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seven different pictures, of different shapes, as a table like images.csv."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = []
    for k in range(7):
        coarse = rng.integers(0, 256, (6, 5 + k), np.uint8)
        Image.fromarray(coarse).resize((90 + 10 * k, 120)).save(folder / f"{k}.png")
        rows.append({"image_id": f"CXR{k}_IM-1", "path": str(folder / f"{k}.png")})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def made(images, random, tmp_path_factory):
    path = tmp_path_factory.mktemp("work") / "features.h5"
    return path, features.extract(images, random, path, batch_size=3, exact=True)


def test_round_trip(made, images):
    path, summary = made
    rows, values, attributes = features.read(path, expect=summary.attributes)
    assert list(rows) == list(images.image_id) and list(rows.values()) == list(range(7))
    assert values.shape == (7, 256) and values.dtype == np.float32 and summary.images == 7
    assert attributes.pop("content") and attributes == summary.attributes and not summary.unreadable


def test_row_is_that_of_the_single_image_whatever_the_batch(made, images, random, tmp_path):
    rows, values, _ = features.read(made[0])
    for image_id, path in zip(images.image_id, images.path, strict=True):
        np.testing.assert_allclose(values[rows[image_id]], features.of_paths([path], random)[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(values, axis=0).max() > 0.01  # and they are not all the same

    features.extract(images, random, tmp_path / "whole.h5", batch_size=7, exact=True)
    np.testing.assert_allclose(features.read(tmp_path / "whole.h5")[1], values, rtol=1e-4, atol=1e-5)


def test_fast_features_are_close_and_say_how_close(images, random, made, tmp_path):
    summary = features.extract(images, random, tmp_path / "fast.h5", batch_size=7)
    _, values, attributes = features.read(tmp_path / "fast.h5", expect=made[1].attributes)  # precision may differ
    exact = features.read(made[0])[1]
    difference = np.linalg.norm(values - exact) / np.linalg.norm(exact)
    assert difference < 0.02 and attributes["difference"] == pytest.approx(difference, abs=1e-4)
    assert (summary.attributes["precision"] == "float32") == (attributes["difference"] == 0)


def test_an_encoder_that_cannot_be_exported_is_slow_but_right(images, random, made, tmp_path, monkeypatch):
    def refuse(*_):
        raise ValueError("(InvalidArgument) no such operator")

    monkeypatch.setattr(features, "exported", refuse)
    with pytest.warns(UserWarning, match="slowly in eager mode: .*no such operator"):
        features.extract(images, random, tmp_path / "slow.h5", batch_size=3)
    np.testing.assert_allclose(features.read(tmp_path / "slow.h5")[1], features.read(made[0])[1], rtol=1e-4, atol=1e-5)


def test_unreadable_images_are_left_out_and_listed(images, random, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    bad = pd.DataFrame({"image_id": ["bad", "gone"], "path": [str(broken), str(tmp_path / "gone.png")]})
    table = pd.concat([bad[:1], images[:2], bad[1:], images[2:]], ignore_index=True)
    summary = features.extract(table, random, tmp_path / "features.h5", batch_size=2, exact=True)
    rows, values, _ = features.read(tmp_path / "features.h5")
    assert list(rows) == list(images.image_id) and summary.images == 7
    np.testing.assert_allclose(values[6], features.of_paths([images.path[6]], random)[0], rtol=1e-4, atol=1e-5)
    assert [(u["image_id"], os.path.basename(u["file"])) for u in summary.unreadable] == [
        ("bad", "broken.png"),
        ("gone", "gone.png"),
    ]
    assert all(os.path.basename(u["file"]) in u["reason"] for u in summary.unreadable)

    with pytest.raises(MedcapError, match="none of 2 images"):
        features.extract(bad, random, tmp_path / "none.h5", exact=True)
    assert not (tmp_path / "none.h5").exists()


@pytest.mark.parametrize("name, value", [("encoder", "resnet101"), ("weights", "0123"), ("image_size", 224)])
def test_features_made_otherwise_are_refused(made, name, value):
    path, summary = made
    with pytest.raises(MedcapError, match="features.h5") as error:
        features.read(path, expect={**summary.attributes, name: value})
    for said in (repr(value), repr(summary.attributes[name]), "02_features"):
        assert said in str(error.value)


def test_damaged_files_are_refused(made, tmp_path):
    path, summary = made
    whole = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("not a feature file")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = np.zeros(3)
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["features"] = np.full((2, 4), np.nan, np.float32)
        file.create_dataset("image_id", data=["a", "b"], dtype=h5py.string_dtype())
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["features"] = np.zeros((3, 4), np.float32)
        file.create_dataset("image_id", data=["a", "b"], dtype=h5py.string_dtype())
    for name in ("cut.h5", "text.h5", "other.h5", "nan.h5", "short.h5", "absent.h5"):
        with pytest.raises(MedcapError, match=f"{name}.*02_features"):
            features.read(tmp_path / name)


def test_features_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(MedcapError, match="not finite"):
        features.write(tmp_path / "features.h5", ["a"], np.array([[np.inf]]), {"encoder": "random"})
    assert not list(tmp_path.iterdir())


def test_memory_holds_a_batch_at_a_time(random, tmp_path):
    """When a part is made, those before the last one are gone."""

    def parts():
        made = []
        for k in range(50):
            rows = np.full((3, 4), k, "float32")
            assert not any(earlier() is not None for earlier in made[:-1])
            made.append(weakref.ref(rows))
            ids, bad = [f"{k}-{i}" for i in range(3)], [[f"bad{k}", "file", "reason"]]
            yield {"features": rows, "image_id": np.array(ids), "unreadable": np.array(bad)}

    features._write(tmp_path / "features.h5", parts(), {"encoder": "made up"}, 4)
    rows, values, _ = features.read(tmp_path / "features.h5")
    assert values.shape == (150, 4) and all(values[row, 0] == int(name.split("-")[0]) for name, row in rows.items())
    assert len(features.summary(tmp_path / "features.h5").unreadable) == 50


def test_a_summary_does_not_load_the_features(tmp_path):
    """But it notices that they are damaged."""
    path = tmp_path / "features.h5"
    features.write(path, list(map(str, range(20_000))), np.ones((20_000, 256), "float32"), {"encoder": "made up"})
    tracemalloc.start()
    assert features.summary(path).images == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6 < path.stat().st_size / 4
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(MedcapError, match="damaged"):
        features.summary(path)


def test_the_command_can_be_exact_and_needs_to_know_whose_images_they_are(images, tmp_path, monkeypatch):
    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["features", str(tmp_path), *arguments])
        features.main()

    images.to_csv(tmp_path / "images.csv", index=False)
    command("--encoder", "random", "--exact")
    assert features.summary(tmp_path / "features.h5").attributes["precision"] == "float32"
    for told in ({"reports": "real"}, []):
        (tmp_path / "collection.json").write_text(json.dumps(told))
        with pytest.raises(SystemExit, match="collection.json does not tell its images: run 01_reports.ipynb"):
            command()
