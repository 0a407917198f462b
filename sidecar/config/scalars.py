"""What an unquoted YAML scalar means: JSON's idea of numbers and booleans, and no surprises.

Readers of YAML 1.1 and 1.2 disagree on `no`, `012`, `22:30`, `1e3` and their like. A configuration that means two
things is refused with a sentence that says what to write instead.
"""

import re

from sidecar.config.grammar import shown
from sidecar.config.node import Doubtful, Value

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_SURPRISES = (
    (re.compile(r"(?i:yes|no|on|off)"), "is a boolean to some YAML readers and text to others; write {boolean}or "),
    (re.compile(r"True|TRUE|False|FALSE"), "is true or false only to some YAML readers; write {boolean}or "),
    (re.compile(r"[-+]?0[0-9_]+"), "is an octal number to some YAML readers; drop the leading zero, or "),
    (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"), "is a base-60 number to some YAML readers; "),
    (re.compile(r"[-+]?0[box][0-9A-Fa-f_]+"), "is a number in another base; write it in decimal, or "),
    (re.compile(r"\+?[0-9][0-9_]*"), "is a number only to some YAML readers; write plain digits, at most 18, or "),
    (
        re.compile(r"[-+]?(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?"),
        "is a number only to some YAML readers; write it like 1000 or 0.5, or ",
    ),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "is not a usable number; "),
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"), "is a date to some YAML readers; "),
)
_TRUE_WORDS = ("yes", "on", "true")


def plain_scalar(text: str) -> Value:
    """The value of an unquoted scalar; `Doubtful` when readers disagree on it."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    for pattern, hint in _SURPRISES:
        if pattern.fullmatch(text):
            boolean = "true, " if text.lower() in _TRUE_WORDS else "false, "
            return Doubtful(text, f"{shown(text)} {hint.format(boolean=boolean)}put it in quotes if it is text")
    return text
