"""What may be attached over HTTP: how many files, how large, of which types; and that the HTML's images are there.

Pure. On the topic none of this is asked: who publishes there is trusted with it (R9). What makes an attachment
unreadable is refused in both places (shared/events/requested.py).
"""

import html as markup
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from shared.events import Attachment

REFUSE_NONE = "none"
# What the large mail providers refuse themselves: files that run when they are opened. Archives are not looked into.
DEFAULT_REFUSED = (
    ".ade, .adp, .apk, .appx, .appxbundle, .application, .bat, .cab, .chm, .cmd, .com, .cpl, .diagcab, .dll, "
    ".exe, .gadget, .hta, .img, .inf, .ins, .iso, .isp, .jar, .jnlp, .js, .jse, .lnk, .mde, .msc, .msh, .msi, "
    ".msix, .msp, .mst, .pif, .ps1, .ps1xml, .ps2, .psc1, .psm1, .reg, .scf, .scr, .sct, .shb, .sys, .url, .vb, "
    ".vbe, .vbs, .vhd, .vhdx, .vxd, .wsc, .wsf, .wsh, .xll, application/hta, application/java-archive, "
    "application/javascript, application/vnd.microsoft.portable-executable, application/x-bat, "
    "application/x-dosexec, application/x-executable, application/x-java-jnlp-file, application/x-ms-installer, "
    "application/x-ms-shortcut, application/x-msdos-program, application/x-msdownload, application/x-msi, "
    "text/javascript, text/vbscript"
)
_EXTENSION = re.compile(r"\.?([^./\\\s,]+)")
_TYPE = re.compile(r"[^/\s,]+/[^/\s,]+")
_TAG = re.compile(r"<[a-z][^<>]*>", re.IGNORECASE)
_REFERENCE = re.compile(
    r"""(?:[\s"'](?:src|background|poster|href|data|xlink:href)\s*+=\s*+["']?|url\(\s*+["']?)cid:([^"'\s()<>]+)""",
    re.IGNORECASE,
)
_MOST_MISSING = 10

Faults = list[dict[str, str]]


def parse_refused(text: str) -> frozenset[str]:
    """`.exe, text/javascript` → what is refused, in lower case; nothing for `none`. Raises ValueError."""
    if text.strip().lower() == REFUSE_NONE:
        return frozenset()
    return frozenset(_parse_kind(part.strip().lower()) for part in text.split(",") if part.strip())


def _parse_kind(text: str) -> str:
    if _TYPE.fullmatch(text):
        return text
    extension = _EXTENSION.fullmatch(text)
    if not extension:
        raise ValueError(f"{text!r} is neither an extension (.exe) nor a content type (text/javascript)")
    return f".{extension[1]}"


@dataclass(frozen=True, slots=True)
class AttachmentRules:
    """`size` and `total` in bytes, decoded; `refused` as of `parse_refused`."""

    count: int = 100
    size: int = 10 * 1024 * 1024
    total: int = 25 * 1024 * 1024
    refused: frozenset[str] = parse_refused(DEFAULT_REFUSED)

    def find_faults(self, attachments: Sequence[Attachment]) -> Faults:
        """What is wrong with a mail's attachments, as `[{detail, pointer}]`."""
        if not attachments:
            return []
        if len(attachments) > self.count:
            return [_fault(f"a mail may have at most {self.count} attachments; this has {len(attachments)}")]
        faults = [fault for index, each in enumerate(attachments) for fault in self._judge(index, each)]
        total = sum(measure(each) for each in attachments)
        if total > self.total:
            faults.append(_fault(f"all together may have at most {self.total} bytes; these have {total}"))
        return faults

    def _judge(self, index: int, attachment: Attachment) -> Iterator[dict[str, str]]:
        extension, kind = find_extension(attachment.filename), attachment.content_type.partition(";")[0].strip().lower()
        if extension in self.refused:
            yield _fault(
                f"files that end in {extension} are not sent; offer it as a download instead", index, "filename"
            )
        elif kind in self.refused:
            yield _fault(
                f"files of the type {kind} are not sent; offer it as a download instead", index, "content_type"
            )
        size = measure(attachment)
        if size > self.size:
            yield _fault(f"may have at most {self.size} bytes, decoded; this has {size}", index, "content")


def find_extension(filename: str) -> str:
    """The extension in lower case, with its dot; of dots and spaces at the end Windows knows nothing."""
    name = filename.rstrip(". \t").lower()
    dot = name.rfind(".")
    return name[dot:] if dot >= 0 else ""


def measure(attachment: Attachment) -> int:
    """Bytes of the file, from the length of its base64."""
    content = attachment.content
    return len(content) // 4 * 3 - content[-2:].count("=")


def find_missing_images(html: str | None, attachments: Sequence[Attachment]) -> Faults:
    """What the HTML shows by `cid:` (RFC 2392) and no attachment is.

    Only what stands where a reader would load it, in an attribute of a tag, is a reference: a text may speak of `cid:`
    as it likes, and so may a comment.
    """
    if html is None or ("cid:" not in html and "CID:" not in html):
        return []
    known = {each.content_id for each in attachments}
    tags = _TAG.finditer("".join(_drop_comments(html)))
    wanted = dict.fromkeys(ref for tag in tags for ref in _REFERENCE.findall(tag[0]))
    missing = [ref for ref in wanted if ref not in known and unquote(markup.unescape(ref)) not in known]
    return [
        {"detail": f"refers to cid:{ref[:200]}, and no attachment has this content_id", "pointer": "/html"}
        for ref in missing[:_MOST_MISSING]
    ]


def _drop_comments(html: str) -> Iterator[str]:
    """But not those that Outlook reads: `<!--[if mso]> … <![endif]-->`."""
    first, *others = html.split("<!--")
    yield first
    for part in others:
        yield part if part.startswith(("[if", ">", "->")) else part.partition("-->")[2]


def _fault(detail: str, *path: int | str) -> dict[str, str]:
    return {"detail": detail, "pointer": "/".join(("/attachments", *map(str, path)))}
