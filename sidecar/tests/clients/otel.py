"""Sends three spans, a counter with a histogram, and two log records by OTLP: `otel.py grpc|http ENDPOINT`.

Prints `ok` when every export was accepted.
"""

import logging
import sys

from opentelemetry._logs import SeverityNumber, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

protocol, endpoint = sys.argv[1:]
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    options = [{"endpoint": endpoint, "insecure": True}] * 3
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    options = [
        {"endpoint": f"{endpoint}/v1/{signal}", "compression": Compression.Gzip}
        for signal in ("traces", "metrics", "logs")
    ]

# A refused export is logged as an error by the SDK.
failures = []


class Failures(logging.Handler):
    def emit(self, record):
        failures.append(record.getMessage())


logging.getLogger().addHandler(Failures(level=logging.WARNING))

resource = Resource.create({"service.name": f"python-{protocol}"})

tracers = TracerProvider(resource=resource)
tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**options[0])))
tracer = tracers.get_tracer("test")
attributes = {"http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 200}
with tracer.start_as_current_span("GET /orders/{id}", kind=SpanKind.SERVER, attributes=attributes) as span:
    with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT):
        pass
    with tracer.start_as_current_span("charge") as failed:
        failed.set_status(Status(StatusCode.ERROR, "card refused"))
    trace_id = span.get_span_context().trace_id

meters = MeterProvider(
    resource=resource,
    metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter(**options[1]), export_interval_millis=3_600_000)],
)
meter = meters.get_meter("test")
meter.create_counter("jobs.done", unit="1").add(7, {"queue": "mail"})
meter.create_histogram("job.duration", unit="s").record(0.3, {"queue": "mail"})

loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options[2])))
set_logger_provider(loggers)
logger = loggers.get_logger("test")
logger.emit(severity_number=SeverityNumber.INFO, body="order accepted", attributes={"order.id": 17})
logger.emit(severity_number=SeverityNumber.ERROR, body="card refused")

tracers.shutdown()
meters.shutdown()
loggers.shutdown()
if failures:
    sys.exit("\n".join(failures))
print("ok", format(trace_id, "032x"))
