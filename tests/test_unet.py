"""U-Net: the sizes of its paper, paths that lie over each other, and what makes each form itself."""

import medcap_paddle  # noqa: F401 isort: skip
import numpy as np
import paddle
import pytest

from medcap_paddle import encoder
from medcap_paddle.image import Preprocessing
from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.vision import predictor
from medcap_paddle.vision.segmenters import SEGMENTERS
from medcap_paddle.vision.structures import UNIONS, Structured, channels, complete, outputs
from medcap_paddle.vision.unet import Mirrored, UNet, crop, margin, near, output_size


def test_the_sizes_of_the_paper():
    """Figure 1, from level to level: 572, 284, 140, 68, 32 go in, and 28, 52, 100, 196, 388 come out."""
    assert [output_size(side, depth) for depth, side in enumerate((32, 68, 140, 284, 572))] == [28, 52, 100, 196, 388]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_network_gives_the_size_of_the_arithmetic(depth):
    side = near(40, depth)
    network = UNet(2, width=2, depth=depth)
    logits = network(paddle.zeros([1, 3, side, side]))
    assert logits.shape == [1, 2, output_size(side, depth), output_size(side, depth)]


def test_the_paper_s_network_has_its_channels_and_sizes():
    """Told by the shapes of its weights; computed at a sixteenth of the width."""
    network = UNet(2)
    assert [level[0].weight.shape[0] for level in network.down] == [64, 128, 256, 512, 1024]
    assert [step.up.weight.shape[:2] for step in network.up] == [[1024, 512], [512, 256], [256, 128], [128, 64]]
    assert [step.convs[0].weight.shape[1] for step in network.up] == [1024, 512, 256, 128]
    assert sum(isinstance(layer, paddle.nn.Conv2D) for layer in network.sublayers()) == 19  # and 4 transposed: 23
    assert UNet(2, width=4)(paddle.zeros([1, 3, 572, 572])).shape == [1, 2, 388, 388]


@pytest.mark.parametrize("side", [571, 570, 568, 100, 12])
def test_sizes_that_do_not_fit_are_refused_with_one_that_does(side):
    with pytest.raises(MedcapError, match="use") as caught:
        output_size(side)
    proposed = int(str(caught.value).rsplit(" ", 1)[1])
    assert proposed >= side and output_size(proposed) > 0
    with pytest.raises(MedcapError):
        UNet(1, width=2)(paddle.zeros([1, 3, side, side]))


def test_a_crop_is_the_middle():
    grid = paddle.arange(36, dtype="float32").reshape([1, 1, 6, 6])
    assert crop(grid, 2).flatten().tolist() == [14, 15, 20, 21]
    assert crop(grid, 6).equal_all(grid)


def test_padded_keeps_the_size_and_refuses_what_does_not_fit():
    for fold in (1, 2):
        network = UNet(3, width=2, depth=2, padded=True, norm=True, fold=fold)
        assert network(paddle.rand([2, 3, 32, 32])).shape == [2, 3, 32, 32]
        with pytest.raises(MedcapError, match=f"multiple of {4 * fold}"):
            network(paddle.zeros([1, 3, 34 + fold, 34 + fold]))


def test_valid_convolutions_are_exact_where_they_see_the_same_pixels():
    """A valid U-Net knows no border: shifted by a multiple of its pooling, its output shifts with the image. Padding
    breaks that near the border.
    """
    paddle.seed(0)
    network, side = UNet(1, width=2, depth=2), near(60, 2)
    image = paddle.rand([1, 3, side + 4, side + 4])
    whole = [network(image[..., k : k + side, k : k + side]) for k in (0, 4)]
    assert np.allclose(whole[0][..., 4:, 4:].numpy(), whole[1][..., :-4, :-4].numpy(), atol=1e-5)


