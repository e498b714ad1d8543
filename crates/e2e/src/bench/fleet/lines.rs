//! What a target exposes: database, cache, queues and process, and as many endpoints as there is room for.

use std::collections::BTreeMap;

use telemetry::labels::METRIC_NAME;

/// Upper bounds as all servers store them (some write `le="1"` of the text format as `1.0`), the time of a usual
/// observation below each, in seconds, and how many in a million fall there: of a quick and of a slow operation.
const BUCKETS: [(&str, f64, f64, f64); 12] = [
    ("0.005", 0.003, 210_000.0, 5_000.0),
    ("0.01", 0.007, 270_000.0, 15_000.0),
    ("0.025", 0.016, 310_000.0, 70_000.0),
    ("0.05", 0.035, 120_000.0, 110_000.0),
    ("0.1", 0.07, 55_000.0, 180_000.0),
    ("0.25", 0.16, 23_000.0, 240_000.0),
    ("0.5", 0.35, 7_000.0, 160_000.0),
    ("1.0", 0.7, 3_200.0, 100_000.0),
    ("2.5", 1.6, 1_200.0, 62_000.0),
    ("5.0", 3.5, 500.0, 43_000.0),
    ("10.0", 7.0, 90.0, 12_000.0),
    ("+Inf", 14.0, 10.0, 3_000.0),
];
const NOUNS: [&str; 12] = [
    "users",
    "products",
    "orders",
    "carts",
    "payments",
    "sessions",
    "inventory",
    "reviews",
    "notifications",
    "reports",
    "tenants",
    "search",
];
/// With the statuses of success and of the client's fault.
const METHODS: [(&str, &str, &str); 4] =
    [("GET", "200", "404"), ("POST", "201", "400"), ("PUT", "200", "409"), ("DELETE", "204", "404")];

/// How a line's value goes on. Rates are per second.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Events {
        rate: f64,
    },
    /// Of a histogram, whose lines follow each other; `usual` is what an observation in this bucket is about.
    Bucket {
        rate: f64,
        usual: f64,
        is_first: bool,
    },
    /// Of the histogram or [`Kind::Amount`] before.
    Sum,
    Count,
    /// A counter of what events bring, in whole units or, with 0, in floats; a count of them may follow.
    Amount {
        rate: f64,
        mean: f64,
        unit: f64,
    },
    /// A gauge that wanders.
    Level {
        low: f64,
        high: f64,
        unit: f64,
    },
    Fixed(f64),
}

pub(super) struct Line {
    pub(super) kind: Kind,
    /// The name first.
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) text_end: usize,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

/// Families in the order in which they came, each with its lines.
#[derive(Default)]
struct Families {
    order: Vec<&'static str>,
    families: BTreeMap<&'static str, (&'static str, Vec<Line>)>,
    len: usize,
}

/// Exactly so many lines, and their text.
pub(super) fn lines(series: usize) -> (Vec<Line>, Vec<u8>) {
    let mut fixed = Families::default();
    fixed.surroundings();
    let mut families = if fixed.len <= series { fixed } else { Families::default() };
    for rank in 0.. {
        let before = families.len;
        if before + Families::ENDPOINT > series || before == 0 {
            break;
        }
        families.endpoint(rank);
    }
    // What is left over is too little for an endpoint.
    for number in families.len..series {
        let operation = format!("operation-{number}");
        families.one("business_operations_total", "counter", &[("operation", &operation)], Kind::Events { rate: 0.7 });
    }
    families.into_lines()
}

impl Families {
    fn add(&mut self, family: &'static str, kind: &'static str, suffix: &str, labels: Labels<'_>, does: Kind) {
        let (_, lines) = self.families.entry(family).or_insert_with(|| {
            self.order.push(family);
            (kind, Vec::new())
        });
        let name = (METRIC_NAME, format!("{family}{suffix}"));
        let own = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
        lines.push(Line { kind: does, labels: [name].into_iter().chain(own).collect(), text_end: 0 });
        self.len += 1;
    }

    fn one(&mut self, name: &'static str, kind: &'static str, labels: Labels<'_>, does: Kind) {
        self.add(name, kind, "", labels, does);
    }

    fn counter(&mut self, name: &'static str, labels: Labels<'_>, rate: f64) {
        self.one(name, "counter", labels, Kind::Events { rate });
    }

    fn level(&mut self, name: &'static str, labels: Labels<'_>, low: f64, high: f64, unit: f64) {
        self.one(name, "gauge", labels, Kind::Level { low, high, unit });
    }

