"""The page of `make demo` in headless Chromium: films dropped, language and run switched, a reader study with a reload.

Skipped where Chromium, its driver or Selenium are missing. Nothing is fetched from a network.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlparse
from urllib.request import urlopen

import demo_work
import pytest

from medcap_paddle.demo import sentences, words
from medcap_paddle.demo.__main__ import free_port
from medcap_paddle.demo.cases import Cases
from medcap_paddle.demo.reader_study import FILE
from medcap_paddle.metrics.pairs import read_predictions
from medcap_paddle.metrics.readers import CATEGORIES, REFERENCE, Answers

ROOT = Path(__file__).parent.parent
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and chromedriver (apt-get install chromium chromium-driver)", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium (requirements.txt)")

from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage")
FLAGS += ("disable-background-networking", "disable-component-update", "disable-sync")
PATIENCE = 120  # seconds: the machine may be busy
BUSY = "[data-testid=stSpinner], [data-testid=stSkeleton], [data-stale=true], [data-test-script-state=running]"
# Contrast of every piece of text against the nearest background, where axe-core says that it cannot tell.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
};
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const behind = element => rgba(getComputedStyle(element).backgroundColor);
const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
    const own = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || !own.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (own.closest('style, script, [aria-hidden=true], [disabled], [aria-disabled=true]')) continue;
    let back = own;
    while (back && behind(back)[3] < 255) back = back.parentElement;
    const pair = [luminance(rgba(getComputedStyle(own).color)), luminance(back ? behind(back) : [255, 255, 255])];
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), text.slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return demo_work.make(tmp_path_factory.mktemp("demo"))


class Server:
    """The command of `make demo`, on a port of its own."""

    def __init__(self, work):
        self.work, self.port = work, free_port("127.0.0.1")
        self.address, self.log = f"http://127.0.0.1:{self.port}/", (work / "server.log").open("w")
        self.start()

    def start(self):
        command = [sys.executable, "-m", "medcap_paddle.demo", str(self.work), "--port", str(self.port)]
        home = {**os.environ, "HOME": str(self.work)}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log, env=home)

    def kill(self):
        """kill -9: it has no time to write anything."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(work):
    running = Server(work)
    yield running
    running.kill()
    running.log.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def until(true, what):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if found := true():
                return found
        except StaleElementReferenceException:  # the page is being written anew
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


