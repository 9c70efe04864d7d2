"""Laws of training: it learns what it can see, keeps the best, and repeats itself."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from conftest import made_up
from PIL import Image

from medcap_paddle import baselines, encoder, features, generate, train
from medcap_paddle.config import Config
from medcap_paddle.files import MedcapError

TINY = Config.tiny(beam_size=2, min_length=0, dropout=0.1, feature_dropout=0.0)


def fit(run_dir, studies, **changes):
    train_split, val, vocab = studies
    options = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "clip": 5.0, "patience": 3} | changes
    model = train.build(TINY, train_split.feature_dim, len(vocab))
    return model, train.fit(model, train_split, val, run_dir, **options)


@pytest.fixture(scope="module")
def fitted(studies, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "lstm"
    model, history = fit(run_dir, studies, epochs=30, patience=30, learning_rate=1e-2)
    train.save_run(run_dir, TINY, studies[2], studies[0].feature_dim, {"encoder": "made up"})
    return run_dir, model, history


def test_it_learns_to_read_its_images(fitted, studies):
    """Every report follows from its features, so perplexity must approach 1, and shuffled images must hurt."""
    _, model, history = fitted
    _, val, vocab = studies
    assert history.val_perplexity.min() < 1.3
    seen = generate.predict(model, vocab, val, TINY)
    blind = generate.predict(model, vocab, baselines.shuffled(val), TINY)
    right = (seen.prediction == seen.reference).mean()
    assert right > 0.8
    assert (blind.prediction == blind.reference).mean() < right / 2


def test_perplexity_is_over_the_corpus_and_over_words(fitted, studies):
    """paddlenlp's metric, fed by batches, equals exp(total nll / words) of predictions.csv, whatever the batch."""
    _, model, _ = fitted
    _, val, vocab = studies
    table = generate.predict(model, vocab, val, TINY)
    assert table.words.tolist() == [len(report.split()) + 1 for report in val.table.report]
    expected = np.exp(table.nll.sum() / table.words.sum())
    for batch_size in (1, 5, 64):
        assert train.perplexity(model, val, batch_size) == pytest.approx(expected, rel=1e-4)


def test_the_best_epoch_is_kept(fitted, studies):
    run_dir, model, history = fitted
    loaded, config, vocab, features = train.load_run(run_dir)
    assert config == TINY and features == {"encoder": "made up"} and len(vocab) == len(studies[2])
    best = history.val_perplexity.min()
    assert train.perplexity(loaded, studies[1]) == pytest.approx(best, rel=1e-4)
    assert train.perplexity(model, studies[1]) == pytest.approx(best, rel=1e-4)


def test_four_reports_are_learnt_by_heart(tmp_path):
    four, vocab = made_up(4, seed=5)
    model = train.build(Config.tiny(dropout=0.0), four.feature_dim, len(vocab))
    train.fit(model, four, None, tmp_path, epochs=60, batch_size=4, learning_rate=1e-2, clip=5.0, patience=9)
    assert train.perplexity(model, four) < 1.05


def test_one_seed_gives_one_result(tmp_path, studies):
    histories = [fit(tmp_path / str(i), studies, epochs=2)[1].drop(columns="seconds") for i in range(2)]
    assert histories[0].equals(histories[1])
    other = fit(tmp_path / "other", studies, epochs=2, seed=1)[1]
    assert not histories[0].train_perplexity.equals(other.train_perplexity)


def test_it_stops_when_validation_no_longer_improves(tmp_path, studies):
    _, history = fit(tmp_path, studies, epochs=50, learning_rate=0.0, patience=2)
    assert len(history) == 3  # the first epoch is the best; two more bring nothing


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, studies):
    train_split, val, vocab = studies
    model = train.build(TINY, train_split.feature_dim, len(vocab))
    model.output.weight.set_value(paddle.full_like(model.output.weight, np.nan))
    with pytest.raises(MedcapError, match="not a number"):
        train.fit(model, train_split, val, tmp_path, epochs=1, batch_size=8, learning_rate=1e-3, clip=5.0, patience=1)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_validation_perplexity_that_is_no_number_stops_the_run(tmp_path, studies, monkeypatch):
    monkeypatch.setattr(train, "perplexity", lambda *_: float("nan"))
    with pytest.raises(MedcapError, match="validation perplexity is not a number in epoch 1"):
        fit(tmp_path, studies)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_schedule_of_no_known_name_is_refused(tmp_path, studies):
    with pytest.raises(MedcapError, match="schedule is 'linear': use cosine or constant"):
        fit(tmp_path, studies, schedule="linear")


