"""Laws of typicality, of the mark of a drawing, and what both are worth on real films."""

import csv
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import kstest, ortho_group

from medcap_paddle import encoder, features, phantom
from medcap_paddle.phantom.collection import plan
from medcap_paddle.runtime.drawing import all_drawings, is_drawing
from medcap_paddle.runtime.files import MedcapError, read_tensors, write_tensors
from medcap_paddle.splits import by_ratio
from medcap_paddle.vision import film, typicality
from medcap_paddle.vision.typicality import WARN, Typicality, fit, not_drawn, of_study, sampled, warning

SHARED = Path(__file__).parents[2] / "shared"
real = pytest.mark.skipif(not (SHARED / "nih_cxr").exists(), reason="real radiographs are not in the repository")


def rows(n, columns, seed=0, view_apart=0.0):
    """Made-up features: correlated columns, every second row of another view."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(columns, columns))
    made = rng.normal(size=(n, columns)) @ mixing
    made[1::2] += view_apart
    return made.astype(np.float32)


def each(n):
    return [f"study {k}" for k in range(n)]


def fitted(n=120, columns=12, **more):
    return fit(rows(n, columns, **more), each(n))


# Percentiles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "view_apart"), [(8, 0), (60, 0), (300, 0), (8, 50)])
def test_percentiles_of_unseen_rows_are_uniform(columns, view_apart):
    """Also with fewer rows than columns, where the rows of the fit themselves would seem far more typical."""
    unseen = fitted(250, columns, view_apart=view_apart).percentile(rows(400, columns, 1, view_apart))
    assert kstest(unseen / 100, "uniform").statistic < 0.16
    assert (unseen > WARN).mean() <= 0.03


def test_the_rows_of_a_fit_are_measured_without_their_group():
    """Rows of one group are copies: in the fit they would be at no distance from each other."""
    one = rows(60, 8)
    made = fit(np.repeat(one, 3, 0), np.repeat(each(60), 3))
    assert made.distances.min() > 0.1
    assert np.median(made.percentile(rows(400, 8, seed=1))) == pytest.approx(50, abs=15)


def test_a_percentile_is_the_share_of_train_rows_that_are_at_most_as_strange():
    made = fitted()
    unseen = rows(50, 12, seed=1)
    share = [100 * np.mean(made.distances <= distance) for distance in made._distance(unseen)]
    assert made.percentile(unseen) == pytest.approx(share, abs=100 / 120 + 1e-9)
    assert made.percentile(unseen).dtype == np.float64
    assert made.percentile(1e4 + unseen).tolist() == [100] * 50
    assert made.percentile(unseen[:0]).shape == (0,)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_beyond_the_train_rows_further_away_is_never_more_typical(seed):
    made = fitted()
    direction = np.random.default_rng(seed).normal(size=12)
    towards = np.linalg.norm(made.rows, axis=1).max() * direction / np.linalg.norm(direction)
    steps = np.linspace(1, 4, 12)[:, None] * (towards @ np.linalg.inv(made.whitening)) + made.mean
    distances, percentiles = made._distance(steps), made.percentile(steps)
    assert (np.diff(distances) > 0).all() and (np.diff(percentiles) >= 0).all()


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_a_rotation_a_permutation_a_shift_and_a_unit_change_nothing(seed):
    rng = np.random.default_rng(seed)
    train, unseen = rows(80, 10), rows(40, 10, seed=1)
    expected = fit(train, each(80)).percentile(unseen)
    for change in (ortho_group.rvs(10, random_state=rng), np.eye(10)[rng.permutation(10)], 7 * np.eye(10)):
        shift = rng.normal(size=10)
        made = fit(train @ change + shift, each(80))
        assert made.percentile(unseen @ change + shift) == pytest.approx(expected, abs=0.1)


def test_the_order_of_the_rows_changes_nothing_and_the_seed_deals_the_folds():
    train, order, unseen = rows(80, 10), np.random.default_rng(3).permutation(80), rows(40, 10, seed=1)
    names = np.array(each(80))
    expected = fit(train, names).percentile(unseen)
    assert fit(train[order], names[order]).percentile(unseen) == pytest.approx(expected, abs=0.01)
    assert fit(train, names, seed=0).distances.tolist() == fit(train, names).distances.tolist()
    assert fit(train, names, seed=1).distances.tolist() != fit(train, names).distances.tolist()


def test_more_rows_than_are_kept_are_sampled(monkeypatch):
    assert sampled(400).tolist() == list(range(400))
    monkeypatch.setattr(typicality, "ROWS", 100)
    chosen = sampled(400)
    assert len(chosen) == 100 and (np.diff(chosen) > 0).all() and chosen[-1] < 400
    made = fit(rows(400, 8)[chosen], np.array(each(400))[chosen])
    assert len(made.rows) == len(made.distances) == 100
    assert (made.percentile(rows(400, 8, seed=1)) > WARN).mean() <= 0.04


def test_columns_that_are_constant_or_repeated_do_no_harm():
    train, unseen = rows(80, 10), rows(40, 10, seed=1)

    def wider(x):
        return np.concatenate([x, x, np.full((len(x), 2), 3, np.float32)], 1)

    made = fit(wider(train), each(80))
    assert np.isfinite(made.percentile(wider(unseen))).all()
    alive = wider(unseen)
    alive[:, -1] = 1e3  # what never varied does
    assert (made.percentile(alive) == 100).all()


def test_what_cannot_be_fitted_is_refused():
    bad = rows(20, 4)
    bad[7, 2] = np.nan
    for made, groups, reason in (
        (bad, each(20), r"train images are not finite \(row 7\)"),
        (rows(1, 4), ["a"], "needs 5 train studies, not 1"),
        (rows(20, 4), ["a", "b"] * 10, "needs 5 train studies, not 2"),
        (rows(20, 4), each(19), "20 rows of features, but 19 groups"),
        (rows(20, 4)[0], each(4), r"shape \(4,\)"),
        (np.ones((20, 4)), each(20), "all the same features"),
    ):
        with pytest.raises(MedcapError, match=reason):
            fit(made, groups)
    made = fitted(20, 4)
    for features_, reason in ((bad, "not finite"), (rows(3, 5), "have 5 features, but the run was trained on 4")):
        with pytest.raises(MedcapError, match=reason):
            made.percentile(features_)


def test_tensors_round_trip_through_a_file(tmp_path):
    made, unseen = fitted(), rows(30, 12, seed=1)
    write_tensors(tmp_path / "t.safetensors", made.tensors())
    tensors, _ = read_tensors(tmp_path / "t.safetensors", "")
    assert Typicality.of(tensors).percentile(unseen).tolist() == made.percentile(unseen).tolist()
    short = {"distances": made.distances[1:]}
    for damage in (
        {"mean": made.mean[1:]},
        short,
        {"whitening": made.mean},
        {"rows": made.mean},
        {"mean": np.ones(())},
    ):
        with pytest.raises(MedcapError, match="no typicality"):
            Typicality.of({**tensors, **damage})
    del tensors["rows"]
    for lacking in (tensors, {}):
        with pytest.raises(MedcapError, match="no typicality"):
            Typicality.of(lacking)


# Studies and words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 4])
def test_studies_of_typical_views_are_warned_of_once_in_a_hundred_whatever_their_number(views):
    percentiles = np.random.default_rng(0).uniform(0, 100, (20_000, views))
    studies = np.array([of_study(row) for row in percentiles])
    assert kstest(studies / 100, "uniform").pvalue > 0.001
    assert (studies > WARN).mean() == pytest.approx(0.01, abs=0.003)


def test_views_that_resemble_each_other_give_fewer_false_alarms():
    percentiles = np.random.default_rng(0).uniform(0, 100, 20_000)
    assert np.mean([of_study([p, p]) > WARN for p in percentiles]) < 0.01


def test_one_strange_view_is_enough_and_its_order_does_not_matter():
    assert of_study([100, 3, 50]) == of_study([50, 3, 100]) == 100
    assert of_study([40]) == 40 and of_study([40, 40]) < 40
    with pytest.raises(MedcapError, match="without an image"):
        of_study([])


def test_a_warning_begins_beyond_its_threshold_and_names_the_share():
    assert warning(0) == warning(WARN) == warning(float("nan")) == ""
    assert "99.6% of them" in warning(99.64) and "99.9% of them" in warning(99.99)
    assert "every one of them" in warning(100) and "do not trust the report" in warning(100)


# Drawings -------------------------------------------------------------------------------------------------------------


def test_a_saved_drawing_is_known_by_its_mark_and_a_film_is_none(tmp_path):
    folder = phantom.make(tmp_path / "phantom", studies=3, seed=1, size=48, workers=1)
    drawings = sorted(folder.rglob("*.png"))
    assert drawings and all(map(is_drawing, drawings)) and not_drawn(drawings) == ""
    copy = shutil.copy(drawings[0], tmp_path / "other name")
    assert is_drawing(copy)
    pixels = film.read(drawings[0])
    others = {name: tmp_path / name for name in ("film.png", "film.jpg", "broken.png", "absent.png")}
    Image.fromarray(pixels).save(others["film.png"])  # the same pixels
    Image.fromarray(pixels).save(others["film.jpg"])
    others["broken.png"].write_bytes(drawings[0].read_bytes()[:40])
    assert not any(map(is_drawing, others.values())) and not is_drawing(tmp_path)
    words = not_drawn([drawings[0], others["film.png"]])
    assert "film.png" in words and drawings[0].name not in words and "do not trust the report" in words


@real
def test_a_broken_file_among_drawings_does_not_make_them_films(tmp_path):
    drawings = sorted(phantom.make(tmp_path / "phantom", studies=3, seed=1, size=48, workers=1).rglob("*.png"))
    broken, film = tmp_path / "broken.png", tmp_path / "film.jpg"
    broken.write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(film)
    assert all_drawings(drawings) and all_drawings([broken, *drawings])
    assert not all_drawings([*drawings, film]) and not all_drawings([broken]) and not all_drawings([])


def test_no_real_film_is_taken_for_a_drawing():
    for name in ("nih_cxr", "tb_cxr", "jsrt", "cxr_png"):
        files = [path for path in sorted((SHARED / name).rglob("*")) if path.suffix in (".png", ".jpg", ".jpeg")][:20]
        assert len(files) == 20 and not any(map(is_drawing, files))


# What it is worth -----------------------------------------------------------------------------------------------------


def vectors(paths, reader):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inverted ones look so
        parts = [features.of_paths(paths[k : k + 16], reader)["pooled"] for k in range(0, len(paths), 16)]
    return np.concatenate(parts)


def auroc(made, known, strange):
    from sklearn.metrics import roc_auc_score

    distances = made._distance(np.concatenate([known, strange]))
    return roc_auc_score([0] * len(known) + [1] * len(strange), distances)


def drawn(folder, count, seed):
    """Frontal drawings of so many studies."""
    folder.mkdir(exist_ok=True)
    for study in plan(count, seed):
        picture = phantom.draw.draw(study.findings, "frontal", study.patient)
        Image.fromarray(picture).save(folder / f"{seed} {study.id}.png")
    return sorted(folder.glob(f"{seed} *.png"))


@real
def test_a_run_on_drawings_tells_them_from_films(tmp_path):
    """Of few images; with all 3,217 of a phantom run the AUROC is .993 to 1.000."""
    reader = encoder.load("small", arrays=["pooled"])
    train, unseen = drawn(tmp_path / "drawn", 250, seed=1), drawn(tmp_path / "drawn", 40, seed=2)
    made = fit(vectors(train, reader), [path.stem for path in train])
    known = vectors(unseen, reader)
    assert (made.percentile(known) > WARN).mean() <= 0.05
    for name, share in (("nih_cxr/images", 0.5), ("jsrt/images", 0.8)):
        films = vectors(sorted((SHARED / name).rglob("*.*"))[::4][:40], reader)
        assert auroc(made, known, films) > 0.97, name
        assert (made.percentile(films) > WARN).mean() > share, name


def photographs(folder):
    """Two photographs and five places of each, in gray."""
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    for k, picture in enumerate(load_sample_images().images):
        gray = np.asarray(Image.fromarray(picture).convert("L"))
        for n, part in enumerate([gray, *(gray[y : y + 200, y : y + 200] for y in range(0, 200, 40))]):
            Image.fromarray(part).save(folder / f"{k} {n}.png")
    return sorted(folder.glob("*.png"))


@real
def test_a_run_on_films_tells_them_from_drawings_photographs_and_negatives(tmp_path):
    """Of few images; with all 495 films of the train patients the AUROC is .999, 1.000 and .972."""
    with (SHARED / "nih_cxr/Data_Entry.csv").open(newline="") as file:
        patient = {Path(row["Image Index"]).stem: row["Patient ID"] for row in csv.DictReader(file)}
    splits = by_ratio(set(patient.values()), "7:1:2", 0)
    films = [path for path in sorted((SHARED / "nih_cxr/images").rglob("*.*")) if path.stem in patient]
    train, held = ([p for p in films if (splits[patient[p.stem]] == "train") is kept] for kept in (True, False))
    train, held = train[:100], held[:30]
    (tmp_path / "inverted").mkdir()
    for path in held[:20]:
        Image.fromarray(255 - film.read(path)).save(tmp_path / "inverted" / f"{path.stem}.png")
    reader = encoder.load("efficientnet_lite0", arrays=["pooled"])
    made, known = fit(vectors(train, reader), [patient[path.stem] for path in train]), vectors(held, reader)
    assert (made.percentile(known) > WARN).mean() <= 0.1
    negatives = sorted((tmp_path / "inverted").glob("*.png"))
    kinds = {"drawn": drawn(tmp_path / "drawn", 15, seed=2), "photographs": photographs(tmp_path / "photographs")}
    for name, paths in kinds.items():
        strange = vectors(paths, reader)
        assert auroc(made, known, strange) > 0.99 and (made.percentile(strange) > WARN).mean() > 0.95, name
    assert auroc(made, known, vectors(negatives, reader)) > 0.9
