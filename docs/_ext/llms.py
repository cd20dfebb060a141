"""``llms.txt`` beside the pages: their titles, addresses and first sentences, for language models (llmstxt.org)."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    lines = [f"# {app.config.project}", "", f"> {_summary(app.env, 'index')}", "", "## Pages", ""]
    for page in sorted(app.env.found_docs - {"index"}):
        address = app.builder.get_target_uri(page)
        lines.append(f"- [{app.env.titles[page].astext()}]({address}): {_summary(app.env, page)}".rstrip(": "))
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _summary(env: BuildEnvironment, page: str) -> str:
    """The first paragraph of a page, notes aside."""
    paragraphs = env.get_doctree(page).findall(nodes.paragraph)
    paragraph = next((p for p in paragraphs if not isinstance(p.parent, nodes.Admonition)), None)
    return "" if paragraph is None else " ".join(paragraph.astext().split())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
