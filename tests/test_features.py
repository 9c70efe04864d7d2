"""Laws of features.py: a row depends on its image and its encoder only, and the file says which."""

import json
import os
from dataclasses import replace

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pandas as pd
import pytest
from PIL import Image

from medcap_paddle import encoder, feature_file, features, image
from medcap_paddle.image import Preprocessing
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import networks, predictor


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


def pooled(path) -> np.ndarray:
    return feature_file.read(path, ["pooled"])[1]["pooled"]


def test_round_trip(made, images, random):
    path, index = made
    rows, arrays, attributes = feature_file.read(path, ["pooled"], expect=feature_file.describe(random))
    assert list(rows) == index.image_ids == list(images.image_id) and list(rows.values()) == list(range(7))
    assert arrays["pooled"].shape == index.arrays["pooled"] == (7, 256) and arrays["pooled"].dtype == np.float32
    assert attributes == index.attributes and attributes["source"] == "seed 0" and not index.unreadable


def test_row_is_that_of_the_single_image_whatever_the_batch(made, images, random, tmp_path):
    values = pooled(made[0])
    for row, path in zip(values, images.path, strict=True):
        np.testing.assert_allclose(row, features.of_paths([path], random)["pooled"][0], rtol=1e-4, atol=1e-5)
    assert np.ptp(values, axis=0).max() > 0.01  # and they are not all the same

    for size in (2, 5, 7):
        features.extract(images, random, tmp_path / f"{size}.h5", batch_size=size, exact=True)
        np.testing.assert_allclose(pooled(tmp_path / f"{size}.h5"), values, rtol=1e-4, atol=1e-5)


def test_fast_features_are_close_and_say_how_close(images, random, made, tmp_path):
    made_fast = features.extract(images, random, tmp_path / "fast.h5", batch_size=7)
    expect = made[1].attributes  # precision may differ
    _, arrays, attributes = feature_file.read(tmp_path / "fast.h5", ["pooled"], expect=expect)
    exact = pooled(made[0])
    difference = np.linalg.norm(arrays["pooled"] - exact) / np.linalg.norm(exact)
    assert difference < 0.02 and attributes["difference"] == pytest.approx(difference, abs=1e-4)
    assert (made_fast.attributes["precision"] == "float32") == (attributes["difference"] == 0)


def test_half_precision_says_how_far_it_is_from_float32(images, random, tmp_path, monkeypatch):
    """As a processor that computes in bfloat16 would: here each number is 1% too large."""

    def half(encoder, *_):
        exact = predictor.eager(encoder)
        return lambda pictures: {name: rows * 1.01 for name, rows in exact(pictures).items()}, "bfloat16"

    monkeypatch.setattr(predictor, "exported", half)
    attributes = features.extract(images, random, tmp_path / "half.h5", batch_size=3).attributes
    assert attributes["precision"] == "bfloat16" and attributes["difference"] == pytest.approx(0.01, abs=1e-4)


def test_an_encoder_that_cannot_be_exported_is_slow_but_right(images, random, made, tmp_path, monkeypatch):
    def refuse(*_):
        raise ValueError("(InvalidArgument) no such operator")

    monkeypatch.setattr(predictor, "exported", refuse)
    with pytest.warns(UserWarning, match="slowly in eager mode: .*no such operator"):
        features.extract(images, random, tmp_path / "slow.h5", batch_size=3)
    np.testing.assert_allclose(pooled(tmp_path / "slow.h5"), pooled(made[0]), rtol=1e-4, atol=1e-5)


