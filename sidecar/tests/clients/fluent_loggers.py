"""Sends log records by Fluent Forward: `fluent_loggers.py HOST PORT` or `fluent_loggers.py unix:///path`."""

import sys
import time

from fluent import asyncsender, sender

host, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
plain = sender.FluentSender("python", host=host, port=port)
assert plain.emit("orders", {"message": "whole seconds", "level": "warning", "order": {"id": 7}}), plain.last_error
assert plain.emit_with_time("orders", int(time.time()) - 1, {"log": "a line under log"}), plain.last_error
plain.close()
precise = sender.FluentSender("python", host=host, port=port, nanosecond_precision=True)
assert precise.emit(None, {"message": "nanoseconds", "level": "error"}), precise.last_error
precise.close()
queued = asyncsender.FluentSender("python", host=host, port=port, nanosecond_precision=True)
for number in range(100):
    assert queued.emit("queue", {"message": f"queued {number}", "level": "info"})
queued.close()
print("ok")
