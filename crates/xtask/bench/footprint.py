#!/usr/bin/env python3
"""What the sidecar costs its task: `cargo xtask bench footprint`.

start     from the start of the process to the first 200 of `/health/live`; and the CPU of one `sidecar healthcheck`.
idle      all listeners, task metadata every 10 s, 200 series of the app every 15 s, nothing to send.
metrics   1,000 series every 5 s with remote write, beside vmagent on the same exporter and into the same Prometheus, which
          counts the series and samples of both afterwards.
logs      OTLP/HTTP in and out, records of 466 B of body at 1,000 and 10,000 a second; every record counted at the end.

Where the user may, the sidecar runs in a process namespace of its own, as in a task: it looks at the processes that it can
see. CPU is what the kernel's scheduler counted for all threads (schedstat, nanoseconds), memory /proc/PID/status; programs begin with a cold page cache. Every figure is
taken --rounds times; printed are medians and the spread.
"""
import argparse, atexit, http.client, http.server, json, os, random, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, threading, time
import urllib.parse, urllib.request

METADATA = {"Cluster": "bench", "TaskARN": "arn:aws:ecs:eu-central-1:111122223333:task/bench/0123456789abcdef0123456789abcdef",
            "Family": "order", "Revision": "1", "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING", "AvailabilityZone": "eu-central-1a",
            "LaunchType": "FARGATE", "Limits": {"CPU": 0.25, "Memory": 512}, "Containers": []}
WORDS = ["order", "payment", "retry", "timeout", "accepted", "customer", "inventory", "shipment", "refund", "gateway", "queue", "cache"]
BATCH = 100
BODY_BYTES = 466


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, holds, seconds=60, every=0.02):
    """Waits; returns when it held."""
    begun = time.monotonic()
    while True:
        try:
            if value := holds():
                return value
        except OSError:
            pass
        if time.monotonic() - begun > seconds:
            sys.exit(f"never: {what}")
        time.sleep(every)


