"""Path templates of google.api.http: literals, variables such as {media_id} or {name=tenants/*}, verbs as in :close."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_VARIABLE = re.compile(r"\{([a-zA-Z0-9_.]+)(?:=([^{}]+))?\}")
# One segment. A colon begins a verb; in a value it travels as %3A.
_SEGMENT = "[^/:]+"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template."""

    text: str
    pattern: re.Pattern[str]
    variables: tuple[str, ...]
    """Field paths as the proto has them, in the order of the pattern's groups."""

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what is more particular before what could match the same path."""
        return (len(self.variables), -len(self.text))

    def match(self, raw_path: str) -> dict[str, str] | None:
        """The variables' values, percent-decoded; None for other paths. `raw_path` as it came, still encoded. Raises
        UnicodeDecodeError for values that are no UTF-8.
        """
        matched = self.pattern.fullmatch(raw_path)
        if matched is None:
            return None
        values = (unquote(value, errors="strict") for value in matched.groups())
        return dict(zip(self.variables, values, strict=True))


def parse(text: str) -> Template:
    """Raises ValueError for a template that makes no sense."""
    pattern, position, variables = "", 0, []
    for found in _VARIABLE.finditer(text):
        pattern += _literal(text[position : found.start()])
        pattern += f"({_wildcards(found[2] or '*')})"
        variables.append(found[1])
        position = found.end()
    pattern += _literal(text[position:])
    if not text.startswith("/") or len(set(variables)) < len(variables):
        raise ValueError(f"{text} is no path template")
    return Template(text, re.compile(pattern), tuple(variables))


def _literal(text: str) -> str:
    if "{" in text or "}" in text or "*" in text:
        raise ValueError(f"{text} stands outside of a variable")
    return re.escape(text)


def _wildcards(text: str) -> str:
    kinds = {"*": _SEGMENT, "**": ".+"}
    return "/".join(kinds.get(segment) or _literal(segment) for segment in text.split("/"))
