"""Matplotlib figures as SVG for a page."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from matplotlib.figure import Figure

from ..figures.style import GRID, INK, MUTED, PALETTE, PAPER, theme


def to_svg(figure: Figure, prefix: str, label: str, names: Mapping[int, str]) -> str:
    """A figure as SVG for an HTML page; equal figures give equal text.

    Colours become CSS variables of the page (``--ink``, ``--c0``, ...), and text has its font. Each part of the curve of a
    method (an artist with the gid ``curve-INDEX-PART``, or ``rest-INDEX-PART`` in grey) gets the attribute ``data-method``
    with its index.

    Parameters
    ----------
    prefix : str
        Prefix of all ids, which must be unique on the page.
    label : str
        Alternative text, for readers who cannot see the figure.
    names : mapping
        Names of the methods by index, for tooltips.
    """
    buffer = io.BytesIO()
    with theme(), warnings.catch_warnings():
        # browsers draw the text; the fonts of matplotlib only measure it
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing from font")
        warnings.filterwarnings("ignore", r"(?s)Matplotlib currently does not support .* natively")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)  # a style sheet inside a figure would apply to the whole page
    ids: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # no namespaces in HTML
        for part in ("text", "tail"):
            if not (getattr(element, part) or "").strip():
                setattr(element, part, None)  # indentation
        if "id" in element.attrib and element.tag == "g" and not _GID.fullmatch(element.attrib["id"]):
            del element.attrib["id"]  # numbered by matplotlib, never referred to
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for key in list(element.attrib):
            element.attrib[key.rpartition("}")[2]] = _attribute(key, element.attrib.pop(key), prefix, ids)
    for group in root.iter("g"):
        _hoist(group)
    for element in list(root.iter("g")):
        match = _GID.fullmatch(element.get("id", "").removeprefix(prefix))
        if match and match[1] in ("curve", "rest"):
            element.set("data-method", match[2])
            element.set("class", match[1])
            if match[1] == "rest":
                element.set("style", f"--own: var(--c{int(match[2]) % len(PALETTE)})")
            title = ET.Element("title")
            title.text = names[int(match[2])]
            element.insert(0, title)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


_GID = re.compile(r"(curve|rest|[a-z]+)-(\d+)(?:-\w+)?")  # of artists that we name


def _hoist(group: ET.Element) -> None:
    """Move a style that all members of a group share to the group."""
    styles = {member.get("style") for member in group}
    if len(group) > 1 and len(styles) == 1 and None not in styles and group.get("style") is None:
        group.set("style", str(styles.pop()))
        for member in group:
            del member.attrib["style"]


_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--c{i}" for i, color in enumerate(PALETTE)
}


def _attribute(key: str, value: str, prefix: str, ids: dict[str, str]) -> str:
    """An attribute of matplotlib's SVG for the page; `ids` maps long names of definitions to short ones."""

    def known(name: str) -> str:
        return prefix + (name if _GID.fullmatch(name) else ids.setdefault(name, f"d{len(ids)}"))

    if key == "id":
        return known(value)
    if key.endswith("href"):
        return f"#{known(value[1:])}"
    if key == "d":
        return _compact(value)
    if key in ("x", "y"):
        return f"{float(value):.1f}".removesuffix(".0")
    if key in ("style", "fill", "stroke"):
        value = re.sub(r"font-family:[^;]*(; |$)", "", value)  # the font is the page's
        value = re.sub(r"#[0-9a-f]{6}", lambda m: f"var({_VARIABLES[m[0]]})" if m[0] in _VARIABLES else m[0], value)
        return re.sub(r"([:;]) ", r"\1", value)
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{known(m[1])})", value)


def _compact(path: str) -> str:
    """An SVG path: straight lines as relative moves in tenths of a point, curves in hundredths."""
    if "C" in path or "Q" in path:
        return re.sub(r"(\.\d\d)\d+", r"\1", path)
    parts, last, before = [], (0, 0), ""
    for command, x, y in re.findall(r"([MLz])\s*(?:(\S+)\s+(\S+))?", path):
        if command == "z":
            parts.append("z")
            before = "z"
            continue
        at = round(10 * float(x)), round(10 * float(y))
        if command == "M":
            parts.append(f"M{at[0] / 10:g} {at[1] / 10:g}")
        elif at == last and before == "L":
            continue
        else:
            step = f"{(at[0] - last[0]) / 10:g} {(at[1] - last[1]) / 10:g}".replace(" -", "-")
            parts.append(f"{'' if before == 'L' and step[0] == '-' else 'l' if before != 'L' else ' '}{step}")
        last, before = at, command
    return "".join(parts)
