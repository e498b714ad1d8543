//! From what discovery says to a [`Target`]: defaults of the job, relabelling, and the labels that steer the scrape.

use std::sync::Arc;
use std::time::Duration;

use telemetry::names::label::{INSTANCE, JOB};
use telemetry::{Labels, LabelsBuilder};

use super::relabel;
use super::{ADDRESS, Target};
use crate::scrape::Settings;

const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const PARAM_PREFIX: &str = "__param_";
/// Labels of this kind are not put on series.
const INTERNAL_PREFIX: &str = "__";

/// What became of something discovered.
pub(super) enum Outcome {
    Target(Box<Target>),
    /// A rule dropped it; the labels are those before relabelling.
    Dropped(Labels),
    Invalid(TargetError),
}

/// Why labels do not make a target; the texts are Prometheus'.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("no address")]
    NoAddress,
    #[error("{0:?} is not a valid hostname")]
    BadAddress(String),
    #[error("error parsing scrape interval or timeout: {0}")]
    BadDuration(#[from] telemetry::duration::DurationError),
    #[error("scrape interval cannot be 0")]
    NoInterval,
    #[error("scrape timeout cannot be 0")]
    NoTimeout,
    #[error("scrape timeout cannot be greater than scrape interval ({timeout} > {interval})")]
    TimeoutOverInterval { timeout: String, interval: String },
    #[error("the scheme {0:?} is not http or https")]
    BadScheme(String),
}

/// Applies the job's defaults and its relabelling to what was found.
pub(super) fn build(settings: &Arc<Settings>, found: &Labels) -> Outcome {
    let discovered = with_defaults(settings, found);
    let mut labels = discovered.to_builder();
    if !relabel::apply(&settings.relabel, &mut labels) {
        return Outcome::Dropped(discovered);
    }
    match finish(settings, discovered, labels) {
        Ok(target) => Outcome::Target(Box::new(target)),
        Err(error) => Outcome::Invalid(error),
    }
}

/// What relabelling sees: the job's own settings as labels, where discovery did not set them.
fn with_defaults(settings: &Settings, found: &Labels) -> Labels {
    let mut labels = found.to_builder();
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default(JOB, &settings.job_name);
    default(SCRAPE_INTERVAL, &telemetry::duration::format(settings.scrape_interval));
    default(SCRAPE_TIMEOUT, &telemetry::duration::format(settings.scrape_timeout));
    default(METRICS_PATH, &settings.metrics_path);
    default(SCHEME, settings.scheme);
    for (name, values) in &settings.params {
        if let Some(first) = values.first() {
            labels.set(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    labels.build()
}

fn finish(settings: &Arc<Settings>, discovered: Labels, mut labels: LabelsBuilder) -> Result<Target, TargetError> {
    let address = labels.get(ADDRESS).ok_or(TargetError::NoAddress)?.to_owned();
    let scrape_interval = telemetry::duration::parse(labels.get(SCRAPE_INTERVAL).unwrap_or_default())?;
    let scrape_timeout = telemetry::duration::parse(labels.get(SCRAPE_TIMEOUT).unwrap_or_default())?;
    check_durations(scrape_interval, scrape_timeout)?;
    if labels.get(INSTANCE).is_none() {
        labels.set(INSTANCE, &address);
    }
    let labels = labels.build();
    Ok(Target {
        scrape_url: url(settings, &address, &labels)?,
        labels: labels.retain(|name| !name.starts_with(INTERNAL_PREFIX)),
        discovered,
        pool: settings.job_name.clone(),
        scrape_interval,
        scrape_timeout,
        settings: settings.clone(),
        refused: None,
    })
}

fn check_durations(interval: Duration, timeout: Duration) -> Result<(), TargetError> {
    match () {
        () if interval.is_zero() => Err(TargetError::NoInterval),
        () if timeout.is_zero() => Err(TargetError::NoTimeout),
        () if timeout > interval => Err(TargetError::TimeoutOverInterval {
            timeout: telemetry::duration::format(timeout),
            interval: telemetry::duration::format(interval),
        }),
        () => Ok(()),
    }
}

/// The first value of a parameter can be relabelled (`__param_name`), further ones stay as configured.
fn url(settings: &Settings, address: &str, labels: &Labels) -> Result<url::Url, TargetError> {
    let bad_address = || TargetError::BadAddress(address.to_owned());
    if address.contains('/') {
        return Err(bad_address());
    }
    let scheme = labels.get(SCHEME).unwrap_or_default();
    if !["http", "https"].contains(&scheme) {
        return Err(TargetError::BadScheme(scheme.to_owned()));
    }
    let mut url = url::Url::parse(&format!("{scheme}://{address}")).map_err(|_| bad_address())?;
    // A path may carry its own query, as Prometheus allows.
    let path = labels.get(METRICS_PATH).unwrap_or_default();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(path);
    url.set_query(query);
    let relabelled = labels.iter().filter_map(|(n, v)| Some((n.strip_prefix(PARAM_PREFIX)?, v)));
    let further =
        settings.params.iter().flat_map(|(n, values)| values.iter().skip(1).map(move |v| (n.as_str(), v.as_str())));
    let params: Vec<(&str, &str)> = relabelled.chain(further).collect();
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    Ok(url)
}
