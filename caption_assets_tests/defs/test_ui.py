"""What users see in Dagster: one `dagster dev` in a browser, with a deployment and a project of two components.

With SCREENSHOTS=docs/images these tests make the pictures of the docs.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, expect

from caption_assets.demo.clips import SHARDS, demo_scenes, render_dataset
from caption_assets_tests.browser import VIEWPORT
from caption_assets_tests.dagster_dev import (
    HANG_SECONDS,
    DagsterDev,
    dagster_dev,
    make_project,
    wait_for,
    write_component,
)

GROUP = "captions_and_previews"
PROMPT = "Say what moves, and how."
WORKSPACE = """
load_from:
  - python_module: {module_name: caption_assets.definitions, location_name: caption_assets}
  - python_module: {module_name: mine.definitions, location_name: mine, working_directory: WHERE}
"""
GOOD, GOOD_TOO, BAD = SHARDS


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The demo's shards, two clips of each; in the last one there is no video at all."""
    root = tmp_path_factory.mktemp("ui") / "clips"
    render_dataset(root, {shard: scenes[:2] for shard, scenes in demo_scenes().items()})
    for path in (root / BAD).iterdir():
        path.replace(root.parent / path.name)
        path.write_text("no video")
    return root


@pytest.fixture(scope="module")
def dev(clips):
    """Its deployment's settings are those of a file, and its project has two components."""
    home, project = clips.with_name("home"), clips.with_name("mine")
    home.mkdir()
    here = {"captions": [{"device": "cpu", "prompt_text": PROMPT}], "enhanced": [{"device": "cpu"}]}
    settings = {"dataset": str(clips), "output": str(home / "output"), **here}
    (home / "caption_assets.yaml").write_text(yaml.safe_dump(settings))
    make_project(project)
    for name, models in {"cars": [{}], "boats": [{}, {"caption_key": "short", "prompt_text": "Be short."}]}.items():
        places = {"dataset": str(clips.with_name(name)), "output": str(clips.with_name(f"{name}-output"))}
        shutil.copytree(clips / GOOD, clips.with_name(name) / f"{name}-in-june")
        write_component(project, name, name=name, **places, captions=models)
    with dagster_dev(home, WORKSPACE.replace("WHERE", str(project))) as server:
        yield server


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)  # what moves has come to rest
        page.screenshot(path=Path(folder) / f"ui-{name}.png")


def looks(page: Page, width: int = 1280, height: int = 800) -> Page:
    page.set_viewport_size({"width": width, "height": height})
    page.set_default_timeout(HANG_SECONDS * 1000)
    expect.set_options(timeout=HANG_SECONDS * 1000)
    return page


def sees(page: Page, text: str, exact: bool = False) -> None:
    """Waits until it is there."""
    expect(page.get_by_text(text, exact=exact).first).to_be_visible()


@pytest.fixture(scope="module")
def context(browser: Browser):
    """One session for all tests, which loads Dagster's scripts once."""
    with browser.new_context(viewport=VIEWPORT) as context:
        yield context


@pytest.fixture(scope="module")
def command(dev: DagsterDev):
    """A run of the command line on the good shard, at work beside the tests that do not wait for it."""
    flags = ("--shard", GOOD, "--workers", "1")
    with dev.command("caption-assets", "run", *flags) as process:
        yield process


@pytest.fixture(scope="module")
def backfill(dev: DagsterDev, context: BrowserContext, command) -> str:
    """The id of one of windows and captions of all shards, asked for by hand."""
    with context.new_page() as page:
        looks(page)
        page.goto(f"{dev.url}/locations/caption_assets/asset-groups/{GROUP}")
        page.get_by_text("clip_windows", exact=True).click()
        page.get_by_text(re.compile("window_capti.*demo")).click(modifiers=["Shift"])
        page.get_by_role("button", name="Materialize selected (2)").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="All", exact=True).click()
        dialog.get_by_role("button", name="Launch backfill").click()
        said = page.get_by_text("Created backfill")
        return said.inner_text().split()[-1]


