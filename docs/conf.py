"""How Sphinx builds the documentation: ``sphinx-build -W docs build/docs``. Nothing is fetched from the network."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

from pygments.lexers.special import TextLexer  # noqa: E402

import optbench  # noqa: E402

project = "optbench"
author = "the optbench developers"
copyright = "2026, the optbench developers"
version = release = optbench.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "catalogue",
    "commands",
    "kernels",
    "llms",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_templates", "_build", "_ext", "gallery/*.rst", "tutorials/notebook"]
default_role = "py:obj"  # `name` in a docstring links to what it names, or is set as code
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections state types and shapes
numpydoc_show_class_members = False
numpydoc_validation_checks: set[str] = set()

html_theme = "furo"
html_title = "optbench"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
html_copy_source = True

sphinx_gallery_conf = {
    "examples_dirs": ["gallery", "tutorials/notebook"],
    "gallery_dirs": ["auto_gallery", "auto_tutorials"],
    "filename_pattern": r"\.py",
    "image_scrapers": ("matplotlib",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "plot_gallery": "True",
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
}

warnings.filterwarnings("error", module="optbench")


def escape_bars(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """A norm such as |w|^2 in a docstring is text, not the name of a substitution."""
    for i, line in enumerate(lines):
        parts = line.split("``")  # every second part is literal
        lines[i] = "``".join(p if k % 2 else re.sub(r"(?<!\\)\|", r"\\|", p) for k, p in enumerate(parts))


def setup(app: Any) -> None:
    app.add_lexer("csv", TextLexer)  # Pygments has none
    app.connect("autodoc-process-docstring", escape_bars, priority=900)  # after numpydoc