def cold(program):
    """Takes a program's file out of the page cache, as where an image has just been pulled. A file that was written or read in
    another way a moment ago lies there in larger pieces, and more of it is mapped around each page that is touched."""
    file = os.open(shutil.which(program), os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def begin(words, **options):
    """A process that does not outlive the measurement."""
    process = subprocess.Popen(words, **options)
    atexit.register(lambda: process.poll() is None and process.kill())
    return process


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def cpu_s(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def memory(pid):
    """VmRSS and RssAnon in MiB."""
    with open(f"/proc/{pid}/status") as f:
        said = {l.split(":")[0]: l.split()[1] for l in f if l.startswith(("VmRSS", "RssAnon"))}
    return int(said["VmRSS"]) / 1024, int(said["RssAnon"]) / 1024


def spread(values, unit=""):
    return f"{statistics.median(values):.3g}{unit} ({min(values):.3g}-{max(values):.3g})"


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
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


def app(series):
    """An exporter: every answer is 5 s of work further."""
    class App(Handler):
        asked = 0

        def do_GET(self):
            App.asked += 1
            lines = ["# TYPE http_requests_total counter"]
            lines += [f'http_requests_total{{path="/api/v1/orders/{i}",status="200"}} {App.asked * (i % 7)}' for i in range(series)]
            self.answer(("\n".join(lines) + "\n").encode())
    return Server(App)


class Metadata(Handler):
    def do_GET(self):
        answer = {"/task": METADATA, "/task/stats": {}}.get(self.path, {"Name": "sidecar"})
        self.answer(json.dumps(answer).encode(), "application/json")


class Sink(Handler):
    """Takes OTLP logs and keeps the requests: they are counted when the load is over."""
    bodies = []

    def do_POST(self):
        Sink.bodies.append((self.headers.get("content-encoding"), self.rfile.read(int(self.headers["content-length"]))))
        self.answer(b"", "application/x-protobuf")


def can_unshare():
    return os.geteuid() == 0 and shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


class Sidecar:
    def __init__(self, args, env, alone=True):
        self.port, self.otlp = free_port(), free_port()
        self.metadata = Server(Metadata)
        own = {"PATH": "/usr/bin:/bin", "SIDECAR_LISTEN": f"127.0.0.1:{self.port}", "SIDECAR_SERVICE": "order", "SIDECAR_APP_HEALTH_URL": "off",
               "SIDECAR_OTLP_LISTEN": f"127.0.0.1:{self.otlp}", "SIDECAR_OTLP_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
               "SIDECAR_STATSD_LISTEN": f"127.0.0.1:{free_port()}", "SIDECAR_FLUENT_LISTEN": f"127.0.0.1:{free_port()}",
               "ECS_CONTAINER_METADATA_URI_V4": self.metadata.url}
        self.binary = os.path.join(args.bin_dir, "sidecar")
        cold(self.binary)
        begun = time.monotonic()
        alone = UNSHARE if alone and can_unshare() else []
        self.process = begin([*alone, self.binary, "run"], env={**own, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the sidecar answers", lambda: get(f"http://127.0.0.1:{self.port}/health/live"), every=0.001)
        self.started, self.pid = time.monotonic() - begun, self.process.pid
        if alone:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as f:
                self.pid = int(f.read().split()[0])

    def healthcheck(self, runs):
        """CPU of one, in milliseconds."""
        env = {"SIDECAR_LISTEN": f"127.0.0.1:{self.port}"}
        before = os.times()
        for _ in range(runs):
            subprocess.run([self.binary, "healthcheck"], env=env, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        return 1000 * (after.children_user + after.children_system - before.children_user - before.children_system) / runs

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        self.process.wait(60)
        self.metadata.shutdown()


def watch(pid, seconds):
    """CPU in per cent of a core over so many seconds, and memory at their end."""
    before, begun = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - begun), *memory(pid)


def start(args):
    rows = []
    for _ in range(args.rounds):
        sidecar = Sidecar(args, {"SIDECAR_APP_METRICS_URL": "off"}, alone=False)
        rows.append((1000 * sidecar.started, sidecar.healthcheck(100)))
        sidecar.stop()
    size = os.path.getsize(os.path.join(args.bin_dir, "sidecar")) / (1 << 20)
    print(f"binary {size:.1f} MiB; start to the first answer {spread([r[0] for r in rows])} ms; one healthcheck {spread([r[1] for r in rows])} ms of CPU")


def idle(args):
    exporter = app(200)
    rows = []
    for _ in range(args.rounds):
        sidecar = Sidecar(args, {"SIDECAR_APP_METRICS_URL": f"{exporter.url}/metrics", "SIDECAR_METRICS_INTERVAL": "15s"})
        time.sleep(20)
        rows.append(watch(sidecar.pid, args.seconds))
        sidecar.stop()
    cpu, rss, anon = zip(*rows)
    print(f"idle, {args.seconds} s: RSS {spread(rss)} MiB, {spread(anon)} anonymous, CPU {spread(cpu)} % of a core")


class Prometheus:
    def __init__(self, directory):
        with open(os.path.join(directory, "p.yml"), "w") as f:
            f.write("global: {}\n")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = ["prometheus", f"--config.file={directory}/p.yml", f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver"]
        self.process = begin(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("Prometheus is ready", lambda: get(f"{self.url}/-/ready"))

    def count(self, expr):
        answer = json.loads(get(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expr})))
        result = answer["data"]["result"]
        return int(float(result[0]["value"][1])) if result else 0


def vmagent(directory, exporter, receiver):
    config, port = os.path.join(directory, "vmagent.yml"), free_port()
    with open(config, "w") as f:
        target = exporter.url.removeprefix("http://")
        f.write(f"global: {{scrape_interval: 5s}}\nscrape_configs: [{{job_name: vmagent, static_configs: [{{targets: ['{target}']}}]}}]\n")
    words = ["vmagent", f"-promscrape.config={config}", f"-remoteWrite.url={receiver.url}/api/v1/write", f"-remoteWrite.tmpDataPath={directory}/vmagent", f"-httpListenAddr=127.0.0.1:{port}"]
    cold("vmagent")
    process = begin(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until("vmagent answers", lambda: get(f"http://127.0.0.1:{port}/health"))
    return process


def metrics(args):
    if not shutil.which("vmagent") or not shutil.which("prometheus"):
        return print("metrics: left out, vmagent or prometheus is not installed")
    rows = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as directory:
            receiver, ours, theirs = Prometheus(directory), app(1000), app(1000)
            peer = vmagent(directory, theirs, receiver)
            sidecar = Sidecar(args, {"SIDECAR_APP_METRICS_URL": f"{ours.url}/metrics", "SIDECAR_METRICS_INTERVAL": "5s", "SIDECAR_REMOTE_WRITE_URL": f"{receiver.url}/api/v1/write"})
            time.sleep(20)
            of_peer = []
            beside = threading.Thread(target=lambda: of_peer.extend(watch(peer.pid, args.seconds)))
            beside.start()
            row = watch(sidecar.pid, args.seconds)
            beside.join()
            for name, labels in [("sidecar", 'service="order"'), ("vmagent", 'job="vmagent"')]:
                series = receiver.count(f"count(http_requests_total{{{labels}}})")
                samples = receiver.count(f"sum(count_over_time(http_requests_total{{{labels}}}[{args.seconds}s]))")
                if series != 1000 or samples < 1000 * (args.seconds // 5 - 2):
                    sys.exit(f"{name}: Prometheus has {series} series and {samples} samples of it")
            rows.append((*row, *of_peer))
            sidecar.stop()
            for process in (peer, receiver.process):
                process.terminate()
                process.wait(60)
    cpu, rss, anon, peer_cpu, peer_rss, peer_anon = zip(*rows)
    ratio = lambda a, b: spread([x / y for x, y in zip(a, b)], "x")
    print(f"1,000 series every 5 s with remote write, {args.seconds} s:\n"
          f"  sidecar RSS {spread(rss)} MiB, {spread(anon)} anonymous, CPU {spread(cpu)} %\n"
          f"  vmagent RSS {spread(peer_rss)} MiB, {spread(peer_anon)} anonymous, CPU {spread(peer_cpu)} %\n"
          f"  sidecar / vmagent: RSS {ratio(rss, peer_rss)}, CPU {ratio(cpu, peer_cpu)}")


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def otlp_logs():
    """A request of ExportLogsServiceRequest (opentelemetry/proto/logs/v1) with BATCH records."""
    def record():
        text = " ".join(random.choices(WORDS, k=90))[:BODY_BYTES]
        at = struct.pack("<Q", time.time_ns())
        own = varint(1 << 3 | 1) + at + varint(2 << 3) + varint(9) + field(3, b"INFO") + field(5, field(1, text.encode()))
        return field(2, own + field(9, random.randbytes(16)) + field(10, random.randbytes(8)))
    scope = field(1, field(1, b"bench")) + b"".join(record() for _ in range(BATCH))
    resource = field(1, field(1, field(1, b"service.name") + field(2, field(1, b"order"))))
    return field(1, resource + field(2, scope))


def fields(data):
    """The fields of a message that have a length."""
    at = 0
    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 2:
            length = number()
            yield key >> 3, data[at:at + length]
            at += length
        elif key & 7 == 0:
            number()
        else:
            at += 8 if key & 7 == 1 else 4


def records_in(body):
    children = lambda messages, wanted: [content for message in messages for name, content in fields(message) if name == wanted]
    return len(children(children(children([body], 1), 2), 2))


def logs(args):
    import gzip
    sink = Server(Sink)
    for rate in (1000, 10_000):
        rows, lost = [], 0
        for _ in range(args.rounds):
            Sink.bodies = []
            sidecar = Sidecar(args, {"SIDECAR_APP_METRICS_URL": "off", "SIDECAR_LOGS_OUTPUT": "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{sink.url}/v1/logs"})
            requests = [otlp_logs() for _ in range(60)]
            time.sleep(5)
            client = http.client.HTTPConnection("127.0.0.1", sidecar.otlp, timeout=30)
            before, begun, sent = cpu_s(sidecar.pid), time.monotonic(), 0
            while (elapsed := time.monotonic() - begun) < args.load_seconds:
                time.sleep(max(0, sent / rate - elapsed))
                client.request("POST", "/v1/logs", requests[sent // BATCH % 60], {"content-type": "application/x-protobuf"})
                answer = client.getresponse()
                answer.read()
                if answer.status != 200:
                    sys.exit(f"the sidecar answered {answer.status}")
                sent += BATCH
            took = time.monotonic() - begun
            rows.append((100 * (cpu_s(sidecar.pid) - before) / took, *memory(sidecar.pid), sent / took))
            sidecar.stop()
            lost += sent - sum(records_in(gzip.decompress(body) if encoding == "gzip" else body) for encoding, body in Sink.bodies)
        cpu, rss, anon, reached = zip(*rows)
        print(f"OTLP logs in and out, {rate}/s ({spread(reached)} reached), {args.load_seconds} s: RSS {spread(rss)} MiB, {spread(anon)} anonymous, CPU {spread(cpu)} %; lost {lost}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["start", "idle", "metrics", "logs", []], default=[])
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--load-seconds", type=int, default=20)
    args = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for name, measure in [("start", start), ("idle", idle), ("metrics", metrics), ("logs", logs)]:
        if not args.what or name in args.what:
            measure(args)
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
