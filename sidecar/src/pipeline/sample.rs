//! Which traces go on: by their id at the head, or at the tail when it is known how they went.
//!
//! At the head a share of all traces is kept, chosen by the trace's id, so that every sidecar on the way chooses the
//! same ones. At the tail the spans of a trace wait together for a while; a trace with an error or a slow span is kept,
//! of the others the share. Waiting spans are bounded in bytes: where there is no more room the oldest trace is decided
//! early, with what is known of it. Spans that come after the decision follow it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::names::sidecar as names;
use tokio::time::Instant;

use super::account::{Account, DropReason, Ticket};
use super::queue::{Queue, WhenFull};
use super::spans::SpanBatch;
use crate::inputs::otlp::PROTOBUF;
use crate::inputs::otlp::spans::{self, Envelope, Head};
use crate::inputs::otlp::wire::NotProtobuf;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Of traces without anything remarkable, the share that is kept: 0 to 1.
    pub ratio: f64,
    /// None: decided at once by the id alone.
    pub tail: Option<Tail>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// How long a trace's spans wait for the others.
    pub wait: Duration,
    /// A span of this length makes its trace worth keeping.
    pub slow: Duration,
    /// Of all spans that wait.
    pub bytes_max: usize,
}

/// Requests are cut to this: the backends' limits lie at 4 MB and above.
const REQUEST_BYTES_MAX: usize = 1 << 20;
const TICK: Duration = Duration::from_millis(500);
/// Traces whose fate is remembered for spans that come late.
const DECIDED_MAX: usize = 20_000;
/// What a waiting span costs beside its bytes.
const SPAN_OVERHEAD_BYTES: usize = 64;

type TraceId = [u8; 16];
/// A span with what stands round it.
type Piece = (Arc<Envelope>, Box<[u8]>);
/// A trace, or what has come of it, that goes on.
type Kept = (Vec<Piece>, Ticket);

/// A handle; clones share the waiting spans.
#[derive(Clone)]
pub struct Sampler(Arc<Shared>);

struct Shared {
    config: Config,
    queue: Queue<SpanBatch>,
    state: Mutex<State>,
    bytes: Gauge,
}

#[derive(Default)]
struct State {
    waiting: HashMap<TraceId, Trace>,
    /// In order of their first spans.
    order: VecDeque<TraceId>,
    bytes: usize,
    decided: HashMap<TraceId, bool>,
    decided_order: VecDeque<TraceId>,
}

struct Trace {
    since: Instant,
    spans: Vec<Piece>,
    bytes: usize,
    remarkable: bool,
    ticket: Ticket,
}

impl Config {
    /// None where everything is kept.
    pub fn build(&self, queue: Queue<SpanBatch>, metrics: &Metrics) -> Option<Sampler> {
        if self.ratio >= 1.0 {
            return None;
        }
        let bytes = Gauge::default();
        metrics.register(|r| {
            r.register(names::SAMPLER_BYTES, "Bytes of spans that wait for the end of their trace", bytes.clone());
        });
        Some(Sampler(Arc::new(Shared { config: self.clone(), queue, state: Mutex::default(), bytes })))
    }
}

impl Sampler {
    /// Takes a request in; what is kept at once is queued.
    ///
    /// # Errors
    /// Where the bytes are no protobuf: nothing of it is taken.
    pub async fn take(&self, request: &[u8], account: &Account) -> Result<(), NotProtobuf> {
        let mut spans = Vec::new();
        spans::each_enveloped(request, |envelope, span| {
            spans.push((envelope.clone(), span, Head::of(span)?));
            Ok(())
        })?;
        let mut kept = Vec::new();
        {
            let mut state = self.0.state.lock().expect("no one panics holding it");
            for (envelope, span, head) in spans {
                let ticket = account.enter(1);
                let piece = (envelope, Box::from(span));
                match self.decide_now(&state, &head) {
                    Some(true) => kept.push((vec![piece], ticket)),
                    Some(false) => ticket.dropped(DropReason::SampledOut),
                    None => self.wait(&mut state, piece, &head, ticket),
                }
            }
            self.make_room(&mut state, &mut kept);
            self.0.bytes.set(state.bytes as i64);
        }
        self.send(kept).await;
        Ok(())
    }

