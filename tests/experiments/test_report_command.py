"""``python -m experiments.report``, in a headless browser: two runs on toy images, 5,000 made records."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pycocotools import mask as coco

from browser import DESKTOP, PHONE, console_errors, is_too_wide, resize
from experiments import report, zero_shot
from experiments.reporting import report_pictures
from experiments.run.folder import RunFolder
from finished_cells import zero_shot_results
from gl_ris.command_line import exit_code
from gl_ris.errors import UserError
from gl_ris.files import write_json
from gl_ris.predictions import Prediction, read_predictions

EVIL = (
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "{{ 7 * 7 }}",
)
SIDE = 10


@pytest.fixture(scope="module")
def runs(
    toy_root: Path, clip_dirs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two runs on five images: three methods by ground truth, and one by superpixels, ranked anew."""
    base = tmp_path_factory.mktemp("runs")
    data = ["data=datamodules.RefCOCO", f"data.root={toy_root}", "data.dataset=toy", "wandb=disabled"]
    more = [
        f"model.clip={clip_dirs['resnet']}",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
    ]
    own = {
        "one": ["proposals=ground_truth", "methods=[global_local,score_map,random]"],
        "two": ["proposals=slic", "rerank=full", f"store={base / 'store'}"],
    }
    for name, words in own.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["zero_shot", *data, *words, *more, f"run_dir={base / name}"])
            assert exit_code(zero_shot.main) == 0
    return base / "one", base / "two"


