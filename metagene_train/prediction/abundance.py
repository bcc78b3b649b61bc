"""A sample's composition from its reads' classes: reads and fractions, the unclassified included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metagene_train.labels import LabelMap

if TYPE_CHECKING:
    import pyarrow

UNCLASSIFIED = "unclassified"
"""Label of a read that got no class: too little confidence, or nothing to classify."""


class Abundance:
    """Counts reads by class, a buffer of predictions at a time; holds one number per class."""

    def __init__(self, labels: LabelMap):
        self.labels = labels
        # The last place is for the unclassified.
        self.reads = np.zeros(len(labels) + 1, dtype=np.int64)
        self.scored = np.zeros(len(labels) + 1, dtype=np.int64)
        self.confidence = np.zeros(len(labels) + 1)

    def add(self, predictions: np.ndarray, confidence: np.ndarray) -> None:
        """Count reads: int label ids [N], -1 for unclassified, and confidences [N], NaN for none."""
        places = len(self.reads)
        place = np.where(predictions < 0, places - 1, predictions)
        scored = ~np.isnan(confidence)
        self.reads += np.bincount(place, minlength=places)
        self.scored += np.bincount(place[scored], minlength=places)
        self.confidence += np.bincount(place[scored], weights=confidence[scored], minlength=places)

    def table(self, sample: str) -> pyarrow.Table:
        """One row per class of the model, those with most reads first, and a last one of the
        unclassified: sample, class_id, label_name, reads, fraction (of all reads, they add up to
        1), mean_confidence (over its reads; null without any)."""
        import pyarrow

        names = [*self.labels.names, UNCLASSIFIED]
        class_ids = [*self.labels.class_ids, None]
        order = [*np.argsort(-self.reads[:-1], kind="stable").tolist(), len(names) - 1]
        total = max(int(self.reads.sum()), 1)
        return pyarrow.table(
            {
                "sample": pyarrow.array([sample] * len(names), pyarrow.string()),
                "class_id": pyarrow.array([class_ids[i] for i in order], pyarrow.int64()),
                "label_name": [names[i] for i in order],
                "reads": self.reads[order],
                "fraction": self.reads[order] / total,
                "mean_confidence": pyarrow.array(
                    [float(self.confidence[i] / self.scored[i]) if self.scored[i] else None for i in order],
                    pyarrow.float64(),
                ),
            }
        )
