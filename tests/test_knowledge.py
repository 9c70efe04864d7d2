"""Laws of what a decoder may know beside images: it is of train only, no study is its own witness, a run keeps it."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import paddle
import paddle.nn.functional as F
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcap_paddle import baselines, dataset, encoder, features, generate, models, phantom, reports, runs, train
from medcap_paddle import vocab as vocabulary
from medcap_paddle.clinical import labels
from medcap_paddle.config import PRESETS, Config, choose
from medcap_paddle.dataset import Batch, Studies
from medcap_paddle.knowledge import __main__ as command
from medcap_paddle.knowledge import graph, remember, retrieval
from medcap_paddle.knowledge.graph import GraphSettings, triples_of
from medcap_paddle.knowledge.retrieval import Index
from medcap_paddle.loss import masked_loss
from medcap_paddle.models import memory as memories
from medcap_paddle.models.drafts import with_drafts
from medcap_paddle.models.memory import DECIDED, LOGIT, SHARE, TOLD, Memory
from medcap_paddle.runtime.files import MedcapError, read_table, write_table
from medcap_paddle.vision import probe

# a sentence where a study has the finding, and where it has not; the MeSH term
FINDINGS = [
    ("there is mild cardiomegaly .", "the heart is normal .", "Cardiomegaly/mild"),
    ("small left pleural effusion .", "no pleural effusion .", "Pleural Effusion/left"),
    ("streaky atelectasis in the right base .", "no left pneumothorax .", "Pulmonary Atelectasis/base/right"),
]


def made_up(count, seed, split="train"):
    """Studies of 1 to 3 views whose first numbers say their findings; the first half are two of a patient each."""
    rng = np.random.default_rng(seed)
    shown = rng.random([count, 3]) < 0.5
    reports = [" ".join(row[not yes] for row, yes in zip(FINDINGS, own, strict=True)) for own in shown]
    pooled = [rng.normal(0, 0.6, [rng.integers(1, 4), 6]).astype("float32") for _ in shown]
    for views, own in zip(pooled, shown, strict=True):
        views[:, :3] += own
    table = pd.DataFrame({"study_id": [f"S{seed}{k:02}" for k in range(count)], "split": split, "report": reports})
    table["patient"] = [f"P{seed}{k // 2}" if k < count // 2 else "" for k in range(count)]
    table["mesh"] = [";".join(r[2] for r, yes in zip(FINDINGS, own, strict=True) if yes) for own in shown]
    return Studies(table, {"pooled": pooled}, [[1, 2]] * count, 0)


TRAIN, TEST = made_up(48, 1), made_up(16, 2, "test")
GRAPH = graph.mine(TRAIN.table, GraphSettings(minimum=2))
ENTITIES = [*GRAPH.entities]
WORDS = {word for report in TRAIN.table.report for word in report.split()}


def remembered(studies=TRAIN, **options):
    return remember.remember(studies, GRAPH, "0123", WORDS, **options)


def with_reports(studies, change):
    """The studies with other reports: `change` is a function of row and report."""
    return replace(
        studies, table=studies.table.assign(report=[*map(change, range(len(studies)), studies.table.report)])
    )


@pytest.fixture(scope="module")
def memory():
    return remembered()


@pytest.fixture
def one_strength(monkeypatch):
    monkeypatch.setattr(remember, "STRENGTHS", (probe.STRENGTH,))
    monkeypatch.setattr(remember, "drafts", lambda train, words: [])  # not what is asked


# From reports and logits ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12))
def test_the_best_threshold_is_that_of_all_cuts(pairs):
    logits, truth = (np.array(column) for column in zip(*pairs, strict=True))
    threshold, f1 = remember.best_threshold(logits.astype(float), truth.astype("uint8"))

    def score(cut):
        return 2 * truth[logits > cut].sum() / max((logits > cut).sum() + truth.sum(), 1)

    assert f1 == pytest.approx(max(map(score, np.arange(-3.5, 4)))) == pytest.approx(score(threshold))
    assert threshold not in logits and (threshold == np.inf) == (not truth.any())


def test_a_report_tells_its_entities_and_not_those_it_negates():
    entities = ["Atelectasis", "Cardiomegaly", "Pleural Effusion", "Pneumothorax", "base", "left", "right", "small"]
    reports = {
        "small left pleural effusion . no right pneumothorax .": {"Pleural Effusion", "left", "small"},
        "no small left pleural effusion .": set(),
        "cardiomegaly . possible right base atelectasis .": {"Cardiomegaly", "Atelectasis", "right", "base"},
        "the lungs are clear .": set(),
        "": set(),
    }
    for report, row in zip(reports, remember.told([*reports], entities), strict=True):
        assert {name for name, yes in zip(entities, row, strict=True) if yes} == reports[report], report


# The inputs of a study ------------------------------------------------------------------------------------------------


def shares(train, rows):
    """By hand, the share of the train reports `rows` that say each relation [R]."""
    said = [set(triples_of(train.table.report[row])) for row in rows]
    return [np.mean([triple in own for own in said]) for triple in GRAPH.relations]


def test_neighbours_of_others_are_those_of_retrieval(memory):
    inputs, k = memory.of_others(TEST.inputs["pooled"]), memory.facts["neighbours"]
    found = Index.of(TRAIN).search(TEST, k)
    share = np.stack([triples[0, :, SHARE] for triples in inputs["triples"]])
    np.testing.assert_allclose(share, [shares(TRAIN, rows) for rows in found], atol=1e-6)
    assert len(np.unique(share, axis=0)) > 8  # they differ from study to study
    ends = [
        [ENTITIES.index(t.head), graph.RELATIONS.index(t.relation), ENTITIES.index(t.tail)] for t in GRAPH.relations
    ]
    assert all((triples[0, :, :SHARE] == ends).all() for triples in inputs["triples"])


def test_others_are_told_what_the_image_decides(memory):
    inputs = memory.of_others(TEST.inputs["pooled"])
    nodes = np.concatenate(inputs["nodes"])
    assert nodes.shape == (len(TEST), len(ENTITIES), 3) and inputs["triples"][0].shape == (1, len(GRAPH.relations), 4)
    np.testing.assert_array_equal(nodes[:, :, TOLD], nodes[:, :, DECIDED])
    np.testing.assert_array_equal(nodes[:, :, DECIDED], nodes[:, :, LOGIT] > memory.tensors["threshold"])
    truth = remember.told(TEST.table.report, ENTITIES)
    assert (nodes[:, :, DECIDED] == truth).mean() > 0.7  # it can see
    for place, views in enumerate(TEST.inputs["pooled"]):
        for order in (views, views[::-1], np.repeat(views, 2, 0)):
            [alone] = memory.of_others([order])["nodes"]
            np.testing.assert_allclose(alone[0], nodes[place], atol=1e-5)


def test_train_studies_are_told_what_their_report_tells(memory):
    ids = list(TRAIN.table.study_id[::-1])
    nodes = np.concatenate(memory.of_train(ids)["nodes"])
    np.testing.assert_array_equal(nodes[:, :, TOLD], remember.told(TRAIN.table.report[::-1], ENTITIES))
    np.testing.assert_array_equal(nodes[:, :, DECIDED], nodes[:, :, LOGIT] > memory.tensors["threshold"])
    assert (nodes[:, :, TOLD] != nodes[:, :, DECIDED]).any()
    with pytest.raises(MedcapError, match="does not know the train study S299: run 32_decoders.ipynb again"):
        memory.of_train(["S299"])


def test_neighbours_of_train_are_of_other_patients(memory):
    vectors = np.stack([views.mean(0) for views in TRAIN.inputs["pooled"]]).astype(float)
    vectors = (vectors - vectors.mean(0)) / vectors.std(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    patients, triples = retrieval.patients(TRAIN), memory.of_train(TRAIN.table.study_id)["triples"]
    for row, own in enumerate(triples):
        order = [k for k in np.argsort(-vectors @ vectors[row], kind="stable") if patients[k] != patients[row]]
        np.testing.assert_allclose(own[0, :, SHARE], shares(TRAIN, order[: remember.NEIGHBOURS]), atol=1e-6)


def of_study(memory, row):
    inputs = memory.of_train([TRAIN.table.study_id[row]])
    return inputs["nodes"][0][0, :, LOGIT], inputs["triples"][0][0, :, SHARE]


def test_a_report_says_nothing_of_its_own_study_and_patient(one_strength):
    """Row 4 and row 5 are of one patient; the reports of both are exchanged for the opposite."""

    def opposite(report):
        for yes, no, _ in FINDINGS:
            report = report.replace(yes, "*").replace(no, yes).replace("*", no)
        return report

    usual = remembered()
    own = remembered(with_reports(TRAIN, lambda row, report: opposite(report) if row in (4, 5) else report))
    rest = remembered(with_reports(TRAIN, lambda row, report: report if row in (4, 5) else opposite(report)))
    for row in (4, 5):
        for before, after, other in zip(of_study(usual, row), of_study(own, row), of_study(rest, row), strict=True):
            np.testing.assert_allclose(after, before, atol=1e-6)
            assert np.abs(other - before).max() > 0.05
    assert (own.tensors["told"][4] != usual.tensors["told"][4]).any()
    assert any(np.abs(of_study(own, row)[0] - of_study(usual, row)[0]).max() > 1e-6 for row in range(6, 48))


def test_the_order_of_train_changes_nothing(one_strength):
    order = np.random.default_rng(0).permutation(len(TRAIN))
    inputs, other = (m.of_train(TRAIN.table.study_id) for m in (remembered(), remembered(retrieval.take(TRAIN, order))))
    for name, arrays in inputs.items():
        np.testing.assert_allclose(np.stack(arrays), np.stack(other[name]), atol=1e-3)


def test_only_train_is_remembered():
    with pytest.raises(MedcapError, match="studies of test cannot be indexed: give those of train only"):
        remembered(TEST)
    with pytest.raises(MedcapError, match="knowledge is mined from train only, not from test"):
        graph.mine(TEST.table)
    with pytest.raises(MedcapError, match="no relation is in enough of 48 train reports: take more reports"):
        remember.remember(TRAIN, graph.mine(TRAIN.table, GraphSettings(minimum=99)), "0123", WORDS)


# Its file -------------------------------------------------------------------------------------------------------------


def test_a_memory_comes_back_from_its_file(memory, tmp_path):
    memory.save(tmp_path)
    again = Memory.load(tmp_path, "0123", {memories.ATTRIBUTE: memory.fingerprint})
    assert again.fingerprint == memory.fingerprint and again.facts == memory.facts
    assert {name: (a.dtype, a.tolist()) for name, a in again.tensors.items()} == {
        name: (a.dtype, a.tolist()) for name, a in memory.tensors.items()
    }
    other = remembered(neighbours=3)
    assert other.fingerprint != memory.fingerprint and other.facts["neighbours"] == 3


def test_another_memory_and_a_damaged_one_are_refused(memory, tmp_path):
    memory.save(tmp_path)
    file = tmp_path / memories.FILE
    with pytest.raises(MedcapError, match=f"{memories.FILE} was made from other features: run 32_decoders.ipynb again"):
        Memory.load(tmp_path, "4567")
    with pytest.raises(MedcapError, match=f"{memories.FILE} is not what the run was trained with: train it again"):
        Memory.load(tmp_path, "0123", {memories.ATTRIBUTE: "89ab"})
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    with pytest.raises(MedcapError, match=f"{memories.FILE} is damaged or not ours .*: run 32_decoders.ipynb"):
        Memory.load(tmp_path, "0123")
    with pytest.raises(MedcapError, match=f"{memories.FILE} is damaged or not ours .*: run 04_train.ipynb"):
        Memory.load(tmp_path, run={})  # that of a run, which its training writes
    file.unlink()
    with pytest.raises(MedcapError, match=f"{memories.FILE} not found: run 32_decoders.ipynb"):
        Memory.load(tmp_path, "0123")


# Drafts, and words that count more often ------------------------------------------------------------------------------


def knowing(memory, drafts=True):
    """TRAIN with what is known of it, as `dataset.load` gives it; and the vocabulary."""
    vocab = vocabulary.build(list(TRAIN.table.report) + memory.facts["drafts"], 1)
    tokens = [vocabulary.encode(vocab, report) for report in TRAIN.table.report]
    second = [vocabulary.encode(vocab, draft) for draft in memory.drafts_of(TRAIN.table.study_id)] if drafts else []
    inputs = TRAIN.inputs | memory.of_train(TRAIN.table.study_id)
    return Studies(TRAIN.table, inputs, tokens, vocab.to_indices("<pad>"), memory, second), vocab


def test_drafts_tell_what_was_decided(memory):
    split, vocab = knowing(memory)
    half, twice = len(split), with_drafts(split)
    assert len(twice) == 2 * half == len(twice.tokens) and twice.drafts == []
    pd.testing.assert_frame_equal(twice.table[:half], split.table)
    assert twice.tokens[:half] == split.tokens and list(twice.table.study_id[half:]) == list(split.table.study_id)
    for name, arrays in split.inputs.items():
        first, second = twice.inputs[name][:half], [array.copy() for array in twice.inputs[name][half:]]
        assert all(np.array_equal(one, other) for one, other in zip(first, arrays, strict=True))
        if name == "nodes":
            assert any((array[:, :, TOLD] != own[:, :, TOLD]).any() for array, own in zip(second, arrays, strict=True))
            for array, own in zip(second, arrays, strict=True):
                assert np.array_equal(array[:, :, TOLD], own[:, :, DECIDED])
                array[:, :, TOLD] = own[:, :, TOLD]
        assert all(np.array_equal(one, other) for one, other in zip(second, arrays, strict=True))
    drafts = memory.facts["drafts"]
    assert [vocabulary.decode(vocab, ids) for ids in twice.tokens[half:]] == drafts == list(twice.table.report[half:])
    assert len(set(drafts)) > 4 and any("cardiomegaly" in draft for draft in drafts)
    some = retrieval.take(split, [7, 3])
    assert [vocabulary.decode(vocab, ids) for ids in with_drafts(some).tokens[2:]] == [drafts[7], drafts[3]]


def test_without_drafts_there_is_nothing_to_learn_from(memory):
    message = "there are no drafts to learn from: run 32_decoders.ipynb, or set training.drafts to false"
    untagged = replace(TRAIN, table=TRAIN.table.assign(mesh=""))
    assert remember.drafts(untagged, WORDS) == []
    for split in (knowing(memory, drafts=False)[0], TRAIN):
        with pytest.raises(MedcapError, match=message):
            with_drafts(split)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("there is cardiomegaly . the lungs are clear .", "there is cardiomegaly ."),
        ("no pleural effusion . small left pleural effusion", "small left pleural effusion"),
        ("possible pneumonia . no pneumothorax .", "possible pneumonia ."),
        ("the heart is normal .", ""),
        ("", ""),
    ],
)
def test_the_words_of_a_sentence_that_affirms_are_telling(report, words):
    mask = labels.telling(report)
    assert mask.dtype == bool and len(mask) == len(report.split())
    assert " ".join(word for word, yes in zip(report.split(), mask, strict=True) if yes) == words


def weighed(split, weight, logits):
    """Loss and numbers of all studies, of given logits, where a word that tells a finding counts `weight` times."""
    config = choose("tiny").change(training={"finding_weight": weight})
    model = models.build(config.decoder, {"pooled": (6,)}, logits.shape[-1])
    task = train.TeacherForcing(model, split, None, config.training)
    batch = Batch({}, paddle.to_tensor(split.batch(range(len(split))).tokens))
    loss, numbers = task.loss(lambda inputs, tokens: logits, batch, slice(0, len(split)), 1.0)
    return float(loss), numbers.numpy(), batch.tokens, task.words


def test_words_that_tell_a_finding_count_more_often(memory):
    split, vocab = knowing(memory)
    split = replace(split, tokens=[ids[:14] for ids in split.tokens])  # some lose their end
    width = max(map(len, split.tokens)) - 1
    logits = paddle.to_tensor(np.random.default_rng(0).normal(size=[len(split), width, len(vocab)]), "float32")
    usual, numbers, tokens, words = weighed(split, 1.0, logits)
    nll = F.cross_entropy(logits, tokens[:, 1:], reduction="none")
    assert usual == float(masked_loss(nll, tokens[:, 1:], split.pad, words))  # to the bit
    telling, of_telling = {yes for yes, _, _ in FINDINGS}, 0.0
    for row, report in zip(nll.numpy(), split.table.report, strict=True):
        sentences = [f"{part.strip()} ." for part in report.split(" .") if part]
        flags = [sentence in telling for sentence in sentences for _ in sentence.split()][:13]
        of_telling += row[: len(flags)][flags].sum()
    assert of_telling > 1
    weighted, same, _, _ = weighed(split, 4.0, logits)
    assert weighted == pytest.approx(usual + 3 * of_telling / words, rel=1e-5)
    assert np.array_equal(same, numbers)  # perplexity is that of all words alike


# From the commands to the reports -------------------------------------------------------------------------------------

CONFIG = Config.load(PRESETS["knowledge"]).change(
    reports={"min_freq": 1},
    decoder={"width": 16, "heads": 2, "layers": 1, "feed_forward": 16, "nodes": 4, "triples": 4},
    training={"epochs": 2, "batch_size": 16},
    reward={"epochs": 0},
    generation={"beam_size": 2},
)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The work folder of a small phantom after the commands, and the settings of its run "known"."""
    work = tmp_path_factory.mktemp("knowledge") / "work"
    reports.build(phantom.make(work / "phantom", studies=60, seed=3, size=96, workers=1), work)
    reader = encoder.load("small", arrays=["pooled", "grid"])
    features.extract(read_table(work / "images.csv", ["image_id", "path"], ""), reader, work / "features.h5")
    table = read_table(work / "reports.csv", ["split", "report"], "")
    vocabulary.make(table.report[table.split == "train"], 1, work / "vocab.json")
    CONFIG.save(work / "knowing.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["knowledge", str(work), "--minimum", "2", "--neighbours", "3"])
        command.main()
        patch.setattr(sys, "argv", ["train", str(work), "--run", "known", "--config", str(work / "knowing.json")])
        train.main()
    return work


def predicted(work, studies, run):
    return generate.predict(run.model, run.vocab, studies, run.config, known=run.known)


def test_a_run_keeps_its_memory(stages):
    run, own = runs.load(stages / "runs/known"), Memory.load(stages)
    assert run.memory.fingerprint == own.fingerprint == run.features[memories.ATTRIBUTE]
    vocab, split, val = train.splits(stages, run.config, run.vocab, run.features)
    assert split.memory.facts["studies"] == list(split.table.study_id) and len(split.drafts) == len(split)
    assert val.drafts == [] and val.sizes.shape == (len(val), 3)
    assert own.facts["neighbours"] == 3 and graph.load(stages / "knowledge.json").reports == len(split)
    assert own.facts["entities"] == [*graph.load(stages / "knowledge.json").entities]
    history = pd.read_csv(stages / "runs/known/history.csv")
    assert len(history) == 2 and np.isfinite(history.val_perplexity).all()


def test_a_caption_is_the_report_of_the_study(stages):
    run = runs.load(stages / "runs/known")
    test = dataset.load(stages, "test", run.vocab, run.config, run.features)
    images = read_table(stages / "images.csv", ["study_id", "path"], "")
    table = predicted(stages, test, run)
    for study, prediction, score in zip(table.study_id[:2], table.prediction, table.score, strict=False):
        [(text, own), *_] = generate.caption(stages / "runs/known", list(images.path[images.study_id == study])).reports
        assert text == prediction and own == pytest.approx(score, abs=0.05)
    other = predicted(stages, baselines.shuffled(test), run)
    assert np.abs(other.nll - table.nll).max() > 1e-3 and np.isfinite(table.image_gain).all()


def test_reports_of_val_and_test_change_nothing(stages, tmp_path):
    """Nor do their images."""
    work = tmp_path / "work"
    shutil.copytree(stages, work, ignore=shutil.ignore_patterns("runs", "phantom"))
    table = read_table(work / "reports.csv", ["split", "report"], "")
    outside = table.split != "train"
    write_table(
        work / "reports.csv",
        table.assign(report=table.report.mask(outside, FINDINGS[1][0]), mesh=table.mesh.mask(outside, "Nodule")),
    )
    again = remember.write(work, GraphSettings(minimum=2), 3)
    assert again.fingerprint == Memory.load(stages).fingerprint
    train_only = table.assign(report=table.report.mask(table.index == np.flatnonzero(~outside)[0], FINDINGS[1][0]))
    write_table(work / "reports.csv", train_only)
    assert remember.write(work, GraphSettings(minimum=2), 3).fingerprint != again.fingerprint


def test_a_run_of_another_memory_is_refused(stages, tmp_path):
    run = runs.load(stages / "runs/known")
    work = tmp_path / "work"
    shutil.copytree(stages, work, ignore=shutil.ignore_patterns("phantom"))
    remember.write(work, GraphSettings(minimum=2), 2)
    for split in ("train", "test"):
        with pytest.raises(MedcapError, match=f"{memories.FILE} is not what the run was trained with: train it again"):
            dataset.load(work, split, run.vocab, run.config, run.features)
    shutil.copy(work / memories.FILE, work / "runs/known" / memories.FILE)
    with pytest.raises(MedcapError, match=f"known/{memories.FILE} is not what the run was trained with"):
        runs.load(work / "runs/known")
    shutil.copy(stages / memories.FILE, work / memories.FILE)
    table = read_table(work / "reports.csv", ["split"], "")
    write_table(work / "reports.csv", table.assign(report=table.report + " lungs clear ."))
    dataset.load(work, "test", run.vocab, run.config, run.features)  # of these the memory holds nothing
    with pytest.raises(MedcapError, match=f"{memories.FILE} was made from other train reports: run 32_decoders"):
        dataset.load(work, "train", run.vocab, run.config, run.features)
    write_table(work / "reports.csv", table.assign(split=table.split.where(table.split != "train", "val")))
    with pytest.raises(MedcapError, match=f"of val is a train study in {memories.FILE}: run 32_decoders.ipynb again"):
        dataset.load(work, "val", run.vocab, run.config, run.features)
