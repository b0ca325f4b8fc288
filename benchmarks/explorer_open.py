"""How long a page of the explorer takes from its opening to the first sample under the pointer, in headless Chromium.

    python benchmarks/explorer_open.py              # a minute; needs chromium, chromedriver and selenium
    python benchmarks/explorer_open.py --smoke      # one round of small pages, to see that it runs

Target: under 2 s. The clock starts with the address and stops two frames after the sample's record is on the page, so
that parsing, decoding, drawing, the driver's own round trips and the paint count; the browser runs already. Every page
is opened in turn in each round, each time in a fresh tab state.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from reprkit.analysis.explorer import Exploration, View, make_page, pack_sprites
from reprkit.tasks import Task

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1400,900",
)  # fmt: skip

SHOWN = """
const done = arguments[0];
const wait = () => document.getElementById("sample").dataset.id
  ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
  : setTimeout(wait, 1);
wait();
"""


def page_of(count: int, encoders: int, path: Path, *, thumbnails: bool) -> Path:
    """Clouds of ten classes, three tasks, and blurred noise as images, which compress no better than photographs."""
    from PIL import Image

    rng = np.random.default_rng(0)
    kind = rng.integers(0, 10, count).astype(float)
    centres = rng.normal(size=(10, 2)) * 3
    tasks = {
        "kind": Task("kind", "classification", 10),
        "side": Task("side", "classification", 2),
        "age": Task("age", "regression", 1),
    }
    targets = {"kind": kind, "side": kind % 2, "age": rng.uniform(0, 90, count)}
    ids = [f"sample-{i:06d}.jpg" for i in range(count)]
    views = [
        View(f"encoder {k}", centres[kind.astype(int)] + rng.normal(size=(count, 2)), "", targets, rng.random(count))
        for k in range(encoders)
    ]
    low, high = views[0].points.min(axis=0), views[0].points.max(axis=0)
    views[0].points[0] = (low + high) / 2  # in the middle of the map, where the pointer goes
    sprites = None
    if thumbnails:
        small = rng.integers(0, 256, (count, 10, 10, 3), np.uint8)
        images = [np.asarray(Image.fromarray(one).resize((40, 40), Image.Resampling.BICUBIC)) for one in small]
        sprites = pack_sprites(ids, images)
    return make_page(Exploration(ids, tasks, targets, views, "linear"), sprites=sprites).write(path)


def open_and_hover(browser: object, address: str) -> tuple[float, float]:
    """Seconds from the address to the sample, by this clock, and by the page's own."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(address)
    plot = browser.find_element(By.CSS_SELECTOR, ".plot")
    ActionChains(browser, duration=0).move_to_element_with_offset(plot, 0, 0).perform()
    own = browser.execute_async_script(SHOWN) / 1000
    return time.perf_counter() - start, own


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    binary, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (binary and driver):
        print("needs chromium and chromedriver", file=sys.stderr)
        return 2
    from selenium import webdriver

    counts = (200, 400) if args.smoke else (5_000, 20_000)
    rounds = 1 if args.smoke else args.rounds
    with tempfile.TemporaryDirectory() as folder:
        pages = {
            f"{counts[0]:,} samples with thumbnails, 2 encoders": (counts[0], 2, True),
            f"{counts[0]:,} samples with thumbnails, 4 encoders": (counts[0], 4, True),
            f"{counts[1]:,} samples, 2 encoders": (counts[1], 2, False),
            f"{counts[1]:,} samples with thumbnails, 2 encoders": (counts[1], 2, True),
        }
        paths = {
            name: page_of(count, encoders, Path(folder) / f"{i}.html", thumbnails=thumbnails)
            for i, (name, (count, encoders, thumbnails)) in enumerate(pages.items())
        }
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
        try:
            for round_index in range(-1, rounds):
                for name, path in paths.items():
                    pair = open_and_hover(browser, path.as_uri())
                    if round_index >= 0:
                        found[name].append(pair)
            version = browser.capabilities["browserVersion"]
        finally:
            browser.quit()
        rows = [
            [
                name,
                f"{paths[name].stat().st_size / 1e6:.1f} MB",
                *(common.spread(times) for times in zip(*pairs, strict=True)),
            ]
            for name, pairs in found.items()
        ]
    headers = ["page", "size", "seconds to the first hover", "by the page's own clock"]
    common.report(f"explorer_open (Chromium {version}, {rounds} rounds)", common.markdown_table(headers, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
