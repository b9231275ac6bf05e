"""The page in a real browser: it asks the network for nothing, keys reach everything, nothing is cut off."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from detloss.report import write_report
from tests.browser import CHROMIUM, Browser, browser
from tests.reported_runs import six_runs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

FOCUSED = """(() => {
  const element = document.activeElement;
  const near = element.closest("nav, section");
  return [element.tagName, near ? near.id || near.tagName : "", element.textContent.trim().slice(0, 40)];
})()"""
SORTED = """[...document.querySelectorAll("#classes tbody tr")].map((row) => row.cells[0].textContent)"""
HEADINGS = """[...document.querySelectorAll("#classes thead tr:last-child th")].map((each) => each.ariaSort)"""
FOREIGN = ("Network.requestWillBeSent", "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_report(six_runs(folder), folder / "report.html", draws=20)
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def focus(chromium: Browser) -> list[str]:
    found = chromium.value(FOCUSED)
    assert isinstance(found, list)
    return found


def tab_to(chromium: Browser, tag: str, text: str) -> None:
    """Press Tab until an element has the focus, as often as a patient person would."""
    for _ in range(150):
        chromium.press("Tab")
        own, _, words = focus(chromium)
        if own == tag and words.startswith(text):
            return
    raise AssertionError(f"Tab never reaches {tag} {text}")


def test_the_page_loads_without_a_word_and_asks_for_nothing(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.value("window.scrollTo(0, document.body.scrollHeight)")
    chromium.value("Promise.all([...document.images].map((each) => (each.loading = 'eager', each.decode())))")
    said = [event for event in chromium.events if event.get("method") in FOREIGN]
    urls = [event["params"]["request"]["url"] for event in said if event["method"] == FOREIGN[0]]  # type: ignore[index]
    assert [url for url in urls if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert [event for event in said if event["method"] != FOREIGN[0]] == []
    assert chromium.value("[...document.images].every((each) => each.naturalWidth > 0)") is True


def test_the_policy_stops_a_script_that_is_not_the_pages(chromium: Browser, page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "changed.html"
    copy.write_text(page.read_text().replace("</main>", "</main><script>window.foreign = 1</script>"))
    chromium.open(copy)
    assert chromium.value("typeof window.foreign") == "undefined"


def test_tab_goes_from_the_skip_link_over_the_contents_to_the_sections(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.press("Tab")
    assert focus(chromium)[0] == "A" and focus(chromium)[2] == "Skip to the content"
    assert chromium.value("document.activeElement.getBoundingClientRect().top >= 0") is True  # seen when focused
    reached = []
    for _ in range(10):
        chromium.press("Tab")
        reached.append(focus(chromium))
    assert {near for _, near, _ in reached} == {"NAV"} and reached[-1][2] == "Classes"
    tab_to(chromium, "SUMMARY", "The ")
    assert focus(chromium)[1] == "configuration"
    chromium.press("Enter")
    assert chromium.value("document.activeElement.parentElement.open") is True
    style = "getComputedStyle(document.activeElement)"
    assert chromium.value(f"{style}.outlineStyle") == "solid"


def test_the_skip_link_leads_to_the_content(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.press("Tab")
    chromium.press("Enter")
    assert chromium.value("document.activeElement.id") == "content"


def test_enter_and_space_sort_the_classes(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.value(SORTED) == ["rare", "common", "frequent"]
    tab_to(chromium, "BUTTON", "class")
    chromium.press("Enter")
    assert chromium.value(SORTED) == ["common", "frequent", "rare"]
    assert chromium.value(HEADINGS)[0] == "ascending"  # type: ignore[index]
    chromium.press(" ")
    assert chromium.value(SORTED) == ["rare", "frequent", "common"]
    assert chromium.value(HEADINGS)[0] == "descending"  # type: ignore[index]
    tab_to(chromium, "BUTTON", "training images")
    chromium.press(" ")
    assert chromium.value(SORTED) == ["frequent", "common", "rare"]  # 500, 50, 5: as numbers, the most first
    assert json.dumps(chromium.value(HEADINGS)).count("ending") == 1


def test_the_classes_are_narrowed_to_a_group_by_keys(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.value("document.querySelector('#classes input[value=c]').focus()")
    chromium.press(" ")
    shown = "[...document.querySelectorAll('#classes tbody tr')].filter((row) => row.offsetHeight).length"
    assert chromium.value(shown) == 1
    assert chromium.value("document.querySelector('#classes tbody tr[data-group=c]').offsetHeight > 0") is True


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("opened", [False, True])
def test_nothing_runs_over_the_edge(chromium: Browser, page: Path, width: int, opened: bool) -> None:
    chromium.open(page, width=width)
    if opened:
        chromium.value("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert chromium.value("innerWidth") == width
    assert chromium.value("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(chromium: Browser, page: Path, dark: bool) -> None:
    """By WCAG 2.2, 1.4.3: a contrast of 4.5 or more."""
    chromium.open(page, dark=dark)
    colours = """["--text", "--soft", "--link", "--ground"].map((name) =>
        getComputedStyle(document.documentElement).getPropertyValue(name).trim())"""
    found = chromium.value(colours)
    assert isinstance(found, list)
    *words, ground = (luminance(colour) for colour in found)
    assert (ground < 0.1) == dark
    for each in words:
        assert (max(each, ground) + 0.05) / (min(each, ground) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
