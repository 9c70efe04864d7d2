"""Laws of training: it learns what it can see, keeps the best, and repeats itself."""

import shutil

import numpy as np
import paddle
import pandas as pd
import pytest
from conftest import made_up
from PIL import Image

from medcap_paddle import baselines, encoder, feature_file, features, generate, models, runs, train
from medcap_paddle.config import TrainingSettings, choose
from medcap_paddle.dataset import Studies
from medcap_paddle.loss import focal
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.files import MedcapError, read_sealed, write_sealed, write_tensors
from medcap_paddle.runtime.settings import for_digest

TINY = choose("tiny").change(
    decoder={"dropout": 0.1, "feature_dropout": 0.0},
    training={"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "patience": 3},
    generation={"beam_size": 2, "min_length": 0},
)
SHAPES = {"pooled": (8,)}


def fit(run_dir, studies, **changes):
    train_split, val, vocab = studies
    model = models.build(TINY.decoder, SHAPES, len(vocab))
    return model, train.fit(model, train_split, val, run_dir, TINY.change(training=changes).training)


@pytest.fixture(scope="module")
def fitted(studies, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "lstm"
    model, history = fit(run_dir, studies, epochs=30, patience=30, learning_rate=1e-2)
    runs.save(run_dir, TINY, studies[2], studies[0], {"encoder": "made up"})
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
    run = runs.load(run_dir)
    assert run.config == TINY and run.features == {"encoder": "made up"} and len(run.vocab) == len(studies[2])
    best = history.val_perplexity.min()
    assert train.perplexity(run.model, studies[1]) == pytest.approx(best, rel=1e-4)
    assert train.perplexity(model, studies[1]) == pytest.approx(best, rel=1e-4)


def test_four_reports_are_memorised(tmp_path):
    four, vocab = made_up(4, seed=5)
    config = TINY.change(decoder={"dropout": 0.0}, training={"epochs": 60, "batch_size": 4, "learning_rate": 1e-2})
    model = models.build(config.decoder, SHAPES, len(vocab))
    history = train.fit(model, four, None, tmp_path, config.training)
    assert list(history) == ["epoch", "train_perplexity", "seconds"]  # no val: the last epoch is kept
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
    model = models.build(TINY.decoder, SHAPES, len(vocab))
    model.output.weight.set_value(paddle.full_like(model.output.weight, np.nan))
    with pytest.raises(MedcapError, match="not a number"):
        train.fit(model, train_split, val, tmp_path, TINY.training)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_validation_perplexity_that_is_no_number_stops_the_run(tmp_path, studies, monkeypatch):
    monkeypatch.setattr(train, "perplexity", lambda *_: float("nan"))
    with pytest.raises(MedcapError, match="val_perplexity is not a number in epoch 1"):
        fit(tmp_path, studies)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_schedule_of_no_known_name_is_refused(tmp_path, studies):
    with pytest.raises(MedcapError, match="schedule is 'linear': use cosine or constant"):
        fit(tmp_path, studies, schedule="linear")


def test_it_learns_from_batches_by_tokens(tmp_path, studies):
    _, history = fit(tmp_path, studies, epochs=6, batch_tokens=150, learning_rate=1e-2)
    assert history.val_perplexity.iloc[-1] < 1.1
    split = studies[0]
    task = train.TeacherForcing(
        models.build(TINY.decoder, SHAPES, 30), split, None, TINY.change(training={"batch_tokens": 150}).training
    )
    for epoch in (1, 2):
        batches = list(task.batches(epoch))
        assert len(batches) == task.steps and sum(rows for rows, _, _ in batches) == len(split)
        assert max(batch.tokens[:, 1:].size for _, batch, _ in batches) <= 150


class Heading(LSTMCaptioner):
    """With a head that says from the image whether the first number of a view is large: a loss beside the words'."""

    def __init__(self, settings, shapes, vocab_size):
        super().__init__(settings, shapes, vocab_size)
        self.head = paddle.nn.Linear(settings.embed, 1)

    def auxiliary(self, inputs, tokens):
        targets = (inputs["pooled"][:, :, :1].max(1) > 0.5).astype("float32")
        return focal(self.head(self.encode_image(inputs)), targets).mean()


def fit_heading(run_dir, studies, decoder=Heading, **changes):
    split, val, vocab = studies
    paddle.seed(0)
    model = decoder(TINY.decoder.without_dropout(), SHAPES, len(vocab))
    return model, train.fit(model, split, val, run_dir, TINY.change(training=changes).training)


def test_an_auxiliary_head_learns_where_it_has_a_weight(tmp_path, studies):
    model, history = fit_heading(tmp_path / "with", studies, auxiliary_weight=1.0, epochs=6)
    assert list(history) == ["epoch", "train_perplexity", "auxiliary", "val_perplexity", "seconds"]
    assert history.auxiliary.iloc[-1] < history.auxiliary.iloc[0] / 2
    inputs, tokens = studies[0].batch(np.arange(len(studies[0])))
    inputs = {name: paddle.to_tensor(array) for name, array in inputs.items()}
    assert float(model.auxiliary(inputs, tokens)) < history.auxiliary.iloc[-2]  # what the column says it is
    _, usual = fit_heading(tmp_path / "without", studies, epochs=6)
    _, plain = fit_heading(tmp_path / "plain", studies, LSTMCaptioner, epochs=6)
    assert usual.drop(columns="seconds").equals(plain.drop(columns="seconds"))  # of no weight, it changes nothing


def test_a_weight_without_a_head_and_a_loss_that_is_no_number_are_named(tmp_path, studies, monkeypatch):
    with pytest.raises(MedcapError, match="auxiliary_weight needs a loss that LSTMCaptioner does not bring: set it to"):
        fit(tmp_path, studies, auxiliary_weight=0.5)
    monkeypatch.setattr(Heading, "auxiliary", lambda self, inputs, tokens: paddle.full([], np.nan))
    with pytest.raises(MedcapError, match="the loss of batch 1 .*not a number"):
        fit_heading(tmp_path, studies, auxiliary_weight=0.5)


def test_a_run_of_before_a_setting_existed_is_opened_and_not_trained_again(fitted, studies, tmp_path, capsys):
    run_dir, model, history = fitted
    shutil.copytree(run_dir, tmp_path / "old")
    facts = read_sealed(run_dir / "model.json", "")
    for name in TrainingSettings.LATER:
        del facts["config"]["training"][name]
    write_sealed(tmp_path / "old/model.json", facts)
    assert runs.load(tmp_path / "old").config == TINY
    runs.save(tmp_path / "old", TINY, studies[2], studies[0], {"encoder": "made up"})
    assert (tmp_path / "old/weights.safetensors").exists()  # not set aside
    digested = for_digest(TINY.training)
    assert not set(digested) & set(TrainingSettings.LATER) and digested["epochs"] == TINY.training.epochs
    assert for_digest(TINY.change(training={"frozen": 1}).training) == {**digested, "frozen": 1}


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
    other = models.build(TINY.change(decoder={"hidden": 32}).decoder, SHAPES, 9)
    with pytest.raises(MedcapError, match="weights.safetensors.*another model"):
        loop.load_weights(other, run_dir / "weights.safetensors", "")
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes((run_dir / "weights.safetensors").read_bytes()[:-100])
    with pytest.raises(MedcapError, match="weights.safetensors is damaged"):
        loop.load_weights(other, damaged, "")


def test_a_missing_run_names_its_notebook(tmp_path):
    with pytest.raises(MedcapError, match="model.json not found: run 04_train.ipynb"):
        runs.load(tmp_path)


def test_other_seeds_differ_in_the_seed_only_and_have_predictions(studies, tmp_path):
    def save(name, config, features=None, predictions=True):
        runs.save(tmp_path / name, config, studies[2], studies[0], features or {"content": "a"})
        if predictions:
            (tmp_path / name / "predictions.csv").touch()

    save("lstm", TINY)
    save("lstm_seed1", TINY.change(training={"seed": 1}))
    save("lstm_seed2", TINY.change(training={"seed": 2}), predictions=False)  # stopped while it was trained
    save("lstm_seed3", TINY.change(training={"seed": 3}, decoder={"hidden": 64}))
    save("lstm_seed4", TINY.change(training={"seed": 4}), features={"content": "b"})
    save("other_seed1", TINY.change(training={"seed": 1}))
    (tmp_path / "lstm_seed1_greedy").mkdir()
    (tmp_path / "lstm_seed1_greedy/predictions.csv").touch()  # what 06 writes for lstm_seed1
    assert runs.other_seeds(tmp_path / "lstm") == ["lstm_seed1"]


def save_untrained(run_dir, vocab, attributes):
    shapes = encoder.load("random").arrays
    inputs = {name: [np.zeros([1, *shape], "float32")] for name, shape in shapes.items()}
    one = Studies(pd.DataFrame({"study_id": ["a"]}), inputs, [[0]], 0)
    runs.save(run_dir, TINY, vocab, one, attributes)
    write_tensors(run_dir / "weights.safetensors", loop.tensors(models.build(TINY.decoder, shapes, len(vocab))))


@pytest.fixture
def seen(studies, tmp_path):
    """A run whose encoder is a network nobody trained, and a picture."""
    save_untrained(tmp_path / "run", studies[2], feature_file.describe(encoder.load("random")))
    pictures = []
    for k in range(2):
        pictures.append(tmp_path / f"{k}.png")
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64, 64), np.uint8)).save(pictures[-1])
    return tmp_path / "run", pictures


