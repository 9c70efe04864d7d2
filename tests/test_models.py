"""Laws of the decoder seam, of attention and of the loss."""

import numpy as np
import paddle
import pytest

from medcap_paddle.beam_search import beam_search
from medcap_paddle.config import Config, GenerationSettings, TrainingSettings
from medcap_paddle.loss import log_norm, masked_loss, token_nll
from medcap_paddle.models import DECODERS, build, memory, name_of
from medcap_paddle.models.attention import MultiHeadAttention, masked_softmax
from medcap_paddle.models.decoder import FastBiasLinear, locked_dropout
from medcap_paddle.models.lstm import LSTMCaptioner
from medcap_paddle.models.places import Places, strongest
from medcap_paddle.models.transformer import positions
from medcap_paddle.runtime import stages
from medcap_paddle.runtime.files import MedcapError, write_tensors
from medcap_paddle.runtime.loop import load_weights, tensors

V, SHAPES = 20, {"pooled": (8,), "grid": (5, 6), "nodes": (7, 3), "triples": (6, 4)}
ATTENTION_LSTM = {"embed": 16, "hidden": 16, "attention": 12}
TRANSFORMER = {"width": 16, "heads": 4, "layers": 2, "feed_forward": 24}
VARIANTS = {
    "lstm": ("lstm", {"embed": 16, "hidden": 16, "feature_noise": 0.0}),
    "lstm, 2 layers": ("lstm", {"embed": 16, "hidden": 16, "feature_noise": 0.0, "layers": 2}),
    "attention_lstm": ("attention_lstm", ATTENTION_LSTM),
    "attention_lstm, no positions": ("attention_lstm", {**ATTENTION_LSTM, "positions": False}),
    "transformer": ("transformer", TRANSFORMER),
    "transformer, tied": ("transformer", {**TRANSFORMER, "tied": True}),
    "transformer, no positions": ("transformer", {**TRANSFORMER, "positions": False}),
    "transformer_retrieval": ("transformer_retrieval", {**TRANSFORMER, "triples": 4}),
    "transformer_graph": ("transformer_graph", {**TRANSFORMER, "nodes": 4}),
    "knowledge": ("knowledge", {**TRANSFORMER, "nodes": 4, "triples": 4}),
    "knowledge, not normalised": ("knowledge", {**TRANSFORMER, "nodes": 9, "triples": 9, "normalise": False}),
}
LOOKING = [name for name in VARIANTS if hasattr(DECODERS[VARIANTS[name][0]], "attention")]


def made(variant, seed=0, **changes):
    name, settings = VARIANTS[variant]
    decoder = DECODERS[name]
    return build(decoder.Settings(**settings | changes), {read: SHAPES[read] for read in decoder.reads}, V, seed)


@pytest.fixture(params=VARIANTS)
def model(request):
    model = made(request.param)
    model.eval()
    return model


@pytest.fixture
def choosy(model):
    """Far from even, so that choices matter."""
    for parameter in model.parameters():
        parameter.set_value(parameter * 2)
    return model


def batch(model, seed=0, studies=3, views=2, length=7):
    """Random studies, the second of which has one view only."""
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(size=[studies, views, *SHAPES[name]]).astype("float32") for name in model.reads}
    for array in inputs.values():
        array[1, 1:] = 0
    if "nodes" in inputs:
        inputs |= known(rng, studies)
    tensors = {name: paddle.to_tensor(array) for name, array in inputs.items()}
    return tensors, paddle.to_tensor(rng.integers(1, V, [studies, length]))


def known(rng, studies):
    """Nodes and triples as `models.memory` has them: one view, decisions, numbers of entities and relations."""
    (N, _), (R, _) = SHAPES["nodes"], SHAPES["triples"]
    logit, told = rng.normal(size=[studies, N]), rng.integers(0, 2, [studies, N])
    ends = [np.broadcast_to(rng.integers(0, most, R), [studies, R]) for most in (N, 4, N)]
    share = rng.integers(0, 4, [studies, R]) / 3
    nodes, triples = np.stack([logit, logit > 0, told], -1), np.stack([*ends, share], -1)
    return {"nodes": nodes[:, None].astype("float32"), "triples": triples[:, None].astype("float32")}


def of(inputs, change):
    return {name: change(array) for name, array in inputs.items()}