    /// None: it is to wait.
    fn decide_now(&self, state: &State, head: &Head) -> Option<bool> {
        if self.0.config.tail.is_none() {
            return Some(chosen(&head.trace_id, self.0.config.ratio));
        }
        match state.decided.get(&head.trace_id) {
            // A late span that is remarkable goes on alone: better a part of the trace than nothing.
            Some(false) if self.is_remarkable(head) => Some(true),
            decided => decided.copied(),
        }
    }

    fn is_remarkable(&self, head: &Head) -> bool {
        let slow = self.0.config.tail.as_ref().map_or(Duration::MAX, |tail| tail.slow);
        head.is_error || Duration::from_nanos(head.duration_nanos()) >= slow
    }

    fn wait(&self, state: &mut State, piece: Piece, head: &Head, ticket: Ticket) {
        let bytes = piece.1.len() + SPAN_OVERHEAD_BYTES;
        let remarkable = self.is_remarkable(head);
        state.bytes += bytes;
        match state.waiting.get_mut(&head.trace_id) {
            Some(trace) => {
                trace.bytes += bytes;
                trace.remarkable |= remarkable;
                trace.spans.push(piece);
                trace.ticket.absorb(ticket);
            }
            None => {
                let trace = Trace { since: Instant::now(), spans: vec![piece], bytes, remarkable, ticket };
                state.waiting.insert(head.trace_id, trace);
                state.order.push_back(head.trace_id);
            }
        }
    }

    fn make_room(&self, state: &mut State, kept: &mut Vec<Kept>) {
        let bytes_max = self.0.config.tail.as_ref().map_or(0, |tail| tail.bytes_max);
        while state.bytes > bytes_max && self.decide_oldest(state, kept) {}
    }

    /// False where nothing waits.
    fn decide_oldest(&self, state: &mut State, kept: &mut Vec<Kept>) -> bool {
        let Some(id) = state.order.pop_front() else { return false };
        let Some(trace) = state.waiting.remove(&id) else { return true };
        state.bytes -= trace.bytes;
        let keep = trace.remarkable || chosen(&id, self.0.config.ratio);
        state.remember(id, keep);
        if keep {
            kept.push((trace.spans, trace.ticket));
        } else {
            trace.ticket.dropped(DropReason::SampledOut);
        }
        true
    }

    async fn send(&self, kept: Vec<Kept>) {
        let (mut spans, mut tickets, mut bytes) = (Vec::new(), None::<Ticket>, 0);
        for (pieces, ticket) in kept {
            bytes += pieces.iter().map(|(_, span)| span.len()).sum::<usize>();
            spans.extend(pieces);
            match &mut tickets {
                Some(all) => all.absorb(ticket),
                None => tickets = Some(ticket),
            }
            if bytes >= REQUEST_BYTES_MAX {
                self.queue(std::mem::take(&mut spans), tickets.take()).await;
                bytes = 0;
            }
        }
        self.queue(spans, tickets).await;
    }

    async fn queue(&self, spans: Vec<Piece>, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else { return };
        let body = spans::request(spans.iter().map(|(envelope, span)| (&**envelope, &**span)));
        let (content_type, received) = (PROTOBUF, Instant::now());
        let batch = SpanBatch { body: body.into_boxed_slice().into(), content_type, gzip: false, received, ticket };
        for displaced in self.0.queue.push(batch, WhenFull::DropOldest).await {
            let reason = if self.0.queue.is_closed() { DropReason::Stopped } else { DropReason::QueueFull };
            displaced.ticket.dropped(reason);
        }
    }

    /// Decides traces when they have waited; at the shutdown those that still wait, too.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let wait = self.0.config.tail.as_ref().map_or(Duration::ZERO, |tail| tail.wait);
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(TICK) => false,
                () = shutdown.requested() => true,
            };
            let mut kept = Vec::new();
            {
                let mut state = self.0.state.lock().expect("no one panics holding it");
                let due = |state: &State| {
                    let first = state.order.front().and_then(|id| state.waiting.get(id));
                    stopping || first.is_some_and(|trace| trace.since.elapsed() >= wait)
                };
                while due(&state) && self.decide_oldest(&mut state, &mut kept) {}
                self.0.bytes.set(state.bytes as i64);
            }
            self.send(kept).await;
            if stopping {
                return Ok(());
            }
        }
    }
}

impl State {
    fn remember(&mut self, id: TraceId, keep: bool) {
        if self.decided.insert(id, keep).is_none() {
            self.decided_order.push_back(id);
        }
        while self.decided_order.len() > DECIDED_MAX {
            if let Some(oldest) = self.decided_order.pop_front() {
                self.decided.remove(&oldest);
            }
        }
    }
}

