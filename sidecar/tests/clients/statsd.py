"""Sends one of everything by DogStatsD: `statsd.py udp HOST PORT` or `statsd.py unix PATH`."""

import sys

from datadog.dogstatsd import DogStatsd

kind, *where = sys.argv[1:]
options = {"host": where[0], "port": int(where[1])} if kind == "udp" else {"socket_path": where[0]}
client = DogStatsd(constant_tags=[f"by:{kind}"], disable_telemetry=True, disable_buffering=False, **options)
client.increment("page.views", 3, tags=["path:/"])
client.decrement("page.views", 0)
client.gauge("queue.depth", -4)
client.timing("request.time", 250)
client.histogram("payload.size", 1024)
client.distribution("checkout.total", 42.5)
client.set("users.unique", "alice")
client.set("users.unique", "bob")
client.event("deployed", "version 2")
client.service_check("database", DogStatsd.OK)
client.flush()
client.close_socket()
print("ok")
