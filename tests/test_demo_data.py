"""The demo's bundled data: an honest split, reproducible files, and an encoder with METAGENE-1's conventions."""

from __future__ import annotations

import csv
import hashlib
import lzma
from collections import Counter

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, LlamaModel

from metagene_doctor.demo.genomes import DATA, organisms, regions
from metagene_doctor.demo.inputs import (
    READ_LENGTH,
    TRAIN_READS,
    VALIDATION_READS,
    cut_reads,
    reverse_complement,
    write_demo_inputs,
)
from metagene_doctor.demo.regenerate.pretrain_encoder import architecture, start_from_letters
from metagene_train.config import TokenizerConfig
from metagene_train.labels import LabelMap, read_mapping
from metagene_train.model import encoder_architecture
from metagene_train.reads.headers.pattern import HeaderPattern
from metagene_train.reads.records.records import iter_reads
from metagene_train.tokenizer import load_tokenizer

SHARED = 31
"""Bases that two reads must share to count as the same sequence; a match of 31 is not chance in 7 million."""

DIGESTS = {
    "train.fa": "e195afe2b3da4938",
    "val.fa": "76a74a66416b26d8",
    "labels.tsv": "b64dac6e2851e345",
}
"""First 16 hexadecimal digits of the SHA-256 of the files that the default seed gives."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_demo_inputs(tmp_path_factory.mktemp("demo"))


def canonical_words(sequence: str) -> np.ndarray:
    """Every 31-base word of a sequence, in order, as the smaller number of its two strands."""
    numbers = np.full(256, 4, np.uint8)
    numbers[np.frombuffer(b"ACGT", np.uint8)] = range(4)
    bases = numbers[np.frombuffer(sequence.encode(), np.uint8)]
    unclear = np.concatenate([[0], np.cumsum(bases > 3)])
    clean = unclear[SHARED:] == unclear[:-SHARED]
    return np.minimum(_words(bases & 3), _words(3 - (bases[::-1] & 3))[::-1])[clean]


def _words(bases: np.ndarray) -> np.ndarray:
    """Every 31-base word as a 62-bit number, built from words of 2, 4, 8 and 16 bases."""
    words, length = bases.astype(np.uint64), 1
    while length < 16:
        words = (words[:-length] << np.uint64(2 * length)) | words[length:]
        length *= 2
    return (words[:-15] << np.uint64(30)) | (words[15:] & np.uint64(2**30 - 1))


def found_in(haystack: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Whether each word is in a sorted array of words."""
    places = np.searchsorted(haystack, words).clip(max=len(haystack) - 1)
    return haystack[places] == words


def sorted_words(side: str) -> np.ndarray:
    long_enough = [region.sequence for region in regions(side) if len(region.sequence) >= SHARED]
    return np.sort(np.concatenate([canonical_words(sequence) for sequence in long_enough]))


@pytest.fixture(scope="module")
def training_words():
    return sorted_words("train")


def test_words_of_both_strands_are_the_same():
    sequence = regions("train")[0].sequence[:500]
    assert np.array_equal(canonical_words(sequence), canonical_words(reverse_complement(sequence))[::-1])
    assert len(canonical_words(sequence)) == 470
    assert len(canonical_words("A" * 30 + "N" + "C" * 31)) == 1


# -- the split ---------------------------------------------------------------------------------------


def test_every_base_of_an_excerpt_is_on_exactly_one_side():
    with (DATA / "SOURCES.tsv").open() as table:
        excerpts = {
            f"{row['accession']}:{row['first_base']}-{int(row['first_base']) + int(row['bases']) - 1}": int(
                row["bases"]
            )
            for row in csv.DictReader(table, delimiter="\t")
        }
    covered = {name: np.zeros(bases, int) for name, bases in excerpts.items()}
    for side in ("train", "validation"):
        for region in regions(side):
            covered[region.excerpt][region.start : region.start + len(region.sequence)] += 1
    for name, times in covered.items():
        assert times.min() == times.max() == 1, name


def test_a_fifth_of_every_class_is_for_validation():
    bases = {side: Counter() for side in ("train", "validation")}
    for side, counter in bases.items():
        for region in regions(side):
            counter[region.class_id] += len(region.sequence)
    for organism in organisms():
        validation = bases["validation"][organism.class_id]
        assert 0.19 < validation / (validation + bases["train"][organism.class_id]) < 0.21, organism.name


def test_regions_are_the_bases_of_their_excerpt():
    entries = lzma.decompress((DATA / "genomes.fa.xz").read_bytes()).decode().split(">")[1:]
    sequences = {
        entry.split("\n", 1)[0].split()[1]: entry.split("\n", 1)[1].replace("\n", "") for entry in entries
    }
    for region in (*regions("train"), *regions("validation")):
        found = sequences[region.excerpt][region.start : region.start + len(region.sequence)]
        assert region.sequence == found


def test_only_repeats_are_on_both_sides(training_words):
    """Measured: 1.86 % of validation 31-mers, those of repeats (rRNA operons, insertion elements)."""
    words = sorted_words("validation")
    words = words[np.diff(words, prepend=np.uint64(2**63)) != 0]
    share = found_in(training_words, words).mean()
    assert 0.018 < share < 0.019


