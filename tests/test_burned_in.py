"""Laws of the detector of burned-in text, of its command and of the lines labelled by hand."""

import medcap_paddle  # first: it prepares the process for paddle  # noqa: F401 isort: skip
import csv
import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medcap_paddle.runtime.files import MedcapError
from medcap_paddle.sequence import alphabet, burned_in, crnn, films, labelled, lines, reader, variation
from medcap_paddle.sequence.burned_in import Line

SHARED = Path(__file__).parents[2] / "shared"
LABELS = Path(__file__).with_name("burned_in.csv")


def film(texts=(("PORTABLE", 60, 80), ("L", 420, 60)), size=512, light=235, dark=60):
    """A smooth film [H, W] with lines drawn at (x, y)."""
    pixels = np.tile(np.linspace(dark, dark + 40, size), (size, 1)).astype("uint8")
    for text, x, y in texts:
        cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.7, light, 2)
    return pixels


class Oracle:
    """A reader that says of each crop whether it has bright letters; it stands for a trained one."""

    def read(self, crops, width=8):
        return [("L", 0.9) if crop.max() > 200 else ("", 0.9) for crop in crops]


def ink(text, x, y, **how):
    rows, columns = np.nonzero(film([(text, x, y)], **how) != film([], **how))
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


@pytest.mark.parametrize(("light", "dark"), [(235, 60), (20, 180)])
@pytest.mark.parametrize("text", ["PORTABLE", "L", "AP", "10:35"])
def test_a_line_is_among_the_candidates_bright_or_dark(text, light, dark):
    boxes = burned_in.candidates(film([(text, 100, 200)], light=light, dark=dark))
    box = tuple(map(int, ink(text, 100, 200, light=light, dark=dark)))
    assert any(labelled.is_found(box, found) for found in boxes)


def test_a_plain_film_has_no_candidates():
    assert burned_in.candidates(film([])) == []


def test_boxes_are_in_the_pixels_of_a_large_film():
    small = film(size=512)
    large = cv2.resize(small, None, fx=5, fy=5, interpolation=cv2.INTER_NEAREST)
    box = tuple(5 * int(n) for n in ink("PORTABLE", 60, 80))
    assert any(labelled.is_found(box, found) for found in burned_in.candidates(large))


def test_only_what_the_reader_reads_is_a_line():
    """A dark dent is a candidate; the oracle reads nothing there."""
    pixels = film([("PORTABLE", 60, 80)])
    cv2.rectangle(pixels, (300, 300), (310, 320), 0, -1)
    found = burned_in.find(pixels, Oracle())
    assert len(found) == 1 and labelled.is_found(tuple(map(int, ink("PORTABLE", 60, 80))), found[0].box)
    assert burned_in.find(pixels, Oracle(), sure=0.95) == []


def test_a_mask_covers_the_letters_and_nothing_far_from_them():
    pixels = film()
    lines = burned_in.find(pixels, Oracle())
    black = burned_in.mask(pixels, lines)
    assert (black[film() != film([])] == 0).all()
    changed = np.argwhere(black != pixels)
    near = cv2.dilate((film() != film([])).astype("uint8"), np.ones([41, 41]))
    assert all(near[row, column] for row, column in changed) and np.array_equal(pixels, film())


def test_the_command_writes_a_table_and_black_films(tmp_path, capsys):
    Image.fromarray(film()).save(tmp_path / "a b.png")
    burned_in.run([str(tmp_path / "a b.png")], str(tmp_path / "out"), Oracle())
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["text"] for row in rows} == {"L"} and len(rows) == 2
    black = np.asarray(Image.open(tmp_path / "out/a b.png"))
    assert black.shape == (512, 512) and (black[film() != film([])] == 0).all()


def test_nothing_is_written_over_an_image(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(film()).save(tmp_path / folder / "a.png")
    paths = [str(tmp_path / folder / "a.png") for folder in ("one", "two")]
    with pytest.raises(MedcapError, match="several images"):
        burned_in.run(paths, str(tmp_path / "out"), Oracle())
    with pytest.raises(MedcapError, match="over"):
        burned_in.run(paths[:1], str(tmp_path / "one"), Oracle())
    assert not (tmp_path / "out").exists()


def test_a_dicom_file_is_read_and_loses_its_header(tmp_path, capsys):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.PatientName, data.Modality = "DOE^JANE", "DX"
    data.SOPClassUID, data.SOPInstanceUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation,
        pydicom.uid.generate_uid(),
    )
    pixels = film()
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, pixels.tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    burned_in.run([str(tmp_path / "film.dcm")], str(tmp_path / "out"), Oracle())
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert b"DOE" not in (tmp_path / "out/film.png").read_bytes()


