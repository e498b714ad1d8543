#!/usr/bin/env python3
"""How much the sidecar's logs cost: `cargo xtask bench logs`.

tail      a file of structured JSON lines to a TCP sink, beside rsyslog and syslog-ng where they are installed: raw, and
          parsed with a field added. The sidecar has one way, which parses, strikes out secrets and adds fields: its one
          figure stands against both.
firelens  what Fargate's log driver sends, at 1,000 and 10,000 records/s, to a CloudWatch Logs behind TLS that enforces
          the API's limits; memory and CPU in the load behind its first seconds, memory 10 s behind it, and every record looked for. With
          --fluent-bit FILE that program by turns with the sidecar. --no-rest leaves the 10 s out, for a quick look.
idle      resident memory of a sidecar that waits.

CPU is user and system time of the process; what generates, proxies and receives is in other processes. Every figure is
taken --rounds times, the peers by turns; printed are medians and the spread.
"""
import argparse, asyncio, importlib.util, json, os, random, shutil, socket, ssl, statistics, subprocess, sys, tempfile, threading, time

from footprint import cold, cpu_s, spread

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("soak", os.path.join(HERE, "../soak/logs.py"))
soak = importlib.util.module_from_spec(spec)
spec.loader.exec_module(soak)

BODY_BYTES = 906
# Of load before CPU is counted.
WARM_UP_S = 3
RSYSLOG_RAW = """global(workDirectory="{dir}" maxMessageSize="64k")
module(load="imfile")
template(name="raw" type="string" string="%msg%\\n")
input(type="imfile" File="{file}" Tag="app" ruleset="forward")
ruleset(name="forward") {{ action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" template="raw") }}
"""
RSYSLOG_JSON = """global(workDirectory="{dir}" maxMessageSize="64k")
module(load="imfile")
module(load="mmjsonparse")
template(name="out" type="list") {{ property(name="$!all-json") constant(value="\\n") }}
input(type="imfile" File="{file}" Tag="app" ruleset="forward")
ruleset(name="forward") {{
  action(type="mmjsonparse" cookie="")
  set $!task = "0123456789abcdef";
  action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" template="out")
}}
"""
SYSLOG_NG_HEAD = """@version: 3.38
@module affile
@module afsocket
{module}
options {{ stats-freq(0); log-msg-size(65536); }};
source s {{ file("{file}" follow-freq(0.1) flags(no-parse)); }};
"""
SYSLOG_NG_RAW = SYSLOG_NG_HEAD.replace("{module}", "") + """destination d {{ network("127.0.0.1" port({port}) transport(tcp) template("${{MSG}}\\n")); }};
log {{ source(s); destination(d); flags(flow-control); }};
"""
SYSLOG_NG_JSON = SYSLOG_NG_HEAD.replace("{module}", "@module json-plugin") + """parser p {{ json-parser(prefix(".json.")); }};
destination d {{ network("127.0.0.1" port({port}) transport(tcp)
  template("$(format-json --key .json.* --rekey .json.* --shift 6 task=0123456789abcdef)\\n")); }};
log {{ source(s); parser(p); destination(d); flags(flow-control); }};
"""


def memory(pid):
    """VmRSS, RssAnon, VmHWM in MiB."""
    with open(f"/proc/{pid}/status") as f:
        said = {l.split(":")[0]: l.split()[1] for l in f if l.startswith(("VmRSS", "RssAnon", "VmHWM"))}
    return {key: int(value) / 1024 for key, value in said.items()}


# ---- tail --------------------------------------------------------------------------------------------------------

def write_lines(path, mib):
    """About so many MiB of lines in the platform's layout; returns their number."""
    count, size, mask = 0, 0, (1 << 64) - 1
    with open(path, "w", buffering=1 << 20) as f:
        while size < mib << 20:
            x = (count * 0x9E3779B97F4A7C15) & mask
            level = ["info"] * 6 + ["debug", "warn"]
            line = (f'{{"timestamp":"2025-01-15T10:{count // 60000 % 60:02}:{count // 1000 % 60:02}.{count % 1000:03}Z","level":"{level[x >> 8 & 7]}",'
                    f'"service":"order","version":"1.0.0","environment":"production","trace_id":"{x:016x}{count:016x}","span_id":"{x | 1:016x}",'
                    f'"request":{{"id":"req-{count}","method":"POST","path":"/api/v1/orders","user_id":"user-{x % 10000}","org_id":"org-{x % 97}",'
                    f'"ip":"10.0.{x >> 16 & 255}.{x >> 24 & 255}","user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}},"message":"Order created successfully",'
                    f'"data":{{"order_id":"{x:x}"}},"duration_ms":{x % 400}}}\n')
            f.write(line)
            size, count = size + len(line), count + 1
    return count


