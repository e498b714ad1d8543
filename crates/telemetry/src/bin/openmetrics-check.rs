//! Reads a body from standard input; exit code 0 says that it is OpenMetrics 1.0, 1 that it is not, and why.

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        eprintln!("usage: openmetrics-check < BODY\nexits 0 if BODY is valid OpenMetrics 1.0, 1 if it is not");
        return ExitCode::from(2);
    }
    let mut body = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut body) {
        eprintln!("openmetrics-check: cannot read standard input: {error}");
        return ExitCode::FAILURE;
    }
    match telemetry::exposition::strict::check(&body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openmetrics-check: {error}");
            ExitCode::FAILURE
        }
    }
}
