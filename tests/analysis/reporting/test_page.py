"""The report in a real browser: tables that sort by mouse and keyboard; skipped where Chromium is missing."""

import shutil

import pytest

from reprkit.analysis.reporting.report import render
from reprkit.analysis.reporting.results import load_results

webdriver = pytest.importorskip("selenium.webdriver")
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture
def page(tmp_path, make, write):
    from selenium.webdriver.chrome.service import Service

    path = tmp_path / "report.html"
    path.write_text(render(load_results(write(tmp_path / "s", make(seeds=2))), []), encoding="utf-8")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = BROWSER
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    browser.get(path.as_uri())
    yield browser
    browser.quit()


def test_tables_sort_by_mouse_and_by_keyboard(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    table = page.find_element(By.CSS_SELECTOR, "#table-probes table")
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    names = [head.text.strip() for head in heads]

    def column(name):
        cells = [row.find_elements(By.TAG_NAME, "td")[names.index(name)]
                 for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]  # fmt: skip
        return [float(cell.get_attribute("data-sort")) if cell.get_attribute("data-sort") else cell.text
                for cell in cells]  # fmt: skip

    def state(name):
        return heads[names.index(name)].get_attribute("aria-sort")

    before = sorted(map(str, column("kNN")))
    heads[names.index("kNN")].find_element(By.TAG_NAME, "button").click()
    assert state("kNN") == "descending"
    assert column("kNN") == sorted(column("kNN"), reverse=True)
    heads[names.index("kNN")].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert state("kNN") == "ascending"
    assert column("kNN") == sorted(column("kNN"))
    assert sorted(map(str, column("kNN"))) == before
    heads[names.index("Encoder")].find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert state("Encoder") == "ascending"
    assert state("kNN") is None
    assert column("Encoder") == sorted(column("Encoder"))
    asked = page.execute_script("return performance.getEntriesByType('resource').length")
    assert asked == 0  # nothing was fetched
    assert page.get_log("browser") == []