def of_images(inputs, change):
    """Only these have several views; what is known of a study has one."""
    return inputs | of({name: array for name, array in inputs.items() if name not in memory.INPUTS}, change)


def test_every_decoder_is_tested():
    assert {name for name, _ in VARIANTS.values()} == set(DECODERS)


def test_stepping_gives_the_logits_of_teacher_forcing(model):
    inputs, tokens = batch(model)
    forced = model(inputs, tokens).numpy()
    state = model.init_state(inputs)
    for t in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, t], state)
        np.testing.assert_allclose(logits.numpy(), forced[:, t], atol=1e-5)


def test_stepping_follows_weights_that_change(model):
    """A search looks products of the words up; after a step of an optimizer, or other weights, they are others."""
    inputs, tokens = batch(model)
    model.step(tokens[:, 0], model.init_state(inputs))
    for parameter in model.parameters():
        parameter.set_value(parameter * 1.5 + 0.01)
    logits, _ = model.step(tokens[:, 0], model.init_state(inputs))
    np.testing.assert_allclose(logits.numpy(), model(inputs, tokens[:, :1])[:, 0].numpy(), atol=1e-4)


def test_rows_of_a_state_go_on_alone_and_in_any_order(model):
    """What a search does between two words: it repeats the studies, and selects among the rows."""
    inputs, tokens = batch(model)
    rng = np.random.default_rng(1)
    state = tuple(part.repeat_interleave(2, 0) for part in model.init_state(inputs))
    study, read = np.repeat(np.arange(3), 2), np.zeros([6, 0], int)
    for _ in range(5):
        chosen = rng.integers(0, 6, 6)
        word = rng.integers(1, V, 6)
        state = tuple(part.gather(paddle.to_tensor(chosen)) for part in state)
        study, read = study[chosen], np.concatenate([read[chosen], word[:, None]], 1)
        logits, state = model.step(paddle.to_tensor(word), state)
        forced = model(of(inputs, lambda array: array[paddle.to_tensor(study)]), paddle.to_tensor(read))  # noqa: B023
        np.testing.assert_allclose(logits.numpy(), forced[:, -1].numpy(), atol=1e-5)


def test_state_is_batch_first(model):
    inputs, tokens = batch(model, studies=5)
    state = model.init_state(inputs)
    assert all(s.shape[0] == 5 for s in state)
    assert all(s.shape[0] == 5 for s in model.step(tokens[:, 0], state)[1])


def test_later_words_do_not_change_earlier_logits(model):
    inputs, tokens = batch(model)
    changed = tokens.clone()
    changed[:, 4:] = 1
    np.testing.assert_allclose(model(inputs, tokens)[:, :4].numpy(), model(inputs, changed)[:, :4].numpy(), atol=1e-5)


def test_absent_views_and_the_order_of_views_change_nothing(model):
    inputs, tokens = batch(model)
    expected = model(inputs, tokens).numpy()
    for change in (lambda array: paddle.concat([array, paddle.zeros_like(array)], 1), lambda array: array.flip(1)):
        np.testing.assert_allclose(model(of_images(inputs, change), tokens).numpy(), expected, atol=1e-5)


def test_a_study_does_not_depend_on_the_others_of_its_batch(model):
    inputs, tokens = batch(model)
    expected = model(inputs, tokens).numpy()
    for k in range(3):
        alone = model(of(inputs, lambda array: array[k : k + 1]), tokens[k : k + 1])  # noqa: B023
        np.testing.assert_allclose(alone.numpy()[0], expected[k], atol=1e-5)


def test_every_view_of_every_input_is_seen(model):
    inputs, tokens = batch(model)
    expected = model(inputs, tokens).numpy()
    for name, array in inputs.items():
        if name in memory.INPUTS:
            continue
        for view in range(array.shape[1]):
            other = array.clone()
            other[:, view] += paddle.linspace(-5, 5, array.shape[-1])
            assert np.abs(model({**inputs, name: other}, tokens).numpy() - expected).max() > 1e-4


def test_a_study_without_any_view_gives_numbers(model):
    inputs, tokens = batch(model)
    assert np.isfinite(model(of_images(inputs, paddle.zeros_like), tokens).numpy()).all()


@pytest.mark.parametrize("name", DECODERS)
def test_the_parts_of_a_decoder_are_there(name):
    model = made(next(variant for variant, (decoder, _) in VARIANTS.items() if decoder == name))
    stages.check(model, TrainingSettings())


