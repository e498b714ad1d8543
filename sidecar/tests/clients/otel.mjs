// Sends two spans, a counter and two log records by OTLP: `otel.mjs grpc|proto|json ENDPOINT`.
// Prints `ok` when every export was accepted.

import { diag, DiagLogLevel, SpanKind } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { LoggerProvider, SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

const [protocol, endpoint] = process.argv.slice(2);
const exporters = {
  grpc: async () => [
    new (await import('@opentelemetry/exporter-trace-otlp-grpc')).OTLPTraceExporter({ url: endpoint }),
    new (await import('@opentelemetry/exporter-metrics-otlp-grpc')).OTLPMetricExporter({ url: endpoint }),
    new (await import('@opentelemetry/exporter-logs-otlp-grpc')).OTLPLogExporter({ url: endpoint }),
  ],
  proto: async () => [
    new (await import('@opentelemetry/exporter-trace-otlp-proto')).OTLPTraceExporter({ url: `${endpoint}/v1/traces` }),
    new (await import('@opentelemetry/exporter-metrics-otlp-proto')).OTLPMetricExporter({
      url: `${endpoint}/v1/metrics`,
    }),
    new (await import('@opentelemetry/exporter-logs-otlp-http')).OTLPLogExporter({ url: `${endpoint}/v1/logs` }),
  ],
  json: async () => [
    new (await import('@opentelemetry/exporter-trace-otlp-http')).OTLPTraceExporter({ url: `${endpoint}/v1/traces` }),
    new (await import('@opentelemetry/exporter-metrics-otlp-proto')).OTLPMetricExporter({
      url: `${endpoint}/v1/metrics`,
    }),
    new (await import('@opentelemetry/exporter-logs-otlp-http')).OTLPLogExporter({ url: `${endpoint}/v1/logs` }),
  ],
};
const [spans, metrics, logs] = await exporters[protocol]();

const failures = [];
const fail = (...parts) => failures.push(parts.join(' '));
diag.setLogger({ error: fail, warn: fail, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const tracers = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] });
const tracer = tracers.getTracer('test');
const attributes = { 'http.request.method': 'POST', 'http.route': '/cart', 'http.response.status_code': 201 };
const server = tracer.startSpan('POST /cart', { kind: SpanKind.SERVER, attributes });
tracer.startSpan('INSERT', { kind: SpanKind.CLIENT }).end();
server.end();

const reader = new PeriodicExportingMetricReader({ exporter: metrics, exportIntervalMillis: 3_600_000 });
const meters = new MeterProvider({ readers: [reader] });
meters.getMeter('test').createCounter('carts.filled').add(5, { shop: 'a' });

const loggers = new LoggerProvider({ processors: [new SimpleLogRecordProcessor({ exporter: logs })] });
const logger = loggers.getLogger('test');
logger.emit({ severityNumber: SeverityNumber.WARN, body: 'cart is large', attributes: { items: 99 } });
logger.emit({ severityNumber: SeverityNumber.INFO, body: { nested: { list: [1, 'two', null] } } });

await tracers.shutdown();
await meters.shutdown();
await loggers.shutdown();
if (failures.length > 0) {
  console.error(failures.join('\n'));
  process.exit(1);
}
console.log('ok', server.spanContext().traceId);
