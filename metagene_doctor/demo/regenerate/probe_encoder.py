"""How much of a read's class the demo encoder's vectors tell before any fine-tuning.

    python -m metagene_doctor.demo.regenerate.probe_encoder [DIRECTORY]

A logistic regression on the mean token vectors of the frozen encoder, beside one on the frequencies of
4-mers: the same training reads, the same validation reads, the best of the same penalties for both.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer
from transformers import LlamaModel

from metagene_doctor.demo.genomes import DATA
from metagene_doctor.demo.inputs import TRAIN_READS, VALIDATION_READS, cut_reads
from metagene_train.evaluation.baseline import kmer_frequencies

PROBED_READS = 6_000
INVERSE_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
BATCH = 250


def pooled(encoder: LlamaModel, tokenizer: Tokenizer, reads: list[str]) -> np.ndarray:
    """Mean token vectors float32 [N, hidden] of reads."""
    found = []
    for start in range(0, len(reads), BATCH):
        encoded = [torch.tensor(one.ids) for one in tokenizer.encode_batch(reads[start : start + BATCH])]
        ids = torch.nn.utils.rnn.pad_sequence(encoded, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in encoded], batch_first=True)
        # Reads are padded on the right, which a causal encoder cannot see: no attention mask.
        with torch.inference_mode():
            states = encoder(input_ids=ids, use_cache=False).last_hidden_state
        found.append(((states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)).numpy())
    return np.concatenate(found)


def best_score(train: np.ndarray, classes: list[int], judged: np.ndarray, truth: list[int]) -> float:
    """The highest macro-F1 that any penalty gives; chosen on the judged reads, so a little too high."""
    scores = []
    for penalty in INVERSE_PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
        with threadpool_limits(1):
            model.fit(train, classes)
        scores.append(float(f1_score(truth, model.predict(judged), average="macro")))
    return max(scores)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("directory", nargs="?", default=str(DATA / "encoder"))
    given = options.parse_args()
    train = list(cut_reads("train", TRAIN_READS, 1))[:PROBED_READS]
    judged = list(cut_reads("validation", VALIDATION_READS, 1))
    (classes, reads), (truth, others) = (zip(*side, strict=True) for side in (train, judged))
    tokenizer = Tokenizer.from_file(str(DATA / "encoder" / "tokenizer.json"))
    encoder = LlamaModel.from_pretrained(given.directory, dtype=torch.float32).eval()
    vectors = (pooled(encoder, tokenizer, list(side)) for side in (reads, others))
    kmers = (kmer_frequencies([read.encode() for read in side], 4) for side in (reads, others))
    for name, (learned, asked) in (("encoder", vectors), ("4-mers", kmers)):
        print(f"{name}: macro-F1 {best_score(learned, list(classes), asked, list(truth)):.3f}")


if __name__ == "__main__":
    main()