# The reader that is shipped -------------------------------------------------------------------------------------------


def test_the_command_works_as_installed(tmp_path, monkeypatch, capsys):
    """Without --reader: on a film with two lines it finds and reads these two."""
    assert reader.SHIPPED.stat().st_size < 3e6
    Image.fromarray(film()).save(tmp_path / "film.png")
    monkeypatch.setattr("sys.argv", ["burned_in", str(tmp_path / "film.png"), "--mask", str(tmp_path / "out")])
    burned_in.main()
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sorted(row["text"] for row in rows) == ["L", "PORTABLE"]
    black = np.asarray(Image.open(tmp_path / "out/film.png"))
    assert (black[film() != film([])] == 0).all()


def test_it_reads_little_where_nothing_is_written():
    shipped, (some, others, _) = reader.load(), films.load("", 4)
    found = [burned_in.find(pixels, shipped) for pixels in [*some, *others]]
    assert sum(map(len, found)) <= 2 * len(found)


@pytest.mark.skipif(not SHARED.exists(), reason="the films lie beside the repository")
def test_it_reads_most_labelled_lines_of_real_films():
    """Of every sixth film, with little between lines and noise: notebook 42 measures all."""
    films = list(labelled.load(LABELS).items())[1::6]
    shipped, scores, right, lines = reader.load(), [], 0, 0
    for path, labels in films:
        pixels = cv2.imread(str(SHARED / path), cv2.IMREAD_GRAYSCALE)
        given = [label for label in labels if label.kind == "line"]
        read = shipped.read([burned_in.cut(pixels, label.box) for label in given])
        right, lines = (
            right + sum(text == label.text for (text, _), label in zip(read, given, strict=True)),
            lines + len(given),
        )
        scores.append(labelled.score(labels, burned_in.find(pixels, shipped)))
    total = np.sum(scores, 0)
    assert right >= 0.7 * lines and total[1] >= 0.7 * total[0] and total[3] <= 1.5 * len(films)


# Labels ---------------------------------------------------------------------------------------------------------------


def test_at_least_sixty_lines_of_three_collections_are_labelled():
    films = labelled.load(LABELS)
    lines = [(path, label) for path, labels in films.items() for label in labels if label.kind == "line"]
    assert len(lines) >= 60 and {path.split("/")[0] for path, _ in lines} == {"cxr_png", "nih_cxr", "tb_cxr"}
    assert all(label.text for _, label in lines)
    assert {label.kind for labels in films.values() for label in labels} == {"line", "other"}


@pytest.mark.skipif(not SHARED.exists(), reason="the films lie beside the repository")
def test_the_labelled_boxes_lie_on_their_films_and_differ_from_what_is_around_them():
    for path, labels in labelled.load(LABELS).items():
        pixels = cv2.imread(str(SHARED / path), cv2.IMREAD_GRAYSCALE)
        for label in labels:
            x, y, width, height = label.box
            assert 0 <= x and 0 <= y and x + width <= pixels.shape[1] and y + height <= pixels.shape[0], path
            if label.kind == "line":
                assert np.ptp(pixels[y : y + height, x : x + width]) >= 12, (path, label)


@pytest.mark.skipif(not SHARED.exists(), reason="the films lie beside the repository")
def test_most_labelled_lines_are_among_the_candidates():
    """Of every sixth film: what is no candidate cannot be found by any reader."""
    films = list(labelled.load(LABELS).items())[::6]
    lines = hits = 0
    for path, labels in films:
        boxes = burned_in.candidates(cv2.imread(str(SHARED / path), cv2.IMREAD_GRAYSCALE))
        for label in labels:
            lines += label.kind == "line"
            hits += label.kind == "line" and any(labelled.is_found(label.box, box) for box in boxes)
    assert hits >= 0.8 * lines


