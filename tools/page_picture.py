"""Take the picture of the page of `cascaderank serve` that the documentation shows.

    python tools/page_picture.py BUNDLE docs/page.png

The bundle is that of docs/serving.md. Needs the extra `dev`, and Chromium.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

_SIZE: ViewportSize = {"width": 1280, "height": 850}
_COLOURS = 128  # for a small file


def picture(url: str, to: Path) -> None:
    """Save the page of a server as it is with another quota, and an item that this cuts.

    Args:
        url: address of the server.
        to: file of the picture.
    """
    program = shutil.which("chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("#answer-table tbody tr")
        page.fill("#quota-0", "80")
        page.wait_for_selector("#reset:visible")
        page.locator("#left button").first.click()
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=to)
        browser.close()
    with Image.open(to) as image:
        image.convert("RGB").quantize(_COLOURS).save(to, optimize=True)


def main(bundle: str, to: str) -> None:
    """Serve a bundle, and take the picture."""
    words = [sys.executable, "-m", "cascaderank", "serve", bundle, "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            picture(server.stderr.readline().split()[-1], Path(to))
        finally:
            server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
