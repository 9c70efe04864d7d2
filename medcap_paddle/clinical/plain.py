"""The text of a report without the marks of the program it comes from, and whether it says anything.

plain(text)           every white space is a blank, no tags, no entities
joined(sections)      several sections as one text, each ends with a stop
says_nothing(text)    "", "nan", "N/A", "-", "None.", "XXXX" and their like
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from html.entities import html5

_WIDTHLESS = "\u180e\u200b\u2060\ufeff"  # spaces of no width; "\s" does not hold them
_ODD = re.compile(rf"[^\S ]|[&<\u00ad\u200c-\u200f\u202a-\u202e\u2066-\u2069{_WIDTHLESS}]")
_SPACES = re.compile(rf" *[^\S ][\s{_WIDTHLESS}]*| *[{_WIDTHLESS}][\s{_WIDTHLESS}]*")  # a run with more than blanks
_INVISIBLE = re.compile("[\u00ad\u200c-\u200f\u202a-\u202e\u2066-\u2069]")  # soft hyphens, joiners, directions
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[a-zA-Z][a-zA-Z\d]{1,31});|&nbsp\b")
_BLOCKS = "address|article|blockquote|body|br|center|dd|div|dl|dt|h[1-6]|head|hr|html|li|ol|p|pre|section"
_INLINE = "abbr|b|big|code|em|font|i|mark|small|span|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul"
_KEPT = "(?-i:(?<=[a-z])<BR>(?=[a-z]))"  # in one report of IU X-Ray, where R2Gen reads one word: it stays
_TAG = re.compile(rf"(?!{_KEPT})(?:</?(?:{_BLOCKS}|{_INLINE})(?:\s[^<>]*)?/?>|<!--[^<>]*-->|<!\[CDATA\[|\]\]>)", re.I)
_ESCAPES = 3  # how often a text may have been escaped

_NAMES = r"(?:findings?|report|text|impression|value|description)"
_MARKS = r"(?:n a|na|nan|nat|null|nil|none|undefined|unknown|empty|blank|missing|pending|deferred|tbd|todo)"
_ABSENT = (
    r"(?:available|applicable|given|provided|recorded|reported|stated|entered|dictated|found|transcribed|specified)"
)
_ELSEWHERE = (
    r"(?:please )?(?:see|refer to|as per|as in|same as|as) (?:the )?(?:impression|report|text|above|below|comment|note)"
)
_NOTHING = re.compile(
    rf"(?:{_NAMES} )*(?:(?:{_MARKS}|(?:{_NAMES} )?not {_ABSENT}|no (?:report|text|data|value|entry|information)"
    rf"(?: {_ABSENT})?|no {_NAMES} {_ABSENT}|none {_ABSENT}|{_ELSEWHERE}(?: (?:above|below|section))?"
    r"|n|ref|name|value|div 0) )*"
)


def plain(text: str) -> str:
    """`text` with a blank for every white space, entity of one and tag, and with other entities as characters.

    Runs of blanks only stay, other runs of white space become one blank. Entities may be escaped up to three times. A
    "<" that begins no tag of HTML stays. A text without white space other than blanks, "&" and "<" is not changed.
    """
    if not _ODD.search(text):
        return text
    for _ in range(_ESCAPES):
        if "&" in text:
            text = _ENTITY.sub(_character, text)
    if "<" in text or "]]>" in text:
        text = _TAG.sub("\n", text)
    text = _SPACES.sub("\n", _INVISIBLE.sub("", text))
    return text.strip("\n").replace("\n", " ")


def _character(entity: re.Match) -> str:
    """Of an entity with a number or a known name; others stay."""
    name = entity[0][1:]
    return html.unescape(entity[0]) if name[0] == "#" or name == "nbsp" or name in html5 else entity[0]


def joined(sections: Iterable[str]) -> str:
    """The sections that have words, one after the other; each but the last gets a stop where it has no end."""
    parts = [section.strip() for section in sections if section.strip()]
    ended = [part if part[-1] in ".!?;:" else f"{part}." for part in parts[:-1]]
    return " ".join([*ended, *parts[-1:]])


def says_nothing(text: str) -> bool:
    """Whether a text has no word of a report: only marks of a missing value, of removed names ("XXXX") or numbers."""
    if len(text) > 200:
        return False
    words = re.sub(r"\b(?:x+|br|unk|\d+)\b", " ", re.sub(r"[\W_]+", " ", plain(text).lower()))
    return bool(_NOTHING.fullmatch("".join(f"{word} " for word in words.split())))
