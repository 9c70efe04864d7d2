"""Laws of the reward: words are drawn as the model means them, and what is better than its like becomes likelier."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from conftest import made_up

from medcap_paddle import generate, models, reward, runs, train
from medcap_paddle.config import GenerationSettings, choose
from medcap_paddle.dataset import Batch
from medcap_paddle.metrics import guards, ngrams, rewards
from medcap_paddle.metrics.ngrams import cider
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vocab import decode

CONFIG = choose("tiny").change(
    reports={"max_length": 30},
    decoder={"embed": 32, "hidden": 32, "dropout": 0.0, "feature_dropout": 0.0},
    training={"batch_size": 16},
    reward={"epochs": 2, "samples": 3},
)
IDS = ("bos", "eos", "pad", "unk")


def built(studies, config=CONFIG):
    split, _, vocab = studies
    return models.build(config.decoder, split.shapes, len(vocab))


def critic_of(studies, model=None, **settings):
    split, val, vocab = studies
    return reward.SelfCritical(model or built(studies), split, val, vocab, CONFIG.change(reward=settings))


def tensor_batch(split, rows):
    """A batch as the loop gets it."""
    inputs, tokens = split.batch(rows)
    return Batch({name: paddle.to_tensor(array) for name, array in inputs.items()}, paddle.to_tensor(tokens))


def test_the_reward_is_that_of_the_evaluation(studies):
    split, val, vocab = studies
    critic = critic_of(studies)
    references = list(split.table.report)
    predictions = list(np.random.default_rng(0).permutation(references))
    smooth = critic.judge(references, predictions) - cider(references, predictions)
    assert (smooth >= 0).all() and (smooth <= rewards.BLEU_WEIGHT + 1e-6).all()
    perfect = critic.judge(references, references)
    np.testing.assert_allclose(perfect - cider(references, references), rewards.BLEU_WEIGHT, atol=1e-6)
    # n-grams are as rare as they are in train, whatever the batch
    assert critic.judge(references[:1], predictions[:1])[0] == pytest.approx(critic.judge(references, predictions)[0])


def test_a_report_begins_and_ends_as_those_of_train_do(studies):
    """`<bos>`, words, `<eos>` unless the report is cut, padding."""
    bos, eos, pad, unk = studies[2].to_indices([f"<{name}>" for name in IDS])
    batch = critic_of(studies).write(tensor_batch(studies[0], np.arange(16)), 1.0)
    for row in batch.tokens[16:].tolist():
        assert row[0] == bos and len(row) <= CONFIG.reports.max_length
        words = row[1 : row.index(eos)] if eos in row else row[1:]
        assert not {bos, pad, unk} & set(words)
        assert eos not in row or set(row[row.index(eos) + 1 :]) <= {pad}


def test_the_advantages_of_a_study_add_up_to_nothing(studies):
    batch = tensor_batch(studies[0], np.arange(8))
    inputs, tokens, advantage = (
        x["pooled"] if isinstance(x, dict) else x for x in critic_of(studies, samples=4).write(batch, 1.0)[:3]
    )
    own = batch.inputs["pooled"]
    assert len(inputs) == len(tokens) == len(advantage) == 5 * 8
    assert (tokens[:8, : batch.tokens.shape[1]] == batch.tokens).all()
    assert (advantage[:8].numpy() == np.float32(reward.CE_WEIGHT)).all()
    np.testing.assert_allclose(advantage[8:].reshape([8, 4]).sum(1).numpy(), 0, atol=1e-6)
    assert (inputs[8:].reshape([8, 4, *own.shape[1:]]) == own.unsqueeze(1)).all()


def test_parts_of_similar_length_have_the_gradient_of_the_whole_batch(studies):
    """Cut to their longest report; the order of the reports means nothing."""
    model = built(studies)
    critic = critic_of(studies, model)
    whole = critic.write(tensor_batch(studies[0], np.arange(16)), 1.0)
    parts, gradients = whole.by_length(), []
    assert (np.diff(parts.lengths) >= 0).all() and parts.lengths[0] < parts.lengths[-1]
    for batch, size in ((whole, len(whole.tokens)), (parts, 7)):
        model.clear_gradients()
        for start in range(0, len(batch.tokens), size):
            critic.loss(model, batch, slice(start, start + size), 1.0)[0].backward()
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters() if p.grad is not None]))
    assert np.abs(gradients[0]).max() > 1e-4
    np.testing.assert_allclose(*gradients, atol=1e-5 * np.abs(gradients[0]).max())


def test_where_all_reports_are_equally_good_nothing_is_learned(studies, monkeypatch):
    monkeypatch.setattr(reward, "CE_WEIGHT", 0.0)
    monkeypatch.setattr(reward.SelfCritical, "judge", lambda self, references, predictions: np.ones(len(references)))
    model = built(studies)
    critic = critic_of(studies, model)
    batch = critic.write(tensor_batch(studies[0], np.arange(8)), 1.0)
    model.train()
    critic.loss(model, batch, slice(None), 1.0)[0].backward()
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-7 for p in model.parameters())


def test_the_gradient_is_that_of_the_expected_reward(monkeypatch):
    """Of reports of a single word, all of which can be tried: d/dlogits of sum p(w) r(w) is p (r - sum p r)."""
    split, vocab = made_up(4, seed=0)
    model = models.build(CONFIG.decoder, split.shapes, len(vocab))
    config = CONFIG.change(reports={"max_length": 2}, reward={"samples": 4000})
    critic = reward.SelfCritical(model, split, None, vocab, config)
    monkeypatch.setattr(reward, "CE_WEIGHT", 0.0)
    worth = np.random.default_rng(1).random(len(vocab))
    monkeypatch.setattr(
        reward.SelfCritical,
        "judge",
        lambda self, references, texts: np.array([worth[vocab.to_indices(t) if t else 1] for t in texts]),
    )
    inputs, tokens = tensor_batch(split, np.arange(1))
    paddle.seed(3)
    _, written, advantage = (
        x if isinstance(x, dict) else x.numpy() for x in critic.write(Batch(inputs, tokens[:, :2]), 1.0)[:3]
    )
    ids = [vocab.to_indices(f"<{name}>") for name in IDS]
    worth[ids[1]] = worth[1]  # the empty text is a report that ends at once
    with paddle.no_grad():
        logits = model(inputs, tokens[:, :1])[0, 0].numpy()
    logits[[ids[0], ids[2], ids[3]]] = -np.inf
    p = np.exp(logits) / np.exp(logits).sum()
    expected = p * (worth - (p * worth).sum())
    drawn = written[1:, 1]
    found = np.array([advantage[1:][drawn == word].sum() for word in range(len(vocab))]) - p * advantage[1:].sum()
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(4000))
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_rewarded_the_model_writes_better_reports(studies, tmp_path):
    split, val, vocab = studies
    model = built(studies)
    config = CONFIG.change(training={"epochs": 12}, reward={"epochs": 12, "learning_rate": 5e-3, "samples": 5})
    train.fit(model, split, val, tmp_path / "teacher", config.training)
    history = reward.fit(model, vocab, split, val, tmp_path / "run", config)
    assert len(history) == 12 and history.reward.iloc[-1] > history.reward.iloc[0] + 0.2

    def score(weights):
        loop.load_weights(model, tmp_path / weights / "weights.safetensors", "")
        table = generate.predict(model, vocab, val, CONFIG)
        return cider(list(table.reference), list(table.prediction)).mean()

    assert score("run") > score("teacher")


def test_what_is_kept_lies_between_the_teacher_and_the_last_epoch(studies, tmp_path, monkeypatch):
    split, val, vocab = studies
    last = {}
    for share in (0.0, 0.25, 1.0):
        monkeypatch.setattr(reward, "INTERPOLATION", share)
        model = built(studies)
        teacher = loop.tensors(model)
        history = reward.fit(model, vocab, split, val, tmp_path / str(share), CONFIG)
        last[share] = loop.tensors(model)
    assert train.perplexity(model, val) == pytest.approx(history.val_perplexity.iloc[-1], rel=1e-4)
    for name, start in teacher.items():
        assert (last[0.0][name] == start).all()
        np.testing.assert_allclose(last[0.25][name], 0.75 * start + 0.25 * last[1.0][name], atol=1e-6)


def test_an_interrupted_reward_resumes_to_identical_weights(studies, tmp_path):
    split, val, vocab = studies
    results = []
    for name, stop in (("whole", None), ("stopped", 1)):

        def on_epoch(history, stop=stop):
            if len(history) == stop:
                raise KeyboardInterrupt

        for _ in range(2 if stop else 1):
            model = built(studies)
            try:
                reward.fit(model, vocab, split, val, tmp_path / name, CONFIG, on_epoch=on_epoch)
            except KeyboardInterrupt:
                continue
        results.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert results[0] == results[1]


def test_a_finished_reward_is_not_repeated_but_a_changed_one_is(studies, tmp_path, capsys):
    split, val, vocab = studies
    first = reward.fit(built(studies), vocab, split, val, tmp_path, CONFIG)
    again = reward.fit(built(studies), vocab, split, val, tmp_path, CONFIG)
    assert "nothing to do" in capsys.readouterr().out
    assert first.reward.tolist() == pytest.approx(again.reward.tolist())
    reward.fit(built(studies), vocab, split, val, tmp_path, CONFIG.change(reward={"samples": 4}))
    assert "nothing to do" not in capsys.readouterr().out


def test_the_commands_train_and_then_reward(studies, tmp_path, monkeypatch, capsys):
    """`medcap_paddle.train` makes <run>_teacher where a reward follows, `medcap_paddle.reward` the run."""
    from pipeline import prepared

    prepared(tmp_path)
    CONFIG.save(tmp_path / "config.json")
    command = [str(tmp_path), "--run", "mine", "--config", str(tmp_path / "config.json")]
    monkeypatch.setattr("sys.argv", ["reward", *command])
    with pytest.raises(SystemExit, match="mine_teacher.*run 04_train.ipynb"):
        reward.main()
    for module in (train, reward):
        monkeypatch.setattr("sys.argv", ["command", *command])
        module.main()
    assert "reward" in capsys.readouterr().out
    for name, config in (("mine_teacher", CONFIG.teacher()), ("mine", CONFIG)):
        assert runs.load(tmp_path / "runs" / name).config == config
    CONFIG.change(decoder={"hidden": 48}).save(tmp_path / "config.json")
    with pytest.raises(SystemExit, match="mine_teacher was trained with other settings"):
        reward.main()


def test_one_report_has_nothing_to_be_judged_against(studies):
    with pytest.raises(MedcapError, match="reward.samples is 1: at least 2"):
        critic_of(studies, samples=1)


def test_against_the_greedy_report_one_is_enough(studies):
    """A report as good as the greedy one has no advantage, whatever the others are."""
    critic = critic_of(studies, samples=1, baseline="greedy")
    batch = tensor_batch(studies[0], np.arange(16))
    advantage = critic.write(batch, 1.0).advantage[16:].numpy() / (1 - reward.CE_WEIGHT)
    [drawn] = critic.rewards
    settings = GenerationSettings(beam_size=1, min_length=0, no_repeat_ngram=0)
    config = replace(CONFIG, generation=settings)
    found = generate.search(critic.model, studies[2], {"pooled": batch.inputs["pooled"].numpy()}, config)
    texts = [beam[0][0] for beam in found]
    truth = [decode(studies[2], row) for row in batch.tokens.tolist()]
    assert advantage.mean() == pytest.approx(drawn - critic.judge(truth, texts).mean(), abs=1e-5)
    assert np.abs(advantage).max() > 0


@pytest.mark.parametrize("metric", rewards.REWARDS)
def test_nothing_is_worth_more_than_the_reference(studies, metric):
    """By any reward; a report without its words is worth less."""
    references = list(studies[0].table.report)
    frequency = ngrams.document_frequency(references)
    perfect, other, empty = (
        rewards.REWARDS[metric](references, texts, frequency)
        for texts in (references, references[1:] + references[:1], [""] * len(references))
    )
    assert perfect.shape == (len(references),) and np.isfinite([perfect, other, empty]).all()
    assert (other <= perfect + 1e-6).all() and (empty <= perfect + 1e-6).all()
    assert other.mean() < perfect.mean() and empty.mean() < perfect.mean()


def test_findings_are_worth_their_f1_and_a_normal_report_that_stays_normal_is_right():
    references = ["the heart is enlarged . left pleural effusion .", "the lungs are clear .", "no effusion ."]
    for texts, expected in (
        (references, [1, 1, 1]),
        (["the heart is enlarged .", "normal .", ""], [2 / 3, 1, 1]),
        (["normal .", "the heart is enlarged .", "right pneumothorax ."], [0, 0, 0]),
    ):
        np.testing.assert_allclose(rewards.findings_f1(references, texts), expected)
        frequency = ngrams.document_frequency(references)
        parts = [rewards.REWARDS[name](references, texts, frequency) for name in ("cider_bleu4_f1", "cider_bleu4")]
        np.testing.assert_allclose(parts[0] - parts[1], rewards.CLINICAL_WEIGHT * np.array(expected))


def test_its_weight_is_part_of_what_a_training_depends_on(studies, monkeypatch):
    mixed = critic_of(studies, metric="cider_bleu4_f1").inputs()
    assert mixed[-2:] == ["cider_bleu4_f1", rewards.CLINICAL_WEIGHT]


def test_the_history_has_the_guards_of_one_report_a_study(studies, tmp_path, monkeypatch):
    """Beside the reward; whatever the number of samples, each study is read once an epoch."""
    split, val, vocab = studies
    read, add = [], guards.Guards.add
    monkeypatch.setattr(guards.Guards, "add", lambda self, *texts: read.append(texts) or add(self, *texts))
    history = reward.fit(built(studies), vocab, split, val, tmp_path, CONFIG)
    assert list(history) == ["epoch", "reward", *guards.NAMES, "val_perplexity", "seconds"]
    for epoch in range(2):
        batches = read[epoch * len(read) // 2 : (epoch + 1) * len(read) // 2]
        references, reports = (sum(texts, []) for texts in zip(*batches, strict=True))
        assert sorted(references) == sorted(split.table.report) and len(reports) == len(split)
        words = np.mean([len(report.split()) for report in reports])
        assert history.length[epoch] == pytest.approx(words)
        assert history.different[epoch] == pytest.approx(len(set(reports)) / len(reports))
    assert history[["repetition", "different", "clinical_recall"]].stack().between(0, 1).all()


@pytest.mark.parametrize("setting", ["metric", "baseline"])
def test_an_unknown_metric_or_baseline_is_named(studies, setting):
    with pytest.raises(MedcapError, match=f"reward.{setting} is 'mine': choose "):
        critic_of(studies, **{setting: "mine"})


def test_another_reward_is_another_training(studies):
    """And the usual one is that of the runs that were rewarded before there was a choice."""
    usual, *rest = (
        critic_of(studies, **settings).inputs() for settings in ({}, {"metric": "bleu4"}, {"baseline": "greedy"})
    )
    assert [inputs[len(usual) :] for inputs in rest] == [["bleu4"], ["greedy"]]
    assert isinstance(usual[-1], list) and len(usual[-1]) == 5


def test_the_padding_of_a_rank_without_studies_teaches_nothing(studies):
    split, critic = studies[0], critic_of(studies)
    inputs, tokens = tensor_batch(split, np.arange(1))
    batch = critic.write(Batch(inputs, paddle.full_like(tokens, split.pad)), 0.0)
    assert not batch.advantage[1:].any() and not critic.rewards and not critic.guards.figures()


def test_a_run_without_a_reward_is_left_as_it_is(tmp_path, monkeypatch):
    CONFIG.teacher().save(tmp_path / "config.json")
    (tmp_path / "runs/mine").mkdir(parents=True)
    weights = tmp_path / "runs/mine/weights.safetensors"
    weights.write_text("trained")
    arguments = ["reward", str(tmp_path), "--run", "mine", "--config", str(tmp_path / "config.json")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="no reward: set reward.epochs"):
        reward.main()
    assert weights.read_text() == "trained"
