"""The page as a reader uses it, in headless Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from run_folder import HOSTILE_CASE, HOSTILE_SEQUENCE

pytestmark = pytest.mark.slow
TITLES = ["Baseline", "+ BGA", "Both, with clDice (FGA-Net)"]


@contextmanager
def opened(browser: BrowserContext, file: Path) -> Iterator[Page]:
    """A page, opened from its file; a test fails where the console shows an error or anything is fetched."""
    tab = browser.new_page()
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    addresses: list[str] = []
    tab.on("request", lambda request: addresses.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    fetched = [url for url in addresses if not url.startswith("data:")]
    tab.close()
    assert faults == []
    assert fetched == [file.as_uri()]


@pytest.fixture
def page(browser: BrowserContext, page_file: Path) -> Iterator[Page]:
    with opened(browser, page_file) as tab:
        yield tab


def column(page: Page, table: str, heading: str) -> list[str]:
    """Texts of a column, from top to bottom."""
    return page.eval_on_selector(
        table,
        """(table, heading) => {
            const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === heading);
            return [...table.tBodies[0].rows].map((row) => row.cells[index].textContent.trim());
        }""",
        heading,
    )


def sort_by(page: Page, table: str, heading: str) -> None:
    page.locator(f"{table} th", has_text=heading).first.get_by_role("button").click()


def test_all_images_decode(page):
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    uris = [frame["image"] for frame in data["frames"].values()]
    uris += [uri for frame in data["frames"].values() for uri in frame["labels"].values()]
    uris += [row[layer] for row in data["rows"] if "errors" in row for layer in ("errors", "prediction")]
    uris += page.eval_on_selector_all("img", "images => images.map((image) => image.src)")
    assert len(data["frames"]) >= 4 and len(uris) > 20
    sizes = page.evaluate(
        """(uris) => Promise.all(uris.map(async (uri) => {
            const image = new Image();
            image.src = uri;
            await image.decode();
            return image.naturalWidth;
        }))""",
        uris,
    )
    assert set(sizes) == {96}


def test_a_click_on_a_heading_sorts_the_table_of_figures(page):
    table = "#figures table"
    assert column(page, table, "network") == TITLES
    sort_by(page, table, "Dice")
    values = [float(text.removeprefix("★ ").split("(")[0]) for text in column(page, table, "Dice, %")]
    assert values == sorted(values)
    sort_by(page, table, "Dice")
    assert column(page, table, "network")[0] == "Both, with clDice (FGA-Net)"
    assert page.locator(f"{table} th[aria-sort=descending]").inner_text().startswith("Dice")


def test_the_list_of_frames_is_worst_first_and_sorts(page):
    dice = [float(text.removesuffix("\u00a0%")) for text in column(page, "#frame-table", "Dice")]
    assert dice == sorted(dice) and len(dice) > 6
    sort_by(page, "#frame-table", "missed, px")
    sort_by(page, "#frame-table", "missed, px")
    missed = [int(text) for text in column(page, "#frame-table", "missed, px")]
    assert missed == sorted(missed, reverse=True)


def test_text_filters_the_list_of_frames(page):
    page.locator("#only-pictured").uncheck()
    assert len(column(page, "#frame-table", "frame")) == 27
    page.locator("#filter").fill("seq1 bga")
    assert set(column(page, "#frame-table", "network")) == {"+ BGA"}
    assert set(column(page, "#frame-table", "sequence")) == {"seq1"}
    page.locator("#filter").fill("nothing like this")
    assert column(page, "#frame-table", "frame") == []
    assert page.locator("#count").inner_text() == "0 of 27 predictions"
    assert page.locator("#next").is_disabled()


def test_a_network_that_is_filtered_out_is_nowhere_on_the_page(page):
    assert page.locator("#viewer-title").inner_text().endswith(TITLES[0])
    page.locator("#networks summary").click()
    page.get_by_role("checkbox", name="Baseline").uncheck()
    assert "Baseline" not in column(page, "#frame-table", "network")
    assert page.locator("[data-entry='0']").count() > 10
    assert page.locator("[data-entry='0']:visible").count() == 0
    assert "Baseline" not in page.locator("#others").inner_text()
    shown = " · ".join(column(page, "#frame-table", heading)[0] for heading in ("frame", "network"))
    assert page.locator("#viewer-title").inner_text() == shown
    assert TITLES[0] not in page.locator("#stage img").first.get_attribute("alt")
    page.locator("#no-networks").click()
    assert column(page, "#frame-table", "frame") == []
    assert page.locator("#viewer-title").inner_text() == page.locator("#viewer-figures").inner_text() == ""
    assert page.locator("#stage img, #others img").count() == 0
    page.locator("#zoom-in").click()  # and the list of networks closes
    page.locator("#networks summary").click()
    page.locator("#all-networks").click()
    assert set(column(page, "#frame-table", "network")) == set(TITLES)
    assert page.locator("#stage img").count() > 0


def test_arrow_keys_go_through_the_list_and_stop_at_its_ends(page):
    order = list(zip(column(page, "#frame-table", "frame"), column(page, "#frame-table", "network"), strict=True))
    shown = page.locator("#viewer-title")
    for key, index in (("ArrowRight", 1), ("j", 2), ("ArrowLeft", 1), ("k", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert shown.inner_text() == " · ".join(order[index])
        assert page.locator("#position").inner_text() == f"{index + 1} of {len(order)}"
    assert page.locator("tr.current td").first.inner_text() == order[0][0]


def test_keys_do_nothing_to_the_frame_while_a_filter_is_typed(page):
    before = page.locator("#viewer-title").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("jelm")
    assert page.locator("#filter").input_value() == "jelm"
    assert page.locator("#viewer-title").inner_text() == before
    assert page.locator("#layer-errors").is_checked()


@pytest.mark.parametrize("layer", ["errors", "marks", "label", "prediction"])
def test_each_layer_is_switched_by_its_box_and_its_key(page, layer):
    box, drawn = page.locator(f"#layer-{layer}"), page.locator(f"#stage [data-layer={layer}]")
    first = box.is_checked()
    assert drawn.count() == int(first)
    box.click()
    assert drawn.count() == int(not first)
    page.keyboard.press(layer[0])
    assert (box.is_checked(), drawn.count()) == (first, int(first))


def test_marks_have_the_shapes_of_their_kinds(page):
    row = page.evaluate("JSON.parse(document.getElementById('data').textContent).rows[0]")
    kinds = [mark["kind"] for mark in row["marks"]]
    assert "break" in kinds
    assert page.locator("#stage circle.mark").count() == kinds.count("break")
    assert page.locator("#stage rect.mark").count() == kinds.count("false")
    assert page.locator("#stage path.mark").count() == kinds.count("miss")
    assert f"breaks {kinds.count('break')}" in page.locator("#viewer-figures").inner_text()


def test_enlarged_pixels_stay_sharp_and_the_wire_in_the_middle(page):
    stage = page.locator("#stage")
    assert stage.locator(".picture").evaluate("box => box.classList.contains('enlarged')")
    assert stage.evaluate("box => box.scrollHeight - box.clientHeight") == 0
    whole = stage.locator(".picture").evaluate("box => box.clientWidth")
    for _ in range(4):
        page.keyboard.press("+")
    assert page.locator("#zoom").inner_text() == "4 \u00d7"
    width, top = stage.evaluate("box => [box.scrollWidth, box.scrollTop]")
    assert width == pytest.approx(4 * whole, abs=2) and top > 0
    page.keyboard.press("l")
    assert stage.evaluate("box => box.scrollTop") == top


def test_other_networks_beside_the_frame_lead_to_their_prediction(page):
    page.locator("#others figure", has_text="+ BGA").get_by_role("button").click()
    assert page.locator("#viewer-title").inner_text().endswith("· + BGA")
    assert page.locator("#others figure.current").inner_text().startswith("+ BGA")


def test_thumbnails_and_cells_of_a_sequence_lead_to_the_frame(page):
    thumbnail = page.locator(".thumbnails button").first
    case = thumbnail.get_attribute("data-case")
    thumbnail.click()
    assert page.locator("#viewer-title").inner_text() == f"{case} · {TITLES[2]}"
    expect(page.locator("#viewer-title")).to_be_in_viewport()
    cell = page.locator(".cell.pictured[data-of='1']").first
    cell.click()
    assert page.locator("#viewer-title").inner_text() == f"{cell.get_attribute('data-case')} · {TITLES[1]}"


def test_a_thumbnail_of_one_seed_of_two_leads_to_just_that_row(browser, page_of_two_seeds):
    with opened(browser, page_of_two_seeds) as page:
        button = page.locator(".thumbnails button").first
        caption = page.locator(".thumbnails figcaption").first.inner_text()
        case, dice = button.get_attribute("data-case"), caption.split("Dice ")[1]
        assert "seed 0" in caption
        button.click()
        assert page.locator("#viewer-title").inner_text() == f"{case} · {TITLES[2]} · seed 0"
        assert f"Dice {dice}" in page.locator("#viewer-figures").inner_text()
        page.locator(f".cell.pictured[data-of='2'][data-case='{case}']").click()
        assert page.locator("#viewer-title").inner_text().endswith("seed 1")  # the worse of the two


def test_hostile_names_are_shown_as_they_are(page):
    page.locator("#only-pictured").uncheck()
    assert HOSTILE_CASE in column(page, "#frame-table", "frame")
    assert HOSTILE_SEQUENCE in column(page, "#frame-table", "sequence")
    assert HOSTILE_SEQUENCE in page.locator("#sequences").inner_text()
    assert page.locator("script").count() == 2
    assert page.locator("x").count() == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 740})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    right = page.eval_on_selector_all(
        "main > section > *", "all => all.map((one) => one.getBoundingClientRect().right)"
    )
    assert max(right) <= width


def test_everything_can_be_reached_and_is_named(page):
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, svg[role=img]")].filter((one) => !(
            one.textContent.trim() || one.ariaLabel || one.labels?.length || one.querySelector("img[alt]:not([alt=''])")
        )).length"""
    )
    assert unnamed == 0
    assert page.locator("img:not([alt])").count() == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_print_leaves_the_controls_out(page):
    page.emulate_media(media="print")
    assert page.locator(".toolbar").is_hidden() and page.locator("#next").is_hidden()
    assert page.locator("#viewer-title").is_visible() and page.locator("rect.bar").first.is_visible()
