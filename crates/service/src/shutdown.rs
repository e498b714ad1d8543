//! The order to stop: given once, heard everywhere.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A handle that every task holds; clones share one order.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Self {
        Shutdown::default()
    }

    /// Orders the stop on SIGTERM or SIGINT; a second signal ends the process at once.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Shutdown::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let order = shutdown.clone();
        crate::task::spawn("signals", async move {
            let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
            tracing::info!(signal = name, "stopping");
            order.request();
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::warn!("second signal, leaving at once");
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    pub fn request(&self) {
        self.0.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when the stop has been ordered.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// A handle that hears this order but can also be stopped on its own.
    pub fn child(&self) -> Shutdown {
        Shutdown(self.0.child_token())
    }
}
