"""An app with the Python Prometheus client: prints its port, serves until its input ends."""

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, start_http_server

registry = CollectorRegistry()
Counter("logins", "Logins.", ["kind"], registry=registry).labels("password").inc(3, {"trace_id": "abc"})
Gauge("temperature_celsius", "With \\ and \n in it.", registry=registry).set(-2.5)
Histogram("wait_seconds", "Waiting.", buckets=(0.1, 1), registry=registry).observe(0.5, {"trace_id": "def"})
Summary("size_bytes", "Sizes.", registry=registry).observe(10)
Info("build", "What was built.", registry=registry).info({"version": "1.2"})
server, _ = start_http_server(0, "127.0.0.1", registry)
print(server.server_port, flush=True)
sys.stdin.read()
