// Sends log records by Fluent Forward in every mode, acknowledged: `fluent_loggers.mjs HOST PORT`. Prints `ok` when each was.

import { createRequire } from 'node:module';
import { FluentClient } from '@fluent-org/logger';

const [host, port] = process.argv.slice(2);
for (const eventMode of ['Message', 'Forward', 'PackedForward', 'CompressedPackedForward']) {
  const client = new FluentClient('node', { eventMode, ack: { ackTimeout: 5000 }, socket: { host, port: Number(port) } });
  const records = Array.from({ length: 10 }, (_, n) =>
    client.emit('orders', { message: `${eventMode} ${n}`, level: 'warn', order: { id: n } }, new Date()),
  );
  await Promise.all(records);
  await client.shutdown();
}

// The older package, which is still the one that most have.
const logger = createRequire(import.meta.url)('fluent-logger');
const sender = logger.createFluentSender('node', {
  host,
  port: Number(port),
  timeout: 5,
  requireAckResponse: true,
  eventMode: 'CompressedPackedForward',
});
await new Promise((resolve, reject) => {
  sender.on('error', reject);
  sender.emit('old', { message: 'from fluent-logger', level: 'error' }, (error) => (error ? reject(error) : resolve()));
});
await new Promise((resolve) => sender.end(null, null, resolve));
console.log('ok');
