"""Laws of the decoder seam and of the loss."""

import numpy as np
import paddle
import pytest

from medcap_paddle.loss import masked_loss, token_nll
from medcap_paddle.models import DECODERS, build, name_of
from medcap_paddle.models.decoder import FastBiasLinear, locked_dropout
from medcap_paddle.models.lstm import LSTMCaptioner


@pytest.fixture(params=[1, 2], ids=["1 layer", "2 layers"])
def model(request):
    paddle.seed(0)
    settings = LSTMCaptioner.Settings(embed=16, hidden=16, layers=request.param, feature_noise=0.0)
    model = LSTMCaptioner(settings, {"pooled": (8,)}, 20)
    model.eval()
    return model


def batch(seed=0, studies=3, views=2, length=7):
    rng = np.random.default_rng(seed)
    pooled = paddle.to_tensor(rng.normal(size=[studies, views, 8]).astype("float32"))
    return {"pooled": pooled}, paddle.to_tensor(rng.integers(1, 20, [studies, length]))


def test_stepping_gives_the_logits_of_teacher_forcing(model):
    inputs, tokens = batch()
    forced = model(inputs, tokens).numpy()
    state = model.init_state(inputs)
    for t in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, t], state)
        np.testing.assert_allclose(logits.numpy(), forced[:, t], atol=1e-5)


def test_state_is_batch_first(model):
    inputs, _ = batch(studies=5)
    assert all(s.shape[0] == 5 for s in model.init_state(inputs))


def test_later_words_do_not_change_earlier_logits(model):
    inputs, tokens = batch()
    changed = tokens.clone()
    changed[:, 4:] = 1
    np.testing.assert_allclose(model(inputs, tokens)[:, :4].numpy(), model(inputs, changed)[:, :4].numpy(), atol=1e-6)


def test_absent_views_and_the_order_of_views_change_nothing(model):
    inputs, tokens = batch()
    expected, pooled = model(inputs, tokens).numpy(), inputs["pooled"]
    more = paddle.concat([pooled, paddle.zeros_like(pooled)], 1)
    for same in (more, pooled.flip(1)):
        np.testing.assert_allclose(model({"pooled": same}, tokens).numpy(), expected, atol=1e-6)


def test_every_view_is_seen(model):
    inputs, tokens = batch()
    expected = model(inputs, tokens).numpy()
    for view in range(inputs["pooled"].shape[1]):
        other = inputs["pooled"].clone()
        other[:, view] += 5.0
        assert np.abs(model({"pooled": other}, tokens).numpy() - expected).max() > 1e-4


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


def test_initial_loss_is_that_of_guessing(model):
    inputs, tokens = batch(studies=32)
    loss = masked_loss(token_nll(model(inputs, tokens), tokens), tokens, pad=0)
    assert float(loss) == pytest.approx(np.log(20), rel=0.1)


def test_padding_changes_neither_loss_nor_gradient(model):
    pad = 0
    study, tokens = batch()
    model = build(model.settings.without_dropout(), {"pooled": (8,)}, 20)
    model.train()  # paddle's LSTM keeps nothing for a backward pass in eval mode

    def loss_and_gradient(tokens):
        targets = tokens[:, 1:]
        loss = masked_loss(token_nll(model(study, tokens[:, :-1]), targets), targets, pad)
        loss.backward()
        gradient = model.output.weight.grad.numpy().copy()
        model.clear_gradients()
        return float(loss), gradient

    padded = paddle.concat([tokens, paddle.full([3, 9], pad, "int64")], 1)
    loss, gradient = loss_and_gradient(tokens)
    loss_padded, gradient_padded = loss_and_gradient(padded)
    assert loss_padded == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(gradient_padded, gradient, atol=1e-6)


def test_the_name_of_settings_leads_back_to_their_decoder():
    for name, decoder in DECODERS.items():
        assert name_of(decoder.Settings()) == name and decoder.reads


def test_one_seed_gives_one_model():
    settings = LSTMCaptioner.Settings(embed=8, hidden=8)
    first, again, other = (build(settings, {"pooled": (4,)}, 9, seed).output.weight.numpy() for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
