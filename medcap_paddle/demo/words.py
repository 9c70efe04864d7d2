"""What the page says, in English and in Chinese: words.json, {key: {language: text}}."""

from __future__ import annotations

from pathlib import Path

from ..runtime.files import read_json

LANGUAGES = {"en": "English", "zh": "中文"}
WORDS: dict[str, dict[str, str]] = read_json(Path(__file__).with_name("words.json"), "install the package again")


def say(language: str, key: str, **values: object) -> str:
    """The text of a key, with values in place of their names in braces."""
    return WORDS[key][language].format(**values)
