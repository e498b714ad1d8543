// An app with the Node Prometheus client: prints its port, serves until its input ends.

import { createServer } from 'node:http';
import { Counter, Histogram, Registry } from 'prom-client';

const registry = new Registry();
new Counter({ name: 'clicks_total', help: 'Clicks.', labelNames: ['page'], registers: [registry] }).inc({ page: '/' }, 4);
new Histogram({ name: 'render_seconds', help: 'Rendering.', buckets: [0.1, 1], registers: [registry] }).observe(0.05);
const server = createServer(async (_, response) => {
  response.setHeader('content-type', registry.contentType);
  response.end(await registry.metrics());
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0));
