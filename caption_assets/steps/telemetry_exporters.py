"""Where traces and metrics go, by OpenTelemetry's own variables.

`OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` name exporters, or `OTEL_EXPORTER_OTLP_ENDPOINT` the address of a
collector. The other variables of its SDK count as well.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import errno
import importlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from caption_assets.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)
_OTLP = "opentelemetry.exporter.otlp.proto"
_PROTOCOLS: Mapping[str, str] = MappingProxyType({"http/protobuf": "http", "grpc": "grpc"})
# By signal: what the variable may name, besides none; and what sends it by OTLP.
_KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"TRACES": ("otlp", "console"), "METRICS": ("otlp", "console", "prometheus")}
)
_SENDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"TRACES": ("trace_exporter", "OTLPSpanExporter"), "METRICS": ("metric_exporter", "OTLPMetricExporter")}
)
# Of what is asked for at the end of a run, by default and after a request to stop.
_SECONDS, _STOPPED_SECONDS = 3.0, 1.0
# Where Prometheus asks by default, by OpenTelemetry's specification; runs beside each other take the next ones.
_PORT, _PORTS = 9464, 32


def exporters(signal: str) -> tuple[str, ...]:
    """The exporters of a signal, "TRACES" or "METRICS", that the environment asks for. Raises ConfigError."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    variable = f"OTEL_{signal}_EXPORTER"
    named = os.environ.get(variable, "").strip()
    if not named:
        addresses = "OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
        return ("otlp",) if any(os.environ.get(name) for name in addresses) else ()
    names = tuple(name for part in named.split(",") if (name := part.strip()) and name != "none")
    if unknown := [name for name in names if name not in _KNOWN[signal]]:
        known = ", ".join((*_KNOWN[signal], "none"))
        raise ConfigError(f"{variable}={named}", f"{unknown[0]!r} is unknown", f"choose among {known}")
    return names


def tracers(run_id: str, resource: Any, names: Iterable[str]) -> "TracerProvider":
    """What makes spans, and sends them to so many. Raises ConfigError."""
    from opentelemetry.sdk.trace import RandomIdGenerator, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    class OfTheRun(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            try:
                return uuid.UUID(run_id).int
            except ValueError:
                return super().generate_trace_id()

    exporters = [ConsoleSpanExporter() if name == "console" else _otlp("TRACES") for name in names]
    provider = TracerProvider(resource=resource, id_generator=OfTheRun(), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def meters(resource: Any, names: Iterable[str]) -> "MeterProvider":
    """What measures, and tells so many. Raises ConfigError."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

    readers: list[Any] = []
    for name in names:
        if name == "prometheus":
            readers += _prometheus()
        else:
            exporter = ConsoleMetricExporter() if name == "console" else _otlp("METRICS")
            readers.append(PeriodicExportingMetricReader(exporter))
    return MeterProvider(readers, resource, shutdown_on_exit=False)


def shut(*providers: "TracerProvider | MeterProvider", stopped: bool = False) -> None:
    """Sends what has not been sent. A collector that does not take it keeps nobody waiting: it is given some seconds,
    or what the variables for the time of a request say; less where the run has been `stopped`.
    """
    variables = "OTEL_EXPORTER_OTLP_TIMEOUT", *(f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT" for signal in _SENDERS)
    seconds = max((_seconds(given) for name in variables if (given := os.environ.get(name))), default=_SECONDS)
    until = time.monotonic() + min(seconds, _STOPPED_SECONDS if stopped else seconds)
    # The SDK's own bound is the same for everybody, and half a minute.
    threads = [threading.Thread(target=_shut, args=(each,), name="telemetry", daemon=True) for each in providers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        log.warning("What was still to be seen from outside is lost: the collector has not taken it in time.")


def _shut(provider: "TracerProvider | MeterProvider") -> None:
    try:
        provider.shutdown()
    except Exception:  # it is not worth a run
        log.warning("what was to be seen from outside could not be sent", exc_info=True)


def _seconds(given: str) -> float:
    """By a variable, which the exporters do not heed either where it is no number."""
    try:
        return max(0.0, float(given))
    except ValueError:
        return _SECONDS


def _otlp(signal: str) -> Any:
    """What sends to a collector, by the protocol that the environment names. Raises ConfigError."""
    by_default = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or by_default
    asked = f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"
    if protocol not in _PROTOCOLS:
        raise ConfigError(asked, "it is unknown", f"choose among {', '.join(_PROTOCOLS)}")
    module, name = _SENDERS[signal]
    try:
        found = importlib.import_module(f"{_OTLP}.{_PROTOCOLS[protocol]}.{module}")
    except ImportError as error:
        fix = "run pip install opentelemetry-exporter-otlp-proto-grpc, or use http/protobuf"
        raise ConfigError(asked, f"it is not installed ({error})", fix) from None
    return getattr(found, name)()


def _prometheus() -> list[Any]:
    """What answers Prometheus, at the first port that is free; nothing where none is, as what is only looked at may not
    end a run. Raises ConfigError for an address at which nothing can listen.
    """
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    class Reader(PrometheusMetricReader):
        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            server.shutdown()
            server.server_close()
            super().shutdown(timeout_millis, **kwargs)

    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or str(_PORT)
    asked = f"OTEL_EXPORTER_PROMETHEUS_HOST={host}, OTEL_EXPORTER_PROMETHEUS_PORT={text}"
    if not text.isdecimal() or int(text) + _PORTS > 65536:
        raise ConfigError(asked, "that is no port", f"give a number up to {65536 - _PORTS}")
    for port in range(int(text), int(text) + _PORTS):
        try:
            server, _ = start_http_server(port, host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigError(asked, f"nothing can listen there ({error})", "name an address of this machine") from None
        log.info("Metrics for Prometheus are at http://%s:%d/metrics.", host, port)
        return [Reader()]
    log.warning("Prometheus sees nothing of this process, as the %d ports from %s are all in use.", _PORTS, text)
    return []