@pytest.fixture(scope="module")
def one(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    report.main([str(runs[0]), "heat=true", f"run_dir={folder}"])
    return folder / "report.html"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 5,000 expressions by two methods, some of them hostile, without pictures."""
    folder = tmp_path_factory.mktemp("many")
    columns = np.arange(SIDE)[None, :].repeat(SIDE, 0)
    rles = [
        coco.encode(np.asfortranarray((columns < n).astype(np.uint8)))["counts"].decode()
        for n in range(SIDE + 1)
    ]
    methods = {name: {"oIoU": 50.0, "mIoU": 40.0, "Pr@0.5": 30.0} for name in ("A", "B")}
    write_json(folder / "results.json", zero_shot_results(methods=methods, every_miss=methods))
    with (folder / "predictions.jsonl").open("wb") as file:
        for n in range(5000):
            text = EVIL[n] if n < len(EVIL) else f"the thing number {n}"
            for method, width in (("A", n % SIDE + 1), ("B", n % 3 + 1)):
                made = {
                    "image_id": n // 5,
                    "ref_id": n,
                    "sent_id": n,
                    "index": n // 5,
                    "method": method,
                    "expression": text,
                }
                made |= {
                    "noun_phrase": None,
                    "choice": width,
                    "score": width / 7,
                    "iou": min(width, 4) / max(width, 4),
                }
                made |= {"intersection": min(width, 4), "union": max(width, 4)}
                made |= {"segmentation": {"size": [SIDE, SIDE], "counts": rles[width]}}
                file.write(msgspec.convert(made, Prediction).line())
    report.main([str(folder), "pictures=0"])
    return folder / "report.html"


def test_a_method_without_a_map_has_none_when_it_is_ranked_anew(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    assert exit_code(lambda: report.main([str(runs[1]), "heat=true", f"run_dir={tmp_path}"])) == 0
    assert (tmp_path / "report.html").is_file()


Page = Callable[..., Any]


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """Open a page, and check in the end that it asked for nothing and complained of nothing."""

    def opened(path: Path, size: tuple[int, int] = DESKTOP, dark: bool = False) -> Any:
        resize(browser, size, dark)
        browser.get(path.resolve().as_uri())
        return browser

    console_errors(browser)
    yield opened
    assert console_errors(browser) == []
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').map((one) => one.name.slice(0, 99))"
    )
    assert [name for name in asked if not name.startswith("data:")] == []


def count(driver: Any) -> int:
    text = driver.find_element("id", "count").text
    return int(re.sub(r"\D", "", text.partition(" of ")[0]))


def choose(driver: Any, control: str, value: str) -> int:
    """Set a filter as a user does, and give the number of expressions that are left."""
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", control)).select_by_visible_text(value)
    return count(driver)


def wait(driver: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 20).until(lambda d: d.execute_script(f"return {script}"))


def test_the_page_filters_as_the_records_say(one: Path, runs: tuple[Path, Path], page: Page) -> None:
    driver, records = page(one), read_predictions(runs[0] / "predictions.jsonl")
    assert count(driver) == 45
    hits = {
        m: sum(2 * r.intersection >= r.union for r in records if r.method == m)
        for m in ("Global-Local", "Random")
    }
    assert choose(driver, "column", "Random") == 45
    assert choose(driver, "verdict", "right (IoU ≥ 0.5)") == hits["Random"]
    assert choose(driver, "verdict", "wrong") == 45 - hits["Random"]
    choose(driver, "column", "Global-Local")
    assert (
        choose(driver, "kind", "same cat.") == 45 - hits["Global-Local"]
    )  # all are squares, and boxes are exact
    driver.find_element("css selector", "#filters [type=reset]").click()
    wait(driver, "document.getElementById('count').textContent.startsWith('all')")
    driver.find_element("id", "search").send_keys("DOG left red")
    assert count(driver) == 5
    driver.find_element("css selector", "#filters [type=reset]").click()
    driver.find_element("css selector", "[data-slice='relation']").click()
    assert count(driver) == 15
    assert "above the star" in driver.switch_to.active_element.text


def test_an_item_shows_masks_scores_and_heat_by_mouse(one: Path, runs: tuple[Path, Path], page: Page) -> None:
    from selenium.webdriver import ActionChains

    driver = page(one)
    driver.find_elements("css selector", ".card")[1].click()
    heads = [part.text for part in driver.find_elements("css selector", "#item .panels b")]
    assert heads == ["Global-Local", "Score map", "Random"]
    assert len(driver.find_elements("css selector", "#item .m-mask")) == 3
    assert len(driver.find_elements("css selector", "#item .m-target")) == 3
    assert len(driver.find_elements("css selector", "#item image.heat")) == 1  # of the score map alone
    record = read_predictions(runs[0] / "predictions.jsonl")[3]
    assert record.ranked is not None
    rows = driver.find_elements("css selector", "#item .panels section:first-child tbody tr")
    assert [row.text.split()[-2] for row in rows] == [f"{score:.5g}" for _, score in record.ranked]
    assert f"{record.score:.5g}" == rows[0].text.split()[-2]
    path = driver.find_element("css selector", "#item .m-ranked")
    assert path.get_attribute("class") == "m-ranked"
    ActionChains(driver).move_to_element(rows[0]).perform()
    assert path.get_attribute("class") == "m-ranked on"
    marked = driver.find_element("css selector", "#item-text .relation").text
    assert record.parsed is not None
    assert marked == record.parsed["relations"][0]["kind"] == "above"


def test_the_keyboard_is_enough(one: Path, page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    driver = page(one)
    keys = lambda *names: ActionChains(driver).send_keys(*names).perform()  # noqa: E731
    keys("/")
    assert driver.switch_to.active_element.get_attribute("id") == "search"
    keys("blue")
    assert count(driver) == 15
    for _ in range(20):
        keys(Keys.TAB)
        if driver.switch_to.active_element.get_attribute("class") == "card":
            break
    keys(Keys.ARROW_DOWN, Keys.ENTER)
    title = lambda: driver.find_element("id", "item-text").text  # noqa: E731
    assert title() == "blue square above the star"
    keys(Keys.ARROW_RIGHT)
    assert title() == "left blue dog"
    outline = driver.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid"
    keys(Keys.ESCAPE)
    assert not driver.execute_script("return document.getElementById('item').open")
    wait(driver, "document.activeElement.textContent.includes('left blue dog')")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_a_phone_and_a_desktop_by_day_and_night(one: Path, page: Page, size: tuple[int, int]) -> None:
    grounds = []
    for dark in (False, True):
        driver = page(one, size, dark)
        assert not is_too_wide(driver)
        driver.find_element("css selector", ".card").click()
        assert not is_too_wide(driver)
        inside = "document.getElementById('item')"
        assert not driver.execute_script(f"return {inside}.scrollWidth > {inside}.clientWidth")
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, re.findall(r"\d+", ground)[:3])))
    assert grounds[0] > 600 > 150 > grounds[1]


def test_pictures_come_into_the_document_as_they_come_into_view(one: Path, page: Page) -> None:
    driver = page(one, PHONE)
    first = "document.querySelectorAll('.picture')[0].childElementCount"
    driver.execute_script("scrollTo(0, 0)")
    wait(driver, f"{first} === 0")
    driver.execute_script("document.querySelector('.card').scrollIntoView()")
    wait(driver, f"{first} === 1")
    loaded = driver.execute_async_script(
        "const done = arguments[0], image = new Image(); image.onload = () => done(image.naturalWidth);"
        "image.src = document.querySelector('.picture image').getAttribute('href')"
    )
    assert loaded == 70  # of the first toy image


def test_two_runs_stand_side_by_side(runs: tuple[Path, Path], tmp_path: Path, page: Page) -> None:
    report.main([*map(str, runs), f"run_dir={tmp_path}"])
    driver = page(tmp_path / "report.html")
    found = [{}, {}]
    for place, run in enumerate(runs):
        for r in read_predictions(run / "predictions.jsonl"):
            found[place][r.method, r.sent_id] = r
    pairs = [(found[0][key], found[1][key]) for key in found[1]]
    better = sum(b.iou > a.iou for a, b in pairs)
    assert choose(driver, "between", "two: Global-Local better than one: Global-Local") == better
    choose(driver, "between", "all")
    some = next(b for _, b in pairs if b.ranked)
    driver.find_element("id", "search").send_keys(f"{some.ref_id} {some.sent_id}")
    driver.find_element("css selector", ".card").click()
    heads = [part.text for part in driver.find_elements("css selector", "#item .panels b")]
    assert heads == ["one: Global-Local", "two: Global-Local", "one: Score map", "one: Random"]
    # ranked proposals of both are drawn: from the data, and from the store
    assert len(driver.find_elements("css selector", "#item .panels section:nth-child(2) .m-ranked")) == len(
        some.ranked
    )
    assert len(driver.find_elements("css selector", "#item .panels section:nth-child(1) .m-ranked")) == 3
    assert "Differences" in driver.find_element("id", "figures").text


def test_five_thousand_expressions_and_hostile_ones(many: Path, page: Page, record_property: Any) -> None:
    began = time.perf_counter()
    driver = page(many)
    loaded = time.perf_counter() - began
    assert count(driver) == 5000
    seconds = driver.execute_script(
        "const box = document.getElementById('search'), began = performance.now(); box.value = '42';"
        "box.dispatchEvent(new Event('input', { bubbles: true })); document.body.offsetHeight;"
        "return (performance.now() - began) / 1000"
    )
    record_property("seconds", {"load": loaded, "filter": seconds})
    print(f"5,000 expressions: {loaded:.2f} s to load, {seconds:.3f} s to filter")
    assert count(driver) == sum("42" in f"the thing number {n} {n // 5} {n} {n}" for n in range(3, 5000))
    driver.execute_script("const box = document.getElementById('search'); box.value = '';")
    driver.execute_script("document.getElementById('search').dispatchEvent(new Event('input'))")
    cards = driver.find_elements("css selector", ".card")
    assert len(cards) < 200
    assert [card.text.splitlines()[-1] for card in cards[: len(EVIL)]] == list(EVIL)
    cards[0].click()
    assert driver.find_element("id", "item-text").text == EVIL[0]
    assert driver.title == "Report: refshapesg val (shapes)"
    assert choose_closed(driver, "A better than B") == sum(
        min(a, 4) / max(a, 4) > min(b, 4) / max(b, 4)
        for a, b in ((n % SIDE + 1, n % 3 + 1) for n in range(5000))
    )


def choose_closed(driver: Any, name: str) -> int:
    driver.execute_script("document.getElementById('item').close()")
    return choose(driver, "between", name)


def test_nothing_but_the_script_of_the_page_may_run(many: Path, browser: Any) -> None:
    browser.get(many.resolve().as_uri())
    browser.execute_script(
        "const made = document.createElement('script'); made.textContent = \"document.title = 'owned'\";"
        "const image = Object.assign(new Image(), { src: 'http://127.0.0.1:9/x.png' });"
        "document.body.append(made, image);"
    )
    assert browser.title != "owned"
    assert len([text for text in console_errors(browser) if "Content Security Policy" in text]) == 2


# --- without a browser


def test_what_is_told_is_what_is_there(
    one: Path, many: Path, runs: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    for path in (one, many):
        told = re.search(r'id="size">([\d.]+) MB', path.read_text())
        assert told is not None
        assert told[1] == f"{path.stat().st_size / 1e6:.1f}"
    capsys.readouterr()
    report.main([str(runs[1]), "pictures=2", f"run_dir={tmp_path}"])
    out = capsys.readouterr().out
    assert "45 expressions, 2 of 5 images embedded" in out
    assert "Left out: 3 images beyond pictures=2" in out
    text = (tmp_path / "report.html").read_text()
    assert text.count('id="picture-') == 2
    assert "Left out: 3 images beyond pictures=2." in text


def test_pictures_end_where_the_budget_does(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(report_pictures, "BUDGET", 1)
    report.main([str(runs[0]), f"run_dir={tmp_path}"])
    assert "1 of 5 images embedded" in capsys.readouterr().out


def test_proposals_that_are_no_longer_stored_are_counted(
    runs: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    import shutil

    run = shutil.copytree(runs[1], tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"(?m)^  store: .*$", f"  store: {tmp_path / 'nothing'}", config))
    report.main([str(run)])
    assert "Left out: 5 images whose proposals are no longer stored" in capsys.readouterr().out
    assert not (tmp_path / "nothing").exists()


def test_refusals(runs: tuple[Path, Path], many: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(UserError, match="pictures=-1 must be 0 or more"):
        report.main([str(runs[0]), "pictures=-1"])
    with pytest.raises(UserError, match="Name each run once"):
        report.main([str(runs[0]), str(runs[0])])
    with pytest.raises(UserError, match="is not the folder of a finished run"):
        report.main([str(tmp_path)])
    with pytest.raises(UserError, match="do not compare: dataset is toy and refshapesg"):
        report.main([str(runs[0]), str(many.parent)])
    with pytest.raises(UserError, match=r"config\.yaml' cannot be read"):
        report.main([str(many.parent), "pictures=1"])
    run = shutil.copytree(runs[0], tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("limit: null", "limit: 2"))
    with pytest.raises(UserError, match="have no image 3 any more; bring its files back"):
        report.main([str(run)])


def test_the_data_of_the_page_are_the_records(many: Path) -> None:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', many.read_text())
    assert text is not None
    items = json.loads(text[1])["items"]
    assert [item["text"] for item in items[:3]] == list(EVIL)
    assert (items[7]["results"][0]["iou"], items[7]["results"][0]["kind"]) == (0.5, 0)


def test_a_page_goes_with_the_run_that_it_shows(tmp_path: Path) -> None:
    folder = RunFolder("zero_shot", tmp_path / "run", overwrite=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").touch()
    folder.create()
    folder.close()
    assert not (tmp_path / "run" / "report.html").exists()
