//! Which new series are taken. A limit never touches a series that is there: a service that grows too many loses sight of
//! the new ones alone.

use std::collections::HashMap;

use telemetry::Labels;

use crate::Refusal;
use crate::index::Index;

/// How many series each job may have: those in the store whose label `job` it is, however they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobLimits {
    pub by_job: HashMap<String, usize>,
    /// Of each job that is not named; None for any number.
    pub others: Option<usize>,
}

impl JobLimits {
    fn of(&self, job: &str) -> Option<usize> {
        self.by_job.get(job).copied().or(self.others)
    }
}

/// What holds for one batch.
#[derive(Clone, Copy)]
pub(crate) struct Admission<'l> {
    pub(crate) series_max: Option<usize>,
    pub(crate) memory_is_short: bool,
    /// None where somebody else counts.
    pub(crate) by_job: Option<&'l JobLimits>,
}

impl Admission<'_> {
    /// Whether the store takes a series that it does not have.
    pub(crate) fn check(&self, index: &Index, labels: &Labels) -> Result<(), Refusal> {
        let is_full = self.series_max.is_some_and(|max| index.len() >= max);
        let job_is_full = || {
            let job = labels.get("job").unwrap_or_default();
            let max = self.by_job.and_then(|limits| limits.of(job));
            max.is_some_and(|max| index.len_with("job", job) >= max)
        };
        match () {
            () if is_full => Err(Refusal::SeriesLimit),
            () if self.memory_is_short => Err(Refusal::MemoryLimit),
            () if job_is_full() => Err(Refusal::JobSeriesLimit),
            () => Ok(()),
        }
    }
}
