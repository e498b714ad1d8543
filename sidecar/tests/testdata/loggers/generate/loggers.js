// The ten lines by pino, winston and bunyan.
const TRACE = "0af7651916cd43dd8448eb211c80319c", SPAN = "b7ad6b7169203331";
function failure() { const e = new Error("card refused"); e.stack = "Error: card refused\n    at pay (/app/index.js:1:7)"; return e; }
const say = (log, error) => {
  log.debug({ entries: 42 }, "cache warmed");
  log.info({ order_id: "o-1", amount: 12.5 }, "order accepted");
  log.info({}, 'quote " and \\ backslash');
  log.info({}, "unicode žluťoučký 漢字");
  log.info({}, "two\nlines");
  log.warn({ depth: 900, queue: { name: "mail" } }, "queue is filling");
  log.error({ [error]: failure() }, "payment failed");
  log.info({ trace_id: TRACE, span_id: SPAN }, "within a trace");
  log.info({ trace_id: "12345" }, "a foreign trace");
  log.error({ attempts: 3, ok: false, nothing: null }, "giving up");
};
const which = process.argv[2];
if (which === "pino") say(require("pino")({ level: "debug" }), "err");
if (which === "bunyan") {
  const b = require("bunyan");
  say(b.createLogger({ name: "order", level: "debug", serializers: b.stdSerializers }), "err");
}
if (which === "winston") {
  const w = require("winston");
  const format = w.format.combine(w.format.timestamp(), w.format.json());
  const log = w.createLogger({ level: "debug", format, transports: [new w.transports.Console()] });
  const one = (level) => (fields, message) => log.log({ level, message, ...Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, v instanceof Error ? v.stack : v])) });
  say({ debug: one("debug"), info: one("info"), warn: one("warn"), error: one("error") }, "error");
}
