"""The class's page in a real browser: it stays as it was left while it loads itself again."""

from __future__ import annotations

import pytest

from grader.reports import class_html
from tests.jupyterlab import FLAGS, chromium
from tests.reports import samples


@pytest.mark.slow
def test_what_is_looked_for_stays_when_the_page_reloads(tmp_path) -> None:
    from playwright.sync_api import sync_playwright

    browser = chromium()
    path = tmp_path / "class.html"
    reports = samples.a_class(20)
    path.write_text(class_html(reports[:10], title="Lab", progress="10 of 20 have been graded.", reload=True), "utf-8")
    faults: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=browser, args=list(FLAGS)) as opened,
    ):
        page = opened.new_page(viewport={"width": 1200, "height": 600})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.clock.install()
        page.goto(path.as_uri())
        page.get_by_role("button", name="Total").click()
        page.get_by_role("button", name="Total").click()
        rows = page.locator("#submissions tbody tr:visible")
        page.get_by_label("Find").fill("cell failed")
        some = rows.count()
        assert 0 < some < 10
        path.write_text(class_html(reports, title="Lab", progress="20 of 20 have been graded.", reload=True), "utf-8")
        page.clock.fast_forward(16_000)
        assert page.get_by_text("10 of 20 have been graded.").is_visible(), "not while somebody types"
        page.get_by_label("Find").blur()
        page.clock.fast_forward(16_000)
        page.get_by_text("20 of 20 have been graded.").wait_for()
        assert page.get_by_label("Find").input_value() == "cell failed"
        assert rows.count() == sum("cell failed" in row for row in rows.all_inner_texts()) >= some
        page.get_by_label("Find").fill("")
        totals = [
            int(cell) for cell in page.locator("#submissions td:nth-child(2)").all_inner_texts() if cell.isdigit()
        ]
        assert totals == sorted(totals, reverse=True)
        path.write_text(class_html(reports, title="Lab"), "utf-8")
        page.get_by_label("Find").blur()
        page.clock.fast_forward(16_000)
        page.get_by_text("have been graded").wait_for(state="detached")
        assert page.evaluate("'reload' in document.body.dataset") is False
    assert faults == []
