//! How the program is linked.

#![expect(clippy::disallowed_methods, reason = "a build script is told by the environment")]

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") || !is("PROFILE", "release") {
        return;
    }
    // A position-independent program has some 45,000 addresses to set right at its start, from a table of 24 bytes for
    // each: a megabyte that is read once and then lies in memory. Packed it is a fiftieth. glibc reads it since 2.36.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // The profile's `strip` is lost where a profile says more of this very package.
    println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
}
