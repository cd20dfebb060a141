"""The picture of README: the heat map of the page that ``optbench run`` writes.

    python docs/picture.py results/report.html

It needs the extra ``test`` and a Chromium, see ``.ci/browser``.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "_static" / "overview.png"


def main(page: str) -> None:
    browser_path = os.environ.get("OPTBENCH_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 840, "height": 2000}, device_scale_factor=1.5)
        view.goto(Path(page).resolve().as_uri())
        view.add_style_tag(content="nav, header, .hint, .at figure, .at .pair, a.csv { display: none !important }")
        view.locator(".at:visible").first.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
