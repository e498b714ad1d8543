#!/usr/bin/env python3
"""The loss matrix of log delivery: `cargo xtask soak logs`.

A fake of Fargate's log driver (byte for byte what shim-loggers-for-containerd sends: Message mode, EventTime as fixext8,
keys in random order, an empty option map, lines of more than 16 KiB in pieces, a last line without its end, a ring of
10 MiB that drops what is new) writes to the sidecar; the sidecar writes to fake-aws, through a proxy that can refuse,
delay and swallow; then every record that was handed to the driver is looked for among the stored events.
"""
import argparse, array, collections, ctypes, datetime, fcntl, hashlib, hmac, http.client, http.server, itertools, json, os, random, re
import shutil, signal, socket, struct, subprocess, sys, tempfile, termios, threading, time, urllib.request

JOINED = 8
GROUP, TASK = "/soak/order", "bae32def0ab64f06818e8862e58f8d6d"
TAG = f"app-firelens-{TASK}"
# What a case may come to: the memory ceiling's default, and the time from the driver's end to the sidecar's.
RSS_MIB_MAX, DRAIN_S_MAX, CEILING_MIB = 48, 6, 24
RING_BYTES, PIECE_BYTES, LINGER_S = 10 << 20, 16 << 10, 5.0
KEY, SECRET, REGION = "id", "secret", "us-east-1"
random.seed(7)
WORDS = "order payment retry timeout accepted customer inventory shipment refund session gateway latency queue worker".split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, holds, seconds=15):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"never: {what}")
        time.sleep(0.02)


def signed(host, target, body):
    """Headers of a call to CloudWatch Logs: the fake one computes every signature again."""
    now = datetime.datetime.now(datetime.timezone.utc)
    date, scope = now.strftime("%Y%m%dT%H%M%SZ"), f"{now:%Y%m%d}/{REGION}/logs/aws4_request"
    names = "host;x-amz-date;x-amz-target"
    canonical = f"POST\n/\n\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {"content-type": "application/x-amz-json-1.1", "x-amz-target": target, "x-amz-date": date,
            "authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"}


def unread_bytes(pid, path):
    """What lies in a process' sockets of that name: sent to it and not read by it."""
    libc, total = ctypes.CDLL(None, use_errno=True), 0
    pidfd = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            # pidfd_getfd(2) has no wrapper in Python.
            fd = libc.syscall(438, pidfd, int(name), 0)
            s = socket.socket(fileno=fd)
        except (OSError, ValueError):
            continue
        with s:
            if s.family == socket.AF_UNIX and s.getsockname() == path and not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                size = array.array("i", [0])
                fcntl.ioctl(s, termios.FIONREAD, size)
                total += size[0]
    os.close(pidfd)
    return total


# ---- the driver -------------------------------------------------------------------------------------------------

def text(value):
    b = value if isinstance(value, bytes) else value.encode()
    n = len(b)
    head = bytes([0xA0 | n]) if n < 32 else b"\xd9" + bytes([n]) if n < 256 else b"\xda" + struct.pack(">H", n)
    return head + b


