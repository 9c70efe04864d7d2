"""Laws of the network that reads lines, of the lines it learns from, and of its file."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
from dataclasses import replace

import numpy as np
import paddle
import pytest

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.sequence import crnn, ctc, lines, reader
from medcap_paddle.sequence.crnn import NARROW, SQUARE, CRNNSettings

TINY = CRNNSettings(channels=2, hidden=8)
FILM = (np.random.default_rng(0).random([200, 300]) * 120).astype("uint8")


@pytest.mark.parametrize("third", [NARROW, SQUARE])
@pytest.mark.parametrize("width", [16, 24, 100, 192])
def test_the_width_arithmetic(third, width):
    """A step of 4 pixels, or of 8, and one less for the last convolution: 100 pixels give 24 steps, as in the paper."""
    settings = replace(TINY, pools=(SQUARE, SQUARE, third, NARROW))
    logits = crnn.CRNN(settings, 5)(paddle.zeros([2, 1, 32, width]))
    assert logits.shape == [settings.steps(width), 2, 5]
    assert settings.steps(width) == width // (4 if third == NARROW else 8) - 1


def test_seven_convolutions_and_two_bidirectional_lstms():
    network = crnn.CRNN(TINY, 5)
    convolutions = [layer for layer in network.convolutions if isinstance(layer, paddle.nn.Conv2D)]
    assert len(convolutions) == 7 and network.lstm.num_layers == 2 and network.lstm.num_directions == 2
    channels = [layer.weight.shape[0] for layer in convolutions]
    assert [channel / channels[0] for channel in channels] == [1, 2, 4, 4, 8, 8, 8]  # 64 to 512 in the paper


def test_a_line_of_another_height_is_refused():
    with pytest.raises(MedcapError, match="30 x 64"):
        crnn.CRNN(TINY, 5)(paddle.zeros([1, 1, 30, 64]))


def test_every_column_can_tell_of_the_whole_line():
    """The LSTMs run both ways."""
    network = crnn.CRNN(TINY, 5)
    network.convolutions.eval()  # batch normalisation would mix the columns; in eval Paddle's LSTM has no gradient
    line = paddle.randn([1, 1, 32, 64])
    line.stop_gradient = False
    for step in (0, 14):
        line.clear_grad()
        network(line)[step].sum().backward()
        reached = np.abs(line.grad.numpy()).sum((0, 1, 2)) > 0
        assert reached[:8].any() and reached[-8:].any()


# Lines ----------------------------------------------------------------------------------------------------------------


def test_texts_are_encoded_and_decoded():
    rng = np.random.default_rng(0)
    texts = [lines.text(rng) for _ in range(500)]
    assert all(lines.decode(lines.encode(text)) == text and text for text in texts)
    assert {"L", "R", "AP", "PORTABLE"} <= set(texts)
    with pytest.raises(ValueError):
        lines.encode("é")


def test_every_font_draws_every_letter_differently():
    """But for letters that a font draws alike."""
    for name, font in lines.FONTS.items():
        inks = {letter: font(letter) for letter in lines.ALPHABET if letter != " "}
        assert all(ink.max() > 200 for ink in inks.values()), name
        different = {(ink.shape, ink.tobytes()) for ink in inks.values()}
        assert len(different) >= len(inks) - 2, name


def test_unseen_fonts_are_never_trained_on():
    assert not set(lines.UNSEEN) & set(lines.SEEN) and set(lines.UNSEEN) | set(lines.SEEN) == set(lines.FONTS)


def test_a_drawn_line_is_the_same_for_the_same_seed_and_fits():
    source = reader.Source([FILM])
    for seed in range(40):
        crop, text = source.draw([seed])
        again, same = source.draw([seed])
        assert np.array_equal(crop, again) and text == same
        line = lines.fit(crop)
        assert line.shape[0] == 32 and line.shape[1] % 4 == 0 and 16 <= line.shape[1] <= lines.WIDEST
        assert line.dtype == np.float32 and -1 <= line.min() and line.max() <= 1


def test_a_line_does_not_depend_on_brightness():
    crop, _ = reader.Source([FILM // 2], empty=0).draw([1])
    darker = (crop.astype(float) / 2 + 20).astype("uint8")
    assert np.abs(lines.fit(crop) - lines.fit(darker)).max() < 0.1


# The reader -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_wide_enough_for_its_texts():
    narrow = np.zeros([32, 16], np.float32)
    pixels, texts = reader.batch([narrow, narrow], [(1, 1, 1, 1), (2,)])
    assert TINY.steps(pixels.shape[3]) >= max(map(ctc.steps_needed, texts))


def test_four_lines_are_learnt_by_heart():
    """Lines of about one width: a short one, padded, stays long at a loss of 1, where every step says its letter with
    the same small probability: n q (1 - q)^(n - 1) is at most 1 / e.
    """
    source = reader.Source([FILM], text=lambda rng: str(rng.choice(["ERECT", "12/03", "10:35"])), empty=0.2)
    drawn = [source.draw([k]) for k in (0, 1, 2, 3)]
    taught = reader.build(CRNNSettings(channels=4, hidden=32))
    optimizer = paddle.optimizer.Adam(1e-2, parameters=taught.network.parameters())
    pixels, texts = reader.batch([lines.fit(c) for c, _ in drawn], [lines.encode(t) for _, t in drawn])
    for _ in range(350):
        loss = ctc.loss(taught.network(paddle.to_tensor(pixels)), texts).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert float(loss) < 0.1
    taught.network.eval()
    log_p = paddle.nn.functional.log_softmax(taught.network(paddle.to_tensor(pixels)), -1).numpy()
    assert [ctc.prefix_beam(log_p[:, k])[0] for k in range(4)] == texts


def test_lines_are_read_alike_alone_and_together():
    taught, source = reader.build(TINY), reader.Source([FILM])
    crops = [source.draw([k])[0] for k in range(30)]
    together = taught.all_log_p(crops)
    assert len({log_p.shape[0] for log_p in together}) > 1
    assert all(np.allclose(taught.log_p(crop), log_p, atol=1e-5) for crop, log_p in zip(crops, together, strict=True))


def test_training_resumes_and_reads_alike_after_saving(tmp_path):
    settings = replace(reader.SETTINGS, epochs=1, batch_size=4)
    first, history = reader.train(reader.Source([FILM]), tmp_path / "run", settings, 8, reader.build(TINY))
    again, same = reader.train(reader.Source([FILM]), tmp_path / "run", settings, 8, reader.build(TINY))
    assert np.isfinite(history.loss).all() and history.loss.tolist() == same.loss.tolist()
    first.save(tmp_path / "reader.safetensors", {"films": "noise"})
    loaded = reader.load(tmp_path / "reader.safetensors")
    crop, _ = reader.Source([FILM], empty=0).draw([0])
    assert np.allclose(loaded.log_p(crop), first.log_p(crop), atol=0.05)  # float16
    assert np.array_equal(first.log_p(crop), again.log_p(crop))


def test_a_file_that_is_no_reader_is_refused(tmp_path):
    from medcap_paddle import encoder

    with pytest.raises(MedcapError, match="nothing.safetensors not found: run 42_crnn.ipynb"):
        reader.load(tmp_path / "nothing.safetensors")
    with pytest.raises(MedcapError, match="no reader of lines"):
        reader.load(encoder.SHIPPED)


def test_error_rates():
    rows = reader.errors(["AP", "PORTABL", ""], ["AP", "PORTABLE", "L"])
    assert rows.tolist() == [[0, 2, 1], [1, 8, 0], [1, 1, 0]]
    rates = reader.rates(rows)
    assert np.isclose(rates["cer"]["value"], 2 / 11) and np.isclose(rates["exact"]["value"], 1 / 3)
    assert rates["exact"]["low"] <= 1 / 3 <= rates["exact"]["high"]
