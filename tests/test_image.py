"""Laws of image.py: one picture, one tensor, however it is stored; broken files name themselves."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from medcap_paddle.files import MedcapError
from medcap_paddle.image import MEAN, STD, read, transform


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
        assert np.array_equal(transform(read(tmp_path / name), 64), transform(gray, 64)), name

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
    pixels = transform(tall, 64) * STD[:, None, None] + MEAN[:, None, None]
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[:, :, 16:48], 1, atol=1e-6)
    np.testing.assert_allclose(pixels[:, :, :16], 0, atol=1e-6)
    np.testing.assert_allclose(pixels[:, :, 48:], 0, atol=1e-6)


def test_transform_averages_areas_and_keeps_sides():
    checkers = np.indices((128, 128)).sum(axis=0) % 2 * 255
    fine = transform(checkers.astype(np.uint8), 32)[0] * STD[0] + MEAN[0]
    np.testing.assert_allclose(fine, 0.5, atol=0.01)  # aliasing would give 0 or 1

    left = np.zeros((50, 50), np.uint8)
    left[:, :25] = 255
    for size in (20, 80):  # smaller and larger
        pixels = transform(left, size)[0]
        assert pixels[:, : size // 4].min() > pixels[:, -size // 4 :].max()


def test_short_memory_is_not_taken_for_a_broken_file(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    monkeypatch.setattr(Image.Image, "convert", full)
    with pytest.raises(MemoryError):
        read(tmp_path / "good.png")
