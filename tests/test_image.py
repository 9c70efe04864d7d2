"""Laws of image.py and of what reads a film: one picture, one tensor, however it is stored; broken files name
themselves; what shows nothing is refused, what looks inverted is told; a transform that has changed is noticed.
"""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medcap_paddle import image
from medcap_paddle.image import Preprocessing, difference, prepared, read, transform
from medcap_paddle.phantom.draw import draw
from medcap_paddle.runtime.files import MedcapError

SEEN = Preprocessing(64)
SHARED = Path(__file__).parents[2] / "shared/cxr_png"
PNG = b"\x89PNG\r\n\x1a\n"
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


# Depth ----------------------------------------------------------------------------------------------------------------


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(path, pixels, transparent=None):
    """A PNG of 16 bits: [H, W] gray, [H, W, 2] with alpha, 3 RGB, 4 RGBA; `transparent` is a tRNS chunk."""
    pixels = np.asarray(pixels, ">u2")
    height, width, channels = *pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2]
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    path.write_bytes(PNG + chunk(b"IHDR", header) + key + chunk(b"IDAT", lines) + chunk(b"IEND", b""))
    return path


def channels(values, count, opaque=65535):
    """The gray `values` as a gray, LA, RGB or RGBA picture."""
    if count == 1:
        return values
    parts = [values] * (3 if count > 2 else 1)
    return np.stack([*parts, np.full_like(values, opaque)] if count in (2, 4) else parts, axis=2)


WIDER = {  # ways to keep 8 bits in 16
    "v * 257": lambda v: v * 257,
    "v << 8": lambda v: v << 8,
    "16 bits and noise": lambda v: v * 256 + v * 7 % 256,
    "14 bits": lambda v: v << 6,
    "12 bits": lambda v: v << 4,
    "12 bits and noise": lambda v: v * 16 + v * 3 % 16,
    "12 bits, rounded": lambda v: np.rint(v / 255 * 4095).astype(np.uint16),
    "10 bits": lambda v: v << 2,
    "8 bits": lambda v: v,
    "12 bits, signed once": lambda v: (v << 4) + 32768,
}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("way", WIDER)
def test_a_film_of_any_depth_is_that_of_8_bits(tmp_path, picture, way, count):
    pixels = channels(WIDER[way](picture.astype(np.uint16)), count)
    assert np.array_equal(read(png16(tmp_path / "deep.png", pixels)), picture)


@pytest.mark.parametrize("way", ["12 bits", "10 bits"])
@pytest.mark.parametrize("count", [1, 4])
def test_hot_pixels_and_burned_in_letters_do_not_darken_a_film(tmp_path, picture, way, count):
    values = WIDER[way](picture.astype(np.uint16))
    values[:3, :60], values[-1, -1] = 65535, 65535  # less than 2%
    seen = read(png16(tmp_path / "letters.png", channels(values, count)))
    assert np.array_equal(seen[3:-1], picture[3:-1]) and (seen[:3, :60] == 255).all()


def test_a_dark_film_of_8_bits_stays_dark(tmp_path, picture):
    dark = picture // 6
    for way in ("v * 257", "v << 8"):
        assert np.array_equal(read(png16(tmp_path / "dark.png", WIDER[way](dark.astype(np.uint16)))), dark)


def test_negative_numbers_in_a_png_are_refused(tmp_path, picture):
    signed = ((picture.astype(int) - 100) * 7).astype(np.uint16)
    with pytest.raises(MedcapError, match="signed.png holds negative numbers .*export it again"):
        read(png16(tmp_path / "signed.png", signed))


@pytest.mark.parametrize("opaque", [65535, 4095, 255])
def test_alpha_has_a_depth_of_its_own(tmp_path, picture, opaque):
    pixels = channels(picture.astype(np.uint16) << 4, 4, opaque)
    pixels[:10, :, 3] = 0
    seen = read(png16(tmp_path / "alpha.png", pixels))
    assert not seen[:10].any() and np.array_equal(seen[10:], picture[10:])


def test_one_transparent_number_is_black(tmp_path, picture):
    values = picture.astype(np.uint16) * 257
    wanted = np.where(picture == 255, 0, picture)
    assert np.array_equal(read(png16(tmp_path / "gray.png", values, (65535,))), wanted)
    assert np.array_equal(read(png16(tmp_path / "rgb.png", channels(values, 3), (65535,) * 3)), wanted)
    assert np.array_equal(read(png16(tmp_path / "rgb.png", channels(values, 3), (65535, 0, 0))), picture)


def test_16_bits_in_colour_are_gray_as_8_bits_are(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    eight = read(save(tmp_path / "8.png", colour)).astype(int)
    assert np.abs(read(png16(tmp_path / "16.png", colour.astype(np.uint16) * 257)) - eight).max() <= 1


def test_a_deep_picture_is_turned_as_its_camera_says(tmp_path, picture):
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6
    content = png16(path, channels(picture.astype(np.uint16) << 4, 3)).read_bytes()
    end = content.index(b"IDAT") - 4
    path.write_bytes(content[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + content[end:])
    save(tmp_path / "8.png", picture, exif=exif)
    assert np.array_equal(read(path), read(tmp_path / "8.png")) and read(path).shape == (90, 120)


def test_a_deep_picture_that_is_cut_off_is_refused(tmp_path, picture):
    path = png16(tmp_path / "cut.png", channels(picture.astype(np.uint16) << 4, 3))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-200] + b"\0" * 200):
        path.write_bytes(content)
        with pytest.raises(MedcapError, match="cut.png is not a readable PNG"):
            read(path)


