"""The book: its files, and its pages in a browser."""

import json
import os
import re
import urllib.parse

import browser
import lxml.html
import pytest
import report_runs

from hw_common.runs.errors import UserError
from hw_report.__main__ import main
from hw_report.book import pages, writer
from hw_report.index import INDEX
from hw_report.sheets import SHEETS

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
PAGES = ["index.html", *(f"{name}.html" for name in SHEETS), "code/hw_cnn.models.html"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    report_runs.unpack(folder)
    main(["book", "--profile", "sample", "--results_dir", str(folder)])
    return folder


@pytest.fixture(scope="module")
def book(results):
    return results / "book"


@pytest.fixture(scope="module")
def trees(book):
    return {path: lxml.html.parse(str(path)).getroot() for path in book.rglob("*.html")}


def test_every_link_and_anchor_of_the_book_resolves_inside_it(book, trees):
    index = json.loads((book / "static/search-index.js").read_text().removeprefix("window.searchIndex = ")[:-2])
    links = [(book / "index.html", entry["href"]) for entry in index]
    for path, tree in trees.items():
        links += [(path, link) for _, name, link, _ in tree.iterlinks() if name and not link.startswith("data:")]
    links += [
        (path, link)
        for path in book.rglob("*.css") for link in re.findall(r"url\((.*?)\)", path.read_text())
    ]  # fmt: skip
    ids = {path: set(tree.xpath("//@id")) for path, tree in trees.items()}
    assert len(links) > 1000
    for path, link in links:
        assert not re.match(r"\w+:|//", link), f"{path}: {link} is a foreign address"
        file, _, anchor = link.partition("#")
        target = (path.parent / urllib.parse.unquote(file)).resolve() if file else path
        assert target.is_file() and target.is_relative_to(book), f"{path}: {link}"
        assert not anchor or anchor in ids[target], f"{path}: {link}"
    assert len({entry["href"] for entry in index}) == sum(map(len, INDEX.values()))


def test_the_book_is_small(book):
    assert sum(path.stat().st_size for path in book.rglob("*") if path.is_file()) < 20e6


@pytest.mark.parametrize("name", SHEETS)
def test_every_question_has_its_address_and_its_parts_in_order(book, trees, name):
    tree = trees[book / f"{name}.html"]
    for answer in INDEX[name]:
        [section] = tree.xpath(f"//section[@id='{answer.section[1:]}']")
        assert (section.get("data-sheet"), section.get("data-question")) == (name, answer.question)
        classes = ("asked", "code", "check", "mistakes")
        parts = [list(section).index(section.xpath(f"./*[@class='{part}']")[0]) for part in classes]
        assert parts == sorted(parts)
        [try_it] = section.xpath(".//div[@class='try-it']")
        assert try_it.get("data-question") == answer.question and "hidden" in try_it.attrib
        [command] = section.xpath("./div[@class='check']//pre")
        assert command.text_content() == f"python -m {answer.command}"
        assert len(section.xpath(".//div[@class='listing']")) == len(answer.code())
        for title in (number.title for number in answer.numbers):
            assert title in section.text_content()


def test_pictures_have_alternative_texts_and_tables_heads(trees):
    for path, tree in trees.items():
        for picture in tree.xpath("//figure//img"):
            assert len(picture.get("alt").split()) > 2, path
        for drawing in tree.xpath("//figure//svg"):
            assert drawing.get("role") == "img" and len(drawing.get("aria-label")) > 10, path
        assert all(head.get("scope") for head in tree.xpath("//th")), path


def test_pictures_of_every_kind_become_files():
    picture = '<figure><img width="9" height="9" alt="a dot" src="data:image/{};base64,QUJD"></figure>'
    html = "<style></style><body><h2 class='section' data-label>Figures</h2>" + "".join(
        picture.format(kind) for kind in ("png", "jpeg", "svg+xml")
    )
    page = pages.read(html.encode(), "toys", {}, [], None)
    assert page.figures == {f"figures/toys-{name}": b"ABC" for name in ("1.png", "2.jpg", "3.svg")}
    assert page.sections[0].element.xpath("//a[@class='zoom']/@href") == list(page.figures)


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("Let <math><mi>x</mi></math>, then", ["x,"]),
        ("one (see <math><mi>x</mi></math>): two", ["x):"]),
        ("(<math><mi>x</mi></math>) and <math><mi>y</mi></math>.", ["(x)", "y."]),
        ("<em>if</em> <math><mi>x</mi></math> <em>then</em>", []),
        ("<math><mi>x</mi></math>(<math><mi>y</mi></math>).", ["(y)."]),
    ],
)
def test_punctuation_stays_with_its_formula_and_no_text_is_lost(html, kept):
    section = lxml.html.fragment_fromstring(html, create_parent="section")
    text = section.text_content()
    pages._formulas(section)
    assert section.text_content() == text
    assert [box.text_content() for box in section.find_class("kept")] == kept


