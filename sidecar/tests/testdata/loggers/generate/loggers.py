"""The ten lines by structlog and python-json-logger."""
import logging
import sys

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def say(log, fail):
    log("debug", "cache warmed", entries=42)
    log("info", "order accepted", order_id="o-1", amount=12.5)
    log("info", 'quote " and \\ backslash')
    log("info", "unicode žluťoučký 漢字")
    log("info", "two\nlines")
    log("warning", "queue is filling", depth=900, queue={"name": "mail"})
    try:
        raise ValueError("card refused")
    except ValueError:
        fail("payment failed")
    log("info", "within a trace", trace_id=TRACE, span_id=SPAN)
    log("info", "a foreign trace", trace_id="12345")
    log("error", "giving up", attempts=3, ok=False, nothing=None)


if sys.argv[1] == "structlog":
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
    log = structlog.get_logger()
    say(lambda level, message, **fields: getattr(log, level)(message, **fields), log.exception)

if sys.argv[1] == "python-json-logger":
    from pythonjsonlogger.json import JsonFormatter

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    log = logging.getLogger("order")
    say(lambda level, message, **fields: getattr(log, level)(message, extra=fields), log.exception)
