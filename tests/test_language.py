"""Laws of the language check: English is English however short it is, other languages are refused with the reason."""

import random

import numpy as np
import pytest
from iu_xray import kaggle, study

from medcap_paddle import reports
from medcap_paddle.clinical.language import LEAST, english_share, require_english
from medcap_paddle.clinical.phrasing import sample_findings, write_report
from medcap_paddle.runtime.files import MedcapError

FOREIGN = {
    "German": "Das Herz ist normal groß. Die Lungen sind frei. Kein Pleuraerguss, kein Pneumothorax. Alte Fraktur "
    "der 5. Rippe rechts. Port-Katheter in situ. Mediastinum unauffällig.",
    "French": "Le coeur est de taille normale. Pas d'épanchement pleural ni de pneumothorax. Opacité basale gauche, "
    "possible consolidation. Fracture de côte ancienne. Nodule du lobe supérieur droit.",
    "Spanish": "El corazón es de tamaño normal. No hay derrame pleural ni neumotórax. Silueta cardiaca normal. "
    "Fractura costal antigua. Hernia hiatal. No consolidación.",
    "Chinese": "心脏大小正常。双肺清晰。无胸腔积液或气胸。PICC 管在位。左下肺见斑片影，考虑炎症。",
    "Portuguese": "Coração de tamanho normal. Pulmões sem alterações. Não há derrame pleural ou pneumotórax.",
    "Russian": "Сердце не увеличено. Легкие без очаговых изменений. Плевральные синусы свободны.",
}
TERSE = [
    "Heart nl. Lungs clear. No eff or ptx.",
    "Small L eff. No PTX. CM stable.",
    "RLL opac c/w pna. ETT ok.",
    "Cardiomegaly. Edema.",
    "Normal heart. No effusion.",
    "NAD. Clear lungs.",
]


@pytest.mark.parametrize("language", FOREIGN)
def test_another_language_is_refused(language):
    assert english_share([FOREIGN[language]]) < LEAST / 2
    with pytest.raises(MedcapError, match=r"reports of DATA are not in English: \d+% .* expected at least 30%"):
        require_english([FOREIGN[language]] * 3, "DATA")


def test_telegraphic_english_and_the_phantom_are_not():
    assert english_share(TERSE) > 1.5 * LEAST
    rng = np.random.default_rng(0)
    made_up = [write_report(sample_findings(rng), rng)[0] for _ in range(300)]
    assert min(english_share([text]) for text in made_up) > 1.5 * LEAST
    require_english(TERSE + made_up, "DATA")


def test_few_words_say_nothing_about_their_language():
    require_english(["Herz normal."], "DATA")
    require_english([], "DATA")
    require_english(["XXXX XXXX"], "DATA")


@pytest.mark.parametrize("language", ["German", "Chinese"])
@pytest.mark.parametrize("rules", ["r2gen", "original"])
def test_a_collection_in_another_language_ends_before_any_work(tmp_path, language, rules):
    sentences = FOREIGN[language].replace("。", "。 ").split(" ")
    shuffled = [random.Random(n).sample(sentences, len(sentences)) for n in range(1, 7)]
    data = kaggle(tmp_path / "data", [study(n, " ".join(words)) for n, words in enumerate(shuffled, 1)])
    settings = reports.ReportSettings(cleaning=rules)
    with pytest.raises(MedcapError, match="English"):
        reports.build(data, tmp_path / "work", settings)
    assert not (tmp_path / "work/reports.csv").exists()