def test_unreadable_images_are_left_out_and_listed(images, random, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    bad = pd.DataFrame({"image_id": ["bad", "gone"], "path": [str(broken), str(tmp_path / "gone.png")]})
    table = pd.concat([bad[:1], images[:2], bad[1:], images[2:]], ignore_index=True)
    index = features.extract(table, random, tmp_path / "features.h5", batch_size=2, exact=True)
    rows, values = feature_file.read(tmp_path / "features.h5", [])[0], pooled(tmp_path / "features.h5")
    assert list(rows) == list(images.image_id) == index.image_ids
    expected = features.of_paths([images.path[6]], random)["pooled"][0]
    np.testing.assert_allclose(values[6], expected, rtol=1e-4, atol=1e-5)
    assert [(u["image_id"], os.path.basename(u["file"])) for u in index.unreadable] == [
        ("bad", "broken.png"),
        ("gone", "gone.png"),
    ]
    assert all(os.path.basename(u["file"]) in u["reason"] for u in index.unreadable)

    with pytest.raises(MedcapError, match="none of 2 images"):
        features.extract(bad, random, tmp_path / "none.h5", exact=True)
    with pytest.raises(MedcapError, match="none of 0 images"):
        features.extract(bad[:0], random, tmp_path / "none.h5", exact=True)
    assert not (tmp_path / "none.h5").exists() and not (tmp_path / "none.json").exists()


def test_a_first_batch_that_cannot_be_read_does_not_matter(images, random, made, tmp_path):
    gone = pd.DataFrame({"image_id": list("abc"), "path": ["gone.png"] * 3})
    index = features.extract(pd.concat([gone, images]), random, tmp_path / "features.h5", batch_size=3, exact=True)
    assert index.image_ids == made[1].image_ids and len(index.unreadable) == 3
    assert np.array_equal(pooled(tmp_path / "features.h5"), pooled(made[0]))


@pytest.mark.parametrize("name, value", [("encoder", "resnet101"), ("weights", "0123")])
def test_features_made_otherwise_are_refused(made, name, value):
    path, index = made
    with pytest.raises(MedcapError, match="features.h5") as error:
        feature_file.read(path, ["pooled"], expect={**index.attributes, name: value})
    for message in (repr(value), repr(index.attributes[name]), "02_features"):
        assert message in str(error.value)


def test_features_of_another_preprocessing_are_refused(made, random):
    expect = {**feature_file.describe(random), "preprocessing": Preprocessing(224).record()}
    with pytest.raises(
        MedcapError, match=r"features.h5 has another preprocessing .*\(size is 64, not 224\).*02_features"
    ):
        feature_file.read(made[0], ["pooled"], expect)


def test_features_of_a_changed_transform_are_refused(made, random, images, monkeypatch):
    whole = image.transform
    monkeypatch.setattr(image, "transform", lambda *arguments: whole(*arguments)[:, :, ::-1])
    with pytest.raises(MedcapError, match="features.h5 has another preprocessing .*image.transform has changed"):
        feature_file.read(made[0], ["pooled"], feature_file.describe(random))


# An encoder of somebody else ------------------------------------------------------------------------------------------


class Corners(paddle.nn.Layer):
    """The mean of a picture, and a grid of 2 x 2 means."""

    def forward(self, images):
        grid = paddle.nn.functional.adaptive_avg_pool2d(images, 2).flatten(2).transpose([0, 2, 1])  # [B, 4, 3]
        return grid.mean(1), grid


@pytest.fixture
def corners(monkeypatch):
    def load(weights):
        return encoder.build(Corners(), "corners", "made up", Preprocessing(48), ["pooled", "grid"])

    monkeypatch.setitem(encoder.ENCODERS, "corners", load)
    return encoder.load("corners")


def test_an_encoder_from_outside_gives_named_arrays(corners, images, tmp_path):
    assert corners.arrays == {"pooled": (3,), "grid": (4, 3)}
    out = tmp_path / "features.h5"
    index = features.extract(images, corners, out, batch_size=3, exact=True)
    assert index.arrays == {"pooled": (7, 3), "grid": (7, 4, 3)}
    rows, arrays, attributes = feature_file.read(out, ["grid", "pooled"], feature_file.describe(corners))
    assert attributes["encoder"] == "corners" and list(rows) == list(images.image_id)
    alone = features.of_paths(images.path, corners)
    for name in ("pooled", "grid"):
        np.testing.assert_allclose(arrays[name], alone[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(arrays["pooled"], arrays["grid"].mean(1), rtol=1e-4, atol=1e-5)
    seen = image.transform(image.read(images.path[2]), corners.preprocessing)  # [3, 48, 48]
    np.testing.assert_allclose(arrays["grid"][2, 1], seen[:, :24, 24:].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_an_encoder_from_outside_goes_through_the_command(corners, images, tmp_path, monkeypatch, capsys):
    images.to_csv(tmp_path / "images.csv", index=False)
    monkeypatch.setattr("sys.argv", ["features", str(tmp_path), "--encoder", "corners", "--arrays", "pooled", "grid"])
    features.main()
    assert "7 images, 0 unreadable" in capsys.readouterr().out
    assert feature_file.index(tmp_path / "features.h5").arrays["grid"] == (7, 4, 3)


def test_a_file_with_more_arrays_is_kept_and_one_with_fewer_is_made_again(corners, images, tmp_path, capsys):
    pooled = replace(
        corners, network=networks.Chosen(corners.network, [0]), arrays={"pooled": corners.arrays["pooled"]}
    )
    for reader, arrays, kept in ((pooled, 1, False), (corners, 2, False), (pooled, 2, True), (corners, 2, True)):
        index = features.extract(images, reader, tmp_path / "features.h5")
        assert len(index.arrays) == arrays
        assert ("up to date" in capsys.readouterr().out) == kept


def test_the_command_can_be_exact_and_needs_to_know_whose_images_they_are(images, tmp_path, monkeypatch):
    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["features", str(tmp_path), *arguments])
        features.main()

    images.to_csv(tmp_path / "images.csv", index=False)
    command("--encoder", "random", "--exact")
    assert feature_file.index(tmp_path / "features.h5").attributes["precision"] == "float32"
    for content in ({"reports": "real"}, []):
        (tmp_path / "collection.json").write_text(json.dumps(content))
        with pytest.raises(SystemExit, match="collection.json has no field .*: run 01_reports.ipynb"):
            command()