def test_a_caption_is_the_report_of_the_features(seen, monkeypatch, capsys):
    run, pictures = seen
    beam = generate.caption(run, pictures).reports
    opened = runs.load(run)
    own = {name: array[None] for name, array in features.of_paths(pictures, encoder.load("random")).items()}
    found = generate.search(opened.model, opened.vocab, own, opened.config)[0]
    assert [text for text, _ in beam] == [text for text, _ in found]
    assert generate.caption(run, pictures[::-1]).reports[0][0] == beam[0][0]  # the order of the views does not matter
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
    save_untrained(run, studies[2], {**feature_file.describe(encoder.load("random")), "weights": "0123"})
    with pytest.raises(MedcapError, match="encoder random has weights .*0123"):
        generate.caption(run, pictures)


def test_a_run_says_what_made_it_also_where_there_is_no_git(monkeypatch):
    assert set(runs.made_by()) == {"medcap_paddle", "paddle", "numpy", "commit"}

    def absent(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(runs.subprocess, "run", absent)
    assert runs.made_by()["commit"] == "unknown" and runs.made_by()["paddle"] == paddle.__version__


def test_a_run_of_an_older_version_is_refused_with_what_to_do(fitted, tmp_path):
    run_dir, _, _ = fitted
    shutil.copytree(run_dir, tmp_path / "old")
    facts = read_sealed(run_dir / "model.json", "")
    del facts["shapes"]
    write_sealed(tmp_path / "old/model.json", facts)
    with pytest.raises(MedcapError, match="old was written by an older version: run 04_train.ipynb again"):
        runs.load(tmp_path / "old")
