"""Laws of image.py: one picture, one tensor, however it is stored; broken files name themselves; a transform that has
changed is noticed.
"""

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medcap_paddle import image
from medcap_paddle.image import Preprocessing, difference, prepared, read, transform
from medcap_paddle.runtime.files import MedcapError

SEEN = Preprocessing(64)
MEAN, STD = np.array(SEEN.mean, np.float32), np.array(SEEN.std, np.float32)


@pytest.fixture
def picture():
    """A smooth uint8 picture that uses its whole range."""
    y, x = np.mgrid[0:120, 0:90]
    wave = np.sin(x / 9) + np.cos(y / 13) + x / 90
    return np.rint(255 * (wave - wave.min()) / np.ptp(wave)).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_depth_and_colour_do_not_matter(tmp_path, picture):
    gray = read(save(tmp_path / "gray.png", picture))
    assert gray.dtype == np.uint8 and np.array_equal(gray, picture)

    rgb = np.repeat(picture[..., None], 3, axis=2)
    opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)
    Image.fromarray(picture).convert("P").save(tmp_path / "palette.png")
    save(tmp_path / "rgb.png", rgb), save(tmp_path / "rgba.png", opaque)
    for name in ("rgb.png", "rgba.png", "palette.png"):
        assert np.array_equal(transform(read(tmp_path / name), SEEN), transform(gray, SEEN)), name

    jpeg = read(save(tmp_path / "picture.jpg", picture, quality=95))
    assert np.abs(jpeg.astype(int) - picture).mean() < 2


def test_16_bit_is_scaled_by_its_own_range(tmp_path, picture):
    for name, pixels in {"full": picture.astype(np.uint16) * 257, "12 bit": picture.astype(np.uint16) * 16 + 5}.items():
        assert np.array_equal(read(save(tmp_path / f"{name}.png", pixels)), picture), name
    assert not read(save(tmp_path / "flat.png", np.full((8, 8), 900, np.uint16))).any()


def test_transparent_is_black(tmp_path):
    pixels = np.full((6, 6, 4), 200, np.uint8)
    pixels[:3, :, 3], pixels[3:, :, 3] = 0, 255
    gray = read(save(tmp_path / "half.png", pixels))
    assert (gray[:3] == 0).all() and (gray[3:] == 200).all()


