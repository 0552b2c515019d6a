"""The paper's part of the report in a real browser: nothing cut, nothing inaccessible."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench.report import write_report
from cspbench.views.frames import Run
from tests.conftest import BROWSER_ARGUMENTS

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_it_fits_and_is_accessible_in_both_schemes(
    browser_path: str, table5: Run, tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    file = write_report([table5], tmp_path / "paper.html")
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser_path, args=list(BROWSER_ARGUMENTS)
        )
        for scheme, width in (("light", 1440), ("dark", 390)):
            # The checker is a script of its own, which the page's policy rightly forbids.
            page = chromium.new_page(
                offline=True, color_scheme=scheme, bypass_csp=True,
                viewport={"width": width, "height": 900},
            )  # fmt: skip
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(f"file://{file}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("ul.claims > li").count() > 20
            details = page.locator("#claim-cpu-order details")
            details.locator("summary").press("Enter")
            assert details.get_by_text("Every pair must be in order").is_visible()
            violations = axe.Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"][:120]) for one in violations] == []
        chromium.close()
    assert complaints == []
