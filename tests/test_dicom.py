"""Laws of DICOM: the standard's order is kept, one film is one film in any form, what is no film says why."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import made_up
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from test_image import SEEN, STD, channels, png16

from medcap_paddle import encoder, feature_file, features, generate, models, reports, runs
from medcap_paddle.config import choose
from medcap_paddle.dataset import Studies
from medcap_paddle.image import read, transform
from medcap_paddle.phantom.draw import draw
from medcap_paddle.runtime import loop
from medcap_paddle.runtime.files import MedcapError, read_table, write_table, write_tensors

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def film():
    """A film of 12 bits, uint16 [160, 160]."""
    drawn = draw([], "frontal", 5, size=160).astype(np.uint16)
    return drawn * 16 + np.random.default_rng(0).integers(0, 16, drawn.shape).astype(np.uint16)


def write(path, values, syntax=ExplicitVRLittleEndian, stored=12, **elements):
    """`values` as a DICOM of `stored` bits; `elements` are added, and None takes one away."""
    values = np.asarray(values)
    data, data.file_meta = Dataset(), FileMetaDataset()
    data.file_meta.TransferSyntaxUID, data.file_meta.MediaStorageSOPInstanceUID = syntax, "1.2.3"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID, data.Modality, data.PhotometricInterpretation = "1.2.3", "DX", "MONOCHROME2"
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel, data.BitsAllocated = 1 if values.ndim == 2 else 3, 8 * values.itemsize
    data.BitsStored, data.HighBit, data.PixelRepresentation = stored, stored - 1, int(values.dtype.kind == "i")
    if values.ndim == 3:
        data.PlanarConfiguration, data.PhotometricInterpretation = 0, "RGB"
    big = syntax == ExplicitVRBigEndian
    data.PixelData = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
    data["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(data, name, value) if value is not None else delattr(data, name)
    if syntax == RLELossless:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


# The standard's order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("turned", [False, True])
def test_the_upper_8_of_the_bits_stored_are_seen(tmp_path, film, syntax, turned):
    values, kind = (4095 - film, "MONOCHROME1") if turned else (film, "MONOCHROME2")
    path = write(tmp_path / "a.dcm", values, syntax, PhotometricInterpretation=kind)
    assert np.array_equal(read(path), film >> 4)


@pytest.mark.parametrize("stored", [8, 10, 12, 14, 15, 16])
def test_bits_stored_decide_the_range(tmp_path, film, stored):
    values = (film >> 4) << (stored - 8)
    if stored == 8:
        values = values.astype(np.uint8)
    assert np.array_equal(read(write(tmp_path / "a.dcm", values, stored=stored)), film >> 4)
    dark = values // 8
    if stored < 16:  # a dark film stays dark where the depth is told
        assert np.abs(read(write(tmp_path / "b.dcm", dark, stored=stored)).astype(int) - (film >> 7)).max() <= 1


def test_16_bits_stored_tell_no_depth(tmp_path, film):
    for wider in (film, film << 4, film << 2, (film >> 2)):
        assert np.array_equal(read(write(tmp_path / "a.dcm", wider, stored=16)), film >> 4)
    assert np.array_equal(read(write(tmp_path / "a.dcm", film.astype(np.int16), stored=16)), film >> 4)


def test_signed_values_are_centred_on_0(tmp_path, film):
    signed = film.astype(np.int16) - 2048
    for stored in (12, 16):
        assert np.array_equal(read(write(tmp_path / "a.dcm", signed, stored=stored)), film >> 4)
    assert np.array_equal(read(write(tmp_path / "a.dcm", signed, RescaleSlope=1, RescaleIntercept=2048)), film >> 4)


def test_other_bits_are_no_picture(tmp_path, film):
    overlay = film | np.where(np.arange(160) < 80, 0x8000, 0).astype(np.uint16)
    assert np.array_equal(read(write(tmp_path / "a.dcm", overlay)), film >> 4)
    assert np.array_equal(read(write(tmp_path / "a.dcm", film << 4, HighBit=15)), film >> 4)


WINDOWS = {
    "LINEAR": lambda x, c, w: np.clip(((x - (c - 0.5)) / (w - 1) + 0.5) * 255, 0, 255),
    "LINEAR_EXACT": lambda x, c, w: np.clip(((x - c) / w + 0.5) * 255, 0, 255),
    "SIGMOID": lambda x, c, w: 255 / (1 + np.exp(-4 * (x - c) / w)),
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("centre, width", [(2048, 4096), (1500, 1200), (2600.5, 2049)])
def test_a_window_is_that_of_the_standard(tmp_path, film, name, centre, width):
    """PS3.3 C.11.2.1.2 and C.11.2.1.3: formulas in their own words, to one gray level; after the rescale."""
    expected = WINDOWS[name](film.astype(float), centre, width)
    window = {"VOILUTFunction": name, "WindowCenter": [centre, 7], "WindowWidth": [width, 9]}
    assert np.abs(read(write(tmp_path / "a.dcm", film, **window)) - expected).max() <= 1
    half = {**window, "WindowCenter": centre / 2 - 100, "WindowWidth": width / 2}
    halved = read(write(tmp_path / "b.dcm", film, **half, RescaleSlope=0.5, RescaleIntercept=-100))
    assert np.abs(halved - WINDOWS[name](film / 2.0 - 100, centre / 2 - 100, width / 2)).max() <= 1


def test_a_negative_slope_turns(tmp_path, film):
    turned = read(write(tmp_path / "a.dcm", film, RescaleSlope=-1, RescaleIntercept=4095))
    assert np.array_equal(turned, (4095 - film) >> 4)


def lut(table, bits, first=0):
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item.LUTData = np.asarray(table, "<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


def test_tables_go_before_windows(tmp_path, film):
    root = np.rint(np.sqrt(np.arange(4096) / 4095) * 1023).astype(np.uint16)
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        assert np.array_equal(read(write(tmp_path / "a.dcm", film, **{name: lut(root, 10)})), root[film] >> 2)
    both = {"VOILUTSequence": lut(root, 10), "WindowCenter": 100, "WindowWidth": 3}
    assert np.array_equal(read(write(tmp_path / "a.dcm", film, **both)), root[film] >> 2)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(tmp_path, film, kind):
    values = film if kind == "MONOCHROME2" else 4095 - film
    values = values.copy()
    values[:20] = 4000
    for padding in ({"PixelPaddingValue": 4000}, {"PixelPaddingValue": 3990, "PixelPaddingRangeLimit": 4010}):
        seen = read(write(tmp_path / "a.dcm", values, PhotometricInterpretation=kind, **padding))
        assert not seen[:20].any() and np.abs(seen[20:].astype(int) - (film[20:] >> 4)).mean() < 0.5


def test_colour_is_gray(tmp_path, film):
    gray = (film >> 4).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, 2)
    assert np.array_equal(read(write(tmp_path / "a.dcm", rgb, stored=8, Modality="SC")), gray)
    path = write(tmp_path / "b.dcm", rgb, stored=8, PhotometricInterpretation="YBR_FULL")
    ybr = np.stack([gray, np.full_like(gray, 128), np.full_like(gray, 128)], 2)
    data = dcmread(path)
    data.PixelData = ybr.tobytes()
    data.save_as(path)
    assert np.abs(read(path).astype(int) - gray).max() <= 1


def test_the_content_decides_and_not_the_name(tmp_path, film):
    path = write(tmp_path / "a.dcm", film)
    (tmp_path / "dicom.png").write_bytes(path.read_bytes())
    Image.fromarray((film >> 4).astype(np.uint8)).save(tmp_path / "png.dcm", "PNG")
    dcmread(path).save_as(tmp_path / "unmarked.dcm", enforce_file_format=False)
    (tmp_path / "unmarked.dcm").write_bytes((tmp_path / "unmarked.dcm").read_bytes())
    bare = dcmread(path)
    del bare.file_meta
    bare.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True)
    for name in ("dicom.png", "png.dcm", "unmarked.dcm", "bare.dcm"):
        assert np.array_equal(read(tmp_path / name), film >> 4), name


# What is no film ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "elements, reason",
    [
        ({"Modality": "CT", "SOPClassUID": CTImageStorage}, "of modality CT, not a radiograph: give one of CR or DX"),
        ({"Modality": "CT", "NumberOfFrames": 40}, "modality CT"),
        ({"Modality": "MG"}, "modality MG"),
        ({"NumberOfFrames": 2}, "of 2 frames: export the one"),
        ({"PixelData": None}, "without a picture"),
        ({"Rows": 40_000, "Columns": 40_000}, "declares 40000 x 40000 pixels"),
        ({"Rows": 200}, "not a readable DICOM .*: get it again"),
        ({"BitsStored": 17}, "not a readable DICOM"),
        ({"RescaleSlope": 0}, "not a readable DICOM .Rescale Slope 0"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window of width 0"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "function CUBIC"),
    ],
)
def test_what_is_no_film_says_why(tmp_path, film, elements, reason):
    path = write(tmp_path / "CXR7.dcm", film, **elements)
    with pytest.raises(MedcapError, match=f"CXR7.dcm .*{reason}"):
        read(path)


@pytest.mark.parametrize("syntax, package", [(JPEG2000Lossless, "openjpeg"), (JPEGLSLossless, "pylibjpeg-libjpeg")])
def test_a_codec_that_is_absent_is_named(tmp_path, film, syntax, package):
    from pydicom.encaps import encapsulate

    data = dcmread(write(tmp_path / "a.dcm", film))
    data.file_meta.TransferSyntaxUID, data.PixelData = syntax, encapsulate([b"\xff\x4f\xff\x51 no picture "])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(MedcapError, match=f"a.dcm .*{package}, or export it uncompressed or as PNG"):
        read(tmp_path / "a.dcm")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_damaged_file_is_handled(tmp_path, film, syntax):
    """Cut off at any place it is refused; with a byte changed it is refused, or a picture of the size it declares."""
    whole = write(tmp_path / "a.dcm", film, syntax).read_bytes()
    path, rng = tmp_path / "cut.dcm", np.random.default_rng(0)
    for length in [0, 4, 131, 132, 140, 400, *rng.integers(500, len(whole) - 2, 20)]:
        path.write_bytes(whole[:length])
        with pytest.raises(MedcapError, match="cut.dcm"):
            read(path)
    for place in [*rng.integers(0, 900, 150), *rng.integers(0, len(whole), 50)]:
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert read(path).dtype == np.uint8
        except MedcapError as error:
            assert "cut.dcm" in str(error)
    for content in (b"", b"no DICOM", b"<html>" * 100):
        path.write_bytes(content)
        with pytest.raises(MedcapError, match="cut.dcm"):
            read(path)


# One film in many forms -----------------------------------------------------------------------------------------------


def forms(folder, film):
    """The same film in 8, 12 and 16 bits, gray, with alpha, in colour, in PNG, JPEG and DICOM: the paths."""
    gray, full = (film >> 4).astype(np.uint8), film << 4 | film >> 8
    pictures = {"L": gray, "LA": channels(gray, 2, 255), "RGB": channels(gray, 3), "RGBA": channels(gray, 4, 255)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"8_{name}.png")
    Image.fromarray(gray).convert("P").save(folder / "8_P.png")
    Image.fromarray(gray).save(folder / "8_L.jpg", quality=95)
    Image.fromarray(pictures["RGB"]).save(folder / "8_RGB.jpg", quality=95)
    for bits, values in (("12", film), ("16", full)):
        for count, name in enumerate(("L", "LA", "RGB", "RGBA"), 1):
            png16(folder / f"{bits}_{name}.png", channels(values, count))
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        for bits, values in ((8, gray), (12, film), (16, full)):
            turned = values if kind == "MONOCHROME2" else (1 << bits) - 1 - values
            write(
                folder / f"{bits}_{kind}.dcm", turned.astype(values.dtype), stored=bits, PhotometricInterpretation=kind
            )
        write(folder / f"12_{kind}_rle.dcm", turned >> 4, RLELossless, PhotometricInterpretation=kind)
    return sorted(folder.iterdir())


@pytest.fixture
def run(tmp_path):
    """A run that nobody trained."""
    config, vocab = choose("tiny").change(generation={"beam_size": 2, "min_length": 0}), made_up(8, seed=1)[1]
    reader = encoder.load("random")
    shapes = reader.arrays
    inputs = {name: [np.zeros([1, *shape], "float32")] for name, shape in shapes.items()}
    one = Studies(pd.DataFrame({"study_id": ["a"]}), inputs, [[0]], 0)
    runs.save(tmp_path / "run", config, vocab, one, feature_file.describe(reader))
    model = models.build(config.decoder, shapes, len(vocab))
    write_tensors(tmp_path / "run/weights.safetensors", loop.tensors(model))
    return tmp_path / "run"


def test_one_film_is_one_film_in_many_forms(tmp_path, film, run):
    (tmp_path / "forms").mkdir()
    paths = forms(tmp_path / "forms", film)
    assert len(paths) >= 21
    wanted = transform(read(tmp_path / "forms/8_L.png"), SEEN)
    for path in paths:
        gap = np.abs(transform(read(path), SEEN) - wanted).max((1, 2)) * STD * 255
        assert gap.max() <= (3.001 if path.suffix == ".jpg" else 0), path.name
    reader = encoder.load("random")
    table = pd.DataFrame({"image_id": [path.name for path in paths], "path": list(map(str, paths))})
    index = features.extract(table, reader, tmp_path / "features.h5", exact=True)
    assert not index.unreadable and not index.doubtful
    reports_ = {generate.caption(run, [path]).reports[0][0] for path in paths if path.suffix != ".jpg"}
    assert len(reports_) == 1
    [scores] = {tuple(score for _, score in generate.caption(run, [path]).reports) for path in paths[:1]}
    jpeg = generate.caption(run, [tmp_path / "forms/8_L.jpg"]).reports
    assert jpeg[0][0] in reports_ and jpeg[0][1] == pytest.approx(scores[0], rel=0.01)


def test_the_command_tells_what_looks_inverted(tmp_path, film, run, monkeypatch, capsys):
    right, wrong = write(tmp_path / "right.dcm", film), write(tmp_path / "wrong.dcm", 4095 - film)
    for path in (right, wrong):
        monkeypatch.setattr("sys.argv", ["generate", str(run), str(path)])
        generate.main()
        told = capsys.readouterr()
        warned = [line for line in told.err.splitlines() if line.startswith("warning: ")]
        assert told.out and len(warned) == (path == wrong)
    assert "wrong.dcm looks inverted" in warned[0]


def test_features_count_what_looks_inverted(tmp_path, film, monkeypatch, capsys):
    (tmp_path / "work").mkdir()
    paths = [write(tmp_path / f"{k}.dcm", 4095 - film if k == 2 else film) for k in range(4)]
    table = pd.DataFrame({"image_id": list("abcd"), "path": list(map(str, paths))})
    write_table(tmp_path / "work/images.csv", table)
    monkeypatch.setattr("sys.argv", ["features", str(tmp_path / "work"), "--encoder", "random"])
    features.main()
    assert "4 images, 0 unreadable, 1 doubtful (see features.json)" in capsys.readouterr().out
    [row] = feature_file.index(tmp_path / "work/features.h5").doubtful
    assert row["image_id"] == "c" and row["file"].endswith("2.dcm") and "looks inverted" in row["reason"]
    clean = features.extract(table[:2], encoder.load("random"), tmp_path / "clean.h5")
    assert clean.doubtful == [] and "doubtful" not in (tmp_path / "clean.json").read_text()


XML = """<eCitation><uId id="CXR1"/><MedlineCitation><Article><Abstract><AbstractText Label="FINDINGS">Clear lungs.
</AbstractText></Abstract></Article></MedlineCitation><parentImage id="CXR1_1_IM-0001-3001"/></eCitation>"""


def test_a_collection_may_hold_dicom(tmp_path, film):
    (tmp_path / "data/dicom").mkdir(parents=True)
    (tmp_path / "data/1.xml").write_text(XML)
    path = write(tmp_path / "data/dicom/CXR1_1_IM-0001-3001.dcm", film)
    reports.build(tmp_path / "data", tmp_path / "work")
    [found] = read_table(tmp_path / "work/images.csv", ["path"], "").path
    assert found == str(path) and np.array_equal(read(found), film >> 4)


def test_pydicom_is_loaded_for_a_dicom_only(tmp_path, film):
    Image.fromarray((film >> 4).astype(np.uint8)).save(tmp_path / "a.png")
    code = f"import sys; from medcap_paddle import image; image.read({str(tmp_path / 'a.png')!r})"
    code += "; assert not {'pydicom', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
