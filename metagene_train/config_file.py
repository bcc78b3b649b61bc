"""Configuration files: YAML text <-> `RunConfig`, with line numbers in and comments kept out.

Three functions: `load_config` reads a file (and ``key=value`` overrides), `dump_config` writes a
whole configuration, `set_keys` changes some keys of a text and leaves everything else as it was.
A key can stand in its section or, as reports name it, in one line: ``optimizer.lr: 1e-4``.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import CommentToken

from metagene_train.config import RunConfig
from metagene_train.errors import ConfigError, InputError
from metagene_train.guide_keys import RENAMED, migrate


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration. ``lines`` holds every key that was given: dotted key -> line in the
    file, 0 for a command-line override; all other values are defaults."""

    config: RunConfig
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and check a configuration; ``overrides`` are ``dotted.key=value`` with YAML values.

    Raises InputError when the file cannot be read and ConfigError, with one problem per line, when
    it is not YAML, has unknown keys or has values out of range.
    """
    name = str(path) if path is not None else "command line"
    tree, lines = _read_tree(Path(path)) if path is not None else ({}, {})
    twice = _unfold(tree, lines)
    for override in overrides:
        _apply_override(tree, lines, override)
    warnings, problems = migrate(tree, lines)
    problems = twice + problems
    problems = [f"{name}:{problem}" for problem in problems]
    _drop_empty_sections(tree, RunConfig)
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems += _explain(error, name, lines)
        config = None
    if problems or config is None:
        raise ConfigError(problems)
    if config.memory_optimization.max_split_size_mb and config.memory_optimization.expandable_segments:
        warnings.append(
            f"{lines.get('memory_optimization.max_split_size_mb', 0)}: "
            "memory_optimization.max_split_size_mb is not used: expandable segments are on and the "
            "allocator does not combine the two (set expandable_segments: false to use it)"
        )
    return LoadedConfig(
        config=config,
        path=Path(path) if path is not None else None,
        warnings=tuple(f"{name}:{warning}" for warning in warnings),
        lines=lines,
    )


def dump_config(config: RunConfig, comments: Mapping[str, str] | None = None, header: str = "") -> str:
    """YAML text of every key; ``comments`` (dotted key -> text) go behind their values and
    ``header`` (plain text, any number of lines) above the first key."""
    tree = _commented(config.model_dump(mode="json"))
    if header:
        tree.yaml_set_start_comment(header)
    _add_comments(tree, comments or {})
    return _to_text(tree)


def set_keys(text: str, changes: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """``text`` with the dotted keys of ``changes`` set; order, comments and other keys are kept.

    A key that the file spells in a guide-era way is changed where it stands.
    """
    tree = _yaml().load(text) or CommentedMap()
    spelled: dict[str, str] = {}
    for dotted, value in changes.items():
        spelled[dotted] = _as_spelled(tree, dotted)
        parents, leaf = _place(tree, spelled[dotted])
        node = tree
        for parent in parents:
            if not isinstance(node.get(parent), MutableMapping):
                node[parent] = CommentedMap()
            node = node[parent]
        node[leaf] = _commented(value)
    _add_comments(tree, {spelled.get(key, key): comment for key, comment in (comments or {}).items()})
    return _to_text(tree)


def flatten(config: BaseModel) -> dict[str, Any]:
    """Dotted key -> value of every leaf of a configuration, in schema order."""
    return dict(_leaves(config.model_dump(mode="json")))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 4096  # one value per line: never wrap a value or its comment
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _read_tree(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such config file; `metagene config init -o {path}` writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text file: {error}") from None
    try:
        tree = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            [f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem}"]
        ) from None
    except YAMLError as error:
        raise ConfigError([f"{path}: not valid YAML: {error}"]) from None
    if tree is None:
        return {}, {}
    if not isinstance(tree, CommentedMap):
        found = "a list (lines with -)" if isinstance(tree, CommentedSeq) else f"only {str(tree)[:40]!r}"
        raise ConfigError([f"{path}:1: a config has lines `key: value`, found {found}"])
    return _plain(tree), dict(_key_lines(tree))


def _plain(node: Any) -> Any:
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    return node


def _unfold(tree: dict[str, Any], lines: Mapping[str, int]) -> list[str]:
    """Move keys written in one line (``optimizer.lr``) into their sections; what is there already is a
    problem."""
    problems = []
    for dotted in [key for key in tree if "." in key]:
        *parents, leaf = dotted.split(".")
        value, node = tree.pop(dotted), tree
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        if leaf in node:
            problems.append(f"{lines[dotted]}: {dotted} is given twice, in its section and in one line")
        node[leaf] = value
    return problems


def _place(tree: CommentedMap, dotted: str) -> tuple[list[str], str]:
    """The sections that lead to a key, and its name there: none for a key written in one line."""
    if dotted in tree:
        return [], dotted
    *parents, leaf = dotted.split(".")
    return parents, leaf


def _key_lines(node: CommentedMap, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in node.items():
        yield f"{prefix}{key}", node.lc.key(key)[0] + 1
        if isinstance(value, CommentedMap):
            yield from _key_lines(value, f"{prefix}{key}.")


def _apply_override(tree: dict[str, Any], lines: dict[str, int], override: str) -> None:
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        raise ConfigError([f"command line: `{override}` is not of the form section.key=value"])
    try:
        value = _plain(_yaml().load(text)) if text.strip() else None
    except YAMLError:
        raise ConfigError([f"command line: the value of `{override}` is not valid YAML"]) from None
    dotted = RENAMED.get(dotted, dotted)
    *parents, leaf = dotted.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        node[parent] = child if isinstance(child, dict) else {}
        node = node[parent]
    node[leaf] = value
    lines[dotted] = 0


def _drop_empty_sections(tree: dict[str, Any], model: type[BaseModel]) -> None:
    """``lora:`` with nothing below it is a section left at its defaults, not the value null."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or name not in tree:
            continue
        if tree[name] is None:
            del tree[name]
        elif isinstance(tree[name], dict):
            _drop_empty_sections(tree[name], kind)


