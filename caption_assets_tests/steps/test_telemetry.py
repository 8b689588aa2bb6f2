"""A run as a collector of OpenTelemetry and Prometheus see it."""

import re
import socket
import threading
import urllib.request
import uuid
from collections import Counter, defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from caption_assets.dataset import open_dataset
from caption_assets.errors import ConfigError, ModelError
from caption_assets.settings import CaptionModelSettings, CaptionSettings, WindowSettings
from caption_assets.steps import Progress, StepContext, caption_shards, model_session, telemetry_exporters, window_shard
from caption_assets.steps.progress import Relay
from caption_assets.steps.telemetry import telemetry
from caption_assets.store import WINDOW_CAPTIONS, Store
from caption_assets_tests.rows import caption, window

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana.json"
STAGES = ("decode", "render", "generate")  # an engine in this process does not tell of more


@pytest.fixture
def collector():
    """The address of a collector, and the spans that it has been sent; it answers as soon as it may."""
    spans, may_answer = [], threading.Event()
    may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans)
            may_answer.wait()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans, may_answer
        may_answer.set()
        server.shutdown()


def free_port():
    with socket.create_server(("localhost", 0)) as listening:
        return listening.getsockname()[1]


def scraped(port):
    """The values of our metrics, by name and labels."""
    with urllib.request.urlopen(f"http://localhost:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name.startswith("caption")]
    labels = ("asset", "key", "kind", "state")
    return {(each.name, *(each.labels[name] for name in labels if name in each.labels)): each.value for each in samples}


def test_spans_and_metrics_tell_of_each_window(collector, clips_root, tmp_path, workers, monkeypatch):
    address, spans, _ = collector
    port, run_id, while_running = free_port(), str(uuid.uuid4()), []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))

    class Scrapes(Progress):
        def answered(self, asset, shard, row):
            while_running.append(scraped(port))

    with telemetry(run_id) as told:
        given = StepContext(Store(tmp_path / "out"), workers, progress=Relay(told, Scrapes()))
        for shard in ("a", "b"):
            windows = WindowSettings(window_size=16, remainder_threshold=8)
            given.progress.done(window_shard(given, open_dataset(str(clips_root)), shard, windows))
        model = CaptionModelSettings(device="cpu", gpu_hour_price=2.0)
        with model_session(model, 1) as session:
            for ended in caption_shards(given, ["a", "b"], session, CaptionSettings(max_output_tokens=4, batch_size=1)):
                given.progress.done(ended.outcome)
            at_last = scraped(port)

    rows = [row for shard in ("a", "b") for row in given.store.read_rows(WINDOW_CAPTIONS, shard, "demo")]
    of = ("window_captions", "demo")
    assert at_last["caption_assets_items_total", "window_captions"] == len(rows)
    assert at_last["caption_assets_items_left", "window_captions"] == 0
    assert at_last["caption_assets_windows_total", *of, "ok"] == len(rows)
    assert at_last["caption_assets_windows_total", "clip_windows", "", "ok"] == len(rows)
    assert at_last["caption_assets_tokens_total", *of, "input"] == sum(row.prompt_tokens for row in rows)
    assert at_last["caption_assets_tokens_total", *of, "output"] == sum(row.output_tokens for row in rows)
    assert at_last["caption_assets_engine_starts_total", *of] == 1
    assert (
        at_last["caption_assets_gpu_busy_seconds_total", *of] == at_last["caption_assets_cost_total", *of] == 0
    )  # a CPU
    shown = set(re.findall(r"caption_assets_\w+", DASHBOARD.read_text()))
    assert shown
    assert shown <= {name for name, *_ in at_last}
    assert len(while_running) == len(rows)
    assert max(found["caption_assets_queue_bytes", *of] for found in while_running) > 100_000
    assert at_last["caption_assets_queue_bytes", *of] == at_last["caption_assets_queue_requests", *of] == 0

    by_name = defaultdict(list)
    for span in spans:
        by_name[span.name].append(span)
    parents = {span.span_id: span for span in spans}
    assert {uuid.UUID(bytes=span.trace_id) for span in spans} == {uuid.UUID(run_id)}
    assert Counter({name: len(found) for name, found in by_name.items()}) == {
        "run": 1,
        "shard": 4,
        "window": len(rows),
        **dict.fromkeys(STAGES, len(rows)),
    }
    assert {parents[span.parent_span_id].name for span in by_name["window"]} == {"shard"}
    for stage in STAGES:
        took = sum(span.end_time_unix_nano - span.start_time_unix_nano for span in by_name[stage])
        said = "seconds" if stage == "generate" else f"{stage}_s"
        assert took / 1e9 == pytest.approx(sum(getattr(row, said) for row in rows))
        assert {parents[span.parent_span_id].name for span in by_name[stage]} == {"window"}