def event(log, at, partial=None):
    pairs = [("container_id", TASK + "-1819985369"), ("container_name", "app"), ("source", "stdout"), ("log", log)]
    if partial:
        identity, ordinal, last = partial
        pairs += [("partial_message", "true"), ("partial_id", identity), ("partial_ordinal", str(ordinal)),
                  ("partial_last", "true" if last else "false")]
    random.shuffle(pairs)
    time_ext = b"\xd7\x00" + struct.pack(">II", at // 10**9, at % 10**9)
    return b"\x94" + text(TAG) + time_ext + bytes([0x80 | len(pairs)]) + b"".join(text(k) + text(v) for k, v in pairs) + b"\x80"


BODIES = [
    '"level":"%s","service":"order","message":"%s","order_id":"o-%08x","trace_id":"%032x","span_id":"%016x","http":{"method":"POST","path":"/api/v1/orders/%d","status":%d,"duration_ms":%.3f},"note":"%s"}'
    % (random.choice(["INFO", "INFO", "WARN", "ERROR"]), " ".join(random.choices(WORDS, k=8)), random.getrandbits(32),
       random.getrandbits(128), random.getrandbits(64), random.randrange(10**6), random.choice([200, 201, 404, 500]),
       random.random() * 900, "%0480x" % random.getrandbits(1900))
    for _ in range(500)
]


def line(number, size=0):
    body = '{"soak_id":"%d",%s' % (number, BODIES[number % len(BODIES)])
    return body if not size else body[:-1] + ',"pad":"%s"}' % ("x" * size)


class Driver:
    """One container's log driver: the app writes to it, it writes to the sidecar."""

    def __init__(self, path):
        self.path, self.ring, self.held, self.sent, self.dropped = path, collections.deque(), 0, 0, 0
        # What the last records took on the wire, and the lock that keeps the next one from being sent.
        self.sizes, self.sending = collections.deque(maxlen=5000), threading.Lock()
        self.lock, self.closing, self.eof_at, self.open_at = threading.Condition(), False, None, 0.0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def write(self, log, end=True):
        """One line of the app; `end`: it has its newline."""
        now = time.time_ns()
        data = log.encode()
        if len(data) <= PIECE_BYTES and end:
            pieces = [event(data, now)]
        else:
            identity = "%064x" % random.getrandbits(256)
            cut = [data[i:i + PIECE_BYTES] for i in range(0, len(data), PIECE_BYTES)]
            pieces = [event(c, now, (identity, n + 1, end and n + 1 == len(cut))) for n, c in enumerate(cut)]
        size = sum(map(len, pieces))
        with self.lock:
            self.sent += 1
            if self.held + size > RING_BYTES:
                self.dropped += 1
                return
            self.ring.append(pieces)
            self.held += size
            self.lock.notify()

    def close(self, linger=LINGER_S):
        with self.lock:
            self.closing, self.linger = True, linger
            self.lock.notify()

    def send(self, s, data):
        """How many bytes the socket took before it failed, if it did."""
        taken = 0
        while taken < len(data):
            try:
                taken += s.send(data[taken:] if taken else data)
            except OSError:
                break
        return taken

    def records_in(self, size):
        """How many of the last records these bytes are."""
        count = 0
        for one in reversed(self.sizes):
            if size <= 0:
                break
            size, count = size - one, count + 1
        return count

    def connect(self):
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                time.sleep(max(0, self.open_at - time.monotonic()))
                s.connect(self.path)
                return s
            except OSError:
                time.sleep(0.05)

    def run(self):
        s, idle_since = None, None
        while True:
            with self.lock:
                while not self.ring and not self.closing:
                    self.lock.wait()
                batch = [self.ring.popleft() for _ in range(min(len(self.ring), 64))]
                self.held -= sum(len(p) for b in batch for p in b)
                ending = self.closing and not batch
            records = collections.deque(b"".join(pieces) for pieces in batch)
            while records:
                s = s or self.connect()
                # Several at once where it has fallen behind: the same bytes, and this program is not what is measured.
                some = list(itertools.islice(records, JOINED if len(batch) > JOINED else 1))
                try:
                    with self.sending:
                        taken = self.send(s, b"".join(some))
                        failed = taken < sum(map(len, some))
                        # The socket has what it took; a record that it took in part is sent again.
                        for record in some:
                            taken -= len(record)
                            if taken < 0:
                                break
                            self.sizes.append(len(records.popleft()))
                except OSError:
                    failed = True
                if failed:
                    s.close()
                    s = None
            if ending:
                time.sleep(self.linger)
                if s:
                    s.close()
                self.eof_at = time.monotonic()
                return


# ---- what stands between the sidecar and CloudWatch Logs --------------------------------------------------------

class Proxy:
    def __init__(self, target):
        self.target, self.mode, self.delay, self.open = target, "pass", 0.0, set()
        self.port = free_port()
        self.listener = None
        self.set("pass")

    def set(self, mode, delay=0.0):
        self.mode, self.delay = mode, delay
        if mode == "refuse" and self.listener:
            # Closing alone would leave the thread that accepts one more connection to give.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for s in list(self.open) if mode in ("refuse", "swallow") else []:
            try:
                s.shutdown(socket.SHUT_RDWR) if mode == "refuse" else None
            except OSError:
                pass
        if mode != "refuse" and not self.listener:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self.open.update((client, server))
        back = threading.Thread(target=self.pump, args=(server, client, True), daemon=True)
        back.start()
        self.pump(client, server, False)

    def pump(self, source, sink, answers):
        try:
            while (data := source.recv(1 << 16)) and self.mode != "refuse":
                while self.mode == "swallow":
                    time.sleep(0.2)
                    # What was swallowed never arrives: the connection ends with the outage.
                    if self.mode != "swallow":
                        raise OSError
                if answers and self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            self.open.discard(s)
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Metadata:
    """Task metadata v4, as far as a stop looks at it."""

    def __init__(self):
        self.desired, self.app = "RUNNING", "RUNNING"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                container = lambda name, n, status: {"DockerId": f"{TASK}-{n}", "Name": name, "KnownStatus": status}
                body = json.dumps({
                    "Cluster": "arn:aws:ecs:us-east-1:000000000000:cluster/main", "ServiceName": "order", "Family": "order",
                    "TaskARN": f"arn:aws:ecs:us-east-1:000000000000:task/main/{TASK}", "DesiredStatus": outer.desired,
                    "Containers": [container("app", 1, outer.app), container("sidecar", 2, "RUNNING")]}).encode()
                body = b"{}" if self.path.endswith("stats") else body
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}/v4/{TASK}-2"

    def stop(self):
        self.desired = "STOPPED"


