"""Class probabilities of read sequences with a trained model, the way training evaluates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metagene_train.errors import DataError, InputError, RunError

if TYPE_CHECKING:
    import torch

    from metagene_train.model import LoadedClassifier

LEAST_BATCH = 64
"""Reads in a batch when the configuration names no evaluation batch and a smaller training batch:
without gradients a read needs a small part of the memory that it needs in training."""


def resolve_device(name: str) -> torch.device:
    """``auto`` is a GPU when there is one. Raises InputError for ``cuda`` without one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    return torch.device(name)


class ReadScorer:
    """A loaded classifier and the number of reads it takes at once.

    ``batch_size`` None follows the configuration; it is halved when the GPU runs out of memory, which
    is why this is an object. ``reads_cut`` counts reads that were longer than ``max_length`` tokens
    and were judged by their first ones.
    """

    def __init__(self, classifier: LoadedClassifier, batch_size: int | None = None):
        training = classifier.config.training
        self.classifier = classifier
        self.batch_size = batch_size or training.eval_batch_size or max(training.batch_size, LEAST_BATCH)
        self.reads_cut = 0

    def probabilities(self, sequences: Sequence[bytes]) -> np.ndarray:
        """float32 [N, K] of N normalised sequences, in their order.

        With ``dataset.reverse_complement`` the mean over both strands. Raises RunError when one
        read alone does not fit the GPU, DataError when a read is longer than ``max_length`` tokens
        and ``tokenizer.truncation`` is off.
        """
        from metagene_train.reads.counts.bases import reverse_complement

        tokens, cut = self._encode(sequences)
        self.reads_cut += cut
        forward = self._score(tokens)
        if not self.classifier.config.dataset.reverse_complement:
            return forward
        tokens, _ = self._encode([reverse_complement(sequence) for sequence in sequences])
        return (forward + self._score(tokens)) / 2

    def _encode(self, sequences: Sequence[bytes]) -> tuple[list[list[int]], int]:
        """Token ids of at most ``max_length``, and how many reads were cut to that."""
        settings, encode = self.classifier.config.tokenizer, self.classifier.tokenizer.encode
        tokens = encode(sequences, max_length=settings.max_length + 1)
        long = [place for place, ids in enumerate(tokens) if len(ids) > settings.max_length]
        if long and not settings.truncation:
            raise DataError(
                f"a read of {len(sequences[long[0]]):,} bases is longer than tokenizer.max_length "
                f"({settings.max_length} tokens) and the run does not cut reads; set tokenizer.truncation: "
                "true in the config.yaml of its model/, or leave such reads out"
            )
        cut = encode([sequences[place] for place in long], max_length=settings.max_length)
        for place, ids in zip(long, cut, strict=True):
            tokens[place] = ids
        return tokens, len(long)

    def _score(self, tokens: list[list[int]]) -> np.ndarray:
        """Probabilities float32 [N, K] of N tokenised reads, in their order."""
        import torch

        from metagene_train.training.batching import collate
        from metagene_train.training.step import evaluation_step

        classifier, settings = self.classifier, self.classifier.config.tokenizer
        # Longest first: little padding, and a batch that does not fit shows at once.
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        result = np.empty((len(tokens), len(classifier.labels)), dtype=np.float32)
        start = 0
        while start < len(order):
            rows = order[start : start + self.batch_size]
            batch = collate(
                [{"input_ids": tokens[row], "label": 0} for row in rows],
                classifier.tokenizer.pad_id,
                settings.padding,
                settings.max_length,
            )
            try:
                on_device = {name: tensor.to(classifier.model.device) for name, tensor in batch.items()}
                logits = evaluation_step(classifier.model, on_device)
            except torch.OutOfMemoryError:
                if len(rows) == 1:
                    raise RunError(
                        f"out of GPU memory on one read of {len(tokens[rows[0]])} tokens; "
                        "free the GPU, or use --device cpu"
                    ) from None
                self.batch_size = len(rows) // 2
                torch.cuda.empty_cache()
                continue
            result[rows] = torch.softmax(logits, dim=-1).cpu().numpy()
            start += len(rows)
        return result