class Sink:
    """Counts records on one port: each has its marker once."""
    MARKER = b'"span_id"'

    def __init__(self):
        self.listener, self.records, self.last = socket.create_server(("127.0.0.1", 0)), 0, time.monotonic()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.read, args=(s,), daemon=True).start()

    def read(self, s):
        tail, keep = b"", len(self.MARKER) - 1
        while data := s.recv(1 << 20):
            data = tail + data
            self.records += data.count(self.MARKER)
            tail, self.last = data[-keep:], time.monotonic()


def tail_once(command, conf, file, expected, env=None):
    directory, sink = tempfile.mkdtemp(prefix="bench-logs-"), Sink()
    places = {"dir": directory, "file": file, "port": sink.port}
    config = os.path.join(directory, "shipper.conf")
    with open(config, "w") as f:
        f.write(conf.format(**places) if conf else "")
    words = [word.format(config=config, **places) for word in command]
    out = None
    if env is not None:
        # Ours writes to its standard output, which is the connection.
        out = socket.create_connection(("127.0.0.1", sink.port))
        env = {key: value.format(config=config, **places) for key, value in env.items()}
    process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out or subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while sink.records < expected and time.monotonic() - sink.last < 20 and process.poll() is None:
        time.sleep(0.05)
        peak = max(peak, memory(process.pid).get("VmRSS", 0))
    cpu = cpu_s(process.pid) if process.poll() is None else float("nan")
    process.kill()
    process.wait()
    sink.listener.close()
    shutil.rmtree(directory, ignore_errors=True)
    if sink.records < expected:
        print(f"{words[0]}: {sink.records} of {expected} records arrived", file=sys.stderr)
    return cpu, peak


def tail(args):
    directory = tempfile.mkdtemp(prefix="bench-logs-")
    file = os.path.join(directory, "app.log")
    records = write_lines(file, args.mib)
    megabytes = os.path.getsize(file) / 1e6
    off = {"SIDECAR_" + key: "off" for key in ["OTLP_LISTEN", "OTLP_GRPC_LISTEN", "STATSD_LISTEN", "APP_METRICS_URL", "APP_HEALTH_URL"]}
    ours = {**off, "SIDECAR_LISTEN": "127.0.0.1:0", "SIDECAR_LOG_FILES": "{file}", "SIDECAR_LOG_START": "beginning",
            "SIDECAR_LOGS_OUTPUT": "stdout", "SIDECAR_SERVICE": "order", "PATH": os.environ["PATH"]}
    peers = [("sidecar", [os.path.join(args.bin_dir, "sidecar"), "run"], "", ours)]
    if rsyslog := shutil.which(args.rsyslog):
        peers += [(f"rsyslog {kind}", [rsyslog, "-n", "-f", "{config}", "-i", "{dir}/pid"], conf, None) for kind, conf in [("raw", RSYSLOG_RAW), ("JSON", RSYSLOG_JSON)]]
    if ng := shutil.which(args.syslog_ng):
        command = [ng, "-F", "-f", "{config}", "-R", "{dir}/persist", "-p", "{dir}/pid", "-c", "{dir}/control", "--no-caps"]
        peers += [(f"syslog-ng {kind}", command, conf, None) for kind, conf in [("raw", SYSLOG_NG_RAW), ("JSON", SYSLOG_NG_JSON)]]
    seen = {name: ([], []) for name, *_ in peers}
    for _ in range(args.rounds):
        for name, command, conf, env in peers:
            cpu, peak = tail_once(command, conf, file, records, env)
            seen[name][0].append(megabytes / cpu)
            seen[name][1].append(peak)
    shutil.rmtree(directory, ignore_errors=True)
    print(f"\ntail: {records} lines, {megabytes:.0f} MB, {args.rounds} rounds; MB per CPU s, peak RSS in MiB")
    for name, (speed, peak) in seen.items():
        print(f"  {name:16} {spread(speed):24} {spread(peak)}")
    for name, wanted in [("syslog-ng raw", 2), ("rsyslog JSON", 3)]:
        if name in seen:
            ratio = [a / b for a, b in zip(seen["sidecar"][0], seen[name][0])]
            print(f"  sidecar / {name}: {spread(ratio)}x, gate {wanted}x: {'held' if statistics.median(ratio) >= wanted else 'MISSED'}")


# ---- FireLens to CloudWatch ---------------------------------------------------------------------------------------

async def proxy_tls(port, target, certificate, key):
    async def serve(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)

        async def pump(source, sink):
            try:
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            sink.close()
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


