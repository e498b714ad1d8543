"""Pushes metrics with OpenTelemetry's own SDK: otlp_metrics.py URL CUMULATIVE|DELTA Gzip|NoCompression."""

import sys
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

url, temporality, compression = sys.argv[1:]
temporality = AggregationTemporality[temporality]
exporter = OTLPMetricExporter(
    endpoint=url,
    compression=Compression[compression],
    preferred_temporality={Counter: temporality, Histogram: temporality},
)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
resource = Resource.create({
    "service.name": "order", "service.namespace": temporality.name.lower(),
    "service.instance.id": "i-1", "cloud.region": "eu-central-1",
})
provider = MeterProvider(metric_readers=[reader], resource=resource)
meter = provider.get_meter("test")
jobs = meter.create_counter("jobs.done", unit="{job}", description="Jobs done.")
latency = meter.create_histogram("http.server.request.duration", unit="s")
meter.create_observable_gauge("cpu.utilization", unit="1", callbacks=[lambda _: [Observation(0.25)]])
for count in (3, 4):
    jobs.add(count, {"queue.name": "mail"})
    latency.record(0.3, {"http.route": "/orders"})
    if not provider.force_flush():
        sys.exit("the export failed")
provider.shutdown()
