"""Import times."""

from __future__ import annotations


class Import:
    """Import time in a fresh process."""

    def timeraw_import_optbench(self) -> str:
        return "import optbench"

    def timeraw_import_problems(self) -> str:
        return "import problems"
