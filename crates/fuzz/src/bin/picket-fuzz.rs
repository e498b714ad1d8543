//! One target under libFuzzer, which brings its own `main` and takes its own options; `PICKET_FUZZ_TARGET` names the
//! target. The seeds of the target are first written to the directory that `PICKET_FUZZ_SEEDS` names.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(init: { choose(); }, |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});

#[expect(clippy::disallowed_methods, reason = "libFuzzer owns the command line, so the environment is what is left")]
fn choose() {
    let name = std::env::var("PICKET_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = fuzz::targets().find(|target| target.name == name) else {
        let names: Vec<_> = fuzz::targets().map(|target| target.name).collect();
        eprintln!("PICKET_FUZZ_TARGET names one of: {}", names.join(" "));
        std::process::exit(2);
    };
    if let Ok(dir) = std::env::var("PICKET_FUZZ_SEEDS") {
        for (index, seed) in target.seeds.iter().enumerate() {
            let file = Path::new(&dir).join(format!("seed-{index}"));
            if let Err(error) = std::fs::write(&file, seed) {
                eprintln!("{}: {error}", file.display());
                std::process::exit(2);
            }
        }
    }
    let _ = TARGET.set(target);
}