class Page:
    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, link=""):
        def answers():
            with suppress(OSError), urlopen(f"{self.address}_stcore/health", timeout=5) as answer:
                return answer.status == 200

        until(answers, "the server answers")
        self.browser.get(self.address + link)
        return self.settled()

    def all(self, css):
        return self.browser.find_elements("css selector", css)

    def settled(self):
        """Wait until the server has said all, for half a second."""
        quiet = [time.monotonic()]

        def still():
            if self.all(BUSY) or not self.all("div.never"):
                quiet[0] = time.monotonic()
            return time.monotonic() - quiet[0] > 0.5

        until(still, "the page settles")
        return self

    def text(self):
        return self.browser.find_element("css selector", "body").get_attribute("innerText")

    def sees(self, text):
        until(lambda: text in self.text(), f"the page shows {text!r}")
        return self.settled()

    def click(self, text, css="label, button"):
        element = until(lambda: [e for e in self.all(css) if e.text.strip() == text], text)[0]
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        return self.settled()

    def choose(self, label, text):
        """Of a list, by keys: type what is wanted, and Enter."""
        box = until(lambda: self.all(f"input[aria-label*='{label}']"), label)[0]
        box.send_keys(text, Keys.ENTER)
        return self.settled()

    def link(self):
        return {name: value for name, [value] in parse_qs(urlparse(self.browser.current_url).query).items()}

    def violations(self):
        """Of axe-core, serious and critical ones; and text with less contrast than AA asks for."""
        self.browser.execute_script((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
        found = self.browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
        faint = [(ratio, text) for ratio, text in self.browser.execute_script(CONTRAST) if ratio < 4.5]
        grave = [violation for violation in found if violation["impact"] in ("serious", "critical")]
        return [(v["id"], node["html"]) for v in grave for node in v["nodes"]] + faint

    def warned(self):
        """Whether "not for clinical use" is on the screen, wherever one has scrolled to."""
        top, bottom, height = self.browser.execute_script(
            "const r = document.querySelector('div.never').getBoundingClientRect();"
            "return [r.top, r.bottom, innerHeight]"
        )
        return 0 <= top < bottom <= height + 1


@pytest.fixture
def page(browser, server):
    return Page(browser, server.address)


def predicted(work, run, study):
    return sentences.sentences(
        read_predictions(work / f"runs/{run}/predictions.csv").set_index("study_id").prediction[study]
    )


def test_films_are_dropped_and_read_in_two_languages_by_two_runs(page, work):
    cases = Cases.load(work)
    study = cases.offered[1]
    page.open("?run=lstm").sees(sentences.sentences(cases.every[cases.offered[0]].report))
    page.all("input[type=file]")[0].send_keys("\n".join(cases.every[study].paths))
    page.sees(predicted(work, "lstm", study))
    assert "Reference report" not in page.text() and page.warned()
    shaded = page.all("p.report span")
    assert shaded and all(re.match(r"[+-]\d+\.\d\d nats", word.get_attribute("title")) for word in shaded)

    page.click(words.LANGUAGES["zh"]).sees(words.say("zh", "not_clinical"))
    assert predicted(work, "lstm", study) in page.text(), "the film is still there"
    page.choose(words.say("zh", "run"), "attention_lstm").sees(words.say("zh", "report", run="attention_lstm"))
    assert page.link() | {"run": "attention_lstm", "lang": "zh"} == page.link()
    page.choose(words.say("zh", "other"), "lstm").sees(predicted(work, "lstm", study))
    for height in (0, 10_000):
        page.browser.execute_script(f"document.querySelector('[data-testid=stMain]').scrollTo(0, {height})")
        assert page.warned()
    assert page.violations() == []


def test_a_link_brings_the_same_view_back(page, work):
    study = Cases.load(work).offered[-1]
    page.open(f"?study={study}&run=attention_lstm&lang=zh").sees(words.say("zh", "report", run="attention_lstm"))
    seen, address = page.sees(words.say("zh", "save", kind="PNG")).text(), page.browser.current_url
    page.browser.get(address)
    until(lambda: page.text() == seen, "the same view")
    assert study in address and sentences.sentences(Cases.load(work).every[study].report) in seen


def test_a_reader_study_of_three_cases_survives_a_killed_server(page, server, work):
    page.open("?page=judge").sees(words.say("en", "start_help"))
    for source in (REFERENCE, "lstm"):
        page.choose(words.say("en", "sources"), source)
    number = page.all(f"input[aria-label='{words.say('en', 'number')}']")[0]
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("3")
    page.click(words.say("en", "begin"))
    name = until(lambda: page.all(f"input[aria-label='{words.say('en', 'reader')}']"), "the name")[0]
    name.send_keys("Dr Gray", Keys.ENTER)

    page.sees(words.say("en", "progress", number=1, count=3))
    assert page.violations() == [] and "lstm" not in page.text() and REFERENCE not in page.text().lower()
    page.click(words.say("en", "save_answer")).sees(words.say("en", "choose_first"))
    page.click(words.say("en", "side", side="A"), "label")
    page.all("[data-testid=stForm] summary")[0].click()
    count = until(lambda: page.all(f"input[aria-label='{words.say('en', CATEGORIES[0])}']"), "errors")[0]
    until(count.is_displayed, "errors")
    count.send_keys(Keys.CONTROL, "a")
    count.send_keys("2")
    page.click(words.say("en", "save_answer")).sees(words.say("en", "progress", number=2, count=3))

    link = page.browser.current_url.removeprefix(page.address)
    server.kill()
    server.start()
    page.open(link).sees(words.say("en", "progress", number=2, count=3))
    page.click(words.say("en", "none"), "label").click(words.say("en", "save_answer"))
    page.sees(words.say("en", "progress", number=3, count=3))
    by_keys(page)
    page.sees(words.say("en", "done", count=3, path=FILE))

    found = Answers.read(work / FILE)
    assert [answer.reader for answer in found.answers] == ["Dr Gray"] * 3 and not found.replaced
    assert [bool(answer.preferred) for answer in found.answers] == [True, False, True]
    first = found.answers[0]
    assert first.errors[first.preferred] == {CATEGORIES[0]: 2}
    with closing(sqlite3.connect(work / FILE)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def by_keys(page):
    """Answer without a mouse: Tab to the choice, Space, Tab to the button, Enter."""
    page.browser.execute_script("document.activeElement.blur(); document.body.focus()")
    wanted = {"INPUT": Keys.SPACE, "BUTTON": Keys.ENTER}
    for _ in range(200):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        own = page.browser.switch_to.active_element
        radio = own.get_attribute("type") == "radio" and own.find_elements(
            "xpath", "ancestor::*[@data-testid='stForm']"
        )
        submit = own.tag_name == "button" and own.text.strip() == words.say("en", "save_answer")
        if radio or submit:
            own.send_keys(wanted[own.tag_name.upper()])
        if submit:
            return
    raise AssertionError("no way by Tab to the button")