def test_scores_count_lines_finds_and_errors():
    labels = [labelled.Label((10, 10, 40, 10), "AP", "line"), labelled.Label((100, 10, 10, 10), "", "other")]
    labels.append(labelled.Label((10, 100, 40, 10), "PA", "line"))
    found = [Line((9, 9, 43, 12), "AP", 0.9), Line((101, 11, 5, 5), "L", 0.9), Line((300, 300, 10, 10), "R", 0.9)]
    assert labelled.score(labels, found).tolist() == [2, 1, 1, 1]
    assert labelled.score(labels, [Line((0, 0, 200, 200), "AP", 0.9)]).tolist() == [2, 0, 0, 0]


# An alphabet that grows -----------------------------------------------------------------------------------------------


def test_the_old_rows_stay_and_only_the_new_ones_learn(tmp_path):
    import paddle

    old = reader.build(crnn.CRNNSettings(channels=2, hidden=8))
    before = {name: tensor.numpy().copy() for name, tensor in old.network.state_dict().items()}
    grown = alphabet.NewRows(old, "bd")
    crop = film()[40:100, 40:200]
    line = paddle.to_tensor(reader.lines.fit(crop)[None, None])
    rows = grown.rows.weight.numpy().copy()
    task = reader.Reading(
        alphabet.Examples([(crop, "bd")]), replace(reader.SETTINGS, epochs=1), 64, old.alphabet + "bd"
    )
    reader.loop.fit(grown, task, tmp_path / "grown", task.settings)
    assert not np.allclose(grown.rows.weight.numpy(), rows)
    assert all(np.array_equal(tensor.numpy(), before[name]) for name, tensor in old.network.state_dict().items())
    new = grown.reader()
    new.network.eval()
    assert new.alphabet == old.alphabet + "bd"
    assert np.allclose(new.network(line).numpy(), grown(line).numpy(), atol=1e-5)


def test_a_letter_is_not_learnt_twice():
    old = reader.build(crnn.CRNNSettings(channels=2, hidden=8))
    for letters in ("A", "bb"):
        with pytest.raises(ValueError, match="known already, or there twice"):
            alphabet.NewRows(old, letters)


def test_a_varied_line_is_another_picture_of_the_same_letters():
    """No two are alike, none is empty, and the shipped reader still reads most of them."""
    rng, crop = np.random.default_rng(0), burned_in.cut(film(), ink("PORTABLE", 60, 80))
    varied = [variation.vary(crop, rng) for _ in range(40)]
    assert len({picture.tobytes() for picture in varied}) == 40 and len({picture.shape for picture in varied}) > 20
    assert all(picture.dtype == np.uint8 and np.ptp(picture) >= 12 for picture in varied)
    shipped = reader.load()
    assert shipped.read([crop])[0][0] == "PORTABLE"
    read = [text for text, _ in shipped.read(varied)]
    assert reader.rates(reader.errors(read, ["PORTABLE"] * 40))["cer"]["value"] < 0.1


def test_examples_are_varied_and_old_lines_come_with_their_share():
    crop = film()[50:90, 50:210]
    new = alphabet.Examples([(crop, "b")], variation.vary)
    assert not np.array_equal(new.draw([0])[0].shape, new.draw([1])[0].shape)
    assert np.array_equal(new.draw([3])[0], new.draw([3])[0])
    assert np.array_equal(alphabet.Examples([(crop, "b")]).draw([0])[0], crop)
    mixed = alphabet.Rehearsal(new, alphabet.Examples([(crop, "A")]), share=0.25)
    texts = [mixed.draw([5, k])[1] for k in range(400)]
    assert 0.18 < texts.count("A") / 400 < 0.32


def test_small_letters_are_as_large_as_beside_a_capital():
    """A capital of 8 to 44 pixels: the line "bg" is higher by what reaches below, "n" is lower than "H"."""
    patch = np.full([200, 300], 60, np.uint8)
    for font in ("DejaVuSans", "Hershey simplex"):
        high = {text: len(lines.FONTS[font](text)) for text in ("H", "n", "bg")}
        crops = {t: [lines.draw(t, font, patch, np.random.default_rng(k)) for k in range(60)] for t in high}
        mean = {text: np.mean([len(crop) for crop in some]) for text, some in crops.items()}
        for text in ("n", "bg"):
            assert (mean[text] > mean["H"]) == (high[text] > high["H"])
