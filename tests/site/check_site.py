"""Open every page of the built docs in headless Chromium, as files on a disk, and search in them.

python check_site.py FOLDER

A page is at fault if it writes an error to the console, if a picture of it does not load, or if it is wider than the
window. Needs selenium, chromium and chromedriver.
"""

import importlib
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SIZES = ((1280, 800), (390, 844))
# What is looked for, and a page that must be found.
SEARCHES = (
    ("zoneout", "variants.html"),
    ("Trainer", "api/latchwork.Trainer.html"),
    ("latchwork.pad", "api/latchwork.pad.html"),
)
BROKEN_PICTURES = "return [...document.images].filter(each => each.naturalWidth === 0).map(each => each.src)"
TOO_WIDE = "return document.documentElement.scrollWidth - window.innerWidth"


def start_browser() -> webdriver.Chrome:
    """Start Debian's Chromium, which needs --no-sandbox as root."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def console_errors(browser: webdriver.Chrome) -> list[str]:
    """Give what pages wrote to the console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def faults_of_page(browser: webdriver.Chrome, page: Path) -> list[str]:
    """Open a page, and give what is wrong with it."""
    browser.get(page.as_uri())
    faults = console_errors(browser)
    faults += [f"picture does not load: {source}" for source in browser.execute_script(BROKEN_PICTURES)]
    if (pixels := browser.execute_script(TOO_WIDE)) > 0:
        faults.append(f"{pixels} pixels wider than the window")
    return faults


def faults_of_search(browser: webdriver.Chrome, folder: Path, words: str, expected: str) -> list[str]:
    """Type into the search field of the first page, and give what is wrong with the results."""
    browser.get((folder / "index.html").as_uri())
    field = browser.find_element(By.NAME, "q")
    field.send_keys(words)
    field.submit()
    WebDriverWait(browser, 10).until(
        lambda each: each.find_elements(By.CSS_SELECTOR, "#search-results .search-summary")
    )
    WebDriverWait(browser, 10).until(lambda each: "finished" in each.find_element(By.CLASS_NAME, "search-summary").text)
    time.sleep(0.5)  # results come one after another
    found = [link.get_attribute("href").partition("?")[0].partition("#")[0]
             for link in browser.find_elements(By.CSS_SELECTOR, "#search-results li a")]  # fmt: skip
    faults = console_errors(browser)
    if (folder / expected).as_uri() not in found:
        faults.append(f"search for {words}: expected {expected}, got {', '.join(found) or 'nothing'}")
    return faults


def missing_names(folder: Path) -> list[str]:
    """Give the public names that have no page."""
    latchwork = importlib.import_module("latchwork")
    modules = {"latchwork": latchwork} | {
        f"latchwork.{name}": getattr(latchwork, name) for name in ("explain", "losses", "optim", "plot")
    }
    names = [f"{module}.{name}" for module, each in modules.items() for name in each.__all__ if name != "__version__"]
    return [name for name in names if not (folder / "api" / f"{name}.html").exists()]


def main() -> int:
    """Check everything; 1 if something is at fault."""
    folder = Path(sys.argv[1]).resolve()
    pages = sorted(folder.rglob("*.html"))
    faults = [f"{name} has no page" for name in missing_names(folder)]
    browser = start_browser()
    try:
        for width, height in SIZES:
            device = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
            for page in pages:
                faults += [f"{page.relative_to(folder)} at {width}: {each}" for each in faults_of_page(browser, page)]
            for words, expected in SEARCHES:
                faults += faults_of_search(browser, folder, words, expected)
    finally:
        browser.quit()
    print(*faults, f"{len(pages)} pages in {len(SIZES)} sizes, {len(faults)} faults", sep="\n")
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
