"""The web page in a real headless Chromium."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from knowledge.index.retriever import open_retriever
from knowledge.topology import Layout, compute
from tests.bot.channels.serving import application, configured, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from knowledge.settings import Settings

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium on this machine; Debian's package is `chromium`"),
    pytest.mark.xdist_group("browser"),
]
_QUESTION = "How do 8 GPUs with tp=2 pp=4 and expert parallel split 256 experts?"
_ZH = "8 张卡，tp=2 pp=4，开了 enable-expert-parallel，256 个专家怎么分？"


@pytest.fixture(scope="module")
def address(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server."""
    with serving(application(configured(small, tmp_path_factory.mktemp("kept")))) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the module."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Open the page in a fresh profile; afterwards nothing was logged to the console and nothing left the host."""
    said: list[str] = []
    pages = []

    def opened(path: str = "/", **options: object) -> Page:
        settings = {"locale": "en-US", "viewport": {"width": 1440, "height": 1000}} | options
        page = browser.new_context(**settings).new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if _leaves(request.url, address) else None)
        page.goto(address + path)
        page.wait_for_selector(".rank")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert said == []


def _leaves(url: str, address: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("blob", "data") and parts.netloc != urlsplit(address).netloc


def _ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".turn .sources")


@pytest.mark.parametrize(
    ("question", "locale", "said", "title"),
    [(_QUESTION, "en-US", "128 experts", "Sources"), (_ZH, "zh-CN", "128 个专家", "来源")],
)
def test_asking_shows_a_checked_answer(open_page: Callable[..., Page], question: str, locale: str, said: str, title: str) -> None:
    """In both languages an answer appears with its table, its sources and its diagram, and the page speaks the language."""
    page = open_page(locale=locale)
    _ask(page, question)
    turn = page.locator("article.turn")
    assert said in turn.inner_text()
    assert title in turn.inner_text()
    assert turn.locator("table tr").count() == 5
    assert turn.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert page.evaluate("document.documentElement.lang") == locale.replace("en-US", "en")


def test_a_citation_opens_the_lines_it_names(open_page: Callable[..., Page], small: Settings) -> None:
    """Hovering shows the place and its first lines, a click the quoted lines of the release and a link to them."""
    page = open_page()
    _ask(page, _QUESTION)
    corpus = open_retriever(small).corpus("0.33.0")
    for mark in page.locator(".sources .cite").all():
        path, lines = mark.inner_text().rsplit(" L", 1)
        start, end = int(lines.split("–L")[0]), int(lines.split("–L")[-1])
        mark.click()
        quote = page.locator("#source pre").inner_text()
        assert quote == "\n".join((corpus.lines(path, start, end) or "").split("\n")[:12])[:900].rstrip()
        link = page.locator("#source a").get_attribute("href")
        assert link == f"https://github.com/vllm-project/vllm/blob/v0.33.0/{path}#L{start}-L{end}"
        page.keyboard.press("Escape")
    page.locator(".text .cite").first.hover()
    assert "vllm/distributed/parallel_state.py" in page.locator("#peek").inner_text()


def test_the_playground_agrees_with_the_calculator(open_page: Callable[..., Page]) -> None:
    """Whatever the sliders say, each rank on the screen holds the experts that `compute` gives it."""
    from playwright.sync_api import expect

    page = open_page()
    for sizes, ep, placement in (
        ({"tp": 1, "pp": 1, "dp": 0}, True, "linear"),
        ({"tp": 2, "pp": 0, "dp": 1}, True, "linear"),
        ({"tp": 1, "pp": 1, "dp": 2}, False, "linear"),
    ):
        with page.expect_response(lambda response: response.url.endswith("/v1/topology")):
            page.evaluate(
                """([sizes, ep, placement]) => {
                    const form = document.querySelector("#play");
                    for (const [name, value] of Object.entries(sizes)) form[name].value = value;
                    form.enable_expert_parallel.checked = ep;
                    form.placement.value = placement;
                    form.experts.value = 64;
                    form.layers.value = 27;
                    form.tp.dispatchEvent(new Event("input", { bubbles: true }));
                }""",
                [sizes, ep, placement],
            )
        layout = {name: 2**value for name, value in sizes.items()}
        wanted = compute(Layout(**layout, enable_expert_parallel=ep, placement=placement, experts=64, layers=27, vllm="0.33.0"))
        expect(page.locator(".rank")).to_have_count(len(wanted.ranks))
        shown = page.eval_on_selector_all(".rank", "cards => cards.map(card => [card.dataset.rank, card.dataset.experts])")
        assert {int(rank): held for rank, held in shown} == {
            one.rank: ",".join(map(str, one.experts or ())) for one in wanted.ranks
        }


