"""Laws of findings: Open-i terms and back, and the labels of an encoder."""

import numpy as np
import pytest

from medcap_paddle.clinical.findings import KINDS, LABELS, Finding, from_mesh, label_vector, to_mesh
from medcap_paddle.clinical.phrasing import sample_finding


def test_terms_are_read_back_as_they_were_written():
    rng = np.random.default_rng(0)
    for name in KINDS:
        for _ in range(30):
            findings = [sample_finding(name, rng, phrased=False)]
            assert from_mesh(to_mesh(findings)) == findings
    assert from_mesh(to_mesh([])) == []


@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("Opacity/lung/upper lobe/right/mild", Finding("opacity", "right", "upper lobe", "mild")),
        ("opacity / lung/ middle lobe", Finding("opacity", "right", "middle lobe")),
        ("Opacity/lung/lingula/round", Finding("nodule", "left", "lingula")),
        ("Cardiac Shadow/enlarged/borderline", Finding("cardiomegaly", severity="borderline")),
        ("Pleural Effusion/bilateral/large", Finding("pleural effusion", "bilateral", "", "severe")),
        ("Calcified Granuloma/scattered/multiple", Finding("calcified granuloma", "", "scattered")),
    ],
)
def test_qualifiers_become_side_place_and_severity(term, finding):
    assert from_mesh(term) == [finding]


@pytest.mark.parametrize(
    "terms", ["normal", "", "No Indexing", "Unheard Of/left", [], ["normal", "Heart/right/obscured"]]
)
def test_what_cannot_be_drawn_is_ignored(terms):
    assert from_mesh(terms) == []


def test_labels_keep_sides_apart_and_bilateral_is_both():
    left, right, both = (label_vector([Finding("nodule", side)]) for side in ("left", "right", "bilateral"))
    assert left @ right == 0
    assert np.array_equal(left + right, both)
    assert np.array_equal(both, label_vector(from_mesh("Nodule/lung/scattered")))
    assert label_vector([]).sum() == 0
    assert len(set(LABELS)) == len(LABELS)


def test_every_label_can_be_sampled():
    rng = np.random.default_rng(0)
    seen = sum(label_vector([sample_finding(name, rng, phrased=False)]) for name in KINDS for _ in range(60))
    assert [label for label, count in zip(LABELS, seen, strict=True) if not count] == []