KNOWING = [name for name, (decoder, _) in VARIANTS.items() if set(DECODERS[decoder].reads) & set(memory.INPUTS)]


@pytest.mark.parametrize("variant", KNOWING)
def test_what_a_report_tells_is_seen_in_training_only(variant):
    """Else val would be scored on its own answers."""
    model = made(variant, dropout=0.0, feature_dropout=0.0)
    model.eval()
    inputs, tokens = batch(model)

    def changed(column):
        nodes = inputs["nodes"].clone()
        nodes[:, :, :, column] = 1 - nodes[:, :, :, column]
        return np.abs((model({**inputs, "nodes": nodes}, tokens) - model(inputs, tokens)).numpy()).max()

    looks = model.nodes is not None
    assert changed(memory.TOLD) == 0 and (changed(memory.DECIDED) > 1e-3) == looks
    model.train()
    assert changed(memory.DECIDED) == 0 and (changed(memory.TOLD) > 1e-3) == looks
    model = build(model.settings.without_dropout(), {name: SHAPES[name] for name in model.reads}, V)
    model.train()
    assert changed(memory.TOLD) == 0  # a reward is for what is written without the answers


@pytest.mark.parametrize("variant", KNOWING)
def test_the_triples_of_neighbours_are_seen_and_no_others(variant):
    model = made(variant)
    model.eval()
    inputs, tokens = batch(model)
    expected = model(inputs, tokens).numpy()
    silent, spoken = inputs["triples"].clone(), inputs["triples"].clone()
    silent[:, :, :, memory.HEAD] = paddle.where(
        silent[:, :, :, memory.SHARE] == 0, 6 - silent[:, :, :, 0], silent[:, :, :, 0]
    )
    spoken[:, :, :, memory.SHARE] = 1 - spoken[:, :, :, memory.SHARE]
    np.testing.assert_allclose(model({**inputs, "triples": silent}, tokens).numpy(), expected, atol=1e-5)
    changed = np.abs(model({**inputs, "triples": spoken}, tokens).numpy() - expected).max()
    assert (changed > 1e-3) == (model.triples is not None)


@pytest.mark.parametrize("variant", KNOWING)
def test_the_neighbours_of_the_graph_are_mixed(variant):
    """Symmetric, each by the degrees of both; an entity without neighbours stays what it is."""
    model = made(variant)
    model.entities.join(np.array([[0, 1], [1, 0], [1, 2]]))
    matrix = model.entities.adjacency.numpy()
    expected = np.zeros([7, 7])
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = 2**-0.5
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    mixed, own = model.entities().numpy(), model.entities.own.numpy()
    assert np.array_equal(mixed[3:], own[3:]) and np.abs(mixed[:3] - own[:3]).max() > 1e-3


def test_the_gradient_reaches_every_parameter(model):
    model.train()
    inputs, tokens = batch(model, studies=8)
    model.standardise(of(inputs, lambda array: list(array.numpy())))
    loss = token_nll(model(inputs, tokens[:, :-1]), tokens[:, 1:]).sum()
    if hasattr(model, "auxiliary"):
        loss = loss + model.auxiliary(inputs, tokens)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 1e-6, name


def test_units_do_not_matter(model):
    """Of the encoder's numbers: standardised, the same picture in other units gives the same words."""
    inputs, tokens = batch(model, studies=8)
    other = of_images(inputs, lambda array: paddle.where(array == 0, array, array * 7 - 3))
    logits = []
    for given in (inputs, other):
        there = {
            n: [views[(views != 0).reshape([len(views), -1]).any(1)].numpy() for views in a] for n, a in given.items()
        }
        model.standardise(there)
        logits.append(model(given, tokens).numpy())
    np.testing.assert_allclose(*logits, atol=1e-3)
    assert np.abs(logits[0][0] - logits[0][1]).max() > 1e-2


def test_beam_one_is_greedy(choosy):
    inputs, _ = batch(choosy)
    free = GenerationSettings(beam_size=1, min_length=0, length_penalty=0.0, no_repeat_ngram=0)
    for k, [(words, score)] in enumerate(beam_search(choosy, inputs, 0, V - 1, free, max_length=9)):
        greedy, total = [0], 0.0
        while len(greedy) < 10 and greedy[-1] != V - 1:
            logits = choosy(of(inputs, lambda array: array[k : k + 1]), paddle.to_tensor([greedy]))[0, -1]  # noqa: B023
            greedy.append(int(logits.argmax()))
            total += float(logits.max() - log_norm(logits))
        assert words == [word for word in greedy[1:] if word != V - 1]
        assert score == pytest.approx(total, abs=1e-4)


