"""Screenshots of a run: a PNG of each tab of TensorBoard and of the report, and a proof that they show its data.

    python docs/screenshots.py runs/quickstart --out shots

Serves the run directory on 127.0.0.1, first asks the server whether the data is there, then opens each tab in a
headless Chromium, waits until the data is drawn, and saves what is seen. Then it writes the report and opens it on a
desktop, on a phone, and in dark mode. It ends with one line and exit code 1 if a tab stays empty, TensorBoard lists
more than one run, or the report is wider than its window or bright in the dark.
Needs the extra `docs`, and `chromium` and `chromedriver` on the path (Debian: `chromium chromium-driver`).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from tensorboard import program

from vsml.analysis.report import report
from vsml.errors import UserError
from vsml.runs.names import EVALUATIONS, SWEEP

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WINDOW = (1500, 1300)  # pixels
TALLEST = 8000  # pixels of a screenshot
DARKEST = 80  # of 255: a background below this is dark
POLL_SECONDS = 0.5
SETTLE_SECONDS = 1.5  # charts and panels are animated after their first drawing

# TensorBoard nests shadow roots, which plain selectors do not enter. `inside` names an ancestor of what is looked for.
FIND = """
const [inside, selector] = arguments;
const found = [];
const visit = (root, within) => {
  for (const node of root.children) {
    const here = within || node.matches(inside);
    if (here && node.matches(selector)) found.push(node);
    visit(node, here);
    if (node.shadowRoot) visit(node.shadowRoot, here);
  }
};
visit(document.body, false);
"""
CLOSED_PANES = FIND + "for (const node of found) if (node.opened === false) node.opened = true;"
DRAWN = (
    FIND
    + """
return found.filter((node) => {
  const box = node.getBoundingClientRect();
  if (box.width < 2 || box.height < 2 || !node.checkVisibility()) return false;
  if (node.tagName === "IMG") return node.complete && node.naturalWidth > 0;
  if (node.tagName === "path") return (node.getAttribute("d") || "").length > 40;  // shorter ones are axes
  const slot = node.querySelector("slot");
  const parts = slot ? slot.assignedNodes() : [node];
  return parts.some((part) => part.textContent.trim().length > 0);
}).length;
"""
)


class ScreenshotError(Exception):
    """A screenshot cannot be made; the message is one line that names cause and mend."""


@dataclass(frozen=True)
class Tab:
    """One tab of TensorBoard.

    Attributes:
        name: the tab's name in the address, and the PNG's.
        route: where the server lists the tab's data.
        inside: the element that holds the data on the page.
        selector: what is drawn for each piece of data.
    """

    name: str
    route: str
    inside: str
    selector: str


TABS = (
    Tab("timeseries", "timeseries/tags", "scalar-card", "tb-data-table-content-row"),
    Tab("scalars", "scalars/tags", "vz-line-chart2", "path"),
    Tab("images", "images/tags", "tf-image-loader", "img"),
    Tab("text", "text/tags", "tf-text-loader", "p, pre, td"),
    Tab("histograms", "histograms/tags", "vz-histogram-timeseries", "path"),
    Tab("distributions", "distributions/tags", "vz-distribution-chart", "path"),
    Tab("hparams", "hparams/session_groups", "tf-hparams-table-view", "td"),
)


@dataclass(frozen=True)
class Look:
    """How a page is looked at: the PNG's name, the width of the window in pixels, and whether dark is preferred."""

    name: str
    width: int
    dark: bool = False


LOOKS = (Look("report", 1280), Look("report_phone", 390), Look("report_dark", 1280, dark=True))


def wait_until(ready: Callable[[], bool], timeout: float) -> bool:
    """Polls `ready` for at most `timeout` seconds; says whether it came true."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def serve(log_dir: Path) -> str:
    """Starts TensorBoard in this process, on this machine only and on a free port; returns its address."""
    server = program.TensorBoard()
    server.configure(
        argv=["tensorboard", f"--logdir={log_dir}", "--host=127.0.0.1", "--port=0", "--load_fast=false"],
    )
    return server.launch().rstrip("/")


def runs(url: str) -> list[str]:
    """The names in TensorBoard's list of runs."""
    with urllib.request.urlopen(f"{url}/data/runs") as response:
        return json.load(response)