@pytest.mark.usefixtures("backfill")
def test_the_launchpad_refuses_what_cannot_be(dev, page):
    looks(page).goto(f"{dev.url}/locations/caption_assets/jobs/caption_shards/playground")
    page.wait_for_selector(".CodeMirror")

    def type_in(config: str) -> None:
        page.evaluate("text => document.querySelector('.CodeMirror').CodeMirror.setValue(text)", config)

    words = "ops: {window_captions_demo: {config: {prompt_variant: foo}}}\n"
    type_in(words + "resources:\n  caption_model:\n    config:\n      model_variant: qwen99\n")
    sees(page, "got foo")
    sees(page, "config:model_variant not in enum type")
    expect(page.get_by_role("button", name="Launch Run")).to_be_disabled()
    picture(page, "launchpad")
    type_in("ops: {window_captions_demo: {config: {batch_size: -5}}}")
    page.get_by_placeholder("Partition").fill(GOOD)
    page.get_by_text(GOOD, exact=True).last.click()
    page.get_by_role("button", name="Launch Run").click()
    sees(page, "Input should be greater than or equal to 1, not -5")


@pytest.mark.usefixtures("backfill")
def test_two_components_stand_side_by_side(dev, page):
    looks(page, 1900, 760).goto(f"{dev.url}/assets/cars/clip_windows?view=partitions")
    sees(page, "cars-in-june")
    expect(page.get_by_text("boats-in-june")).to_have_count(0)
    page.goto(f"{dev.url}/asset-groups")
    for name in ("cars", "boats"):
        page.get_by_text(f"{name}_{GROUP}").first.dblclick()
    sees(page, "window_captions_short")
    picture(page, "components")


def shard_page(dev: DagsterDev, page: Page, asset: str, shard: str, width: int = 1280, height: int = 800) -> Page:
    """What the catalog says of a shard."""
    looks(page, width, height).goto(f"{dev.url}/assets/{asset}?view=partitions&partition={shard}")
    sees(page, "Latest materialization", exact=True)
    return page


def test_samples_show_texts_beside_their_pictures(dev, command, page):
    said, _ = command.communicate()
    assert command.returncode == 0, said
    shard_page(dev, page, "enhanced_captions_demo_by_demo_lm", GOOD, 1440, 760)
    page.get_by_text("[Show Markdown]").click()
    table = page.get_by_role("dialog").get_by_role("table")
    expect(table.get_by_role("columnheader")).to_contain_text(["preview", "clip", "frames", "caption", "enhanced"])
    rows = table.get_by_role("row").filter(has=page.get_by_role("cell"))
    expect(rows).to_have_count(2)
    for row in rows.all():
        shown = row.get_by_role("img")
        expect(shown).to_be_visible()
        assert shown.evaluate("image => image.naturalHeight") > 50
        _, clip, _, caption, enhanced = row.get_by_role("cell").all_inner_texts()[:5]
        assert re.fullmatch(rf"{GOOD}/clip-0[01]\.mp4", clip)
        assert len(enhanced) > len(caption) > 20
    picture(page, "samples")


