"""Pre-train the demo encoder on the training regions, without labels.

    python -m metagene_doctor.demo.regenerate.pretrain_encoder --steps 2000

Two self-supervised objectives are added: the next token of a read, as METAGENE-1 was trained, and the
4-mer composition of the 20,000 bases around the read, predicted from the mean of its token vectors.
The second teaches, in hours on two CPU cores instead of weeks on a cluster, what the first learns
from 1.5 trillion bases: which genome signature a read carries. Validation regions are never read.
Writes ``data/encoder/config.json`` and ``model.safetensors`` (bfloat16), at every checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import LlamaConfig, LlamaModel

from metagene_doctor.demo.genomes import DATA, regions
from metagene_doctor.demo.inputs import READ_LENGTH, SUBSTITUTION_RATE, reverse_complement

NEIGHBOURHOOD = 20_000
"""Bases whose composition a read is asked for, centred on the read."""
GRID = 250
"""Composition is summed up at every GRID-th base."""

_CODE = np.full(256, 255, np.uint8)
_CODE[np.frombuffer(b"ACGT", np.uint8)] = range(4)


def architecture() -> LlamaConfig:
    """METAGENE-1's architecture, 3,300 times smaller."""
    return LlamaConfig(
        vocab_size=1024,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
    )


def canonical_4mers() -> np.ndarray:
    """[256] index of each 4-mer among the 136 strand-neutral ones."""
    numbers: dict[int, int] = {}
    index = np.zeros(256, np.int64)
    for code in range(256):
        digits = [(code >> shift) & 3 for shift in (6, 4, 2, 0)]
        reverse = sum((3 - digit) << (2 * place) for place, digit in enumerate(digits))
        index[code] = numbers.setdefault(min(code, reverse), len(numbers))
    return index


@dataclass(frozen=True)
class Genome:
    """One training region: its bases and the running sum of its 4-mers, [length / GRID + 1, 136]."""

    bases: np.ndarray
    sums: np.ndarray

    def composition(self, position: int) -> np.ndarray:
        """4-mer frequencies of the neighbourhood of ``position``, [136]."""
        centre = position // GRID
        reach = NEIGHBOURHOOD // (2 * GRID)
        last = len(self.sums) - 1
        counts = self.sums[min(last, centre + reach)] - self.sums[max(0, centre - reach)]
        return counts / counts.sum()


def load_genome(sequence: str, index: np.ndarray) -> Genome:
    """A training region with its 4-mers summed up; 4-mers with anything but ACGT are left out."""
    bases = np.frombuffer(sequence.encode(), np.uint8)
    code = _CODE[bases].astype(np.int64)
    windows = (code[:-3] << 6) + (code[1:-2] << 4) + (code[2:-1] << 2) + code[3:]
    valid = (np.lib.stride_tricks.sliding_window_view(code, 4) < 4).all(axis=1)
    kmers = np.where(valid, index[np.where(valid, windows, 0)], 136)
    sums = [np.zeros(137)]
    for start in range(0, len(kmers), GRID):
        sums.append(sums[-1] + np.bincount(kmers[start : start + GRID], minlength=137))
    return Genome(bases, np.array(sums)[:, :136])


class Batches:
    """Random reads of the training regions with their neighbourhood's composition."""

    def __init__(self, tokenizer: Tokenizer, seed: int):
        index = canonical_4mers()
        self.genomes = [
            load_genome(region.sequence, index) for region in regions("train") if len(region.sequence) >= 1000
        ]
        sizes = np.array([len(genome.bases) for genome in self.genomes], float)
        self.weights = np.cumsum(sizes / sizes.sum())
        self.chance = np.random.default_rng(seed)
        self.tokenizer = tokenizer
        _, sample = self.reads(4000)
        self.mean, self.std = sample.mean(0), sample.std(0) + 1e-6

    def reads(self, count: int) -> tuple[list[str], np.ndarray]:
        """``count`` reads and the compositions around them, [count, 136].

        A changed base is drawn from all four: one in four changes is none.
        """
        reads, compositions = [], []
        for pick in np.searchsorted(self.weights, self.chance.random(count)):
            genome = self.genomes[min(pick, len(self.genomes) - 1)]
            start = int(self.chance.integers(len(genome.bases) - READ_LENGTH + 1))
            read = genome.bases[start : start + READ_LENGTH].copy()
            changed = self.chance.random(READ_LENGTH) < SUBSTITUTION_RATE
            read[changed] = self.chance.choice(np.frombuffer(b"ACGT", np.uint8), changed.sum())
            text = read.tobytes().decode()
            if self.chance.random() < 0.5:
                text = reverse_complement(text)
            reads.append(text)
            compositions.append(genome.composition(start))
        return reads, np.array(compositions)

    def next(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(ids [size, length], mask [size, length], standardised composition [size, 136])."""
        reads, compositions = self.reads(size)
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(reads)]
        length = max(map(len, encoded))
        ids = torch.zeros(size, length, dtype=torch.long)
        for row, one in enumerate(encoded):
            ids[row, : len(one)] = torch.tensor(one)
        target = torch.from_numpy((compositions - self.mean) / self.std).float()
        return ids, (ids != 0).long(), target


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--batch", type=int, default=256)
    options.add_argument("--lr", type=float, default=1.5e-3)
    options.add_argument("--next-token", type=float, default=0.25, help="weight of the next-token loss")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--checkpoint-steps", type=int, default=500)
    options.add_argument("--output", default=str(DATA / "encoder"))
    given = options.parse_args()

    torch.manual_seed(given.seed)
    batches = Batches(Tokenizer.from_file(str(DATA / "encoder" / "tokenizer.json")), given.seed)
    encoder = LlamaModel(architecture())
    hidden = encoder.config.hidden_size
    next_token = nn.Linear(hidden, encoder.config.vocab_size, bias=False)
    composition = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 136))
    parameters = [*encoder.parameters(), *next_token.parameters(), *composition.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=given.lr, weight_decay=0.05, betas=(0.9, 0.98))
    warmup = 100
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warmup)
            * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, step / given.steps))))
        ),
    )
    began = time.monotonic()
    seen = np.zeros(2)
    for step in range(1, given.steps + 1):
        ids, mask, target = batches.next(given.batch)
        with torch.autocast("cpu", torch.bfloat16):
            states = encoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            real = mask[:, 1:].bool()
            token_loss = nn.functional.cross_entropy(
                next_token(states[:, :-1][real]).float(), ids[:, 1:][real]
            )
            weight = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weight).sum(1) / weight.sum(1)
            composition_loss = nn.functional.mse_loss(composition(pooled).float(), target)
        (given.next_token * token_loss + composition_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        seen += [token_loss.item(), composition_loss.item()]
        if step % 50 == 0:
            token, mean_square = seen / 50
            rate = given.batch * step / (time.monotonic() - began)
            print(
                f"step {step} next-token {token:.4f} composition {mean_square:.4f} {rate:.0f} reads/s",
                flush=True,
            )
            seen[:] = 0
        if step % given.checkpoint_steps == 0 or step == given.steps:
            save(encoder, given.output)


def save(encoder: LlamaModel, directory: str) -> None:
    """Write ``config.json`` and the weights, in bfloat16; the encoder given stays as it is."""
    rounded = copy.deepcopy(encoder)
    nn.Module.to(rounded, torch.bfloat16)
    rounded.save_pretrained(directory)


if __name__ == "__main__":
    main()