def test_few_validation_reads_touch_a_repeat_of_the_training_side(training_words):
    """Measured: 60 of 2,000, 3.0 %."""
    touching = sum(
        bool(found_in(training_words, canonical_words(read)).any())
        for _, read in cut_reads("validation", VALIDATION_READS, 1)
    )
    assert touching <= 0.035 * VALIDATION_READS


# -- reads -------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(inputs, tmp_path):
    again = write_demo_inputs(tmp_path)
    other = write_demo_inputs(tmp_path / "other", seed=2)
    for name in ("train_fasta", "val_fasta", "mapping_tsv"):
        assert getattr(again, name).read_bytes() == getattr(inputs, name).read_bytes()
    assert other.train_fasta.read_bytes() != inputs.train_fasta.read_bytes()


def test_published_results_are_of_these_bytes(inputs):
    """The documentation quotes scores on these files; they must not change unnoticed."""
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in (inputs.train_fasta, inputs.val_fasta, inputs.mapping_tsv)
    }
    assert digests == DIGESTS


def test_reads_have_the_standard_header_and_a_class_of_the_mapping(inputs):
    pattern = HeaderPattern()
    mapping = read_mapping(inputs.mapping_tsv)
    tax_ids = {row.class_id: row.tax_id for row in mapping.rows}
    for path, count in ((inputs.train_fasta, TRAIN_READS), (inputs.val_fasta, VALIDATION_READS)):
        names = set()
        seen = Counter()
        for read in iter_reads(path):
            fields = pattern.parse(read.header)
            assert fields is not None, read.header
            assert fields.tax_id == tax_ids[fields.class_id]
            assert fields.readlen == len(read.sequence) == READ_LENGTH
            names.add(fields.name)
            seen[fields.class_id] += 1
        assert len(names) == sum(seen.values()) == count
        assert set(seen) == set(tax_ids)


def test_mapping_names_every_organism_once(inputs):
    labels = LabelMap.from_mapping(read_mapping(inputs.mapping_tsv))
    assert labels.names == tuple(organism.name for organism in organisms())
    assert labels.class_ids == tuple(range(len(labels)))
    assert len(labels) >= 6


def test_reads_come_from_their_side_and_both_strands():
    words = {side: set() for side in ("train", "validation")}
    lambda_phage = len(organisms()) - 1
    for side, found in words.items():
        for region in regions(side):
            if region.class_id == lambda_phage:
                found |= {
                    region.sequence[at : at + SHARED] for at in range(len(region.sequence) - SHARED + 1)
                }

    def pieces(read):
        return {read[at : at + SHARED] for at in range(READ_LENGTH - SHARED + 1)}

    strands = Counter()
    for class_id, read in cut_reads("validation", 400, 7):
        if class_id == lambda_phage:
            forward = len(pieces(read) & words["validation"])
            reverse = len(pieces(reverse_complement(read)) & words["validation"])
            strands["forward" if forward > reverse else "reverse"] += 1
            assert max(forward, reverse) > 0
            assert not pieces(read) & words["train"]
    assert min(strands["forward"], strands["reverse"]) > 0.2 * sum(strands.values())


def test_substitutions_are_half_a_percent():
    """Counted on a class without repeats, by placing each read's first clean word in the genome."""
    places = {}
    virus = len(organisms()) - 1
    for region in regions("train"):
        if region.class_id == virus:
            for strand in (region.sequence, reverse_complement(region.sequence)):
                for at in range(len(strand) - READ_LENGTH + 1):
                    places.setdefault(strand[at : at + SHARED], strand[at : at + READ_LENGTH])
    changed = bases = 0
    for class_id, read in cut_reads("train", 10_000, 3):
        if class_id == virus and read[:SHARED] in places:
            origin = places[read[:SHARED]]
            # The first word had to match to be placed: only what follows it counts.
            changed += sum(a != b for a, b in zip(read[SHARED:], origin[SHARED:], strict=True))
            bases += READ_LENGTH - SHARED
    assert bases > 50_000
    assert 0.004 < changed / bases < 0.006


# -- what is bundled ---------------------------------------------------------------------------------


def test_bundle_is_small():
    assert (DATA / "genomes.fa.xz").stat().st_size <= 2_000_000
    assert sum(file.stat().st_size for file in (DATA / "encoder").iterdir()) <= 8_000_000