def test_the_scores_of_a_wide_beam_are_those_of_teacher_forcing(choosy):
    inputs, _ = batch(choosy)
    free = GenerationSettings(beam_size=4, min_length=3, length_penalty=0.0, no_repeat_ngram=0)
    for k, beam in enumerate(beam_search(choosy, inputs, 0, V - 1, free, max_length=8)):
        for words, score in beam:
            report = paddle.to_tensor([[0, *words, *[V - 1] * (len(words) < 8)]])
            logits = choosy(of(inputs, lambda array: array[k : k + 1]), report[:, :-1])  # noqa: B023
            assert score == pytest.approx(-float(token_nll(logits, report[:, 1:]).sum()), abs=1e-3)


def test_weights_come_back_from_a_file(model, tmp_path):
    inputs, tokens = batch(model)
    model.standardise(of(inputs, lambda array: list(array.numpy())))
    write_tensors(tmp_path / "weights.safetensors", tensors(model))
    again = build(model.settings, {name: SHAPES[name] for name in model.reads}, V, seed=5)
    load_weights(again, tmp_path / "weights.safetensors", "")
    again.eval()
    assert (again(inputs, tokens) == model(inputs, tokens)).all()


def test_settings_come_back_from_a_file(model, tmp_path):
    Config(decoder=model.settings).save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json").decoder == model.settings


def test_without_dropout_training_is_evaluation(model):
    inputs, tokens = batch(model)
    calm = build(model.settings.without_dropout(), {name: SHAPES[name] for name in model.reads}, V)
    logits = [calm(inputs, tokens).numpy() for _ in (calm.train(), calm.eval())]
    model.train()
    assert (logits[0] == logits[1]).all() and (model(inputs, tokens) != model(inputs, tokens)).any()


# Attention ------------------------------------------------------------------------------------------------------------


def test_a_masked_softmax_is_the_softmax_of_what_is_allowed():
    rng = np.random.default_rng(0)
    scores, mask = rng.normal(0, 20, [40, 3, 9]).astype("float32"), rng.random([40, 1, 9]) < 0.5
    scores[np.broadcast_to(~mask, scores.shape) & (rng.random(scores.shape) < 0.3)] = np.nan
    mask[0] = False
    given = paddle.to_tensor(scores, stop_gradient=False)
    weights = masked_softmax(given, paddle.to_tensor(mask))
    (weights**2).sum().backward()
    assert np.isfinite(given.grad.numpy()).all() and (weights[0] == 0).all()
    for row, some, allowed in zip(weights.numpy()[1:], scores[1:], mask[1:, 0], strict=True):
        assert (row[:, ~allowed] == 0).all()
        powers = np.exp(some[:, allowed] - some[:, allowed].max(-1, keepdims=True))
        np.testing.assert_allclose(row[:, allowed], powers / powers.sum(-1, keepdims=True), atol=1e-6)


def test_heads_are_paddles():
    """With weights in the same places, ours give what nn.MultiHeadAttention gives."""
    ours, theirs = MultiHeadAttention(12, 3), paddle.nn.MultiHeadAttention(12, 3)
    projections = {"query": theirs.q_proj, "output": theirs.out_proj}
    for name, layer in projections.items():
        layer.weight.set_value(getattr(ours, name).weight)
    for layer, weight in zip((theirs.k_proj, theirs.v_proj), ours.keys_values.weight.chunk(2, 1), strict=True):
        layer.weight.set_value(weight)
    for layer in (theirs.q_proj, theirs.k_proj, theirs.v_proj, theirs.out_proj):
        layer.bias.set_value(paddle.zeros([12]))
    rows, places = paddle.randn([2, 5, 12]), paddle.randn([2, 7, 12])
    mask = paddle.to_tensor([[True] * 7, [True] * 4 + [False] * 3]).unsqueeze([1, 2])
    given, weights = ours(rows, *ours.memory(places), mask)
    np.testing.assert_allclose(given.numpy(), theirs(rows, places, places, mask).numpy(), atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1).numpy(), 1, atol=1e-6)


