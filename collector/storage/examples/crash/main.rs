//! The store killed, and cut off from its power: `cargo xtask soak store [ROUNDS [SEED]]`.
//!
//! A child process appends batches of rows, single samples, late samples, ends and histograms as fast as it can, while
//! it syncs and writes checkpoints beside that, and says which batches were acknowledged and which were synced. It is
//! killed (SIGKILL) at a random moment. In every third round the power fails with it: what was not synced of logs and
//! segments is cut off or turned to zeros, page by page. Then the directory is opened and compared with a model that has the same batches: no
//! acknowledged batch may be missing (after a loss of power: no synced one), nothing may be there that was not
//! appended. The next child goes on in the same directory.

mod batches;
mod child;
mod files;
mod model;
mod power;
mod run;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |a| a.parse().expect("a number"));
    if arguments.first().is_some_and(|first| first == "child") {
        child::child(Path::new(&arguments[1]), number(2, 0), number(3, 0));
        return ExitCode::SUCCESS;
    }
    let (rounds, seed) = (number(0, 200), number(1, u64::from(std::process::id())));
    println!("{rounds} rounds, seed {seed}");
    match run::run(rounds, seed) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault} (seed {seed})");
            ExitCode::FAILURE
        }
    }
}
