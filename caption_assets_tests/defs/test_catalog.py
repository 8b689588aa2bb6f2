"""What the catalog says of the assets, and who hears of a run that has failed."""

import json
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest
import yaml

from caption_assets.defs.build import build_defs
from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings import PipelineSettings
from caption_assets_tests.pipelines import materialize


def test_assets_have_owners_tags_their_code_and_how_fresh_they_are_to_be():
    chosen = {"owners": ["team:video", "ann@example.org"], "tags": {"domain": "video"}, "fresh_within_hours": 36}
    for made in Pipeline(PipelineSettings(**chosen)).made:
        spec = next(iter(made.definition.specs))
        assert list(spec.owners) == ["team:video", "ann@example.org"]
        assert spec.tags["domain"] == "video"
        assert spec.tags["caption_assets/step"] == made.step.name
        assert spec.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=36))
        (reference,) = spec.metadata["dagster/code_references"].code_references
        line = Path(reference.file_path).read_text().splitlines()[reference.line_number - 1]
        assert line.startswith(f"def {made.step.name}(")
    pipeline = Pipeline(PipelineSettings(**chosen))
    assert list(next(iter(pipeline.review.specs)).owners) == ["team:video", "ann@example.org"]
    assert pipeline.source.tags["domain"] == "video"
    captions = Pipeline(PipelineSettings()).made[2].definition
    assert next(iter(captions.specs)).tags["caption_assets/caption_key"] == "demo"
    assert yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())["freshness"] == {"enabled": True}


def test_what_only_people_see_makes_no_other_settings():
    hashes = [PipelineSettings(), PipelineSettings(owners=("team:video",), failure_webhook="http://127.0.0.1/x")]
    assert len({Pipeline(settings).settings_hash for settings in hashes}) == 1


@contextmanager
def webhook(status=200):
    """A server on this machine, its address, and what it was sent."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", got
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def failed(instance, pipeline, clips_root):
    """A run over two shards, one of which is bad."""
    (clips_root / "bad").mkdir()
    (clips_root / "bad" / "text.mp4").write_text("no video")
    result = materialize(instance, pipeline, ["a", "bad"], ["clip_windows"])
    (event,) = [e for e in result.all_events if e.event_type_value == "PIPELINE_FAILURE"]
    return instance.get_run_by_id(result.run_id), event


def tick(sensor, instance, failed):
    run, event = failed
    context = dg.build_run_status_sensor_context(sensor.name, event, instance, run).for_run_failure()
    return sensor(context)


def test_a_failed_run_is_told_to_the_webhook_by_its_assets_shards_and_reasons(instance, pipeline, failed):
    with webhook() as (address, got):
        settings = pipeline.settings.model_copy(update={"failure_webhook": address})
        sensor = build_defs(settings).resolve_sensor_def("tell_of_failures")
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        tick(sensor, instance, failed)
        named = settings.model_copy(update={"name": "cars"})  # whose run it is not
        tick(build_defs(named).resolve_sensor_def("cars_tell_of_failures"), instance, failed)
    (sent,) = got
    assert sent["run_id"] == failed[0].run_id
    assert sent["shards"] == "a to bad"
    assert "1 of 2 shards failed: bad." in sent["failures"]["clip_windows"]
    assert "1 of 2 shards failed: bad." in sent["text"]


def test_a_webhook_that_refuses_shows_as_a_failed_tick(instance, pipeline, failed):
    with webhook(status=500) as (address, got):
        settings = pipeline.settings.model_copy(update={"failure_webhook": address})
        sensor = build_defs(settings).resolve_sensor_def("tell_of_failures")
        with pytest.raises(Exception, match="500"):
            tick(sensor, instance, failed)
    assert len(got) == 1


def test_without_a_webhook_nobody_is_told(pipeline):
    names = {sensor.name for sensor in build_defs(pipeline.settings).sensors}
    assert "tell_of_failures" not in names
    with pytest.raises(ValueError, match="failure_webhook"):
        PipelineSettings(failure_webhook="file:///etc/passwd")
