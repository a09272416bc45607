"""Values of which it is certain that the templates can be filled in with them, without doing it. Pure.

An item of a batch is accepted only if it renders, and the sender renders it again. To fill in three templates of 2 kB
takes 20 µs; to see that nothing can go wrong with a name and a number takes three. Whatever is not that plain is
rendered.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from shared.placeholders import Placeholders, take_apart
from shared.templates import OUTPUT_LIMIT

_LONGEST_ESCAPE = len("&#x27;")
_ENDS_OF_CID = (":", "d:", "id:", "D:", "ID:")  # behind a value that ends in "c", the html would show an image
_MOST = 1000  # characters of all values together
_MOST_NAMES = 60  # so that what is put out stays below where the engine has to count it, and may find it too much


class Certain(NamedTuple):
    """What the templates of one content ask for: `names` of all of them, as a template with nothing between them."""

    names: Placeholders

    @classmethod
    def of(cls, subject: str, text: str | None, html: str | None) -> Self | None:
        """None where the templates say more than text and names, or may be too long once they are filled in."""
        names: set[str] = set()
        for source in (subject, text or "", html or ""):
            found = take_apart(source)
            if found is None or len(found.names) > _MOST_NAMES:
                return None
            if len(source) + len(found.names) * _MOST * _LONGEST_ESCAPE > OUTPUT_LIMIT:
                return None
            if source is html and any(literal.startswith(_ENDS_OF_CID) for literal in found.literals[1:]):
                return None
            names.update(found.names)
        return cls(Placeholders(("",) * (len(names) + 1), tuple(sorted(names))))

    def allows(self, variables: Mapping[str, Any]) -> bool:
        """Whether the templates render, to a subject of one line, with no `cid:` that was none before."""
        values = self.names.find(variables, is_html=False)
        if values is None or "self" in variables:
            return False
        together = "".join(values)
        return len(together) <= _MOST and together.isprintable() and ":" not in together