def has_data(url: str, tab: Tab) -> bool:
    """Asks the server whether `tab` has something to show."""
    body = None
    if tab.name == "hparams":
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        body = json.dumps({"allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 10}).encode()
    request = urllib.request.Request(f"{url}/data/plugin/{tab.route}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    if tab.name == "hparams":
        return bool(answer.get("sessionGroups"))
    return bool(answer["scalars"]["runTagInfo"] if tab.name == "timeseries" else answer)


@contextmanager
def browser() -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own that opens the pages it is given and no others."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    driver_path = shutil.which("chromedriver")
    if found is None or driver_path is None:
        raise ScreenshotError(
            "no chromium or chromedriver on the path: install both (Debian: chromium chromium-driver)"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = found
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "hide-scrollbars",
            f"user-data-dir={profile}",
            f"window-size={WINDOW[0]},{WINDOW[1]}",
        ):
            options.add_argument(f"--{flag}")
        driver = Chrome(options=options, service=Service(driver_path))
        try:
            yield driver
        finally:
            driver.quit()


def capture(driver: Chrome, url: str, tab: Tab, out: Path, timeout: float) -> int:
    """Opens `tab`, waits until its data is drawn and saves it as `out`; returns how many pieces are drawn."""

    def drawn() -> int:
        driver.execute_script(CLOSED_PANES, "body", "tf-category-paginated-view")
        return driver.execute_script(DRAWN, tab.inside, tab.selector)

    # A change of the part after '#' alone does not load the page again.
    driver.get("about:blank")
    driver.get(f"{url}/?darkMode=false#{tab.name}")
    if not wait_until(lambda: drawn() > 0, timeout):
        raise ScreenshotError(
            f"tab '{tab.name}' drew nothing within {timeout:g} s although the run directory has its data"
        )
    time.sleep(SETTLE_SECONDS)
    driver.save_screenshot(str(out))
    return drawn()


def look_at(driver: Chrome, page: Path, look: Look, out: Path) -> None:
    """Saves a whole page as `out`, if it fits the window and has the colours asked for."""

    def set_window(height: int) -> None:
        size = {"width": look.width, "height": height, "deviceScaleFactor": 1, "mobile": look.width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    scheme = {"name": "prefers-color-scheme", "value": "dark" if look.dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    set_window(900)
    driver.get(page.absolute().as_uri())
    width, height = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    if width > look.width:
        raise ScreenshotError(f"{page} is {width} pixels wide in a window of {look.width}: let wide parts scroll")
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    if (max(map(int, re.findall(r"\d+", background)[:3])) < DARKEST) != look.dark:
        raise ScreenshotError(f"{page} has the background {background} where {scheme['value']} is asked for")
    set_window(min(height, TALLEST))
    time.sleep(SETTLE_SECONDS)
    driver.save_screenshot(str(out))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def main() -> int:
    """Reads the command line, makes every screenshot; returns the exit code."""
    parser = argparse.ArgumentParser(description="Save a PNG of each TensorBoard tab and of the report of a run.")
    parser.add_argument("run_dir", type=Path, help="of a run, or of a sweep")
    parser.add_argument("--out", type=Path, required=True, help="folder of the PNGs")
    parser.add_argument("--tabs", nargs="+", choices=[tab.name for tab in TABS], default=[tab.name for tab in TABS])
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the data of one tab")
    args = parser.parse_args()
    tabs = [tab for tab in TABS if tab.name in args.tabs]
    try:
        if not args.run_dir.is_dir():
            raise ScreenshotError(f"{args.run_dir} is not a directory: give a run directory")
        args.out.mkdir(parents=True, exist_ok=True)
        page = Path(report(args.run_dir).splitlines()[-1])
        with tempfile.TemporaryDirectory() as log_dir, browser() as driver:
            (Path(log_dir) / args.run_dir.absolute().name).symlink_to(args.run_dir.absolute())  # so the run has a name
            url = serve(Path(log_dir))
            # The server reads the event files in the background: only the first question has to wait for that.
            wait_until(lambda: all(has_data(url, tab) for tab in tabs), min(args.timeout, 15.0))
            found = [run for run in runs(url) if f"/{EVALUATIONS}/" not in run]  # those are of `vsml eval`
            if not (args.run_dir / SWEEP).exists() and len(found) != 1:
                raise ScreenshotError(f"TensorBoard lists the runs {', '.join(found)} for one run: see its event files")
            for tab in tabs:
                if not has_data(url, tab):
                    raise ScreenshotError(
                        f"tab '{tab.name}' has no data in {args.run_dir}: was the run written to its end?"
                    )
                pieces = capture(driver, url, tab, args.out / f"{tab.name}.png", args.timeout)
                print(f"{tab.name}: {pieces} pieces drawn, {args.out / f'{tab.name}.png'}")
            for look in LOOKS:
                look_at(driver, page, look, args.out / f"{look.name}.png")
                print(f"{look.name}: {args.out / f'{look.name}.png'}")
    except (ScreenshotError, UserError, WebDriverException, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
