//! Exit codes and version text that all binaries share.

use std::process::ExitCode;

/// Exit code of a bad configuration (`EX_CONFIG` would be 78; 64 is what the suite promises).
pub const EXIT_CONFIG: u8 = 64;

/// Why a program ends unsuccessfully; decides the exit code.
#[derive(Debug)]
pub enum Exit {
    /// The configuration is wrong: 64.
    Config(anyhow::Error),
    /// Anything else: 1.
    Failure(anyhow::Error),
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Exit::Failure(error)
    }
}

/// Prints the error's whole chain once and turns the result into the process' exit code.
pub fn finish(program: &str, result: Result<(), Exit>) -> ExitCode {
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Exit::Config(error)) => (error, EXIT_CONFIG),
        Err(Exit::Failure(error)) => (error, 1),
    };
    eprintln!("{program}: {error:#}");
    ExitCode::from(code)
}

/// `0.1.0 (commit abc123, release, x86_64-linux)`; the commit is known where the build sets `PICKET_COMMIT`.
pub fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| {
        format!(
            "{} (commit {}, {}, {}-{})",
            env!("CARGO_PKG_VERSION"),
            commit(),
            if cfg!(debug_assertions) { "debug" } else { "release" },
            std::env::consts::ARCH,
            std::env::consts::OS,
        )
    })
}

/// The commit this binary was built from, `unknown` where the build did not say.
pub fn commit() -> &'static str {
    option_env!("PICKET_COMMIT").unwrap_or("unknown")
}
