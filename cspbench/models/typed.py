"""Models and cases as people type them: a file is an argument, its ending says what it is.

One grammar for the command line, ``--set``, the Python API and suites::

    model = [ source ":" ] path [ ":" name ] [ "[" options "]" ] [ "+" neck ] [ "@" input ]
          | source ":" target ...          (a target without an ending: timm:resnet50)
          | the canonical form of ids      (a name of the zoo, or a name in quotes)
    case  = model "/" backend "/b" batch "/t" threads [ "/" board ]

A path is taken as it is, with slashes, spaces, brackets, plus and at signs. Where it ends is clear
from its ending; each source says which endings its files have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from cspbench.core.case import MAX_LENGTH, Case, ModelId, Ref
from cspbench.core.registry import Registry
from cspbench.errors import InputError
from cspbench.models.spec import MODELS, SOURCES, SourceSpec

_OPTIONS = r'(?:\[(?:"(?:[^"\\]|\\.)*"|[^"\]])*\])?'
#: What may follow a path, whole; a malformed tail still begins with one of these characters.
_TAIL = re.compile(rf'{_OPTIONS}(?:\+[^@\[\]"]+{_OPTIONS})?(?:@[0-9x]+)?', re.DOTALL)
_TAIL_BEGINS = "[+@"
_MEMBER = re.compile(r":[A-Za-z_][A-Za-z0-9_]*")
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r'([^\[\]+@"]*)(.*)', re.DOTALL)
_CASE = re.compile(
    r'(.+)/((?:[^"/]|"(?:[^"\\]|\\.)*")+/b[0-9]+/t[0-9]+(?:/[^"/]+)?)', re.DOTALL
)  # fmt: skip


def parse_model(text: str | os.PathLike[str], sources: Registry[SourceSpec] = SOURCES) -> ModelId:
    """Read a model as people type it; the names and options of the zoo are not looked up.

    Args:
        text: a model, or the path of its file.
        sources: the registered ones; tests pass their own.

    Raises:
        InputError: the text is no model.
    """
    text = os.fsdecode(text)
    if text.startswith('"') or len(text) > MAX_LENGTH:
        return ModelId.parse(text)
    split = _split(text, sources)
    if split is None:
        return _plain(text, sources)
    name, tail = split
    # The canonical form of the name, so that a malformed tail is reported as it is.
    return ModelId.parse(f"{Ref(name)}{tail}")


def parse_case(text: str) -> tuple[ModelId, Case | None]:
    """Read a case or a model as people type it.

    Returns:
        the model, and a case that has the settings of a typed case (None for a model alone).

    Raises:
        InputError: the text is neither.
    """
    found = _CASE.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None:
        return parse_model(text), None
    return parse_model(found[1]), Case.parse(f"m@1/{found[2]}")


def names_file(text: str) -> bool:
    """Whether a text names a model by a source or by the ending of a file."""
    return (
        not text.startswith('"') and len(text) <= MAX_LENGTH and _split(text, SOURCES) is not None
    )


def moved(ref: Ref, move: Callable[[str], str], sources: Registry[SourceSpec] = SOURCES) -> Ref:
    """A model of a source with its path replaced by what ``move`` makes of it."""
    name, colon, target = ref.name.partition(":")
    if not colon:
        return ref
    path, member = split_member(sources.get(name), target) if name in sources else (target, "")
    return replace(ref, name=f"{name}:{move(path)}{member}")


def split_member(source: SourceSpec, target: str) -> tuple[str, str]:
    """The path of a target and its ``:name``, where the source has one (else an empty text)."""
    path, colon, name = target.rpartition(":")
    if source.member and colon and path.lower().endswith(source.endings):
        return path, f":{name}"
    return target, ""


def _split(text: str, sources: Registry[SourceSpec]) -> tuple[str, str] | None:
    """Name (``source:target``) and tail of a model of a source; None if it is of the zoo."""
    prefix, colon, target = text.partition(":")
    if colon and prefix in sources:
        source = sources.get(prefix)
        cut = _cut(target, [source])
        if cut is not None:
            return f"{prefix}:{cut[1]}", cut[2]
        found = _TARGET.fullmatch(target)
        assert found is not None, "the pattern matches every text"
        return f"{prefix}:{found[1]}", found[2]
    cut = _cut(text, sources)
    if cut is None:
        return None
    source, path, tail = cut
    if colon and _SOURCE_NAME.fullmatch(prefix) and not _exists(split_member(source, path)[0]):
        return path, tail  # onx:a.onnx: looking up its source says what is wrong
    return f"{source.name}:{path}", tail


def _cut(text: str, sources: Iterable[SourceSpec]) -> tuple[SourceSpec, str, str] | None:
    """The source whose ending a path has, the path and the tail; the longest path counts."""
    by_ending = {ending: source for source in sources for ending in source.endings}
    if not by_ending:
        return None
    pattern = "|".join(map(re.escape, sorted(by_ending, key=len, reverse=True)))
    malformed = None
    for found in reversed(list(re.finditer(pattern, text, re.IGNORECASE | re.ASCII))):
        source, end = by_ending[found[0].lower()], found.end()
        member = _MEMBER.match(text, end) if source.member else None
        if member:
            end = member.end()
        if found.start() == 0:
            continue
        if _TAIL.fullmatch(text, end):
            return source, text[:end], text[end:]
        if text[end] in _TAIL_BEGINS:
            malformed = source, text[:end], text[end:]
    return malformed


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null character
        return False


def _plain(text: str, sources: Registry[SourceSpec]) -> ModelId:
    """A model of the zoo. A path that no source knows by its ending is told how to be written."""
    try:
        parsed = ModelId.parse(text)
    except InputError as error:
        if "/" not in text and not _exists(text):
            raise
        raise InputError(f"{error}; {_how_to_write(sources)}") from None
    if parsed.model.name not in MODELS and os.path.isfile(text):
        raise InputError(
            f"{text}: what the file holds is not clear from its name; {_how_to_write(sources)}"
        )
    return parsed


def _how_to_write(sources: Iterable[SourceSpec]) -> str:
    endings = sorted(
        f"{ending}:NAME" if source.member else ending
        for source in sources for ending in source.endings
    )  # fmt: skip
    return (
        f"a model's file ends in {' or '.join(endings)}, or has its source "
        "before it, such as onnx:PATH"
    )
