"""All metrics, by name. A new one: a function in its task's module, one line here, one test."""

from __future__ import annotations

from edgekit.errors import DataError, unknown
from edgekit.tasks.classification import CALIBRATION_ERROR, TOP1
from edgekit.tasks.drift import SNR
from edgekit.tasks.generation import FRECHET, PRECISION, RECALL
from edgekit.tasks.language import BITS_PER_CHARACTER, KL, PERPLEXITY, TOKEN_AGREEMENT
from edgekit.tasks.masked_language import MASKED_ACCURACY, NEXT_SENTENCE, UNIGRAM_ACCURACY
from edgekit.tasks.metric import Metric
from edgekit.tasks.reconstruction import ELBO, PIXEL_ERROR
from edgekit.tasks.regression import R2, RMSE
from edgekit.tasks.sequence_to_sequence import TOKEN_ACCURACY
from edgekit.tasks.sequences import EDIT_DISTANCE, SEQUENCE_ACCURACY
from edgekit.tasks.steps import STEP_ACCURACY

_ALL = (
    TOP1,
    CALIBRATION_ERROR,
    RMSE,
    R2,
    ELBO,
    PIXEL_ERROR,
    FRECHET,
    PRECISION,
    RECALL,
    SNR,
    PERPLEXITY,
    BITS_PER_CHARACTER,
    TOKEN_AGREEMENT,
    KL,
    SEQUENCE_ACCURACY,
    EDIT_DISTANCE,
    STEP_ACCURACY,
    MASKED_ACCURACY,
    UNIGRAM_ACCURACY,
    NEXT_SENTENCE,
    TOKEN_ACCURACY,
)
METRICS: dict[str, Metric] = {m.name: m for m in _ALL}


def find_metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        DataError: if there is none; the message holds the nearest.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise DataError(unknown("metric", name, METRICS)) from None
