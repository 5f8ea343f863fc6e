"""A short name for what a signature reads: two versions of a task with the same one understand each other's records."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yadtq.values.annotation import Annotation

__all__ = ["fingerprint"]

#: What a JSON schema says to people. Defaults are not part of what is read, either: they are not sent.
_FOR_PEOPLE = {"title", "description", "examples", "default", "deprecated"}
#: Here the keys are names of fields or types, which may be the same words.
_OF_NAMES = {"properties", "$defs", "patternProperties"}


def fingerprint(parts: Iterable[tuple[str, str, Annotation]]) -> str:
    """Twelve hexadecimal digits of (name, kind, annotation) of each part of a signature, in order."""
    text = json.dumps(
        [(name, kind, _bare(annotation.json_schema())) for name, kind, annotation in parts], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _bare(schema: Any, *, names: bool = False) -> Any:
    if isinstance(schema, dict):
        return {
            key: _bare(value, names=not names and key in _OF_NAMES)
            for key, value in schema.items()
            if names or key not in _FOR_PEOPLE
        }
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema
