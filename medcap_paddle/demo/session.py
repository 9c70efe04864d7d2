"""What a guest's session keeps: the language, the choices that are in the link, and what was made for them.

Streamlit is imported when it is needed: nothing else in the house needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import words

LANGUAGE = "lang"


def say(key: str, **values: object) -> str:
    """`words.say` in the guest's language."""
    import streamlit as st

    return words.say(st.session_state.get(LANGUAGE, next(iter(words.LANGUAGES))), key, **values)


def linked(widget: Callable, key: str, options: Sequence[str], shown: Callable[[str], str] = str, **more: Any) -> str:
    """A choice that is part of the link: by its value, not by its label, which is translated. What a link asks for and
    is not among the options is the first of them.
    """
    import streamlit as st

    asked = st.session_state.get(key, st.query_params.get(key))
    st.session_state[key] = asked if asked in options else options[0]
    st.query_params[key] = widget(say(key), options, format_func=shown, key=key, **more)
    return st.session_state[key]


def once(slot: str, key: object, make: Callable[[], Any]) -> Any:
    """What was made for this key. A slot holds one: another key takes its place."""
    import streamlit as st

    if st.session_state.get(slot, (None,))[0] != key:
        st.session_state[slot] = (key, make())
    return st.session_state[slot][1]
