//! The ten lines by tracing-subscriber's JSON format.
use tracing::{debug, error, info, warn};

fn main() {
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG).init();
    debug!(entries = 42, "cache warmed");
    info!(order_id = "o-1", amount = 12.5, "order accepted");
    info!("quote \" and \\ backslash");
    info!("unicode žluťoučký 漢字");
    info!("two\nlines");
    warn!(depth = 900, queue.name = "mail", "queue is filling");
    error!(error = "card refused", "payment failed");
    info!(trace_id = "0af7651916cd43dd8448eb211c80319c", span_id = "b7ad6b7169203331", "within a trace");
    info!(trace_id = "12345", "a foreign trace");
    error!(attempts = 3, ok = false, "giving up");
}