@pytest.fixture(scope="module")
def ended(dev, backfill) -> dict[str, str]:
    """By asset, its run of the backfill, which has ended."""

    def runs():
        query = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
            ... on PartitionBackfill { status runs { runId assetSelection { path } } }
        } }"""
        found = dev.ask(query, id=backfill)["partitionBackfillOrError"]
        over = found["status"] in ("COMPLETED_FAILED", "COMPLETED_SUCCESS", "COMPLETED", "FAILED")
        return {run["assetSelection"][0]["path"][-1]: run["runId"] for run in found["runs"]} if over else None

    return wait_for(runs)


def test_a_backfill_makes_the_good_shards_and_names_the_bad_one(dev, ended, backfill, page):
    for asset, counts in {"clip_windows": "Failed (1)", "window_captions_demo": "Missing (1)"}.items():
        shard_page(dev, page, asset, GOOD_TOO)
        sees(page, "Materialized (2)")
        sees(page, counts)
    sees(page, PROMPT)  # that of the deployment's file
    looks(page, 1440, 560).goto(f"{dev.url}/runs/b/{backfill}")
    sees(page, "Failed")
    picture(page, "backfill")
    page.goto(f"{dev.url}/runs/{ended['clip_windows']}")
    sees(page, f"1 of 3 shards failed: {BAD}.")


def execute_again(dev: DagsterDev, page: Page, run_id: str, how: str, *, of_backfill: bool = False) -> dict:
    looks(page).goto(f"{dev.url}/runs/{run_id}")
    page.locator("button:has-text('Re-execute all')").locator("xpath=following::button[1]").click()
    page.get_by_text(how, exact=True).click()
    if of_backfill:
        page.get_by_role("button", name="Confirm").click()
    page.wait_for_url(lambda url: "/runs/" in url and run_id not in url)
    return dev.run(page.url.partition("/runs/")[2].partition("?")[0])


def test_a_mended_shard_is_made_when_its_run_is_executed_again_from_failure(dev, ended, clips, page):
    for path in (clips / BAD).iterdir():
        shutil.copy(clips.parent / path.name, path)
    assert execute_again(dev, page, ended["clip_windows"], "From failure", of_backfill=True)["status"] == "SUCCESS"
    shard_page(dev, page, "clip_windows", BAD)
    sees(page, "Materialized (3)")
    sees(page, "Failed (0)")


def test_a_run_of_the_command_line_does_the_same_when_it_is_executed_again(dev, command, page):
    command.wait()
    runs = dev.ask("{ runsOrError { ... on Runs { results { runId assetSelection { path } tags { key value } } } } }")
    (of_command,) = [
        run["runId"]
        for run in runs["runsOrError"]["results"]
        if {"path": ["clip_windows"]} in run["assetSelection"]
        and any(tag["key"] == "caption_assets/command" for tag in run["tags"])
    ]
    again = execute_again(dev, page, of_command, "All steps in root run")
    assert again["status"] == "SUCCESS"
    config = yaml.safe_load(again["runConfigYaml"])["resources"]
    assert config["workers"]["config"]["processes"] == 1
    assert config["save_export"]["config"]["output_path"] == f"{dev.home}/output"
    assert {"key": "dagster/partition", "value": GOOD} in again["tags"]


def test_a_clip_that_comes_turns_its_shard_stale_and_no_other(dev, clips, page):
    query = """query($shard: String!) { assetNodeOrError(assetKey: {path: ["clip_windows"]}) {
        ... on AssetNode { staleStatus(partition: $shard) } } }"""

    def stale():
        return [shard for shard in SHARDS if dev.ask(query, shard=shard)["assetNodeOrError"]["staleStatus"] == "STALE"]

    assert stale() == []
    shutil.copy(clips / GOOD / "clip-00.mp4", clips / GOOD_TOO / "clip-02.mp4")
    assert wait_for(stale) == [GOOD_TOO]  # the page does not look again by itself
    shard_page(dev, page, "clip_windows", GOOD_TOO)
    sees(page, "Unsynced (1)")
    page.get_by_text("Unsynced (1)").hover()
    sees(page, "has a new data version")
    picture(page, "stale")


def test_the_graph_leads_from_the_clips_to_all_that_is_made_of_them(dev, page):
    looks(page, 1900, 640).goto(f"{dev.url}/locations/caption_assets/asset-groups/{GROUP}")
    for name in ("clips", "clip_windows", "window_previews", "window_captions_demo", "shard_review"):
        sees(page, name, exact=True)
    sees(page, "100% filled")
    picture(page, "graph")
