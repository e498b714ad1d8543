#!/usr/bin/env python3
"""A destination that is away: the sidecar beside an app, with traces and remote write that go nowhere for a while.

The outage is scaled: with 250 ms between two collections a minute is what an hour is at the usual 15 s. Looked at are the
resident memory, the app's own answers with and without the sidecar in the same run, and, when the destinations are there
again, whether everything arrives: spans counted by who takes them, samples one by one in Debian's Prometheus.
"""

import argparse
import http.client
import http.server
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

SERIES = 1000
SPANS_PER_REQUEST = 100
INTERVAL = 0.25
CEILING_MIB = 48
RECOVERY_MAX = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler, port=0):
        super().__init__(("127.0.0.1", port), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self, body=b"", kind="text/plain; version=0.0.4"):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class App(Handler):
    metrics = "".join(
        ["# TYPE http_requests_total counter\n"]
        + [f'http_requests_total{{path="/p{i}",status="200"}} {i}\n' for i in range(SERIES)]
    ).encode()

    def do_GET(self):
        self.answer(self.metrics if self.path == "/metrics" else b"ok")


class Traces(Handler):
    """Counts the spans: field 2 of ScopeSpans, of which these requests have one."""

    spans = 0
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            found = count_spans(body)
            with Traces.lock:
                Traces.spans += found
        self.answer(kind="application/x-protobuf")


def varint(n):
    out = b""
    while True:
        low, n = n & 127, n >> 7
        if not n:
            return out + bytes([low])
        out += bytes([low | 128])


def message(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def fields(body):
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(body):
        tag = number()
        if tag & 7 == 2:
            length = number()
            yield tag >> 3, body[at : at + length]
            at += length
        elif tag & 7 == 1:
            at += 8
        elif tag & 7 == 5:
            at += 4
        else:
            number()


def count_spans(body):
    scopes = (scope for n, resource in fields(body) if n == 1 for m, scope in fields(resource) if m == 2)
    return sum(1 for scope in scopes for n, _ in fields(scope) if n == 2)


def span():
    now = struct.pack("<Q", time.time_ns())
    attribute = message(1, b"http.request.method") + message(2, message(1, b"GET"))
    head = message(1, random.randbytes(16)) + message(2, random.randbytes(8)) + message(5, b"GET /orders/{id}")
    return head + b"\x30\x02" + b"\x39" + now + b"\x41" + now + message(9, attribute)


def request():
    return message(1, message(2, b"".join(message(2, span()) for _ in range(SPANS_PER_REQUEST))))


class Sender(threading.Thread):
    """A thousand spans in a second, as an app's SDK sends them."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.sent, self.stopping = port, 0, False
        self.bodies = [request() for _ in range(20)]

    def run(self):
        client = http.client.HTTPConnection("127.0.0.1", self.port)
        begun = time.monotonic()
        for n in range(10**9):
            if self.stopping:
                return
            client.request("POST", "/v1/traces", self.bodies[n % 20], {"content-type": "application/x-protobuf"})
            answer = client.getresponse()
            answer.read()
            if answer.status == 200:
                self.sent += SPANS_PER_REQUEST
            time.sleep(max(0, begun + (n + 1) * 0.1 - time.monotonic()))


def latency(port, count=4000):
    """p50 and p99 in milliseconds."""
    client, times = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(count):
        begun = time.perf_counter()
        client.request("GET", "/")
        client.getresponse().read()
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    return round(times[count // 2], 2), round(times[int(count * 0.99)], 2)


class Sidecar:
    def __init__(self, binary, app, destination_traces, destination_samples):
        self.listen, self.otlp = free_port(), free_port()
        env = {
            "SIDECAR_LISTEN": f"127.0.0.1:{self.listen}",
            "SIDECAR_OTLP_LISTEN": f"127.0.0.1:{self.otlp}",
            "SIDECAR_OTLP_GRPC_LISTEN": "off",
            "SIDECAR_STATSD_LISTEN": "off",
            "SIDECAR_APP_METRICS_URL": f"http://127.0.0.1:{app}/metrics",
            "SIDECAR_APP_HEALTH_URL": "off",
            "SIDECAR_REMOTE_WRITE_URL": f"http://127.0.0.1:{destination_samples}/api/v1/write",
            "SIDECAR_METRICS_INTERVAL": f"{int(INTERVAL * 1000)}ms",
            # The default of 8 MiB holds some 100 s of these spans, and what does not fit is dropped and counted.
            "SIDECAR_TRACE_QUEUE": "16MiB",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{destination_traces}",
            "LOG_LEVEL": "error",
        }
        self.process = subprocess.Popen([binary, "run"], env=env, stdout=subprocess.DEVNULL)
        self.peak = 0.0
        wait_for("the sidecar listens", lambda: self.metric("sidecar_build_info") == 1.0, 20)

    def metric(self, start):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.listen}/metrics", timeout=5).read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        mib = {key: int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon", "VmHWM")}
        self.peak = max(self.peak, mib["VmHWM"])
        return mib


def wait_for(what, holds, seconds):
    begun = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - begun
        except OSError:
            pass
        if time.monotonic() - begun > seconds:
            sys.exit(f"never within {seconds} s: {what}")
        time.sleep(0.1)


def start_prometheus(port, directory):
    config = os.path.join(directory, "prometheus.yml")
    with open(config, "w") as file:
        file.write("scrape_configs: []\n")
    return subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ]
    )


def samples_of(port, series):
    """The times of a series' samples, in seconds."""
    query = urllib.parse.urlencode({"query": f"{series}[30m]"})
    answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=30))
    return [float(at) for result in answer["data"]["result"] for at, _ in result["values"]]


