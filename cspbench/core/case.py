r"""Cases and models by their readable stable ids: parse and format.

Grammar (design)::

    case   = model "@" input "/" backend "/b" batch "/t" threads [ "/" board ]
    model  = ref [ "+" ref ]                 (backbone or whole network, then a neck)
    ref    = name [ "[" key "=" value { "," key "=" value } "]" ]
    input  = side | height "x" width
    board  = the label of boards of a fleet, or the name of one; a run on one machine has none
    name   = a plain name, or a quoted one where it holds any of / @ + [ ] ", a space, or what is
             not printable
    value  = true, false, a number, plain text, or quoted text (a path, or what reads as another)

Inside quotes a backslash begins an escape: ``\\`` and ``\"`` are the characters themselves,
``\x0a`` is a control character, ``\xe9`` a byte of a file's name that is no UTF-8, ``\u202e`` and
``\U000e0001`` are other characters that cannot be seen.

This is the canonical form; ``cspbench/models/typed.py`` reads what people type. The suite, which
makes the ids, sorts keys and leaves out options at their default. In patterns only ``*`` and ``?``
are special.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cspbench.core.options import Value
from cspbench.errors import InputError

_NEEDS_QUOTES = re.compile(r'[/@+\[\]"\s]')
_QUOTED = re.compile(r'((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(
    r'\\(?:([\\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4}))'
)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_OPTION_TEXT = re.compile(r"[A-Za-z0-9_.:~-]+")
_CASE_END = re.compile(r"/b([1-9][0-9]{0,5})/t([1-9][0-9]{0,5})(?:/([a-z0-9][a-z0-9._-]{0,62}))?")
MAX_LENGTH = 2000


@dataclass(frozen=True, order=True)
class Ref:
    """A name with options: a model, a neck or a backend as a suite names it."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    @staticmethod
    def of(name: str, options: Mapping[str, Value] | None = None) -> Ref:
        """Make a Ref from a mapping; keys are sorted."""
        return Ref(name, tuple(sorted((options or {}).items())))

    def __str__(self) -> str:
        quoted = _NEEDS_QUOTES.search(self.name) or not self.name.isprintable()
        name = quote(self.name) if quoted else self.name
        if not self.options:
            return name
        inner = ",".join(f"{key}={_format_option(value)}" for key, value in self.options)
        return f"{name}[{inner}]"


@dataclass(frozen=True)
class ModelId:
    """The model part of a case id: what can be built, analysed and exported.

    ``input`` is (height, width), or None for the model's own.
    """

    model: Ref
    neck: Ref | None = None
    input: tuple[int, int] | None = None

    @staticmethod
    def parse(text: str) -> ModelId:
        """Read ``csppeleenet[gamma=0.25]+prn@224``; names and options are not looked up here.

        Raises:
            InputError: where the text stops being an id.
        """
        reader = _reader(text)
        model = _model(reader)
        if reader.peek():
            raise reader.fail("the end of a model id")
        return model

    def __str__(self) -> str:
        text = str(self.model) if self.neck is None else f"{self.model}+{self.neck}"
        return text if self.input is None else f"{text}@{format_input(self.input)}"


@dataclass(frozen=True)
class Case:
    """One thing to measure: model x input x backend x settings; its text is its id.

    ``model``, ``neck`` and ``backend`` hold only the options that differ from their defaults
    (precision, engine and mode are backend options); ``input`` is (height, width) in pixels;
    ``board`` is a label of a fleet's boards, None on one machine.
    """

    model: Ref
    input: tuple[int, int]
    backend: Ref
    neck: Ref | None = None
    batch: int = 1
    threads: int = 1
    board: str | None = None

    @staticmethod
    def parse(text: str) -> Case:
        """Read a whole case id.

        Raises:
            InputError: where the text stops being an id.
        """
        return _parse_case(text)

    @property
    def model_id(self) -> ModelId:
        """The part that can be built and analysed, with its input."""
        return ModelId(self.model, self.neck, self.input)

    @property
    def id(self) -> str:
        """The readable, stable id."""
        return str(self)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        return (self.batch, 3, *self.input)

    def __str__(self) -> str:
        text = f"{self.model_id}/{self.backend}/b{self.batch}/t{self.threads}"
        return text if self.board is None else f"{text}/{self.board}"


