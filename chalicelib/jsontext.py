"""JSON text, as strict as the standard and as safe as a stranger's frame needs it.

Python's json reads and writes NaN and Infinity, writes lone surrogates that UTF-8 cannot carry, and raises three kinds
of exceptions on input that is merely odd. This module knows those traps, so that no other has to.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import NoReturn

from .errors import InvalidNumber, TooDeep
from .model import JSON

_INTEGER_CHARACTERS = 310
"""What a 64-bit float can still hold has at most 309 digits and a sign; JavaScript reads anything greater as
Infinity.
"""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJSON(ValueError):
    """The text is not JSON at all. (NaN and Infinity are not.)"""


def parse(text: str) -> JSON:
    """Reads JSON text.

    Of duplicate keys the last counts, as in JavaScript. Raises NotJSON, and of text that is JSON: InvalidNumber for
    numbers that a 64-bit float cannot hold, TooDeep for nesting beyond what this Python reads (hundreds of levels).
    """
    try:
        return json.loads(text, parse_constant=_not_json, parse_float=_float, parse_int=_int)
    except json.JSONDecodeError as error:
        raise NotJSON(str(error)) from None
    except RecursionError:
        raise TooDeep from None


def compact(value: JSON) -> str:
    """Writes `value` as compact JSON that UTF-8 can carry, without ASCII escapes: a 120 KB text must not triple.

    Raises TooDeep.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise TooDeep from None
    return _LONE_SURROGATE.sub(lambda surrogate: f"\\u{ord(surrogate[0]):04x}", text)


def plain(text: str) -> str:
    """`text` as UTF-8 can carry it: a lone surrogate becomes U+FFFD, as it does in a browser."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def _not_json(constant: str) -> NoReturn:
    raise NotJSON(constant)


def _float(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise InvalidNumber(literal)
    return number


def _int(literal: str) -> int:
    if len(literal) > _INTEGER_CHARACTERS or abs(number := int(literal)) > sys.float_info.max:
        raise InvalidNumber(literal)
    return number