# ---- one case ---------------------------------------------------------------------------------------------------

class Case:
    def __init__(self, args, scenario, rate):
        self.args, self.scenario, self.rate, self.killed = args, scenario, rate, False
        self.directory = tempfile.mkdtemp(prefix="soak-logs-")
        self.sidecar = self.metadata = None
        # Losses are allowed where nothing may wait on disk; each must stand in the books.
        self.no_disk = scenario in ("down_60s_without_disk", "down_60s_under_a_ceiling")
        # A ceiling that half a minute's records reach, and a queue that would hold more than it allows.
        self.rss_mib_max = CEILING_MIB if scenario == "down_60s_under_a_ceiling" else RSS_MIB_MAX
        self.more = {"SIDECAR_MEMORY_MAX": f"{CEILING_MIB}MiB", "SIDECAR_LOG_QUEUE": "64MiB"} if self.rss_mib_max == CEILING_MIB else {}
        self.processes, self.number, self.peak_kib, self.looks, self.unbalanced, self.in_socket = [], 0, 0, 0, [], 0
        self.socket = os.path.join(self.directory, "fluent.sock")

    def call(self, port, operation, body, path="/", method="POST"):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        data = json.dumps(body).encode()
        headers = {"content-type": "application/json"} if path != "/" else signed(f"127.0.0.1:{port}", "Logs_20140328." + operation, data)
        c.request(method, path, data, headers)
        answer = c.getresponse()
        data = answer.read()
        c.close()
        return answer.status, json.loads(data) if data else {}

    def start_cloud(self):
        self.cloud = free_port()
        topology = os.path.join(self.directory, "topology.yml")
        with open(topology, "w") as f:
            f.write(f'credentials: {{{KEY}: {SECRET}}}\n')
            f.write('region: us-east-1\naccount: "000000000000"\nenvironment: soak\nnetwork: "127.0"\nclusters: {}\n')
        command = [os.path.join(getattr(self.args, "cloud_dir", None) or self.args.bin_dir, "fake-aws"), "serve", "--listen", f"127.0.0.1:{self.cloud}",
                   "--topology", topology, "--log-dir", os.path.join(self.directory, "cloud")]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.directory, "cloud.err"), "w")))

        def up():
            try:
                return self.call(self.cloud, "CreateLogGroup", {"logGroupName": GROUP})[0] in (200, 400)
            except OSError:
                return False
        until("fake-aws is up", up)

    def start_sidecar(self, more={}):
        conf = os.path.join(self.directory, "fluent-bit.conf")
        with open(conf, "w") as f:
            f.write(f"[INPUT]\n    Name forward\n    Mem_Buf_Limit 25MB\n    unix_path {self.socket}\n\n"
                    f"[OUTPUT]\n    Name cloudwatch_logs\n    Match app-firelens*\n    log_group_name {GROUP}\n    log_stream_prefix soak-\n    region us-east-1\n")
        self.listen = f"127.0.0.1:{free_port()}"
        env = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL_LOGS": f"http://127.0.0.1:{self.proxy.port}", "AWS_REGION": "us-east-1",
               "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "ECS_CONTAINER_METADATA_URI_V4": self.metadata.uri,
               "SIDECAR_LISTEN": self.listen, "SIDECAR_OTLP_LISTEN": "off", "SIDECAR_OTLP_GRPC_LISTEN": "off",
               "SIDECAR_STATSD_LISTEN": "off", "SIDECAR_APP_METRICS_URL": "off", "SIDECAR_APP_HEALTH_URL": "off",
               "SIDECAR_STATE_DIR": os.path.join(self.directory, "state"), "SIDECAR_LOG_SPOOL_MAX": "0" if self.no_disk else "1GiB",
               "SIDECAR_STOP_TIMEOUT": "118s", **self.more, **more}
        self.sidecar = subprocess.Popen([os.path.join(self.args.bin_dir, "sidecar"), "run", "--firelens-config", conf], env=env,
                                        stdout=open(os.path.join(self.directory, "sidecar.out"), "a"), stderr=subprocess.STDOUT)
        until("the socket is there", lambda: os.path.exists(self.socket))

    def watch(self):
        while not self.done:
            try:
                with open(f"/proc/{self.sidecar.pid}/status") as f:
                    self.peak_kib = max([self.peak_kib] + [int(l.split()[1]) for l in f if l.startswith("VmHWM")])
            except (OSError, ValueError):
                pass
            self.look_at_the_books()
            time.sleep(0.2)

    def look_at_the_books(self):
        """In = delivered + waiting + dropped, at every moment."""
        try:
            text = urllib.request.urlopen(f"http://{self.listen}/metrics", timeout=2).read().decode()
        except (OSError, http.client.HTTPException):
            return
        total = lambda name: sum(int(float(l.rsplit("} ", 1)[1].split()[0])) for l in text.splitlines() if l.startswith(f"sidecar_log_records_{name}{{"))
        taken, parts = total("in_total"), [total("delivered_total"), total("waiting"), total("dropped_total")]
        self.looks += 1
        if taken != sum(parts):
            self.unbalanced.append((taken, parts))

    def account_of_the_end(self):
        """The last line of the sidecar's own log, of its last run."""
        with open(os.path.join(self.directory, "sidecar.out")) as f:
            lines = [l for l in f if "sidecar stops" in l]
        said = json.loads(lines[-1]) if lines else {}
        number = lambda name: int(said.get(name, said.get("fields", {}).get(name, said.get("data", {}).get(name, -1))))
        taken, parts = number("log_records_in"), [number(f"log_records_{n}") for n in ("delivered", "waiting", "dropped")]
        if not lines or taken != sum(parts):
            self.unbalanced.append(("at the end", taken, parts))
        return parts[2]

    def write(self, seconds=None, count=None):
        """The app writes at the rate; every 500th line is longer than a piece."""
        begun, wrote = time.monotonic(), 0
        while (count is None or wrote < count) and (seconds is None or time.monotonic() - begun < seconds):
            due = int((time.monotonic() - begun) * self.rate) + 1
            due = min(due, count) if count is not None else due
            while wrote < due:
                self.driver.write(line(self.number, 40_000 if self.number % 500 == 499 else 0))
                self.number += 1
                wrote += 1
            time.sleep(0.005)

    def app_ends(self, linger=LINGER_S):
        self.driver.write(line(self.number), end=False)
        self.number += 1
        self.metadata.app = "STOPPED"
        self.driver.close(linger)

    def term(self):
        self.metadata.stop()
        self.sidecar.send_signal(signal.SIGTERM)

    def run(self):
        self.start_cloud()
        self.proxy, self.metadata, self.done = Proxy(self.cloud), Metadata(), False
        self.start_sidecar()
        threading.Thread(target=self.watch, daemon=True).start()
        self.driver = Driver(self.socket)
        getattr(self, self.scenario)()
        self.driver.thread.join(180)
        ended = self.sidecar.wait(180)
        drain = time.monotonic() - self.driver.eof_at
        self.done = True
        if ended != 0:
            print(f"{self.scenario}: the sidecar ended with {ended}", file=sys.stderr)
        stored = self.stored()
        dropped = self.account_of_the_end()
        lost, duplicated = self.number - len(stored), sum(n - 1 for n in stored.values())
        return {"scenario": self.scenario, "rate": self.rate, "killed": self.killed, "sent": self.number, "lost": lost,
                "duplicated": duplicated, "dropped_in_driver": self.driver.dropped, "counted_as_dropped": dropped,
                **({"in_socket_at_kill": self.in_socket} if self.killed else {}),
                "books_looked_at": self.looks, "books_unbalanced": len(self.unbalanced),
                "peak_rss_mib": round(self.peak_kib / 1024, 1), "drain_s": round(max(drain, 0), 1)}

    def stored(self):
        found, token, stream = collections.Counter(), None, f"soak-{TAG}"
        while True:
            body = {"logGroupName": GROUP, "logStreamName": stream, "startFromHead": True}
            status, answer = self.call(self.cloud, "GetLogEvents", {**body, "nextToken": token} if token else body)
            if status == 400 and "Throttl" in answer.get("__type", ""):
                time.sleep(0.2)
                continue
            if status != 200:
                return found
            for e in answer["events"]:
                found.update(re.findall(r'"soak_id":"(\d+)"', e["message"]))
            if answer["nextForwardToken"] == token:
                return found
            token = answer["nextForwardToken"]

    def close(self):
        for p in self.processes + [self.sidecar]:
            if p and p.poll() is None:
                p.kill()
                p.wait()
        self.metadata and self.metadata.server.shutdown()
        if not self.args.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    # The scenarios. Times in seconds; the quick ones are shorter.
    def load(self):
        return 5 if self.args.quick else 20

    def app_first(self):
        self.write(self.load())
        self.app_ends()
        time.sleep(0.5)
        self.term()

    def together(self):
        self.write(self.load())
        self.term()
        self.write(count=2000)
        self.app_ends()

    def app_exits_in_1_ms(self):
        self.driver.open_at = time.monotonic() + 0.3
        self.write(count=min(self.rate, 3000))
        self.app_ends()
        self.term()

    def spot_120s(self):
        self.write(self.load())
        self.term()
        self.write(10 if self.args.quick else 60)
        self.app_ends()

    def killed_and_restarted(self):
        self.killed = True
        for _ in range(1 if self.args.quick else 5):
            # Not in step with the batches, which go every second.
            self.write(self.load() / 4 + random.random())
            self.kill()
            threading.Timer(1.0, self.start_sidecar).start()
            self.write(self.load() / 4)
            until("the sidecar is back", lambda: self.sidecar.poll() is None and os.path.exists(self.socket))
        self.app_first_end()

    def kill(self):
        """Counts what it had been sent and had not read."""
        self.sidecar.send_signal(signal.SIGSTOP)
        until("it stands still", lambda: open(f"/proc/{self.sidecar.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T")
        # With a full socket the driver waits in the middle of a record, and nothing more is sent either.
        held = self.driver.sending.acquire(timeout=0.2)
        self.in_socket += self.driver.records_in(unread_bytes(self.sidecar.pid, self.socket))
        self.sidecar.kill()
        self.sidecar.wait()
        os.remove(self.socket)
        if held:
            self.driver.sending.release()

    def app_first_end(self):
        self.app_ends()
        time.sleep(0.5)
        self.term()

    def outage(self, mode, seconds, delay=0.0):
        self.write(2)
        self.proxy.set(mode, delay)
        self.write(seconds)
        self.proxy.set("pass")
        self.write(2)
        self.app_first_end()

    def down_60s(self):
        self.outage("refuse", 10 if self.args.quick else 60)

    def down_60s_without_disk(self):
        self.down_60s()

    def down_60s_under_a_ceiling(self):
        self.down_60s()

    def half_open(self):
        self.outage("swallow", 10 if self.args.quick else 60)

    def slow(self):
        self.outage("pass", 8 if self.args.quick else 30, delay=1.0)

    def throttled(self):
        self.write(2)
        fault = {"operation": "logs:PutLogEvents", "kind": "throttle", "count": 1_000_000}
        self.call(self.cloud, "", fault, "/_fake/faults")
        self.write(8 if self.args.quick else 30)
        self.call(self.cloud, "", {}, "/_fake/faults", "DELETE")
        self.write(2)
        self.app_first_end()


SCENARIOS = ["app_first", "together", "app_exits_in_1_ms", "spot_120s", "killed_and_restarted", "down_60s", "throttled", "slow", "half_open",
             "down_60s_without_disk", "down_60s_under_a_ceiling"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--rate", type=int, action="append")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    args = parser.parse_args()
    failed = []
    if not args.json:
        print(f"{'scenario':22} {'rate/s':>7} {'sent':>8} {'lost':>6} {'dup':>5} {'MiB':>6} {'drain s':>8}")
    for scenario in args.scenario or SCENARIOS:
        for rate in args.rate or [1000, 10_000]:
            case = Case(args, scenario, rate)
            try:
                row = case.run()
            finally:
                case.close()
            if args.json:
                print(json.dumps(row), flush=True)
            else:
                print(f"{scenario:22} {rate:7} {row['sent']:8} {row['lost']:6} {row['duplicated']:5} {row['peak_rss_mib']:6} {row['drain_s']:8}", flush=True)
            fault = lambda what: failed.append(f"{scenario} at {rate}/s: {what}")
            if case.no_disk and row["lost"] == row["counted_as_dropped"] + row["dropped_in_driver"] and not row["duplicated"]:
                pass
            elif not row["killed"] and (row["lost"] or row["duplicated"]):
                fault(f"{row['lost']} lost, {row['duplicated']} duplicated though the process ended by itself")
            if row["peak_rss_mib"] > case.rss_mib_max:
                fault(f"{row['peak_rss_mib']} MiB of resident memory, more than {case.rss_mib_max}")
            if row["drain_s"] > DRAIN_S_MAX:
                fault(f"ended {row['drain_s']} s after the driver, more than {DRAIN_S_MAX}")
            if case.unbalanced or not row["books_looked_at"]:
                fault(f"the books do not balance: {case.unbalanced[:3]} of {row['books_looked_at']} looks")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
