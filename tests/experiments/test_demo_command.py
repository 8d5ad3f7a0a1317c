"""``python -m experiments.demo``: the page in a real browser, and the command as a process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import DESKTOP, PHONE, console_errors, is_too_wide, resize
from experiments import demo
from experiments.run import demo_page
from experiments.run.demo_answers import Desk, Models
from experiments.run.demo_page import Server, make_page, require_gradio
from gl_ris.clip.resnet import ResNetTower
from gl_ris.errors import UserError
from processes import start, until

PATIENCE = 60.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[list[str]]]]:
    """The address of the page, served from threads of this process, and its examples."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "")  # put back in the end
        patch.setenv("GL_RIS_QUIET", "1")
        patch.setattr(demo_page, "MAX_BYTES", 100_000)
        require_gradio(folder / "uploads")
        examples = demo.drawn_examples(folder)
        page = make_page(Desk(Models()), examples)
        assert page.analytics_enabled is False
        yield Server(port=None).serve(page), examples
        page.close(verbose=False)


class Visit:
    """One visit of the page."""

    def __init__(self, driver: Any, address: str, size: tuple[int, int] = DESKTOP) -> None:
        self.driver = driver
        resize(driver, size)
        driver.get(address)
        self.wait(lambda: self.all("#find") and self.all("#text textarea, #text input"))

    def all(self, css: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", css))

    def one(self, css: str) -> Any:
        return self.all(css)[0]

    def wait(self, happens: Any) -> Any:
        late = time.monotonic() + PATIENCE
        while not (found := self.tried(happens)):
            assert time.monotonic() < late, f"it never happened; the page says: {self.one('body').text}"
            time.sleep(0.05)
        return found

    def tried(self, happens: Any) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            return happens()
        except (StaleElementReferenceException, IndexError):  # the page is being drawn
            return None

    def upload(self, file: str) -> None:
        self.one("#picture input[type=file]").send_keys(file)

    def say(self, text: str) -> None:
        box = self.one("#text textarea, #text input")
        # the driver types no characters beyond the first plane of Unicode
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", box, text
        )

    def ask(self, file: str, text: str) -> str:
        self.upload(file)
        self.wait(lambda: self.all("#picture img"))
        self.say(text)
        self.one("#find").click()
        return str(self.wait(lambda: self.one("#notice [role=status]").text))

    def captions(self) -> list[str]:
        return [one.text for one in self.all("#ranking .caption-label")]


