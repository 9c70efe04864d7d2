"""References and predictions of made-up words, and pycocoevalcap's scores of them."""

import numpy as np
import pandas as pd

WORDS = "the heart lungs are is clear normal small large left right effusion no pneumothorax .".split()


def texts(count, seed, words=(3, 25)):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(*words))) + " ." for _ in range(count)]


def table(references, predictions):
    ids = [f"S{i}" for i in range(len(references))]
    return pd.DataFrame({"study_id": ids, "reference": references, "prediction": predictions})


def coco(references, predictions):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    pairs = [{i: [t] for i, t in enumerate(side)} for side in (references, predictions)]
    bleu = Bleu(4).compute_score(*pairs, verbose=0)[0]
    names = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
    return dict(zip(names, [*bleu, Rouge().compute_score(*pairs)[0], Cider().compute_score(*pairs)[0]], strict=True))
