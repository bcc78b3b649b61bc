"""Pre-train the demo encoder on the training regions, without labels.

    python -m metagene_doctor.demo.regenerate.pretrain_encoder

Three self-supervised questions are asked of the mean of a read's token vectors: what are the
read's own 4-mers, what is the composition of the 20,000 bases around it, and which stretch of 40,000
bases does it come from, among all that the training regions have? The composition around the read is
asked for in principal components, each scaled to variance one: otherwise a few of them hold most of
the variance, and close relatives differ in the rest. The questions teach, in minutes on a
CPU, what next-token prediction teaches METAGENE-1 from 1.5 trillion bases: the genome signature that
a read carries. No class is known to any of them, and validation regions are never read.

The encoder does not start from noise: a token's vector says which bases the token is made of, and the
layers start by passing vectors on unchanged. Random vectors need about twenty times as many reads to
get as far. Writes ``config.json`` and ``model.safetensors`` (bfloat16), at every checkpoint.
"""

from __future__ import annotations

import argparse
import time
from copy import deepcopy
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
STRETCH = 40_000
"""Bases of one answer to the question where a read comes from."""
GRID = 250
"""Composition is summed up at every GRID-th base."""
CANONICAL_4MERS = 136
"""4-mers of which one stands for both strands: (256 - 16) / 2 + 16."""
COMPONENTS = 16
"""Principal components of the composition that are asked for."""
STRETCH_WEIGHT = 0.25
"""Of the question of origin beside the two of composition."""
EDGE = 3
"""Bases at either end of a token that its first vector spells: 4-mers across two tokens need them."""
LOG_STEPS = 50

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

    stretch: int
    """Number of the stretch that the region lies in."""
    bases: np.ndarray
    sums: np.ndarray

    def composition(self, position: int) -> np.ndarray:
        """4-mer frequencies of the neighbourhood of ``position``, [136]."""
        centre = position // GRID
        reach = NEIGHBOURHOOD // (2 * GRID)
        last = len(self.sums) - 1
        counts = self.sums[min(last, centre + reach)] - self.sums[max(0, centre - reach)]
        return counts / counts.sum()


def canonical_at_each_base(bases: np.ndarray, index: np.ndarray) -> np.ndarray:
    """[length - 3] canonical 4-mer at each base; `CANONICAL_4MERS` where it has anything but ACGT."""
    code = _CODE[bases].astype(np.int64)
    windows = (code[:-3] << 6) + (code[1:-2] << 4) + (code[2:-1] << 2) + code[3:]
    valid = (np.lib.stride_tricks.sliding_window_view(code, 4) < 4).all(axis=1)
    return np.where(valid, index[np.where(valid, windows, 0)], CANONICAL_4MERS)


def load_genome(stretch: int, sequence: str, index: np.ndarray) -> Genome:
    """A training region with its 4-mers summed up; 4-mers with anything but ACGT are left out."""
    bases = np.frombuffer(sequence.encode(), np.uint8)
    kmers = canonical_at_each_base(bases, index)
    sums = [np.zeros(CANONICAL_4MERS + 1)]
    for start in range(0, len(kmers), GRID):
        sums.append(sums[-1] + np.bincount(kmers[start : start + GRID], minlength=CANONICAL_4MERS + 1))
    return Genome(stretch, bases, np.array(sums)[:, :CANONICAL_4MERS])