def test_an_upload_is_answered_and_a_slider_needs_no_image(
    browser: Any, served: tuple[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from selenium.webdriver.common.keys import Keys

    calls: Counter[str] = Counter()
    for name in ("encode", "image_state"):
        own = getattr(ResNetTower, name)
        monkeypatch.setattr(ResNetTower, name, lambda *a, own=own, n=name: (calls.update([n]), own(*a))[1])
    address, examples = served
    visit = Visit(browser, address)
    notice = visit.ask(*examples[1])
    assert "made anew" in notice
    assert visit.wait(lambda: visit.all("#best img"))
    before = visit.wait(visit.captions)
    assert before[0].startswith("1: 0.")
    assert "an arrow" in visit.one("#understood").text
    assert calls["encode"]
    assert calls["image_state"]
    calls.clear()
    visit.all("input[type=range]")[0].send_keys(Keys.ARROW_LEFT * 4)
    after = visit.wait(lambda: visit.captions() != before and visit.captions())
    visit.wait(lambda: "kept features" in visit.one("#notice [role=status]").text)
    visit.all("#rerank input")[1].send_keys(Keys.SPACE)
    visit.wait(lambda: visit.captions() not in (before, after))
    assert not calls
    assert console_errors(browser) == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert {one for one in loaded if not one.startswith((address, "data:", "blob:"))} == set()


@pytest.mark.parametrize(("size", "columns"), [(PHONE, 1), (DESKTOP, 2)], ids=["phone", "desktop"])
def test_the_page_fits_and_is_used_by_keyboard(
    browser: Any, served: tuple[str, list[list[str]]], size: tuple[int, int], columns: int
) -> None:
    from selenium.webdriver.common.keys import Keys

    address, examples = served
    visit = Visit(browser, address, size)
    visit.upload(examples[0][0])
    visit.wait(lambda: visit.all("#picture img"))
    visit.one("#text textarea, #text input").send_keys(examples[0][1], Keys.ENTER)
    visit.wait(lambda: visit.captions())
    assert not is_too_wide(browser)
    picture, best = visit.one("#picture").rect, visit.one("#best").rect
    assert (best["x"] > picture["x"] + picture["width"]) == (columns == 2)
    # everything is reached by Tab
    browser.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(browser.execute_script("return document.activeElement.type || ''"))
    assert {"file", "range", "radio"} - reached <= {"file"}, "an upload has a button in its place"


def test_an_example_is_answered_at_once(browser: Any, served: tuple[str, list[list[str]]]) -> None:
    address, examples = served
    visit = Visit(browser, address)
    row = next(one for one in visit.all("td") if one.text == examples[2][1])
    row.click()
    visit.wait(visit.captions)
    assert visit.one("#text textarea, #text input").get_attribute("value") == examples[2][1]


def test_odd_input_is_a_sentence_in_the_page(
    browser: Any, served: tuple[str, list[list[str]]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address, examples = served
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.effect_noise((400, 400), 90).save(tmp_path / "heavy.png")
    visit = Visit(browser, address)
    visit.one("#find").click()
    assert "Choose a picture first" in visit.wait(lambda: visit.one("#notice [role=status]").text)
    for file, text, reason in [
        (examples[0][0], "", "Say what to look for"),
        (examples[0][0], "🌟 النجمة", "masks, the best"),
        (str(tmp_path / "dot.png"), "a star", "proposed no masks"),
        (str(tmp_path / "text.png"), "a star", "none of JPEG, PNG"),
    ]:
        browser.get(address)
        visit.wait(lambda: visit.all("#picture input[type=file]"))
        assert reason in visit.ask(file, text)
    browser.get(address)
    visit.wait(lambda: visit.all("#picture input[type=file]"))
    visit.upload(str(tmp_path / "heavy.png"))
    assert "size" in visit.wait(lambda: visit.all(".toast-body")[0].text).lower()
    assert "Traceback" not in capfd.readouterr().err


def test_files_of_the_machine_are_not_served(served: tuple[str, list[list[str]]], tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    for file in (tmp_path / "secret.txt", Path("/etc/hostname"), Path(demo.__file__)):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{served[0]}gradio_api/file={file}")


@pytest.mark.parametrize("changes", [{}, {"host": "no such host"}, {"port": 70_000}, {"host": "192.0.2.1"}])
def test_where_nothing_can_listen_is_refused(changes: dict[str, Any]) -> None:
    gradio = pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = {"port": taken.getsockname()[1], **changes}
        with gradio.Blocks() as page, pytest.raises(UserError, match=rf"Nothing can .* port={given['port']}"):
            Server(**given).serve(page)


def test_without_gradio_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"needs gradio .*; pip install 'gl-ris\[demo\]' installs it"):
        require_gradio(tmp_path)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_true_masks_are_refused(run_command: Any) -> None:
    code, _, errors = run_command(demo, "proposals=ground_truth")
    assert code == 2
    assert "has no true masks" in errors


def test_it_is_served_until_ctrl_c(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    process = start(["-m", "experiments.demo"], tmp_path, TMPDIR=str(tmp_path))
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.split()[-1]
    assert line.startswith("Page         http://127.0.0.1:")
    with urllib.request.urlopen(address) as page:
        assert b"gradio" in page.read()
    assert list(tmp_path.glob("gl-ris-demo-*"))
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 30
    assert errors.splitlines()[-1] == "ended by SIGINT; the page is closed and uploads are deleted."
    until(lambda: not list(tmp_path.glob("gl-ris-demo-*")))