def test_accents_and_brackets_become_what_browsers_draw_well():
    section = lxml.html.fragment_fromstring(
        "<p><math><mover><mi>a</mi><mo>\u0304</mo></mover><mrow><mo>(</mo><mi>b</mi><mo>)</mo></mrow>"
        "<mrow><mo>(</mo><mfrac><mi>c</mi><mi>d</mi></mfrac><mo>)</mo></mrow></math></p>"
    )
    pages._formulas(section)
    assert [operator.text for operator in section.iter("mo")] == ["\u00af", "(", ")", "(", ")"]
    assert [operator.get("stretchy") for operator in section.iter("mo")] == [None, "false", "false", None, None]


def test_options_stay_on_one_line_and_names_may_be_broken():
    section = lxml.html.fragment_fromstring("<p><code>python -m a.b --no-join x-y/--z -i</code></p>")
    pages._commands(section)
    assert [option.text for option in section.find_class("kept")] == ["-m", "--no-join", "--z", "-i"]
    assert section.text_content() == "python -m a.b --no-join x-y/--z -i"


def test_the_same_runs_give_the_same_book_in_place_of_the_earlier_one(results, book):
    before = {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}
    main(["book", "--profile", "sample", "--results_dir", str(results)])
    assert before == {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}
    assert not [path for path in results.iterdir() if path.name.startswith(".book")]


@pytest.mark.parametrize("taken", ["a-file", "a-folder-with-a-file", "a-book-with-a-file", "a-link", "a-damaged-list"])
def test_a_folder_that_is_not_an_earlier_book_is_left_alone(tmp_path, taken):
    book, mine = tmp_path / "book", tmp_path / "book" / "notes.txt"
    if taken == "a-file":
        book.write_text("mine")
    elif taken == "a-link":
        (tmp_path / "elsewhere").mkdir()
        book.symlink_to(tmp_path / "elsewhere")
    else:
        book.mkdir()
        mine.write_text("mine")
        lists = {"a-book-with-a-file": '{"files": ["index.html"]}', "a-damaged-list": '{"files": 3}'}
        if taken in lists:
            (book / "book.json").write_text(lists[taken])
    with pytest.raises(UserError, match=f"{book}.* is not a file of an earlier book"):
        main(["book", "--profile", "sample", "--results_dir", str(tmp_path)])
    assert not mine.exists() or mine.read_text() == "mine"