def test_each_key_of_a_shard_has_a_span_and_so_has_what_failed_before_it_began(collector, monkeypatch):
    address, spans, _ = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{address}/v1/traces")
    with telemetry() as told:
        told.start("window_captions", "a", 1)
        for key in ("demo", "demo-short"):
            told.answered("window_captions", "a", caption(window(), key=key))
        told.start("window_captions", "b", 1)
        for shard in ("b", "c"):
            told.failed("window_captions", shard, ModelError("the server", "it has gone"), "demo")
        told.start("window_previews", "a", 1)

    def of(span):
        found = {each.key: each.value.string_value for each in span.attributes}
        return tuple(found.get(f"caption_assets.{name}", "") for name in ("asset", "key", "shard"))

    status = {of(span): span.status.message for span in spans if span.name == "shard"}
    assert status == {
        ("window_captions", "demo", "a"): "",
        ("window_captions", "demo-short", "a"): "",
        ("window_captions", "demo", "b"): "the server: it has gone.",
        ("window_captions", "demo", "c"): "the server: it has gone.",
        ("window_previews", "", "a"): "",
    }
    assert len(status) == sum(span.name == "shard" for span in spans)
    by_id = {span.span_id: span for span in spans}
    assert {of(by_id[span.parent_span_id])[1] for span in spans if span.name == "window"} == {"demo", "demo-short"}
    assert [span.status.message for span in spans if span.name == "run"] == ["shards that failed: 2"]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_collector_that_does_not_answer_keeps_no_run_from_its_end(collector, monkeypatch, caplog, stopped):
    """The SDK alone would wait for half a minute, and then say nothing of what is lost."""
    address, _, may_answer = collector
    may_answer.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", address)
    monkeypatch.setattr(telemetry_exporters, "_STOPPED_SECONDS" if stopped else "_SECONDS", 0.05)
    with suppress(KeyboardInterrupt), telemetry():
        if stopped:
            raise KeyboardInterrupt
    assert "the collector has not taken it in time" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "'jaeger' is unknown. Choose among otlp, console, none"),
        ("OTEL_METRICS_EXPORTER", "prometheus,statsd", "'statsd' is unknown"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon", "Choose among http/protobuf, grpc"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "http", "that is no port"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is_done(monkeypatch, name, value, wrong):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=wrong):
        telemetry().__enter__()


def test_a_run_for_which_prometheus_has_no_port_left_goes_on_unseen(monkeypatch, caplog):
    monkeypatch.setattr("caption_assets.steps.telemetry_exporters._PORTS", 1)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    with socket.create_server(("localhost", 0)) as taken:
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(taken.getsockname()[1]))
        with telemetry():
            assert "are all in use" in caplog.text


def test_prometheus_asks_at_each_port_that_a_run_may_take():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    ports = range(telemetry_exporters._PORT, telemetry_exporters._PORT + telemetry_exporters._PORTS)
    assert job["static_configs"] == [{"targets": [f"localhost:{port}" for port in ports]}]


def test_nothing_is_begun_where_nothing_is_asked_for(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    with telemetry() as told:
        assert type(told) is Progress