def _explain(error: ValidationError, name: str, lines: Mapping[str, int]) -> list[str]:
    """One line per key, whatever number of alternatives pydantic tried for it."""
    known = set(flatten(RunConfig())) | set(_sections(RunConfig))
    grouped: dict[str, list[Any]] = {}
    for item in error.errors():
        parts = [str(part) for part in item["loc"]]
        dotted = ".".join(parts)
        if item["type"] != "extra_forbidden":
            while parts and ".".join(parts) not in known:
                parts.pop()
            dotted = ".".join(parts)
        grouped.setdefault(dotted, []).append(item)
    problems = []
    for dotted, items in grouped.items():
        line = next((lines[key] for key in _ancestors(dotted) if key in lines), 0)
        where = f"{name}:{line}" if line else "command line" if dotted in lines else name
        if items[0]["type"] == "extra_forbidden":
            problems.append(f"{where}: unknown key {dotted}{_did_you_mean(dotted, known)}")
            continue
        found = items[0]["input"]
        expected = " or ".join(dict.fromkeys(_plain_message(item) for item in items))
        shown = "" if isinstance(found, dict) else f" (found {found!r})"
        problems.append(f"{where}: {dotted}: {expected}{shown}")
    return problems


def _plain_message(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    replacements = {
        "should be a valid number, unable to parse string as a number": "must be a number",
        "should be a valid integer, unable to parse string as an integer": "must be a whole number",
        "should be a valid integer, got a number with a fractional part": "must be a whole number",
        "should be a valid boolean, unable to interpret input": "must be true or false",
        "should be a valid dictionary or instance of": "must be a section, not a single value:",
    }
    for old, new in replacements.items():
        message = message.replace(old, new)
    return message.replace("should be", "must be")


NAMES_ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "epochs": "training.max_epochs",
    "num_epochs": "training.max_epochs",
    "num_train_epochs": "training.max_epochs",
    "per_device_train_batch_size": "training.batch_size",
    "per_device_eval_batch_size": "training.eval_batch_size",
    "micro_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.grad_accum_steps",
    "max_seq_length": "tokenizer.max_length",
    "model_max_length": "tokenizer.max_length",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "lora_r": "model.lora.r",
    "rank": "model.lora.r",
    "clip_grad_norm": "optimizer.max_grad_norm",
    "gradient_clip_val": "optimizer.max_grad_norm",
    "lr_scheduler_type": "scheduler.name",
    "label_smoothing_factor": "loss.label_smoothing",
    "load_in_4bit": "model.quantization",
    "load_in_8bit": "model.quantization",
}
"""What transformers, PEFT and other trainers call our keys."""


def _did_you_mean(dotted: str, known: set[str]) -> str:
    parent, _, leaf = dotted.rpartition(".")
    if leaf in NAMES_ELSEWHERE:
        return f"; did you mean {NAMES_ELSEWHERE[leaf]}?"
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    if close := difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6):
        return f"; did you mean {siblings[close[0]]}?"
    elsewhere = sorted(key for key in known if key.rpartition(".")[2] == leaf)
    return f"; did you mean {elsewhere[0]}?" if elsewhere else ""


def _ancestors(dotted: str) -> Iterator[str]:
    while dotted:
        yield dotted
        dotted = dotted.rpartition(".")[0]


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield prefix + name
            yield from _sections(kind, f"{prefix}{name}.")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _commented(value: Any) -> Any:
    if isinstance(value, Mapping):
        return CommentedMap((key, _commented(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    return value


def _as_spelled(tree: CommentedMap, dotted: str) -> str:
    """The dotted key under which the file already holds ``dotted``, else ``dotted`` itself."""
    if dotted in tree or _holds(tree, dotted):
        return dotted
    for ancestor in _ancestors(dotted):
        for old, new in RENAMED.items():
            if new == ancestor and _holds(tree, old + dotted[len(ancestor) :]):
                return old + dotted[len(ancestor) :]
    return dotted


def _holds(tree: Any, dotted: str) -> bool:
    node = tree
    for part in dotted.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _add_comments(tree: CommentedMap, comments: Mapping[str, str]) -> None:
    for dotted, comment in comments.items():
        parents, leaf = _place(tree, dotted)
        node: Any = tree
        for parent in parents:
            node = node.get(parent, {})
        if leaf in node:
            # The emitter puts one blank before a comment that starts behind its column; YAML style wants two.
            token = CommentToken(f" # {' '.join(comment.split())}\n", CommentMark(0), None)
            node.ca.items[leaf] = [None, None, token, None]


def _to_text(tree: CommentedMap) -> str:
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()