def declared(width, height):
    """A PNG whose header declares a size and whose data are missing."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content", [b"", b"not an image", declared(10_000, 10_001), declared(2**31 - 1, 2**31 - 1), declared(8, 8)]
)
def test_broken_file_is_named(tmp_path, content):
    path = tmp_path / "CXR7_bad.png"
    path.write_bytes(content)
    with pytest.raises(MedcapError, match="CXR7_bad.png"):
        read(path)


def test_truncated_or_damaged_file_is_named(tmp_path, picture):
    whole = save(tmp_path / "whole.png", picture).read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (whole[: len(whole) // 2], bytes(damaged)):
        (tmp_path / "cut.png").write_bytes(content)
        with pytest.raises(MedcapError, match="cut.png"):
            read(tmp_path / "cut.png")
    with pytest.raises(MedcapError, match="absent.png"):
        read(tmp_path / "absent.png")
    with pytest.raises(MedcapError):
        read(tmp_path)  # a folder


def test_transform_keeps_the_aspect():
    tall = np.full((200, 100), 255, np.uint8)
    pixels = transform(tall, SEEN) * STD[:, None, None] + MEAN[:, None, None]
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[:, :, 16:48], 1, atol=1e-6)
    np.testing.assert_allclose(pixels[:, :, :16], 0, atol=1e-6)
    np.testing.assert_allclose(pixels[:, :, 48:], 0, atol=1e-6)


def test_transform_averages_areas_and_keeps_sides():
    checkers = np.indices((128, 128)).sum(axis=0) % 2 * 255
    fine = transform(checkers.astype(np.uint8), Preprocessing(32))[0] * STD[0] + MEAN[0]
    np.testing.assert_allclose(fine, 0.5, atol=0.01)  # aliasing would give 0 or 1

    left = np.zeros((50, 50), np.uint8)
    left[:, :25] = 255
    for size in (20, 80):  # smaller and larger
        pixels = transform(left, Preprocessing(size))[0]
        assert pixels[:, : size // 4].min() > pixels[:, -size // 4 :].max()


def test_short_memory_is_not_taken_for_a_broken_file(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    monkeypatch.setattr(Image.Image, "convert", full)
    with pytest.raises(MemoryError):
        read(tmp_path / "good.png")


def test_the_encoder_decides_what_the_transform_does():
    white = np.full((200, 100), 255, np.uint8)
    plain = transform(white, Preprocessing(64, mean=(0, 0, 0), std=(1, 1, 1), padding=0.5))
    assert set(np.unique(plain)) == {0.5, 1.0}
    half = transform(white, Preprocessing(64, mean=(0.5, 0, 0), std=(0.5, 1, 2)))
    assert half[:, 32, 32].tolist() == [1, 1, 0.5]
    stripes = np.repeat([[0, 255] * 64], 128, 0).astype(np.uint8)
    assert len(np.unique(transform(stripes, replace(SEEN, shrink="NEAREST"))[0])) == 1
    small = np.array([[0, 255]], np.uint8)
    assert len(np.unique(transform(small, replace(SEEN, enlarge="NEAREST", padding=0.0))[0])) == 2


def test_prepared_images_are_transformed_or_say_why_not(tmp_path, picture):
    good = save(tmp_path / "good.png", picture)
    ready, error = prepared([good, tmp_path / "absent.png"], SEEN)
    assert np.array_equal(ready, transform(picture, SEEN)) and "absent.png" in str(error)


# The record of a preprocessing ----------------------------------------------------------------------------------------


def test_a_record_survives_json_and_gives_the_preprocessing_back():
    for preprocessing in (SEEN, Preprocessing(97, (0.5,) * 3, (0.5,) * 3, "BICUBIC", "NEAREST", 1.0)):
        record = json.loads(json.dumps(preprocessing.record()))
        assert record == preprocessing.record() and not difference(record, preprocessing.record())
        assert Preprocessing.from_record(record, "encoder.safetensors", "train again") == preprocessing


@pytest.mark.parametrize(
    "change",
    [{"size": 96}, {"mean": (0.5,) * 3}, {"std": (0.5,) * 3}, {"shrink": "BILINEAR"}, {"enlarge": "BICUBIC"}]
    + [{"padding": 0.5}],
)
def test_another_setting_is_named(change):
    message = difference(replace(SEEN, **change).record(), SEEN.record())
    assert next(iter(change)) in message and " not " in message


# What somebody might do to the code of `transform` without touching a setting.
CHANGES = {
    "mirrored": lambda seen: seen[:, :, ::-1],
    "upside down": lambda seen: seen[:, ::-1],
    "transposed": lambda seen: seen.swapaxes(1, 2),
    "channels reversed": lambda seen: seen[::-1],
    "one gray level brighter": lambda seen: seen + 1 / 255 / STD[:, None, None],
    "divided by 256": lambda seen: (seen * STD[:, None, None] + MEAN[:, None, None]) * 255 / 256,
    "shifted by one pixel": lambda seen: np.roll(seen, 1, 2),
    "smoothed": lambda seen: (seen + np.roll(seen, 1, 1)) / 2,
    "squared": lambda seen: np.sign(seen) * seen**2,
}


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_is_noticed_though_every_setting_is_the_same(change, size, monkeypatch):
    recorded, whole = Preprocessing(size).record(), image.transform
    monkeypatch.setattr(image, "transform", lambda *arguments: CHANGES[change](whole(*arguments)))
    with pytest.raises(MedcapError, match="encoder.safetensors was made with another image transform .*train again"):
        Preprocessing.from_record(recorded, "encoder.safetensors", "train again")


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize("filters", [{"shrink": "BILINEAR"}, {"shrink": "NEAREST"}, {"enlarge": "BICUBIC"}])
def test_another_filter_is_noticed_by_its_response(filters, size):
    """As if PIL, or whoever writes `transform`, meant something else by the same name."""
    other = replace(Preprocessing(size), **filters).record()["response"]
    assert difference(Preprocessing(size).record() | {"response": other}, Preprocessing(size).record())


def test_rounding_is_no_change():
    record = SEEN.record()
    assert not difference(record | {"response": [n + 0.0009 for n in record["response"]]}, record)


@pytest.mark.parametrize("record", [None, {}, "gray, black padding", {"size": 64}, SEEN.record() | {"response": []}])
def test_a_missing_record_is_refused(record):
    with pytest.raises(MedcapError, match="^the encoder e.safetensors .*: train again$"):
        Preprocessing.from_record(record, "the encoder e.safetensors", "train again")
    assert difference(record, SEEN.record())
