"""What is alive in a text that left cspbench, as a terminal, GitHub and a browser would take it."""

from __future__ import annotations

import re
import unicodedata

from markdown_it import MarkdownIt

#: Controls, formats, halves, private and unassigned characters, line and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: Default_Ignorable_Code_Point of Unicode 15 that has another category.
_IGNORABLE = [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0,
              *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]  # fmt: skip
#: What GitHub and GitLab look for in the text that Markdown has made.
_REFERENCES = re.compile(
    r"(?<![\w/])@\w|(?<!\w)[#!%~&$]\d|\w/\w+#\d|\bGH-\d|\w://|\bwww\.|\w@\w+\.\w|:\w+:|\$.*\$",
    re.IGNORECASE,
)
_ALIVE = {"link_open", "image", "html_inline", "html_block"}

#: What strangers write into names, reasons, notes and logs.
ATTACKS = (
    "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "::set-output name=exit-code::0", "::stop-commands::x",
    "a\n::error::b\r::warning::c", "  ::add-mask::d", "##[error]e", "##vso[task.setvariable]f",
    "@everyone @org/team", "#1 org/repo#2 GH-3 !4", "https://x.test www.x.test a@x.test",
    "[a](https://x.test) ![b](//x.test/c.png) <https://x.test>", "[a]: https://x.test",
    "[a](javascript:alert(1)) [a](e.md) [a] [a][b] [^1]", "<img src=x onerror=alert(1)><!-- a",
    "<script>alert(1)</script></script>", "&lt;img&gt; &#64;everyone", "`@everyone` ``#1``", "```",
    "a|b\\|c\\", "\\@everyone \\[a](b)", "*a* _b_ __c__ ~~d~~ $e$ $`f`$ :tada:", "# a", "- a",
    "1. a", "> a", "---", "    a", "\u202egnp.exe", "a\u200bb\u200d\u2060\ufeff\u00adc",
    "\u2066\u2067\u061c\U000e0041\u3164\ufe0f", "\ud800", "\ue000\U00100000", "=1+1", "+1", "-1",
    "@SUM(A1)", "\t=1", "]]>", "\x00\x0b\x7f\x85\u2028\u2029", "{{7*7}} {% x %}",
    "\\input{x} $x$ %", "[red]a[/red] [link=x]b", "",
)  # fmt: skip
#: What people write and must be able to read and paste.
GOOD = (
    "csppeleenet[gamma=0.5]@224/opencv-cpu/b1/t1", "γ 3×3 → 漢字 e\u0301 é Ж ع ไทย 🙂",
    '"darknet:models/a b.cfg"[weights="x.weights"]@416/torch-cpu/b1/t1',
)  # fmt: skip


def hidden(text: str, kept: str = "\n") -> list[str]:
    """Characters that control something or cannot be seen."""
    return [
        repr(c)
        for c in text
        if c not in kept and (unicodedata.category(c) in _HIDDEN or ord(c) in _IGNORABLE)
    ]


def commands(text: str) -> list[str]:
    """Lines that a CI service takes for commands."""
    return [
        line
        for line in re.split(r"[\r\n]", text)
        if line.lstrip().startswith("::") or re.search(r"##[\w.-]*\[", line)
    ]


def alive(text: str) -> list[str]:
    """What Markdown makes of a text besides text: links, images, HTML, mentions, references."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        inline = [token, *(token.children or [])]
        found += [one.type for one in inline if one.type in _ALIVE]
        # Text that no markup separates is one text.
        shown = "".join(
            one.content if one.type == "text" else "\0" for one in (token.children or [])
        )
        found += _REFERENCES.findall(shown)
    return found


def text_of(text: str) -> str:
    """What a reader sees of one line of Markdown, without its spaces."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    parts = [one.content for token in tokens for one in token.children or []]
    return "".join("".join(parts).split())


class Runner:
    """GitHub's runner, which reads the lines of a step: ``executed`` holds the commands it obeys.

    The rules are those of its documentation: a line that begins, after spaces, with ``::``, or
    holds ``##[``; stopped by ``stop-commands`` until the token comes as ``::token::``.
    """

    def __init__(self, log: str) -> None:
        self.executed: list[str] = []
        self.shown: list[str] = []
        self.stops = 0
        token = None
        for line in re.split(r"\r\n|\r|\n", log):
            command = line.lstrip()
            if token is not None and command == f"::{token}::":
                token = None
            elif token is None and command.startswith("::stop-commands::"):
                token = command.removeprefix("::stop-commands::")
                self.stops += 1
            elif token is None and (command.startswith("::") or re.search(r"##\[\w", line)):
                self.executed.append(line)
            else:
                self.shown.append(line)
        self.stopped = token is not None
