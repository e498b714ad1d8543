//! How the program is linked.

#![expect(clippy::disallowed_methods, reason = "a build script is told by the environment")]

use std::env::var;
use std::fmt::Write;
use std::path::Path;

/// What runs in a task, a function on each line: written by `cargo xtask lean --record`.
const USED: &str = "link/used-functions.txt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={USED}");
    println!("cargo:rerun-if-env-changed=PICKET_KEEP_SYMBOLS");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") || !is("PROFILE", "release") {
        return;
    }
    // A position-independent program has some 45,000 addresses to set right at its start, from a table of 24 bytes for
    // each: a megabyte that is read once and then lies in memory. Packed it is a fiftieth. glibc reads it since 2.36.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if !is("PICKET_KEEP_SYMBOLS", "1") {
        // The profile's `strip` is lost where a profile says more of this very package.
        println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
    }
    // Only the binary as it ships is static.
    if var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|features| features.split(',').any(|one| one == "crt-static")) {
        put_together_what_is_used();
    }
}

/// The kernel maps sixteen pages around each one of a program that is touched. A task's sidecar runs a fifth of its code, and
/// spread over all of it that fifth had two thirds mapped. Names that are not there match nothing.
fn put_together_what_is_used() {
    let used = std::fs::read_to_string(USED).expect("the list of functions is part of the sources");
    let mut script = String::from("SECTIONS {\n  .text.used : {\n");
    for name in used.lines().filter(|line| !line.starts_with('#')) {
        // The end of a Rust symbol is a hash, which another version of the crate changes.
        let end = if name.starts_with("_ZN") { "17h*" } else { "" };
        writeln!(script, "    *(.text.{name}{end} .text.unlikely.{name}{end})").expect("a string takes everything");
    }
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    let path = Path::new(&var("OUT_DIR").expect("cargo names it")).join("used.ld");
    std::fs::write(&path, script).expect("cargo's directory can be written to");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
}
