"""`select`: a JMESPath expression over what is known of an image; only exactly `true` takes it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult  # noqa: TC002 - pydantic looks at the fields of a dataclass

from profiles.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What an expression can look at, and the order in which the reference explains it.
DOCUMENT = {
    "repository": "text: the upstream repository",
    "tag": "text: the tag, null for an image that is listed by digest",
    "digest": "text: the digest of the manifest or index",
    "mediaType": "text: its media type",
    "manifest": "object: the manifest or index, as upstream has it",
    "config": "object: the config of the image (of the first platform, for an index), null for an artifact",
    "annotations": "object: the annotations of the manifest or index",
    "labels": "object: the labels in the config",
    "platforms": "list of texts: 'linux/amd64', 'linux/arm/v7'",
    "created": "number: seconds since 1970 when the image was built, null where it does not say",
}
_EXAMPLE = "labels.\"org.opencontainers.image.vendor\" == 'Example'"
# The children of these nodes are evaluated on what the first child gave, not on the document.
_CHAINS = {"subexpression", "index_expression", "projection", "value_projection", "filter_projection",
           "flatten", "pipe"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SelectExpression:
    """A compiled expression; equal when the text is equal."""

    text: str
    _compiled: ParsedResult = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: object) -> SelectExpression:
        """Raises `Refusal` when `text` is not JMESPath, or looks at a field that no image has."""
        if isinstance(text, SelectExpression):
            return text
        if not isinstance(text, str):
            raise Refusal("not a text", f"write a JMESPath expression, e.g. {_EXAMPLE}")
        try:
            compiled = jmespath.compile(text)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise Refusal(
                f"not a JMESPath expression ({reason})", f"write e.g. {_EXAMPLE} (names with dots in quotes)"
            ) from error
        for name in _roots(compiled.parsed):
            _known(name)
        return cls(text, compiled)

    def evaluate(self, document: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether the image is taken, and in words why not. Never raises: what cannot be evaluated is no."""
        try:
            found = self._compiled.search(document)
        except JMESPathError as error:
            return False, f"select could not be evaluated: {' '.join(str(error).split())}"
        if found is True:
            return True, ""
        shown = repr(found)
        return False, f"select gave {shown if len(shown) <= 40 else shown[:40] + '…'}, not true"

    def __str__(self) -> str:
        return self.text


def _roots(node: Mapping[str, Any]) -> Iterator[str]:
    """The names that are looked up in the document itself."""
    if node["type"] == "field":
        yield node["value"]
    children = [child for child in node.get("children", ()) if isinstance(child, dict)]
    for child in children[:1] if node["type"] in _CHAINS else children:
        yield from _roots(child)


def _known(name: str) -> None:
    if name in DOCUMENT:
        return
    near = difflib.get_close_matches(name, DOCUMENT, 1)
    advice = f"did you mean {near[0]!r}? " if near else ""
    raise Refusal(f"{name!r} is not known of an image", f"{advice}there are: {', '.join(DOCUMENT)}")