def test_a_missing_run_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"is missing.*with: python -m .*; this makes everything that is missing: "):
        main(["book", "--profile", "sample", "--results_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["write", "swap"])
def test_a_full_disk_keeps_the_earlier_book(tmp_path, monkeypatch, step):
    book = tmp_path / "book"
    writer.replace(book, {"index.html": b"earlier", "static/book.css": b""})

    def fail(*_):
        raise OSError(28, "No space left on device")

    def swap(source, target, real=os.replace):
        fail() if ".new-" in source.name else real(source, target)

    monkeypatch.setattr("pathlib.Path.write_bytes", fail) if step == "write" else monkeypatch.setattr(
        "os.replace", swap
    )
    with pytest.raises(UserError, match="cannot write .*book: No space left on device; choose another --results_dir"):
        writer.replace(book, {"index.html": b"later"})
    assert (book / "index.html").read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [book]


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(chromium):
    """An empty tab; the test fails if a page that it opens logs an error or asks for a foreign address."""
    context = chromium.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    page.on("requestfailed", lambda request: problems.append(request.url))
    yield page
    context.close()
    assert not problems


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_and_a_desktop_and_shows_its_formulas(book, page, name):
    page.goto((book / name).as_uri())
    heights = page.eval_on_selector_all("math", "all => all.map(one => one.getBoundingClientRect().height)")
    assert all(height > 4 for height in heights)
    assert heights or name.startswith(("index", "code"))
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["ist-2021-22-hw2", "eecs545-w20-hw4"])
def test_what_can_be_scrolled_says_so_and_the_end_of_a_proof_lies_on_no_formula(book, page, name, size):
    page.set_viewport_size(size)
    page.goto((book / f"{name}.html").as_uri())
    wrong = """[...document.querySelectorAll(".table, .formula, .scroll, .long")].filter((place) =>
      place.classList.contains("scrolls") !== place.scrollWidth > place.clientWidth + 1 ||
      place.classList.contains("scrolls") !== (place.tabIndex === 0)).length"""
    page.evaluate("document.fonts.ready")
    assert page.locator(".scrolls").count() and page.evaluate(wrong) == 0
    overlaps = """[...document.querySelectorAll(".proof")].filter((proof) => {
      const end = proof.querySelector(".qed").getBoundingClientRect();
      return [...proof.querySelectorAll(".formula")].some((formula) => {
        const box = formula.getBoundingClientRect();
        return box.right > end.left && box.left < end.right && box.bottom > end.top + 1 && box.top < end.bottom - 1;
      });
    }).length"""
    assert page.locator(".qed").count() > 1 and page.evaluate(overlaps) == 0


def test_the_line_that_a_link_names_is_marked_and_the_next_one_stays_below_it(book, page):
    place = "[...document.querySelectorAll('#L-9, #L-10, #L-11')].map(line => line.getBoundingClientRect())"
    page.goto((book / "code/hw_cnn.models.html").as_uri() + "#L-9")
    lines = page.evaluate(f"{place}.map(line => [line.left, line.top])")
    assert len({left for left, _ in lines}) == 1 and len({top for _, top in lines}) == 3
    assert page.evaluate("getComputedStyle(document.getElementById('L-9')).backgroundColor") != "rgba(0, 0, 0, 0)"


def test_the_contents_follow_the_reader(book, page):
    page.goto((book / "ist-2021-22-hw2.html").as_uri() + "#3.1b")
    assert page.locator(".toc a[aria-current]").text_content().startswith("3.1 (b)")
    page.evaluate("document.getElementById('2.2').scrollIntoView()")
    page.wait_for_function("document.querySelector('.toc a[aria-current]').hash === '#2.2'")
    page.set_viewport_size(PHONE)
    assert not page.locator("#toc").is_visible()
    page.click(".toc-open")
    page.click(".toc a[href='#1.2']")
    assert page.url.endswith("#1.2") and not page.locator("#toc").is_visible()


def test_the_search_finds_questions_answers_and_code_by_keyboard(book, page):
    page.goto((book / "code/hw_cnn.models.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("xyzzy <b>")
    assert page.locator("#count").text_content() == "0 questions"
    for words, expected in (("LinearChainCRF", "2.2"), ("weight sharing", "1.2"), ("additive attention", "3.1b")):
        page.fill("#words", words)
        assert page.locator("#results a").first.get_attribute("href").endswith(f"#{expected}")
        assert page.locator("#results mark").count()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ist-2021-22-hw2.html#3.1b")


def test_dark_colours_follow_the_system_or_the_button_and_stay(book, page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page.goto((book / "index.html").as_uri())
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.click(".theme")
    assert page.evaluate(ground) == light
    page.goto((book / "dsl-2019-hw3.html").as_uri())
    assert page.evaluate(ground) == light
    page.click(".theme")
    assert page.evaluate(ground) == dark


# The contrast of each text with the nearest ground that is painted behind it.
_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (colour) => rgba(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = {};
  for (const one of document.querySelectorAll("body *")) {
    if (![...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) || one.closest("svg")) continue;
    let ground = one;
    while (ground.parentElement && !rgba(getComputedStyle(ground).backgroundColor)[3]) ground = ground.parentElement;
    const pair = [getComputedStyle(one).color, getComputedStyle(ground).backgroundColor];
    if (pair in found) continue;
    const [a, b] = pair.map(light).sort((a, b) => b - a);
    found[pair] = [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
  }
  return Object.values(found);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(book, page, scheme):
    page.emulate_media(color_scheme=scheme)
    for name in ("index.html", "ist-2021-22-hw2.html"):
        page.goto((book / name).as_uri())
        for contrast, element in page.evaluate(_CONTRASTS):
            assert contrast >= 4.5, element


def test_copy_buttons_copy_the_command_and_the_code_without_numbers(book, page):
    page.goto((book / "ist-2021-22-hw2.html").as_uri())
    copied = "navigator.clipboard.readText()"
    section = page.locator("section[data-question='1.1']")
    section.locator(".command .copy").click()
    assert page.evaluate(copied) == "python -m hw_attention_theory.parameter_counts"
    section.locator(".listing .copy").first.click()
    section.locator(".listing .copy", has_text="Copied").wait_for()
    assert page.evaluate(copied).startswith("def convolutional_network() -> list[Layer]:\n    ")


def test_figures_enlarge_and_mistakes_unfold_by_keyboard(book, page):
    page.goto((book / "dsl-2019-hw3.html").as_uri())
    page.locator(".zoom").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#enlarged img").get_attribute("alt")
    page.keyboard.press("Escape")
    page.locator("#enlarged").wait_for(state="hidden")
    mistakes = page.locator(".mistakes").first
    assert not mistakes.locator("p").is_visible()
    mistakes.locator("summary").focus()
    page.keyboard.press("Enter")
    assert mistakes.locator("p").is_visible()
    page.goto((book / "dsl-2019-hw3.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_pages_can_be_read_without_scripts(book, chromium):
    page = chromium.new_context(java_script_enabled=False, viewport=PHONE).new_page()
    page.goto((book / "dsl-2019-hw3.html").as_uri())
    assert page.locator("#toc").is_visible() and not page.locator(".copy").first.is_visible()
    page.context.close()
