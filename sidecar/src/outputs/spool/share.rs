//! The disk that all destinations share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all destinations together may keep on disk.
#[derive(Clone, Debug)]
pub struct Share(Arc<ShareState>);

#[derive(Debug)]
struct ShareState {
    used: AtomicU64,
    max: u64,
}

impl Share {
    pub fn new(max: u64) -> Self {
        Share(Arc::new(ShareState { used: AtomicU64::new(0), max }))
    }

    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.0.max
    }

    pub fn is_exceeded(&self) -> bool {
        self.used() > self.0.max
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