# What shows nothing, and what is doubtful -----------------------------------------------------------------------------


def faint(pixels):
    return (100 + pixels // 64).astype(np.uint8)


@pytest.mark.parametrize(
    "make",
    [np.zeros_like, lambda p: np.full_like(p, 255), faint, lambda p: np.where(np.arange(90) < 2, 255, 80) + 0 * p]
    + [lambda p: np.full(p.shape, 900, np.uint16)],
    ids=["black", "white", "faint", "one line", "16 bits"],
)
def test_a_picture_of_next_to_one_gray_level_is_refused(tmp_path, picture, make):
    pixels = make(picture)
    path = tmp_path / "blank.png"
    png16(path, pixels) if pixels.dtype == np.uint16 else save(path, pixels.astype(np.uint8))
    with pytest.raises(MedcapError, match="blank.png shows nothing: 95% of it lie within . of 256 gray levels"):
        read(path)


def test_a_transparent_picture_is_refused(tmp_path, picture):
    rgba = channels(picture, 4, 0)
    for path in (
        save(tmp_path / "8.png", rgba),
        png16(tmp_path / "16.png", rgba),
        save(tmp_path / "a.png", rgba[..., 2:]),
    ):
        with pytest.raises(MedcapError, match="png is transparent all over and shows nothing"):
            read(path)


def test_an_animation_is_refused(tmp_path, picture):
    frames = [Image.fromarray(np.roll(picture, 9 * k)) for k in range(3)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with pytest.raises(MedcapError, match="moving.png is an animation of 3 pictures: save the one"):
        read(tmp_path / "moving.png")
    frames[0].save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="photo.jpg holds 3 pictures: the first one is read"):
        assert np.abs(read(tmp_path / "photo.jpg").astype(int) - picture).mean() < 5
    frames = [frame.copy() for frame in frames]  # PIL keeps the options of the other format
    frames[0].save(tmp_path / "pages.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(MedcapError, match="pages.tiff is not a readable PNG or JPEG"):
        read(tmp_path / "pages.tiff")


@pytest.mark.parametrize("view", ["frontal", "lateral"])
def test_an_inverted_film_is_told(view):
    for seed in range(6):
        film = draw([], view, seed, size=128)
        assert image.doubt(film) == "" and "inverted" in image.doubt(255 - film)
    assert "few gray levels" in image.doubt((240 + film // 20).astype(np.uint8))


@pytest.mark.skipif(not SHARED.exists(), reason="needs real films")
def test_no_real_film_looks_inverted_and_each_negative_does():
    films = [read(path) for path in sorted(SHARED.glob("*.png"))]
    assert len(films) == 48
    assert not [k for k, film in enumerate(films) if image.doubt(film) or not image.doubt(255 - film)]


CASES = SHARED.parent / "cases"
DEEP = ["c02_rgb16_12bit/grayalpha16_12bit.png", "c02_rgb16_12bit/rgb16_12bit.png", "c02_rgb16_12bit/rgba16_12bit.png"]
DEEP += ["c04_gray16_not_as_8bit/gray16_full_trns0.png"]
DEEP += ["c05_inverted_and_dicom/mono1.dcm", "c05_inverted_and_dicom/mono2.dcm"]


@pytest.mark.skipif(not CASES.exists(), reason="needs the cases")
@pytest.mark.parametrize("name", DEEP)
def test_the_cases_are_the_film_of_8_bits(name):
    assert np.array_equal(read(CASES / name), read((CASES / name).with_name("base.png")))


@pytest.mark.skipif(not CASES.exists(), reason="needs the cases")
def test_the_cases_that_show_nothing_or_are_inverted():
    for path in sorted((CASES / "c18_no_picture").glob("*.png")):
        with pytest.raises(MedcapError, match=f"{path.name} .*shows nothing"):
            read(path)
    assert "looks inverted" in image.doubt(read(CASES / "c05_inverted_and_dicom/inverted.png"))


# 8 bits ---------------------------------------------------------------------------------------------------------------


def test_transparent_is_black(tmp_path):
    pixels = np.full((6, 6, 4), 200, np.uint8)
    pixels[:3, :, 3], pixels[3:, :, 3] = 0, 255
    gray = read(save(tmp_path / "half.png", pixels))
    assert (gray[:3] == 0).all() and (gray[3:] == 200).all()


def declared(width, height):
    """A PNG whose header declares a size and whose data are missing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


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

    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
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
    (ready, doubt), error = prepared([good, tmp_path / "absent.png"], SEEN)
    assert np.array_equal(ready, transform(picture, SEEN)) and "absent.png" in str(error)
    assert doubt == image.doubt(picture)


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
