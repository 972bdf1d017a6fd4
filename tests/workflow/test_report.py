"""`snakemake --report` in a browser: what was run, tables that sort, every figure to be seen."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, Page, sync_playwright

from project import Workflow

# A screen's and a telephone's.
SIZES = {"screen": (1280, 900), "telephone": (390, 844)}
METRICS = ("FID", "Inception Score", "accuracy")
FIGURES = {f"{metric} over {size}" for metric in METRICS for size in ("bits", "stored size")}
FIGURES |= {"samples", "levels", "losses"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips where there is none, but never in CI."""
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # Containers have no room for its own sandbox; it reads nothing but our report.
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(finished: Workflow) -> Path:
    done = finished.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    return finished.folder / "report.html"


@dataclass
class Opened:
    """A report in a browser, and what went wrong there."""

    page: Page
    errors: list[str]

    @property
    def width(self) -> int:
        size = self.page.viewport_size
        assert size is not None
        return size["width"]

    @property
    def entries(self) -> Locator:
        """The entries of the category that is open."""
        return self.page.locator("nav tbody tr")

    def fits(self, picture: Locator) -> None:
        """A picture has been drawn, is in the window's width and fills a good part of it."""
        picture.wait_for(state="visible")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= self.width
        assert box["width"] > min(0.7 * self.width, 500)


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Opened]:
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    # It is to need no network.
    page.on("request", lambda r: errors.append(r.url) if r.url.startswith("http") else None)
    page.goto(report.as_uri())
    yield Opened(page, errors)
    assert not errors
    page.close()


def test_it_opens_on_what_was_run(opened: Opened) -> None:
    page = opened.page
    assert page.get_by_role("heading", name="Run “tiny”").is_visible()
    assert page.get_by_role("cell", name="ot 2bit").is_visible()
    assert page.get_by_role("heading", name="Provenance").is_visible()
    assert page.get_by_text('"uniform"').first.is_visible()
    pictures = page.locator("figure img")
    assert pictures.count() == 2
    for place in range(2):
        opened.fits(pictures.nth(place))


def test_every_figure_is_to_be_seen(opened: Opened) -> None:
    opened.page.get_by_text("digits", exact=True).first.click()
    count = opened.entries.count()
    assert {row.strip() for row in opened.entries.all_inner_texts()} == FIGURES
    for entry in range(count):
        opened.entries.nth(entry).locator("a").first.click()
        opened.fits(opened.page.locator(".grow > .p-3 > img"))


# A table that scrolls has its titles apart from its rows.
TITLES = ".dt-scroll-head th"


def column(table: FrameLocator, name: str) -> list[str]:
    """The cells below a title, from the top."""
    place = table.locator(TITLES).all_inner_texts().index(name)
    return [row.split("\t")[place] for row in table.locator("tbody tr").all_inner_texts()]


def test_tables_sort_and_search(opened: Opened) -> None:
    opened.page.get_by_text("tables", exact=True).first.click()
    opened.entries.filter(has_text=re.compile(r"all variants\s*$")).locator("a").first.click()
    table = opened.page.frame_locator("iframe")
    title = table.locator(TITLES).get_by_text("fid", exact=True)
    for descending in (False, True):
        title.click()
        fids = [float(cell.replace(",", "")) for cell in column(table, "fid")]
        assert len(fids) == 4
        assert fids == sorted(fids, reverse=descending)
    table.locator("input[type=search]").fill("ot/2")
    assert column(table, "variant") == ["ot/2bit"]
    # What all rows share is put away.
    assert "dataset" not in table.locator(TITLES).all_inner_texts()