def test_the_curves_are_of_one_training(tmp_path, studies):
    fit(tmp_path, studies, epochs=1)
    [record] = (tmp_path / "visualdl").iterdir()
    record = record.rename(record.with_name("old"))
    fit(tmp_path, studies, epochs=1)
    assert list((tmp_path / "visualdl").iterdir()) == [record]  # finished: nothing to add
    fit(tmp_path, studies, epochs=1, batch_size=4)
    assert not record.exists()


def test_weights_of_another_model_and_damaged_ones_are_refused(fitted, tmp_path):
    run_dir, _, _ = fitted
    other = train.build(Config.tiny(hidden=32), 8, 9)
    with pytest.raises(MedcapError, match="weights.safetensors.*another model"):
        train.load_weights(other, run_dir / "weights.safetensors")
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes((run_dir / "weights.safetensors").read_bytes()[:-100])
    with pytest.raises(MedcapError, match="weights.safetensors is damaged"):
        train.load_weights(other, damaged)


def test_a_missing_run_names_its_notebook(tmp_path):
    with pytest.raises(MedcapError, match="config.json not found: run 04_train.ipynb"):
        train.load_run(tmp_path)


def test_other_seeds_differ_in_the_seed_only_and_have_predictions(studies, tmp_path):
    def save(name, config, features=None, predictions=True):
        train.save_run(tmp_path / name, config, studies[2], studies[0].feature_dim, features or {"content": "a"})
        if predictions:
            (tmp_path / name / "predictions.csv").touch()

    save("lstm", TINY)
    save("lstm_seed1", replace(TINY, seed=1))
    save("lstm_seed2", replace(TINY, seed=2), predictions=False)  # stopped while it was trained
    save("lstm_seed3", replace(TINY, seed=3, hidden=64))
    save("lstm_seed4", replace(TINY, seed=4), features={"content": "b"})
    save("other_seed1", replace(TINY, seed=1))
    (tmp_path / "lstm_seed1_greedy").mkdir()
    (tmp_path / "lstm_seed1_greedy/predictions.csv").touch()  # what 06 writes for lstm_seed1
    assert train.other_seeds(tmp_path / "lstm") == ["lstm_seed1"]


@pytest.fixture
def seen(studies, tmp_path):
    """A run whose encoder is a network nobody trained, and a picture."""
    eyes, vocab = encoder.load("random"), studies[2]
    train.save_run(tmp_path / "run", TINY, vocab, eyes.dim, features.describe(eyes))
    train.save_weights(train.build(TINY, eyes.dim, len(vocab)), tmp_path / "run/weights.safetensors")
    pictures = []
    for k in range(2):
        pictures.append(tmp_path / f"{k}.png")
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64, 64), np.uint8)).save(pictures[-1])
    return tmp_path / "run", pictures


def test_a_caption_is_the_report_of_the_features(seen, monkeypatch, capsys):
    run, pictures = seen
    beam = generate.caption(run, pictures)
    model, config, vocab, _ = train.load_run(run)
    own = features.of_paths(pictures, encoder.load("random"))[None]
    assert [text for text, _ in beam] == [text for text, _ in generate.search(model, vocab, own, config)[0]]
    assert generate.caption(run, pictures[::-1])[0][0] == beam[0][0]  # the order of the views does not matter
    monkeypatch.setattr("sys.argv", ["generate", str(run), *map(str, pictures)])
    generate.main()
    assert [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()] == [text for text, _ in beam]


def test_the_command_says_what_it_cannot_read(seen, tmp_path, monkeypatch):
    run, _ = seen
    for path, reason in (("absent.png", "absent.png not found"), ("run/config.json", "not a readable PNG or JPEG")):
        monkeypatch.setattr("sys.argv", ["generate", str(run), str(tmp_path / path)])
        with pytest.raises(SystemExit, match=reason):
            generate.main()


def test_another_encoder_than_the_run_saw_is_refused(seen, studies):
    run, pictures = seen
    eyes = encoder.load("random")
    train.save_run(run, TINY, studies[2], eyes.dim, {**features.describe(eyes), "weights": "0123"})
    train.save_weights(train.build(TINY, eyes.dim, len(studies[2])), run / "weights.safetensors")
    with pytest.raises(MedcapError, match="encoder random has weights .*0123"):
        generate.caption(run, pictures)


def test_a_run_says_what_made_it_also_where_there_is_no_git(monkeypatch):
    assert set(train.made_by()) == {"medcap_paddle", "paddle", "numpy", "commit"}

    def absent(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(train.subprocess, "run", absent)
    assert train.made_by()["commit"] == "unknown" and train.made_by()["paddle"] == paddle.__version__
