//! Fuzz targets: every parser and decoder that reads bytes from outside, as a function of those bytes.
//!
//! A target must neither panic nor run away, whatever it is given, and may assert what always holds (what was printed
//! parses to the same tree). `cargo xtask fuzz` runs them guided by coverage; the tests run each over its seeds and
//! over mutations of them, the same ones every time.

mod join;
mod logs;
mod promql;
mod sidecar;
mod store;
mod telemetry;

/// One parser or decoder.
pub struct Target {
    /// AREA_WHAT, as `cargo xtask fuzz` takes it.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Inputs of the right kind, from which mutations start.
    pub seeds: &'static [&'static [u8]],
}

/// All targets, by area.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    let areas: [&'static [Target]; 6] =
        [join::TARGETS, logs::TARGETS, promql::TARGETS, sidecar::TARGETS, store::TARGETS, telemetry::TARGETS];
    areas.into_iter().flatten()
}

#[cfg(test)]
mod tests;