def test_every_excerpt_names_its_source():
    with (DATA / "SOURCES.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert len({row["accession"] for row in rows}) == len(rows)
    assert all(row["package"] and row["file"].startswith("usr/") for row in rows)
    assert {int(row["class_id"]) for row in rows} == {organism.class_id for organism in organisms()}


def test_tokenizer_has_the_conventions_of_metagene1():
    tokenizer = AutoTokenizer.from_pretrained(DATA / "encoder")
    fixed = ["[PAD]", "[UNK]", "[SEP]", "[BOS]", "[EOS]", "[MASK]", "_", "A", "C", "G", "T", "N"]
    assert tokenizer.convert_tokens_to_ids(fixed) == list(range(12))
    assert len(tokenizer) == 1024
    assert sorted(tokenizer.get_vocab().values()) == list(range(1024))

    read = regions("validation")[0].sequence[:READ_LENGTH]
    tokens = tokenizer.tokenize(read)
    assert "".join(tokens) == "_" + read
    ids = tokenizer(read)["input_ids"]
    assert ids[:-1] == tokenizer.convert_tokens_to_ids(tokens)
    assert ids[-1] == tokenizer.eos_token_id == 4
    assert 3 not in ids
    assert tokenizer("")["input_ids"] == [4]
    assert 1 in tokenizer("acgt")["input_ids"]
    assert 1 not in tokenizer("ACGNNNT")["input_ids"]
    assert (tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.model_max_length) == (0, "right", 512)


def test_tokenizer_agrees_with_metagene1_on_layout(metagene_tokenizer):
    ours = load_tokenizer(TokenizerConfig(name_or_path=str(DATA / "encoder")))
    theirs = load_tokenizer(TokenizerConfig(name_or_path=metagene_tokenizer))
    for text in ("", "N", "NN"):
        assert ours.encode([text]) == theirs.encode([text])
    assert (ours.vocab_size, ours.unk_id, ours.adds_special_tokens) == (
        theirs.vocab_size,
        theirs.unk_id,
        theirs.adds_special_tokens,
    )


def test_encoder_directory_loads_and_pairs_with_its_tokenizer(inputs):
    tokenizer = load_tokenizer(
        TokenizerConfig(name_or_path=str(inputs.encoder_dir)), encoder_path=str(inputs.encoder_dir)
    )
    encoder, report = AutoModel.from_pretrained(inputs.encoder_dir, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.tensor(tokenizer.encode([regions("validation")[0].sequence[:READ_LENGTH]]))
    with torch.no_grad():
        states = encoder(input_ids=ids).last_hidden_state
    assert states.shape == (1, ids.shape[1], encoder.config.hidden_size)
    assert states.isfinite().all()


def test_encoder_is_metagene1_but_for_its_size(inputs):
    published = encoder_architecture("metagene-ai/METAGENE-1").to_dict()
    bundled = encoder_architecture(str(inputs.encoder_dir)).to_dict()
    for key in (
        *("model_type", "vocab_size", "hidden_act", "attention_bias", "mlp_bias", "tie_word_embeddings"),
        *("max_position_embeddings", "rms_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id"),
        "rope_parameters",
    ):
        assert bundled[key] == published[key], key
    sizes = architecture().to_dict()
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        assert bundled[key] == sizes[key], key


def test_encoder_tells_the_classes_apart_better_than_chance(inputs):
    """Without any fine-tuning: the nearest class mean of pooled states (nine classes, 11 % by chance)."""
    tokenizer = load_tokenizer(TokenizerConfig(name_or_path=str(inputs.encoder_dir)))
    encoder = AutoModel.from_pretrained(inputs.encoder_dir, dtype=torch.float32).eval()

    def pooled(reads):
        vectors = []
        for ids in tokenizer.encode([read for _, read in reads]):
            with torch.no_grad():
                vectors.append(encoder(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0))
        return torch.stack(vectors), torch.tensor([class_id for class_id, _ in reads])

    training, training_classes = pooled(list(cut_reads("train", 450, 5)))
    validation, validation_classes = pooled(list(cut_reads("validation", 300, 5)))
    spread = training.std(0)
    means = torch.stack([training[training_classes == organism.class_id].mean(0) for organism in organisms()])
    nearest = torch.cdist(validation / spread, means / spread).argmin(1)
    assert (nearest == validation_classes).float().mean() > 0.55


def test_pretraining_starts_from_tokens_that_spell_themselves_and_layers_that_pass_on():
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(DATA / "encoder" / "tokenizer.json"))
    encoder = LlamaModel(architecture()).eval()
    noise = encoder.embed_tokens.weight.detach().clone()
    start_from_letters(encoder, tokenizer)
    spelled = (encoder.embed_tokens.weight - noise).detach()
    for token in ("A", "CGT"):
        vector = spelled[tokenizer.token_to_id(token)]
        assert vector[:136].abs().max() < 1e-6
        assert vector.sum().item() == pytest.approx(2 * len(token), abs=1e-4)
    longest = max((token for token in tokenizer.get_vocab() if set(token) <= set("ACGT")), key=len)
    vector = spelled[tokenizer.token_to_id(longest)]
    assert vector[:136].sum().item() == pytest.approx(len(longest) - 3, abs=1e-4)
    assert vector[136:].sum().item() == pytest.approx(6, abs=1e-4)
    assert not spelled[:6].any()

    ids = torch.tensor([tokenizer.encode(regions("train")[0].sequence[:READ_LENGTH]).ids])
    with torch.no_grad():
        passed_on = encoder.norm(encoder.embed_tokens(ids))
        torch.testing.assert_close(encoder(input_ids=ids).last_hidden_state, passed_on)