def format_value(value: Value) -> str:
    """``true``/``false``, shortest number, or the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return text.replace("e+", "e")  # a plus would need quotes
    return str(value)


def _format_option(value: Value) -> str:
    text = format_value(value)
    plain = _OPTION_TEXT.fullmatch(text) and parse_value(text) == value
    return text if plain or not isinstance(value, str) else quote(text)


def quote(text: str) -> str:
    """A name or a text in quotes, as ids hold it."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    number = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    if number < 0x80 or 0xDC80 <= number <= 0xDCFF:  # the latter stand for bytes (PEP 383)
        return f"\\x{number & 0xFF:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _unescaped(found: re.Match[str]) -> str:
    itself, byte, short, long = found.groups()
    if itself:
        return itself
    number = int(byte or short or long, 16)
    return chr(number + 0xDC00 if byte and number >= 0x80 else number)


def parse_value(text: str) -> Value:
    """Inverse of :func:`format_value`."""
    if text in ("true", "false"):
        return text == "true"
    if _NUMBER.fullmatch(text):
        return float(text) if re.search(r"[.eE]", text) else int(text)
    return text


def format_input(size: tuple[int, int]) -> str:
    """``320`` for a square input, ``320x416`` (height x width) otherwise."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


def parse_input(text: str) -> tuple[int, int]:
    """Inverse of :func:`format_input`.

    Raises:
        InputError: not a size.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", text)
    if not match:
        raise InputError(f"{text!r} is not an input size; write 320 or 320x416 (height x width)")
    height = int(match[1])
    width = int(match[2]) if match[2] else height
    if height < 1 or width < 1:
        raise InputError(f"input size {text!r} must be at least 1")
    return height, width


@dataclass
class _Reader:
    """Cursor over an id text."""

    text: str
    at: int = field(default=0)

    def fail(self, expected: str) -> InputError:
        rest = self.text[self.at : self.at + 20] or "the end"
        return InputError(f"id {self.text!r}: at {rest!r} {expected} was expected")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, char: str) -> bool:
        if self.peek() == char:
            self.at += 1
            return True
        return False

    def until(self, stops: str) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stops:
            self.at += 1
        return self.text[start : self.at]

    def quoted(self) -> str:
        """The text up to the closing quote, which is taken too."""
        found = _QUOTED.match(self.text, self.at)
        if not found:
            raise self.fail('a closing "')
        self.at = found.end()
        return _ESCAPE.sub(_unescaped, found[1])

    def ref(self, stops: str) -> Ref:
        name = self.quoted() if self.take('"') else self.until(stops + '[]"')
        if not name:
            raise self.fail("a name")
        return Ref.of(name, self.options() if self.take("[") else None)

    def options(self) -> dict[str, Value]:
        options: dict[str, Value] = {}
        while not self.take("]"):
            key = self.until("=,]")
            if not key or not self.take("="):
                raise self.fail("key=value")
            value = self.value()
            if key in options:
                raise InputError(f"id {self.text!r}: option {key!r} is given twice")
            options[key] = value
            if self.take(","):
                if self.peek() == "]":
                    raise self.fail("key=value")
            elif self.peek() != "]":
                raise self.fail("a closing ]")
        return options

    def value(self) -> Value:
        if self.take('"'):
            return self.quoted()
        text = self.until(",]")
        if not _OPTION_TEXT.fullmatch(text):
            raise self.fail('a value of letters, digits and . _ : ~ -, or one in "quotes"')
        return parse_value(text)


def _model(reader: _Reader) -> ModelId:
    model = reader.ref("+@/")
    neck = reader.ref("@/") if reader.take("+") else None
    size = parse_input(reader.until("/")) if reader.take("@") else None
    return ModelId(model, neck, size)


def _reader(text: str) -> _Reader:
    if len(text) > MAX_LENGTH:
        raise InputError(f"an id of {len(text)} characters is too long (at most {MAX_LENGTH})")
    return _Reader(text)


@functools.lru_cache(maxsize=4096)  # reports ask for the same ids again and again
def _parse_case(text: str) -> Case:
    reader = _reader(text)
    model = _model(reader)
    if not reader.take("/"):
        raise reader.fail("/backend")
    backend = reader.ref("/")
    tail = _CASE_END.fullmatch(reader.text[reader.at :])
    if not tail or model.input is None:
        raise reader.fail("@input/backend/b<batch>/t<threads>")
    return Case(model.model, model.input, backend, model.neck, int(tail[1]), int(tail[2]), tail[3])