class Cloud(soak.Case):
    """As in the loss matrix, with TLS in the proxy's place and a sidecar whose certificates are told."""

    def __init__(self, args):
        super().__init__(args, "bench", 0)
        self.certificate, self.key, authority = self.make_certificates()
        self.start_cloud()
        self.proxy, self.metadata = type("Place", (), {"port": soak.free_port()}), soak.Metadata()
        self.processes.append(subprocess.Popen([sys.executable, __file__, "--tls", str(self.proxy.port), str(self.cloud), self.certificate, self.key]))
        soak.until("the TLS front is up", lambda: socket.socket().connect_ex(("127.0.0.1", self.proxy.port)) == 0)
        cold(self.args.fluent_bit if isinstance(self, FluentBit) else os.path.join(self.args.bin_dir, "sidecar"))
        self.start_sidecar({"AWS_ENDPOINT_URL_LOGS": f"https://localhost:{self.proxy.port}", "SSL_CERT_FILE": authority})

    def make_certificates(self):
        """A certificate for localhost, its key, and who signed it."""
        place = lambda name: os.path.join(self.directory, name)
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        with open(place("extensions"), "w") as f:
            f.write("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        for words in [
            ["req", "-x509", *new_key, "-subj", "/CN=bench", "-keyout", place("ca.key"), "-out", place("ca.pem")],
            ["req", *new_key[:-2], "-subj", "/CN=localhost", "-keyout", place("key.pem"), "-out", place("request")],
            ["x509", "-req", "-in", place("request"), "-CA", place("ca.pem"), "-CAkey", place("ca.key"), "-CAcreateserial", "-days", "2",
             "-extfile", place("extensions"), "-out", place("certificate.pem")],
        ]:
            subprocess.run(["openssl", *words], check=True, capture_output=True)
        return place("certificate.pem"), place("key.pem"), place("ca.pem")


FLUENT_BIT = """[SERVICE]
    Flush 1
    Grace 5
    Log_Level error

[INPUT]
    Name forward
    Mem_Buf_Limit 25MB
    unix_path {socket}

[OUTPUT]
    Name cloudwatch_logs
    Match app-firelens*
    log_group_name {group}
    log_stream_prefix soak-
    auto_create_group false
    region us-east-1
    endpoint localhost
    port {port}
    tls.ca_file {authority}
"""


class FluentBit(Cloud):
    """Fluent Bit in the sidecar's place, configured as ECS does it."""

    def start_sidecar(self, more):
        conf = os.path.join(self.directory, "fluent-bit.conf")
        with open(conf, "w") as f:
            f.write(FLUENT_BIT.format(socket=self.socket, group=soak.GROUP, port=self.proxy.port, authority=more["SSL_CERT_FILE"]))
        env = {"PATH": os.environ["PATH"], "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": soak.KEY, "AWS_SECRET_ACCESS_KEY": soak.SECRET}
        with open(os.path.join(self.directory, "fluent-bit.out"), "a") as out:
            self.sidecar = subprocess.Popen([self.args.fluent_bit, "-c", conf], env=env, stdout=out, stderr=subprocess.STDOUT)
        soak.until("the socket is there", lambda: os.path.exists(self.socket))