def test_a_mirrored_border_gives_the_size_of_the_image():
    assert margin(388) == (92, 92) and output_size(388 + 2 * 92) == 388
    network = Mirrored(UNet(2, width=2, depth=2))
    for side in (44, 47, 60):
        assert network(paddle.rand([1, 3, side, side])).shape == [1, 2, side, side]
    with pytest.raises(MedcapError, match="too small to be mirrored"):
        margin(40)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_gives_a_logit_a_pixel_and_learns_everywhere(name):
    how = SEGMENTERS[name]
    size = 120 if name == "unet_valid" else 64
    assert how.at(size).size == size
    network = how.build(2)
    network.eval()
    logits = network(paddle.rand([1, 3, size, size]))
    assert logits.shape == [1, 2, size, size]
    (logits * paddle.rand(logits.shape)).sum().backward()
    idle = [key for key, p in network.named_parameters() if p.trainable and p.grad is None]
    unused = "encoder.head", "encoder.fc"  # Lite0's own layers after its last grid
    assert not [key for key in idle if not key.startswith(unused)]
    with pytest.raises(MedcapError, match="multiple"):
        how.at(size + 1)


def test_lite0_begins_with_imagenet():
    from medcap_paddle.vision import lite0

    network = SEGMENTERS["unet_lite0"].build(1)
    SEGMENTERS["unet_lite0"].begin(network, None)
    assert np.array_equal(network.encoder.stem[0].weight.numpy(), lite0.trained()["stem.0.weight"])


def test_a_union_needs_no_channel_and_its_logit_is_that_of_either():
    names = outputs(["heart", "left_lung", "right_lung"])
    assert names == ["heart", "left_lung", "lungs", "right_lung"] and channels(names) == [*names[:2], names[3]]
    assert channels(["lungs"]) == outputs(["lungs"]) == ["lungs"]
    assert all(set(parts).isdisjoint(UNIONS) for parts in UNIONS.values())

    class Given(paddle.nn.Layer):
        def forward(self, images):
            return images

    logits = paddle.to_tensor(np.random.default_rng(0).normal(0, 3, [2, 3, 4, 4]).astype("float32"))
    heart, left, lungs, right = paddle.nn.functional.sigmoid(Structured(Given(), names)(logits)).unbind(1)
    assert np.allclose(lungs, 1 - (1 - left) * (1 - right), atol=1e-6)
    extreme = Structured(Given(), names)(logits * 1e4)
    assert np.isfinite(extreme.numpy()).all()


def test_masks_of_both_lungs_follow_from_each():
    rng = np.random.default_rng(0)
    left, right = rng.random([2, 5, 5]) < 0.4
    found = complete({"left_lung": left, "right_lung": right})
    assert np.array_equal(found["lungs"], left | right)
    given = complete({"lungs": left, "left_lung": left, "right_lung": right})
    assert np.array_equal(given["lungs"], left)  # what was drawn is not replaced
    assert "lungs" not in complete({"left_lung": left})


def test_near_is_the_least_size_that_fits():
    for size in (30, 44, 60, 61):
        found = near(size, 2)
        assert output_size(found, 2) > 0
        for smaller in range(size, found):
            with pytest.raises(MedcapError):
                output_size(smaller, 2)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_program_that_predicts_many_images_gives_the_logits_of_the_network(name, tmp_path, recwarn):
    """Each must export, or it would compute slowly in eager mode: that is a warning of ours."""
    how = SEGMENTERS[name]
    size = how.preprocessing.size if name == "unet_valid" else 64  # a smaller image has no border to mirror
    reader = encoder.build(how.build(2), name, "", Preprocessing(size), ("logits",))
    images = np.random.default_rng(0).normal(size=[1, 3, size, size]).astype("float32")
    expected = predictor.eager(reader)(images)["logits"]
    run, _ = predictor.fast(reader, tmp_path, exact=True)
    assert not [warning for warning in recwarn if "eager mode" in str(warning.message)]
    assert np.allclose(run(images)["logits"], expected, atol=1e-3)


class Untranslatable(paddle.nn.Layer):
    """Paddle's export cannot translate `strict`."""

    def forward(self, images):
        return sum(a + b for a, b in zip([images.mean([1, 2, 3])], [images.sum([1, 2, 3])], strict=True))


def test_a_network_that_cannot_be_exported_computes_as_before(tmp_path):
    reader = encoder.build(Untranslatable(), "", "", Preprocessing(8), ("number",))
    with pytest.warns(UserWarning, match="slowly in eager mode"):
        run, _ = predictor.fast(reader, tmp_path)
    assert run(np.ones([2, 3, 8, 8], np.float32))["number"] == pytest.approx(np.full(2, 193.0))