def test_heads_share_the_width():
    with pytest.raises(MedcapError, match="heads is 3, width 16"):
        made("transformer", heads=3)


@pytest.mark.parametrize("variant", LOOKING)
def test_attention_is_a_share_of_each_place_that_is_there(variant):
    model = made(variant)
    model.eval()
    inputs, tokens = batch(model)
    weights = model.attention(inputs, tokens).numpy()
    assert weights.shape == (3, 7, 2, 5) and (weights >= 0).all() and (weights[1, :, 1] == 0).all()
    np.testing.assert_allclose(weights.sum((2, 3)), 1, atol=1e-5)
    assert (model.attention(of_images(inputs, paddle.zeros_like), tokens) == 0).all()


@pytest.mark.parametrize("variant", LOOKING)
def test_the_order_of_places_matters_where_they_have_positions_only(variant):
    model = made(variant)
    model.eval()
    inputs, tokens = batch(model)
    order = np.random.default_rng(0).permutation(5)
    other = {**inputs, "grid": inputs["grid"][:, :, paddle.to_tensor(order)]}
    same = np.allclose(model(other, tokens).numpy(), model(inputs, tokens).numpy(), atol=1e-5)
    assert same != model.settings.positions
    if same:
        moved = model.attention(inputs, tokens).numpy()[..., order]
        np.testing.assert_allclose(model.attention(other, tokens).numpy(), moved, atol=1e-5)


@pytest.mark.parametrize("variant", ["attention_lstm", "transformer"])
def test_what_one_place_shows_is_learned(variant):
    """Which of two words stands in the report is told by one place of one view only, among noise."""
    model, rng = made(variant, dropout=0.0, feature_dropout=0.0), np.random.default_rng(0)
    grid = rng.normal(size=[256, 2, *SHAPES["grid"]]).astype("float32")
    shown, view = rng.integers(0, 2, 256), rng.integers(0, 2, 256)
    grid[:, :, :, 0] = 0.0
    grid[np.arange(256), view, rng.integers(0, 5, 256), 0] = 8.0 * shown - 4.0
    pooled = np.ones([256, 2, *SHAPES["pooled"]], "float32")
    inputs = {name: array[:192] for name, array in {"pooled": pooled, "grid": grid}.items()}
    tokens = paddle.to_tensor(np.stack([np.ones(256), 2 + shown, np.full(256, 4)], 1).astype("int64"))
    model.standardise(of(inputs, list))
    optimizer = paddle.optimizer.Adam(1e-2, parameters=model.parameters())
    for _ in range(80):
        logits = model(of(inputs, paddle.to_tensor), tokens[:192, :-1])
        masked_loss(token_nll(logits, tokens[:192, 1:]), tokens[:192, 1:], pad=0).backward()
        optimizer.step()
        optimizer.clear_grad()
    model.eval()
    unseen = of({"pooled": pooled, "grid": grid}, lambda array: paddle.to_tensor(array[192:]))
    assert (model(unseen, tokens[192:, :1])[:, 0].argmax(-1) == tokens[192:, 1]).astype("float32").mean() > 0.8


def test_places_are_standardised_over_the_views_that_are_there():
    rng = np.random.default_rng(0)
    studies = [rng.normal(3, 2, [k, 5, 6]).astype("float32") for k in (1, 2, 3)]
    places, padded = Places((5, 6), 4, 0.0), Places((5, 6), 4, 0.0)
    places.standardise(studies)
    padded.standardise([np.concatenate([views, np.zeros_like(views)]) for views in studies])
    rows = np.concatenate(studies).reshape(-1, 6)
    for one in (places, padded):
        np.testing.assert_allclose(one.mean.numpy(), rows.mean(0), atol=1e-5)
        np.testing.assert_allclose(one.deviation.numpy(), rows.std(0), atol=1e-5)


def test_a_place_of_zeros_is_there_where_its_view_is():
    grid = paddle.ones([1, 2, 3, 4])
    grid[0, 0, 1], grid[0, 1] = 0.0, 0.0
    rows, mask = Places((3, 4), 8, 0.0)(grid)
    assert rows.shape == [1, 6, 8] and mask.tolist() == [[1, 1, 1, 0, 0, 0]]