def prepared(rate):
    """A hundredth of a second's records, sixty times over, each with a body of its own."""
    def body(n):
        start = '{"timestamp":"2026-11-20T19:%02d:%02d.%06dZ","level":"%s","service":"order","message":"%s","order_id":"o-%08x","user_id":"u-%d","trace_id":"%032x","span_id":"%016x","http":{"method":"POST","path":"/api/v1/orders/%d","status":%d,"duration_ms":%.3f},"note":"' % (
            random.randrange(60), random.randrange(60), random.randrange(10**6), random.choice(["INFO", "INFO", "INFO", "WARN", "ERROR"]), " ".join(random.choices(soak.WORDS, k=8)),
            random.getrandbits(32), random.randrange(10**6), random.getrandbits(128), random.getrandbits(64), random.randrange(10**6),
            random.choice([200, 201, 400, 404, 500]), random.random() * 900)
        words = ""
        while len(start) + len(words) < BODY_BYTES - 2:
            words += random.choice(soak.WORDS) + " %x " % random.getrandbits(20)
        return (start + words)[:BODY_BYTES - 2] + '"}'
    return [[body(n).encode() for n in range(max(1, rate // 100))] for _ in range(60)]


def load(s, batches, rate, seconds):
    """Sends as the log driver does; returns how many records and for how long."""
    begun, sent, number = time.monotonic(), 0, 0
    while time.monotonic() - begun < seconds:
        due = begun + number * len(batches[0]) / rate
        time.sleep(max(0, due - time.monotonic()))
        now = time.time_ns()
        s.sendall(b"".join(soak.event(body, now) for body in batches[number % 60]))
        number, sent = number + 1, sent + len(batches[0])
    return sent, time.monotonic() - begun


def firelens_once(args, peer, rate):
    case = peer(args)
    try:
        time.sleep(2)
        pid, batches, s = case.sidecar.pid, prepared(rate), socket.socket(socket.AF_UNIX)
        idle, begun = memory(pid), cpu_s(pid)
        s.connect(case.socket)
        # The first connections to the destination, which are made once: told apart from what goes on.
        first, _ = load(s, batches, rate, WARM_UP_S)
        before = cpu_s(pid)
        sent, took = load(s, batches, rate, args.seconds)
        used, loaded = cpu_s(pid) - before, memory(pid)
        time.sleep(2 if args.no_rest else 10)
        after = memory(pid)
        s.close()
        case.metadata.app = "STOPPED"
        case.term()
        case.sidecar.wait(60)
        return {"cpu": 100 * used / took, "rss": loaded["VmRSS"], "anon": loaded["RssAnon"], "peak": after["VmHWM"], "after": after["VmRSS"], "after_anon": after["RssAnon"],
                "idle": idle["VmRSS"], "lost": first + sent - case.count(), "reached": sent / took, "warm_up": 1000 * (before - begun)}
    finally:
        case.close()


def firelens(args):
    print(f"\nFireLens to CloudWatch Logs over TLS, {BODY_BYTES} B of body, {args.seconds} s, {args.rounds} rounds; resident memory in MiB")
    peers = {"sidecar": Cloud, **({"Fluent Bit": FluentBit} if args.fluent_bit else {})}
    for rate in args.rate or [1000, 10_000]:
        rows = {name: [] for name in peers}
        for _ in range(args.rounds):
            for name, peer in peers.items():
                rows[name].append(firelens_once(args, peer, rate))
        for name, of_peer in rows.items():
            column = lambda key: spread([row[key] for row in of_peer])
            print(f"  {name}, {rate}/s ({column('reached')} reached): CPU {column('cpu')} % of a core, RSS {column('rss')}, anonymous {column('anon')}, peak {column('peak')}, "
                  f"10 s behind the load {column('after')} ({column('after_anon')} anonymous), before it {column('idle')}; "
                  f"CPU of the first {WARM_UP_S} s {column('warm_up')} ms; lost {sum(row['lost'] for row in of_peer)}", flush=True)
        if args.fluent_bit:
            for key, what in [("cpu", "CPU"), ("rss", "RSS")]:
                ratio = [a[key] / b[key] for a, b in zip(rows["sidecar"], rows["Fluent Bit"])]
                print(f"  sidecar / Fluent Bit, {what} at {rate}/s: {spread(ratio)}x, gate 1x: {'held' if statistics.median(ratio) <= 1 else 'MISSED'}", flush=True)


def count(case):
    """Stored events, by the streams' sizes."""
    total, token = 0, None
    while True:
        body = {"logGroupName": soak.GROUP, "logStreamName": f"soak-{soak.TAG}", "startFromHead": True}
        status, answer = case.call(case.cloud, "GetLogEvents", {**body, "nextToken": token} if token else body)
        if status == 400 and "Throttl" in answer.get("__type", ""):
            time.sleep(0.2)
            continue
        if status != 200 or answer["nextForwardToken"] == token:
            return total
        total, token = total + len(answer["events"]), answer["nextForwardToken"]


Cloud.count = count


def idle(args):
    rows = []
    for _ in range(args.rounds):
        case = Cloud(args)
        time.sleep(5)
        rows.append(memory(case.sidecar.pid))
        case.close()
    size = os.path.getsize(os.path.join(args.bin_dir, "sidecar")) / (1 << 20)
    print(f"\nidle: RSS {spread([r['VmRSS'] for r in rows])} MiB, anonymous {spread([r['RssAnon'] for r in rows])} MiB; the binary is {size:.1f} MiB")


def main():
    if sys.argv[1:2] == ["--tls"]:
        port, target, certificate, key = sys.argv[2:]
        return asyncio.run(proxy_tls(int(port), int(target), certificate, key))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["tail", "firelens", "idle", []], default=[])
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--cloud-dir", help="where fake-aws lies, if not beside the sidecar")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=96)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rate", type=int, action="append")
    parser.add_argument("--fluent-bit", help="its program, to be measured by turns in firelens")
    parser.add_argument("--no-rest", action="store_true")
    parser.add_argument("--rsyslog", default="rsyslogd")
    parser.add_argument("--syslog-ng", default="syslog-ng")
    args = parser.parse_args()
    args.quick, args.keep = False, False
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for name, measure in [("idle", idle), ("tail", tail), ("firelens", firelens)]:
        if not args.what or name in args.what:
            measure(args)


if __name__ == "__main__":
    main()