def test_a_known_model_fills_in_its_numbers(open_page: Callable[..., Page]) -> None:
    """Choosing a model takes its experts and layers from the calculator's table."""
    page = open_page()
    with page.expect_response(lambda response: response.url.endswith("/v1/topology")) as told:
        page.select_option("#play [name=model]", "deepseek-ai/DeepSeek-V3")
    assert told.value.json()["moe"]["experts"] == 256
    assert page.locator("#play [name=experts]").is_disabled()


def test_everything_works_with_the_keyboard_alone(open_page: Callable[..., Page]) -> None:
    """Ask, walk to a citation, open it, close it and come back to where one was, without a pointer."""
    page = open_page()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the skip link
    page.keyboard.type(_QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn .sources")
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.className") == "cite":
            break
    page.keyboard.press("Enter")
    assert page.locator("#source").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#source").is_hidden()
    assert page.evaluate("document.activeElement.className") == "cite"
    page.focus("#play [name=tp]")
    with page.expect_response(lambda response: response.url.endswith("/v1/topology")):
        page.keyboard.press("ArrowRight")


def test_feedback_and_a_shared_link(open_page: Callable[..., Page]) -> None:
    """A complaint with a reason is taken, and the link to an answer shows the same answer to somebody else."""
    page = open_page()
    _ask(page, _QUESTION)
    page.get_by_role("button", name="Copy link to this answer").click()
    page.wait_for_url("**/?a=*")
    page.get_by_role("button", name="Something is wrong").click()
    page.keyboard.type("the table is too wide")
    page.keyboard.press("Enter")
    page.get_by_text("Thank you, noted.").wait_for()
    other = open_page("/" + page.url.rsplit("/", 1)[1])
    other.wait_for_selector(".turn .sources")
    assert other.locator(".turn.user").inner_text() == _QUESTION
    assert other.locator("article .text").inner_text() == page.locator("article .text").inner_text()


def test_text_from_outside_stays_text(open_page: Callable[..., Page]) -> None:
    """Markup, images and links in an answer or a question become neither elements nor requests."""
    page = open_page()
    hostile = (
        "<img src=https://evil.example/x onerror=alert(1)> [a](https://evil.example) ![b](//evil.example/i.png)\n"
        "**<script>alert(1)</script>** `<b>` <https://evil.example>\n\n| <i>x</i> |\n|---|\n| <svg onload=alert(1)> |"
    )
    made = page.evaluate(
        """async (text) => {
            const { render } = await import("/web/markdown.js");
            const box = document.createElement("div");
            document.body.append(box);
            render(box, text, (number) => document.createTextNode(number));
            return [box.querySelectorAll("img, a, script, i, b, svg").length, box.innerText];
        }""",
        hostile,
    )
    assert made[0] == 0
    assert "<script>alert(1)</script>" in made[1]


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")])
def test_the_page_is_accessible_and_fits(open_page: Callable[..., Page], width: int, scheme: str) -> None:
    """Axe finds no violation before and after an answer, light and dark, and a phone needs no sideways scrolling."""
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for question in ("", _QUESTION):
        if question:
            _ask(page, question)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_with_tokens_asks_for_one(browser: Browser, small: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The page asks for the token that the API wants, and works with it."""
    from pydantic import SecretStr

    app = application(configured(small, tmp_path_factory.mktemp("kept"), http_tokens=SecretStr("sesame")))
    with serving(app) as url:
        page = browser.new_context(locale="en-US").new_page()
        page.goto(url)
        page.get_by_label("Bearer token").fill("sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector(".rank")
        page.context.close()


def test_the_widget_opens_the_page_on_an_allowed_site(
    browser: Browser, small: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A docs site that the setting names can show Shardwise in a frame by one script tag; another site cannot."""
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    site: dict[str, str] = {}
    docs = Starlette(
        routes=[Route("/", lambda _: HTMLResponse(f'<html lang="en"><body><script src="{site["at"]}/web/widget.js"></script>'))]
    )
    with serving(docs) as docs_url:
        for allowed in (docs_url, ""):
            with serving(application(configured(small, tmp_path_factory.mktemp("kept"), http_embed=allowed))) as url:
                site["at"] = url
                page = browser.new_context(locale="en-US").new_page()
                page.goto(docs_url)
                page.keyboard.press("Tab")
                page.keyboard.press("Enter")
                page.wait_for_timeout(500)
                shown = [frame.url for frame in page.frames if frame.url.startswith(url) and frame.query_selector("#question")]
                assert bool(shown) == bool(allowed)
                page.context.close()
