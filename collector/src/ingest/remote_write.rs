//! The receiver of remote write, as the specifications of 1.0 and 2.0 have it: 415 for another message or encoding,
//! 400 for what can never be stored (with the rest stored), 5xx for what may be sent again, 204 when all is stored;
//! and for 2.0 always how much has been written.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use telemetry::remote_write::{DecodeError, Decoder, HistogramPoint, Limits, Message, Metadata, decompress};
use telemetry::{HistogramSample, Sample, Timestamp};

use crate::remote_write::FamilyMetadata;

use super::{Inner, Pushed, Refused, Stored, text_header};

/// From here on decoding is left to a thread that may take its time.
const BESIDE_BYTES_MIN: usize = 128 << 10;
/// Faults that are quoted in an answer; the others are counted.
const QUOTED_MAX: usize = 5;

pub(super) async fn handle(ingest: &Inner, request: Request) -> Response {
    let message = match message_of(&request) {
        Ok(message) => message,
        Err(refused) => {
            ingest.metrics.refused("remote_write", refused.reason, 1);
            return ingest.answered("remote_write", refused.into_response());
        }
    };
    let protocol = protocol(message);
    let (response, written) = match receive(ingest, message, request).await {
        Ok(outcome) => (outcome.response(), outcome.written),
        Err(refused) => {
            ingest.metrics.refused(protocol, refused.reason, 1);
            (refused.into_response(), Stored::default())
        }
    };
    let response = if message == Message::V2 { with_written(response, &written) } else { response };
    ingest.answered(protocol, response)
}

fn protocol(message: Message) -> &'static str {
    match message {
        Message::V1 => "remote_write_1",
        Message::V2 => "remote_write_2",
    }
}

/// Without headers it is 1.0 and snappy, as Prometheus reads careless senders.
fn message_of(request: &Request) -> Result<Message, Refused> {
    let unsupported =
        |message: String| Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    let content_type = text_header(request.headers(), &header::CONTENT_TYPE);
    let message = match content_type {
        "" => Message::V1,
        content_type => Message::from_content_type(content_type).map_err(|e| unsupported(e.to_string()))?,
    };
    let encoding = text_header(request.headers(), &header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(Message::ENCODING) {
        return Err(unsupported(format!("content encoding {encoding:?} is not accepted, only snappy")));
    }
    Ok(message)
}

async fn receive(ingest: &Inner, message: Message, request: Request) -> Result<Outcome, Refused> {
    let _place = ingest.place().await?;
    let body = ingest.body(request.into_body()).await?;
    let bytes_max = usize::try_from(ingest.config.body_size_limit).unwrap_or(usize::MAX);
    let limits = Limits { message_bytes_max: bytes_max, ..Limits::default() };
    let decoded = if body.len() < BESIDE_BYTES_MIN {
        decode(message, &body, &limits)
    } else {
        service::task::beside(move || decode(message, &body, &limits)).await
    };
    let decoded = decoded.map_err(|error| match error.is_too_large() {
        true => Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string()),
        false => Refused::new(StatusCode::BAD_REQUEST, "malformed", error.to_string()),
    })?;
    let protocol = protocol(message);
    for (reason, count) in decoded.refused() {
        ingest.metrics.refused(protocol, reason, count);
    }
    let mut written = ingest.store(protocol, decoded.pushed).await?;
    let mut faults = decoded.faults;
    faults.append(&mut written.refused);
    Ok(Outcome { written, faults })
}

/// What a request brings and what was wrong with the rest.
#[derive(Default)]
struct Decoded {
    pushed: Pushed,
    /// Quoted in the answer.
    faults: Vec<String>,
    /// Samples and histograms of series without usable labels.
    invalid_labels: usize,
    invalid_histograms: usize,
}

impl Decoded {
    fn fault(&mut self, text: impl FnOnce() -> String) {
        if self.faults.len() < QUOTED_MAX {
            self.faults.push(text());
        }
    }

    fn refused(&self) -> [(&'static str, usize); 2] {
        [("invalid_labels", self.invalid_labels), ("invalid_histogram", self.invalid_histograms)]
    }
}

fn decode(message: Message, body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let bytes = decompress(body, limits)?;
    let mut decoder = Decoder::new(message, &bytes, limits)?;
    let mut decoded = Decoded::default();
    while let Some(series) = decoder.next_series()? {
        let labels = match series.to_labels() {
            Ok(labels) => labels,
            Err(fault) => {
                decoded.invalid_labels += series.samples.len() + series.histograms.len();
                decoded.fault(|| format!("invalid labels: {fault}"));
                continue;
            }
        };
        let sample = |timestamp: Timestamp, value: f64| Sample { labels: labels.clone(), timestamp, value };
        let known = series.metadata.filter(|of| *of != Metadata::default());
        if let (Some(of), Some(name)) = (known, labels.metric_name()) {
            decoded.pushed.metadata.entry(name.to_owned()).or_insert_with(|| FamilyMetadata::of(name, &of));
        }
        decoded.pushed.samples.extend(series.samples.iter().map(|point| sample(point.timestamp, point.value)));
        let exemplars = series.exemplars.iter().map(|exemplar| (labels.clone(), exemplar.clone()));
        decoded.pushed.exemplars.extend(exemplars);
        for HistogramPoint { timestamp, histogram, .. } in &series.histograms {
            match histogram {
                Ok(histogram) => decoded.pushed.histograms.push(HistogramSample {
                    labels: labels.clone(),
                    timestamp: *timestamp,
                    histogram: histogram.clone(),
                }),
                Err(fault) => {
                    decoded.invalid_histograms += 1;
                    decoded.fault(|| format!("invalid histogram of {labels}: {fault}"));
                }
            }
        }
    }
    for (family, metadata) in decoder.metadata() {
        decoded.pushed.metadata.insert((*family).to_owned(), FamilyMetadata::of(family, metadata));
    }
    Ok(decoded)
}

/// What became of a request that was read.
struct Outcome {
    written: Stored,
    faults: Vec<String>,
}

impl Outcome {
    fn response(&self) -> Response {
        match self.faults.is_empty() {
            true => StatusCode::NO_CONTENT.into_response(),
            false => (StatusCode::BAD_REQUEST, format!("{}\n", self.faults.join("; "))).into_response(),
        }
    }
}

/// 2.0 wants the figures in every answer; a sender takes their absence for a receiver of 1.0.
fn with_written(mut response: Response, written: &Stored) -> Response {
    for (name, count) in [
        (Message::SAMPLES_WRITTEN_HEADER, written.samples),
        (Message::HISTOGRAMS_WRITTEN_HEADER, written.histograms),
        (Message::EXEMPLARS_WRITTEN_HEADER, written.exemplars),
    ] {
        let name = HeaderName::try_from(name).expect("a constant that is a header's name");
        response.headers_mut().insert(name, HeaderValue::from(count));
    }
    response
}