    fn histogram(&mut self, name: &'static str, labels: Labels<'_>, rate: f64, is_slow: bool) {
        for (at, (bound, usual, quick, slow)) in BUCKETS.into_iter().enumerate() {
            let rate = rate * if is_slow { slow } else { quick } / 1e6;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.add(name, "histogram", "_bucket", &labels, Kind::Bucket { rate, usual, is_first: at == 0 });
        }
        self.add(name, "histogram", "_sum", labels, Kind::Sum);
        self.add(name, "histogram", "_count", labels, Kind::Count);
    }

    /// Bytes of requests and answers.
    fn sizes(&mut self, name: &'static str, labels: Labels<'_>, rate: f64, mean: f64) {
        self.add(name, "summary", "_sum", labels, Kind::Amount { rate, mean, unit: 1.0 });
        self.add(name, "summary", "_count", labels, Kind::Count);
    }

    /// Everything but the endpoints.
    fn surroundings(&mut self) {
        for (query, rate) in [("select", 80.0), ("insert", 20.0), ("update", 5.0), ("delete", 1.25)] {
            self.histogram("db_query_duration_seconds", &[("query_type", query)], rate, false);
        }
        self.level("db_connections_active", &[], 5.0, 95.0, 1.0);
        self.level("db_connections_idle", &[], 5.0, 40.0, 1.0);
        for cache in ["session", "product", "permission"] {
            self.counter("cache_hits_total", &[("cache_name", cache)], 112.0);
            self.counter("cache_misses_total", &[("cache_name", cache)], 8.0);
        }
        for (operation, rate) in [("get", 120.0), ("set", 15.0), ("delete", 2.0)] {
            self.histogram("cache_operation_duration_seconds", &[("operation", operation)], rate, false);
        }
        for queue in ["email", "export"] {
            for (status, rate) in [("completed", 2.97), ("failed", 0.024), ("retried", 0.006)] {
                self.counter("queue_jobs_total", &[("queue", queue), ("status", status)], rate);
            }
            self.histogram("queue_job_duration_seconds", &[("queue", queue)], 3.0, true);
            self.level("queue_depth", &[("queue", queue)], 0.0, 1_100.0, 1.0);
        }
        self.level("users_active", &[], 100.0, 4_000.0, 1.0);
        for operation in ["login", "checkout", "signup"] {
            self.counter("operations_total", &[("operation_type", operation)], 0.6);
        }
        let disk = [("device", "/dev/nvme0n1p1"), ("fstype", "ext4"), ("mountpoint", "/")];
        self.level("node_filesystem_avail_bytes", &disk, 8e8, 9e9, 4096.0);
        self.one("node_filesystem_size_bytes", "gauge", &disk, Kind::Fixed(1e10));
        self.level("process_resident_memory_bytes", &[], 9e7, 1.4e8, 4096.0);
        let seconds = Kind::Amount { rate: 50.0, mean: 0.009, unit: 0.0 };
        self.one("process_cpu_seconds_total", "counter", &[], seconds);
        self.one("service_build_info", "gauge", &[("version", "1.42.7")], Kind::Fixed(1.0));
    }

    /// Series of one endpoint.
    const ENDPOINT: usize = 21;

    /// They differ in popularity as 1/rank.
    fn endpoint(&mut self, rank: usize) {
        let (method, success, failure) = METHODS[rank % METHODS.len()];
        let noun = NOUNS[rank / METHODS.len() % NOUNS.len()];
        let path = match rank / (METHODS.len() * NOUNS.len()) {
            0 => format!("/api/v1/{noun}/{{id}}"),
            round => format!("/api/v1/{noun}/{{id}}/detail{round}"),
        };
        let rate = 50.0 / (rank + 1) as f64;
        for (status, share) in [(success, 0.965), (failure, 0.03), ("500", 0.005)] {
            let labels = [("method", method), ("path", path.as_str()), ("status", status)];
            self.counter("http_requests_total", &labels, rate * share);
        }
        let labels = [("method", method), ("path", path.as_str())];
        self.histogram("http_request_duration_seconds", &labels, rate, rank % 20 == 7);
        self.sizes("http_request_size_bytes", &labels, rate, 742.0);
        self.sizes("http_response_size_bytes", &labels, rate, 5_310.0);
    }

    fn into_lines(mut self) -> (Vec<Line>, Vec<u8>) {
        let (mut all, mut text) = (Vec::with_capacity(self.len), String::new());
        for name in self.order {
            let Some((kind, lines)) = self.families.remove(name) else { continue };
            text.push_str(&format!("# HELP {name} What it says.\n# TYPE {name} {kind}\n"));
            for mut line in lines {
                let own: Vec<String> =
                    line.labels[1..].iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                let braces = if own.is_empty() { String::new() } else { format!("{{{}}}", own.join(",")) };
                text.push_str(&format!("{}{braces} ", line.labels[0].1));
                line.text_end = text.len();
                all.push(line);
            }
        }
        (all, text.into_bytes())
    }
}