def test_the_strongest_is_of_what_is_there():
    rows, mask = paddle.to_tensor([[[-1.0, -5.0], [9.0, 9.0]]] * 2), paddle.to_tensor([[1.0, 0.0], [0.0, 0.0]])
    assert strongest(rows, mask).tolist() == [[-1.0, -5.0], [0.0, 0.0]]


def test_positions_follow_their_equation():
    table = positions(3, 4, 6).numpy()
    for t in range(4):
        for i in range(3):
            angle = (3 + t) / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(table[t, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


# Loss and layers ------------------------------------------------------------------------------------------------------


def test_token_nll_is_cross_entropy():
    paddle.seed(0)
    logits, targets = paddle.randn([3, 5, 11]) * 9, paddle.randint(0, 11, [3, 5])
    expected = paddle.nn.functional.cross_entropy(logits, targets, reduction="none").squeeze(-1)
    np.testing.assert_allclose(token_nll(logits, targets).numpy(), expected.numpy(), atol=1e-5)


def test_token_nll_goes_on_where_cross_entropy_stops():
    logits = paddle.to_tensor([[[500.0, 0.0, -500.0]]])
    for target, expected in enumerate([0.0, 500.0, 1000.0]):
        assert token_nll(logits, paddle.to_tensor([[target]])).item() == expected


def test_a_linear_layer_is_paddles():
    own, paddles = FastBiasLinear(5, 3), paddle.nn.Linear(5, 3)
    own.bias.set_value(paddle.rand([3]))
    paddles.set_state_dict(own.state_dict())
    rows = paddle.rand([2, 4, 5])
    for layer in (own, paddles):
        (layer(rows) ** 2).sum().backward()
    np.testing.assert_allclose(own(rows).numpy(), paddles(rows).numpy(), rtol=1e-5)
    for ours, theirs in zip(own.parameters(), paddles.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_a_linear_layer_gives_the_same_bits_with_and_without_gradients():
    layer = FastBiasLinear(33, 77)
    layer.bias.set_value(paddle.rand([77]))
    rows = paddle.rand([5, 33])
    with paddle.no_grad():
        free = layer(rows)
    assert (free == layer(rows)).all()


def test_locked_dropout_leaves_out_the_same_numbers_at_every_word():
    out = locked_dropout(paddle.ones([3, 7, 64]), 0.5, training=True).numpy()
    assert (out == out[:, :1]).all() and set(np.unique(out)) == {0.0, 2.0}
    assert len({row.tobytes() for row in out[:, 0]}) == 3  # another mask for every report
    assert (locked_dropout(paddle.ones([3, 7, 64]), 0.5, training=False) == 1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_initial_loss_is_that_of_guessing(variant):
    model = made(variant)
    model.eval()
    inputs, tokens = batch(model, studies=32)
    loss = masked_loss(token_nll(model(inputs, tokens[:, :-1]), tokens[:, 1:]), tokens[:, 1:], pad=0)
    assert float(loss) == pytest.approx(np.log(V), rel=0.1)


def test_padding_changes_neither_loss_nor_gradient(model):
    pad = 0
    study, tokens = batch(model)
    model = build(model.settings.without_dropout(), {name: SHAPES[name] for name in model.reads}, V)
    model.train()  # paddle's LSTM keeps nothing for a backward pass in eval mode

    def loss_and_gradients(tokens):
        targets = tokens[:, 1:]
        loss = masked_loss(token_nll(model(study, tokens[:, :-1]), targets), targets, pad)
        loss.backward()
        gradients = [p.grad.numpy().copy() for p in model.parameters() if p.grad is not None]  # but of another head
        model.clear_gradients()
        return float(loss), gradients

    padded = paddle.concat([tokens, paddle.full([3, 9], pad, "int64")], 1)
    loss, gradients = loss_and_gradients(tokens)
    loss_padded, gradients_padded = loss_and_gradients(padded)
    assert loss_padded == pytest.approx(loss, abs=1e-6)
    for padded, gradient in zip(gradients_padded, gradients, strict=True):
        np.testing.assert_allclose(padded, gradient, atol=1e-5)


def test_the_name_of_settings_leads_back_to_their_decoder():
    for name, decoder in DECODERS.items():
        assert name_of(decoder.Settings()) == name and decoder.reads


def test_one_seed_gives_one_model():
    settings = LSTMCaptioner.Settings(embed=8, hidden=8)
    first, again, other = (build(settings, {"pooled": (4,)}, 9, seed).output.weight.numpy() for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
