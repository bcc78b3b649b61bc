"""What each configuration key means, taken from where it is defined.

The sentence under a field in `metagene_train.config` is its documentation; a field without one is
documented by the values it takes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from metagene_train import config
from metagene_train.config import RunConfig


@functools.cache
def field_docs() -> dict[str, str]:
    """Dotted key -> meaning on one line, empty where neither a sentence nor a list of values exists."""
    sentences = _docstrings_under_fields()
    return dict(_documented(RunConfig, "", sentences))


def _docstrings_under_fields() -> dict[tuple[str, str], str]:
    """(class, field) -> the string expression that follows the field's definition."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(config)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[node.name, field.target.id] = " ".join(str(text.value.value).split())
    return found


def _documented(
    model: type[BaseModel], prefix: str, sentences: dict[tuple[str, str], str]
) -> Iterator[tuple[str, str]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _documented(kind, f"{prefix}{name}.", sentences)
            continue
        sentence = _as_yaml(sentences.get((model.__name__, name), ""))
        choices = " | ".join(_choices(kind))
        yield prefix + name, f"{choices}: {sentence}" if choices and sentence else sentence or choices


def _as_yaml(sentence: str) -> str:
    """The sentence as a reader of the YAML needs it: no markup, and YAML's words for Python's values."""
    for python, yaml in (("None", "null"), ("True", "true"), ("False", "false")):
        sentence = re.sub(rf"\b{python}\b", yaml, sentence)
    return sentence.replace("``", "")


def _choices(kind: Any) -> list[str]:
    """The values of a Literal, also inside a union."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    nested = [choice for part in get_args(kind) for choice in _choices(part)]
    others = [part for part in get_args(kind) if get_origin(part) is not Literal and part is not type(None)]
    return nested if not others else []
