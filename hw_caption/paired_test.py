"""Whether attention gains anything: a paired test over the test images, with the scores of the seeds averaged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hw_caption.metrics import References, image_bleus
from hw_caption.presets import CAPTION_FILES
from hw_common.runs import files
from hw_common.runs.run_folder import Run

_DRAWS, _SEED = 9999, 0  # number of draws, and their seed, both for the random signs and for the bootstrap samples


def paired_test(trained: Mapping[str, Sequence[Run]], names: Sequence[str], references: References) -> dict[str, Any]:
    """Compares the BLEU-4 of both decoders image by image, on the captions of each run's best epoch.

    Args:
        trained: the finished runs of "vanilla" and "attention", one per seed.
        names: names of the test images.
        references: reference captions of these images.

    Returns:
        The mean difference (with minus without attention), its 95 % interval by the bootstrap over images, and the
        p-value of the permutation test that flips the sign of the difference of each image.
    """
    from scipy import stats  # slow to import

    scores = {decoder: _scores(decoder, trained[decoder], names, references) for decoder in ("vanilla", "attention")}
    difference = scores["attention"] - scores["vanilla"]
    options: dict[str, Any] = {"n_resamples": _DRAWS, "vectorized": True}
    test = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", rng=np.random.default_rng(_SEED), **options
    )
    interval = stats.bootstrap(
        (difference,), np.mean, method="percentile", rng=np.random.default_rng(_SEED), **options
    ).confidence_interval
    return {
        "images": len(names),
        "difference": float(difference.mean()),
        "low": float(interval.low),
        "high": float(interval.high),
        "p_value": float(test.pvalue),
        "vanilla_each": scores["vanilla"].tolist(),
        "attention_each": scores["attention"].tolist(),
    }


def in_words(test: Mapping[str, Any]) -> str:
    """The result of `paired_test` as a sentence."""
    return (
        f"Over the {test['images']} test images, BLEU-4 with attention minus without attention is "
        f"{test['difference']:+.4f} (95 % interval {test['low']:+.4f} to {test['high']:+.4f}, "
        f"p = {test['p_value']:.3f}; captions of the best epochs, averaged over the seeds)"
    )


def _scores(decoder: str, runs: Sequence[Run], names: Sequence[str], references: References) -> np.ndarray:
    """BLEU-4 of each image, averaged over the runs, (images,)."""
    scores = []
    for run in runs:
        rows = files.read_json(run.folder / CAPTION_FILES[decoder])
        captions = {row["image_name"]: row["caption"] for row in rows}
        scores.append(image_bleus(references, [captions[name] for name in names]))
    return np.mean(scores, axis=0)