def run(arguments, directory, processes):
    app = Server(App).server_port
    traces_port, samples_port = free_port(), free_port()
    p50, p99 = latency(app)
    print(f"app alone: p50 {p50} ms, p99 {p99} ms", flush=True)

    sidecar = Sidecar(arguments.sidecar, app, traces_port, samples_port)
    processes.append(sidecar.process)
    sender = Sender(sidecar.otlp)
    sender.start()
    began = time.time()
    while (passed := time.time() - began) < arguments.seconds:
        time.sleep(min(arguments.seconds / 6, arguments.seconds - passed + 0.01))
        mib, queued = sidecar.resident(), sidecar.metric("sidecar_queue_bytes") / 2**20
        print(f"{time.time() - began:5.0f} s: {mib['VmRSS']:.1f} MiB resident, {mib['RssAnon']:.1f} of it anonymous; "
              f"{queued:.1f} MiB wait", flush=True)
    p50_with, p99_with = latency(app)
    print(f"app with the sidecar in the outage: p50 {p50_with} ms, p99 {p99_with} ms", flush=True)
    sender.stopping = True
    sender.join()

    ended = time.time()
    Server(Traces, traces_port)
    processes.append(start_prometheus(samples_port, directory))
    spans_after = wait_for("all spans are there", lambda: Traces.spans >= sender.sent, RECOVERY_MAX)
    # What was collected before the end of the outage has arrived when a later sample has: they come in order.
    series = 'http_requests_total{path="/p7"}'
    later = lambda: max(samples_of(samples_port, series), default=0) > ended  # noqa: E731
    samples_after = wait_for("all samples are there", later, RECOVERY_MAX) + spans_after
    times = [at for at in samples_of(samples_port, series) if at < ended]
    gaps = [b - a for a, b in zip(times, times[1:])]
    mib = sidecar.resident()
    spans_dropped = sidecar.metric("sidecar_spans_dropped_total")
    samples_dropped = sidecar.metric("sidecar_metrics_out_dropped_total")
    print(f"back: {Traces.spans} of {sender.sent} spans after {spans_after:.1f} s, samples after {samples_after:.1f} s: "
          f"{len(times)} of one series, longest gap {max(gaps):.2f} s, the first {times[0] - began:.2f} s after the start")
    print(f"peak {sidecar.peak:.1f} MiB of {CEILING_MIB}; now {mib['VmRSS']:.1f} MiB; dropped {spans_dropped:.0f} spans, "
          f"{samples_dropped:.0f} samples")

    faults = []
    if Traces.spans != sender.sent or spans_dropped:
        faults.append("spans were lost or came twice")
    if samples_dropped or max(gaps) > 4 * INTERVAL or times[0] - began > 2 or len(times) < 0.8 * arguments.seconds / INTERVAL:
        faults.append("samples were lost")
    if sidecar.peak > CEILING_MIB:
        faults.append("the memory ceiling was passed")
    if p99_with > max(3 * p99, p99 + 5):
        faults.append("the app became slower")
    if faults:
        sys.exit("FAILED: " + "; ".join(faults))
    print("nothing was lost")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sidecar", required=True, help="the program")
    parser.add_argument("--seconds", type=float, default=120, help="how long the destinations are away")
    arguments = parser.parse_args()
    if not shutil.which("prometheus"):
        sys.exit("prometheus is missing: cargo xtask test installs it (Debian package prometheus)")
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            run(arguments, directory, processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
