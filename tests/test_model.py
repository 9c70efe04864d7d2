"""Laws of the decoder seam and of the loss."""

import numpy as np
import paddle
import pytest

from medcap_paddle.model import Linear, LSTMCaptioner, masked_loss, token_nll


@pytest.fixture(params=[1, 2], ids=["1 layer", "2 layers"])
def model(request):
    paddle.seed(0)
    model = LSTMCaptioner(8, 20, embed=16, hidden=16, layers=request.param)
    model.eval()
    return model


def batch(seed=0, studies=3, views=2, length=7):
    rng = np.random.default_rng(seed)
    features = paddle.to_tensor(rng.normal(size=[studies, views, 8]).astype("float32"))
    return features, paddle.to_tensor(rng.integers(1, 20, [studies, length]))


def test_stepping_gives_the_logits_of_teacher_forcing(model):
    features, tokens = batch()
    taught = model(features, tokens).numpy()
    state = model.init_state(features)
    for t in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, t], state)
        np.testing.assert_allclose(logits.numpy(), taught[:, t], atol=1e-5)


def test_state_is_batch_first(model):
    features, _ = batch(studies=5)
    assert all(s.shape[0] == 5 for s in model.init_state(features))


def test_later_words_do_not_change_earlier_logits(model):
    features, tokens = batch()
    changed = tokens.clone()
    changed[:, 4:] = 1
    np.testing.assert_allclose(
        model(features, tokens)[:, :4].numpy(), model(features, changed)[:, :4].numpy(), atol=1e-6
    )


def test_absent_views_and_the_order_of_views_change_nothing(model):
    features, tokens = batch()
    expected = model(features, tokens).numpy()
    more = paddle.concat([features, paddle.zeros_like(features)], 1)
    np.testing.assert_allclose(model(more, tokens).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(model(features.flip(1), tokens).numpy(), expected, atol=1e-6)


def test_every_view_is_seen(model):
    features, tokens = batch()
    expected = model(features, tokens).numpy()
    for view in range(features.shape[1]):
        other = features.clone()
        other[:, view] += 5.0
        assert np.abs(model(other, tokens).numpy() - expected).max() > 1e-4


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
    own, paddles = Linear(5, 3), paddle.nn.Linear(5, 3)
    own.bias.set_value(paddle.rand([3]))
    paddles.set_state_dict(own.state_dict())
    rows = paddle.rand([2, 4, 5])
    for layer in (own, paddles):
        (layer(rows) ** 2).sum().backward()
    np.testing.assert_allclose(own(rows).numpy(), paddles(rows).numpy(), rtol=1e-5)
    for ours, theirs in zip(own.parameters(), paddles.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_a_linear_layer_gives_the_same_bits_with_and_without_gradients():
    layer = Linear(33, 77)
    layer.bias.set_value(paddle.rand([77]))
    rows = paddle.rand([5, 33])
    with paddle.no_grad():
        free = layer(rows)
    assert (free == layer(rows)).all()


def test_dropout_leaves_out_the_same_numbers_at_every_word(model):
    model.train()
    model.dropout = 0.5
    out = model.drop(paddle.ones([3, 7, 64])).numpy()
    assert (out == out[:, :1]).all() and set(np.unique(out)) == {0.0, 2.0}
    assert len({row.tobytes() for row in out[:, 0]}) == 3  # another mask for every report


def test_initial_loss_is_that_of_guessing(model):
    features, tokens = batch(studies=32)
    loss = masked_loss(token_nll(model(features, tokens), tokens), tokens, pad=0)
    assert float(loss) == pytest.approx(np.log(20), rel=0.1)


def test_padding_changes_neither_loss_nor_gradient(model):
    pad = 0
    features, tokens = batch()
    model.dropout = model.forget.p = model.lstm.dropout = 0.0
    model.train()  # paddle's LSTM keeps nothing for a backward pass in eval mode

    def loss_and_gradient(tokens):
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        loss = masked_loss(token_nll(model(features, inputs), targets), targets, pad)
        loss.backward()
        gradient = model.output.weight.grad.numpy().copy()
        model.clear_gradients()
        return float(loss), gradient

    padded = paddle.concat([tokens, paddle.full([3, 9], pad, "int64")], 1)
    loss, gradient = loss_and_gradient(tokens)
    loss_padded, gradient_padded = loss_and_gradient(padded)
    assert loss_padded == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(gradient_padded, gradient, atol=1e-6)