/// W3C trace context level 2: the last seven bytes of an id are random.
fn chosen(id: &TraceId, ratio: f64) -> bool {
    let mut random = [0; 8];
    random[1..].copy_from_slice(&id[9..]);
    (u64::from_be_bytes(random) as f64) < ratio * (1u64 << 56) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::queue::QueueMetrics;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
    use prost::Message;

    /// An id that no share below one half chooses.
    fn dull(n: u8) -> Vec<u8> {
        [vec![n; 9], vec![0xff; 7]].concat()
    }

    fn span(trace_id: Vec<u8>, millis: u64, error: bool) -> Span {
        Span {
            trace_id,
            span_id: vec![2; 8],
            start_time_unix_nano: 1,
            end_time_unix_nano: 1 + millis * 1_000_000,
            status: error.then(|| Status { code: 2, ..Status::default() }),
            ..Span::default()
        }
    }

    fn request(spans: Vec<Span>) -> Vec<u8> {
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn sampler(ratio: f64, tail: Option<Tail>) -> (Sampler, Queue<SpanBatch>, Account) {
        let metrics = Metrics::new();
        let queue = Queue::new("traces", 1 << 20, &QueueMetrics::default());
        let sampler = Config { ratio, tail }.build(queue.clone(), &metrics).expect("samples");
        (sampler, queue, Account::of_spans(&metrics, "otlp"))
    }

    fn tail(bytes_max: usize) -> Option<Tail> {
        Some(Tail { wait: Duration::from_secs(10), slow: Duration::from_secs(1), bytes_max })
    }

    /// First bytes of the ids of the spans in the queue.
    fn sent(queue: &Queue<SpanBatch>) -> Vec<u8> {
        let mut ids = Vec::new();
        while let Some(batch) = queue.try_next() {
            let request = ExportTraceServiceRequest::decode(batch.body).expect("decodes");
            let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
            ids.extend(spans.map(|span| span.trace_id[0]));
            batch.ticket.delivered();
        }
        ids
    }

    #[tokio::test]
    async fn at_the_head_the_id_decides() {
        let (sampler, queue, account) = sampler(0.25, None);
        let low = [vec![7; 9], vec![0x10; 7]].concat();
        sampler.take(&request(vec![span(low, 1, false), span(dull(1), 1, true)]), &account).await.expect("protobuf");
        assert_eq!(sent(&queue), [7]);
        assert_eq!((account.dropped(DropReason::SampledOut), account.balance().waiting), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_tail_errors_and_slow_traces_are_kept_whole() {
        let (sampler, queue, account) = sampler(0.0, tail(1 << 20));
        let (order, running) = (Shutdown::new(), sampler.clone());
        let run = service::task::spawn("sampler", running.run(order.clone()));
        let first = request(vec![span(dull(1), 5, false), span(dull(2), 5, false), span(dull(3), 2_000, false)]);
        sampler.take(&first, &account).await.expect("protobuf");
        tokio::time::sleep(Duration::from_secs(5)).await;
        sampler.take(&request(vec![span(dull(1), 5, true)]), &account).await.expect("protobuf");
        assert_eq!(sent(&queue), [0; 0], "they wait");
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(sent(&queue), [1, 1, 3]);
        // Late ones follow the decision, but for the remarkable.
        let late = request(vec![span(dull(2), 5, false), span(dull(3), 5, false), span(dull(2), 5, true)]);
        sampler.take(&late, &account).await.expect("protobuf");
        assert_eq!(sent(&queue), [3, 2]);
        assert_eq!(account.dropped(DropReason::SampledOut), 2);
        // At the stop the rest is decided.
        sampler.take(&request(vec![span(dull(4), 5, true)]), &account).await.expect("protobuf");
        order.request();
        run.await.expect("no panic").expect("ends well");
        assert_eq!(sent(&queue), [4]);
        assert_eq!(account.balance().waiting, 0);
    }

    #[tokio::test]
    async fn without_room_the_oldest_is_decided_early() {
        let (sampler, queue, account) = sampler(0.0, tail(1_000));
        for n in 0..50 {
            sampler.take(&request(vec![span(dull(n), 1, n == 0)]), &account).await.expect("protobuf");
        }
        assert_eq!(sent(&queue), [0]);
        assert!(sampler.0.state.lock().expect("not poisoned").bytes <= 1_000);
        let balance = account.balance();
        assert_eq!(balance.received, balance.delivered + balance.dropped + balance.waiting);
    }
}