class Batches:
    """Random reads of the training regions, with where they come from and what is around them."""

    def __init__(self, tokenizer: Tokenizer, seed: int):
        self.index = index = canonical_4mers()
        stretches: dict[tuple[str, int], int] = {}
        self.genomes = [
            load_genome(
                stretches.setdefault((region.excerpt, region.start // STRETCH), len(stretches)),
                region.sequence,
                index,
            )
            for region in regions("train")
            if len(region.sequence) >= 1000
        ]
        self.stretches = len(stretches)
        sizes = np.array([len(genome.bases) for genome in self.genomes], float)
        self.weights = np.cumsum(sizes / sizes.sum())
        self.chance = np.random.default_rng(seed)
        self.tokenizer = tokenizer
        reads, _, sample = self.reads(4000)
        own = self.own_4mers(reads)
        self.own_mean, self.own_std = own.mean(0), own.std(0) + 1e-6
        self.mean = sample.mean(0)
        variances, axes = np.linalg.eigh(np.cov((sample - self.mean).T))
        self.components = (axes / np.sqrt(np.maximum(variances, 1e-12)))[:, -COMPONENTS:]

    def reads(self, count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """``count`` reads, their stretches [count] and the compositions around them [count, 136].

        A changed base is drawn from all four: one in four changes is none.
        """
        reads, stretches, compositions = [], [], []
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
            stretches.append(genome.stretch)
            compositions.append(genome.composition(start))
        return reads, np.array(stretches), np.array(compositions)

    def own_4mers(self, reads: list[str]) -> np.ndarray:
        """Counts of the canonical 4-mers of each read, [reads, 136]."""
        counts = [
            np.bincount(
                canonical_at_each_base(np.frombuffer(read.encode(), np.uint8), self.index),
                minlength=CANONICAL_4MERS + 1,
            )
            for read in reads
        ]
        return np.array(counts)[:, :CANONICAL_4MERS].astype(float)

    def next(self, size: int) -> tuple[torch.Tensor, ...]:
        """ids [size, length], mask [size, length, 1], stretch [size], components [size, 16],
        standardised 4-mer counts of the read [size, 136].
        """
        reads, stretches, compositions = self.reads(size)
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(reads)]
        length = max(map(len, encoded))
        ids = torch.zeros(size, length, dtype=torch.long)
        for row, one in enumerate(encoded):
            ids[row, : len(one)] = torch.tensor(one)
        target = torch.from_numpy((compositions - self.mean) @ self.components).float()
        own = torch.from_numpy((self.own_4mers(reads) - self.own_mean) / self.own_std).float()
        return ids, (ids != 0).unsqueeze(-1), torch.from_numpy(stretches), target, own


def start_from_letters(encoder: LlamaModel, tokenizer: Tokenizer) -> None:
    """Give each token a vector that spells it, and let every layer pass its input on unchanged.

    The vector counts the canonical 4-mers inside the token and marks its first and last three bases.
    """
    index = canonical_4mers()
    first_edge = CANONICAL_4MERS
    with torch.no_grad():
        for token, number in tokenizer.get_vocab().items():
            bases = token.removeprefix("_")
            if not bases or set(bases) - set("ACGT"):
                continue
            vector = encoder.embed_tokens.weight[number]
            if len(bases) >= 4:
                for kmer in canonical_at_each_base(np.frombuffer(bases.encode(), np.uint8), index):
                    vector[kmer] += 1
            for end, letters in enumerate((bases[:EDGE], bases[::-1][:EDGE])):
                for place, base in enumerate(letters):
                    vector[first_edge + 4 * (EDGE * end + place) + "ACGT".index(base)] += 1
        for name, parameter in encoder.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=3000, help="0 writes the start")
    options.add_argument("--random", action="store_true", help="start from noise, for comparison")
    options.add_argument("--batch", type=int, default=128, help="reads per step")
    options.add_argument("--lr", type=float, default=2e-3)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--checkpoint-steps", type=int, default=200)
    options.add_argument("--output", default=str(DATA / "encoder"))
    given = options.parse_args()

    torch.manual_seed(given.seed)
    tokenizer = Tokenizer.from_file(str(DATA / "encoder" / "tokenizer.json"))
    batches = Batches(tokenizer, given.seed)
    encoder = LlamaModel(architecture())
    if not given.random:
        start_from_letters(encoder, tokenizer)
    hidden = encoder.config.hidden_size
    composition = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, COMPONENTS))
    origin = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, batches.stretches))
    own_4mers = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, CANONICAL_4MERS))
    parameters = [
        *own_4mers.parameters(),
        *encoder.parameters(),
        *composition.parameters(),
        *origin.parameters(),
    ]
    optimizer = torch.optim.AdamW(parameters, lr=given.lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, given.lr, total_steps=given.steps or 1, pct_start=0.05, cycle_momentum=False
    )
    began = time.monotonic()
    totals = np.zeros(3)
    for step in range(1, given.steps + 1):
        ids, mask, stretch, around, own = batches.next(given.batch)
        with torch.autocast("cpu", torch.bfloat16):
            # Reads are padded on the right, which a causal encoder cannot see: no attention mask.
            states = encoder(input_ids=ids, use_cache=False).last_hidden_state
            pooled = (states * mask).sum(1) / mask.sum(1)
            unexplained = nn.functional.mse_loss(composition(pooled).float(), around)
            surprise = nn.functional.cross_entropy(origin(pooled).float(), stretch)
            unknown = nn.functional.mse_loss(own_4mers(pooled).float(), own)
        (unknown + unexplained + STRETCH_WEIGHT * surprise).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        totals += [unknown.item(), unexplained.item(), surprise.item()]
        if step % LOG_STEPS == 0:
            rate = given.batch * step / (time.monotonic() - began)
            own_variance, variance, nats = totals / LOG_STEPS
            print(
                f"step {step}: unexplained variance of own 4-mers {own_variance:.3f}, around {variance:.3f}; "
                f"stretch, {nats:.3f} of {np.log(batches.stretches):.2f} nats; {rate:.0f} reads/s",
                flush=True,
            )
            totals[:] = 0
        if step % given.checkpoint_steps == 0:
            save(encoder, given.output)
    save(encoder, given.output)


def save(encoder: LlamaModel, directory: str) -> None:
    """Write ``config.json`` and the weights in bfloat16; ``encoder`` itself keeps its precision."""
    rounded = deepcopy(encoder)
    nn.Module.to(rounded, torch.bfloat16)
    rounded.save_pretrained(directory)


if __name__ == "__main__":
    main()
