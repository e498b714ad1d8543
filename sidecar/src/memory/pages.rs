//! Gives back the pages of the program itself that only its start has needed.
//!
//! Of a program that waits for most of its life the code is the largest part of the resident memory, and the half of it
//! has run once: arguments, configuration, clients, tables. Linux maps 16 pages around each one that is touched and takes
//! none back while there is room. Told that a mapping is not needed now, it forgets its pages at once; those that are
//! used again come back from the page cache by a minor fault, a few hundred of them in all.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// Every stage has gone round once by then.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// What runs once in a while (faults, reconnections) is not kept for ever either.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// Linked when the program starts and there to its end, as the program is.
const LIBRARIES: [&str; 3] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];

/// A mapping that holds nothing but its file.
#[derive(Debug, PartialEq)]
struct Mapping {
    start: usize,
    len: usize,
    resident: usize,
}

/// Gives pages back until it is dropped.
pub async fn watch() -> anyhow::Result<()> {
    let mut after = FIRST_AFTER;
    loop {
        tokio::time::sleep(after).await;
        after = AGAIN_AFTER;
        let bytes = give_back();
        tracing::debug!(bytes, "pages of the program given back");
    }
}

/// How many bytes were resident that are not now.
fn give_back() -> usize {
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    mappings(&smaps, &program.to_string_lossy()).iter().filter(|mapping| forget(mapping)).map(|m| m.resident).sum()
}

#[expect(unsafe_code, reason = "there is no safe way to give advice on memory")]
fn forget(mapping: &Mapping) -> bool {
    let Some(start) = NonNull::new(mapping.start as *mut c_void) else { return false };
    // SAFETY: the range is a private mapping of a file that cannot be written to, of which no page differs from the file
    // (`Anonymous` is 0), and which stays mapped to the end of the process: what is read there is the same before and
    // after.
    unsafe { madvise(start, mapping.len, MmapAdvise::MADV_DONTNEED) }.is_ok()
}

/// Of proc_pid_smaps(5): what is mapped of the program and its libraries, cannot be written to and never was.
fn mappings(smaps: &str, program: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        if let Some(mapping) = head(line, program) {
            current = mapping;
            continue;
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let kilobytes = || value.split_ascii_whitespace().next().and_then(|n| n.parse::<usize>().ok());
        match (key, &mut current) {
            ("Rss", Some(mapping)) => mapping.resident = kilobytes().unwrap_or(0) * 1024,
            ("Anonymous", Some(_)) => found.extend(current.take().filter(|_| kilobytes() == Some(0))),
            _ => {}
        }
    }
    found
}

/// A mapping's first line: None where it is another line, Some(None) where the mapping is not of interest.
/// `55d0-55e0 r-xp 0001000 fe:00 1234    /sidecar`
fn head(line: &str, program: &str) -> Option<Option<Mapping>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let rights = words.next()?;
    let path = line.find('/').map_or("", |at| &line[at..]);
    let is_ours = path == program || LIBRARIES.iter().any(|name| path.rsplit('/').next() == Some(name));
    let is_file = matches!(rights, "r-xp" | "r--p") && path.starts_with('/') && is_ours;
    Some(is_file.then(|| Mapping { start, len: end.saturating_sub(start), resident: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 7                          /a dir/sidecar
Size:                  8 kB
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
3000-9000 r-xp 00002000 fe:00 7                          /a dir/sidecar
Rss:                  12 kB
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 7                          /a dir/sidecar
Rss:                   4 kB
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 7                          /a dir/sidecar
Rss:                   4 kB
Anonymous:             0 kB
b000-c000 rw-p 00000000 00:00 0                          [heap]
Rss:                   4 kB
Anonymous:             4 kB
c000-e000 r-xp 00000000 fe:00 8                          /lib/x86_64-linux-gnu/libc.so.6
Rss:                   8 kB
Anonymous:             0 kB
e000-f000 r-xp 00000000 fe:00 9                          /lib/x86_64-linux-gnu/libnss_dns.so.2
Rss:                   4 kB
Anonymous:             0 kB
f000-10000 r-xp 00000000 00:00 0                         [vdso]
Rss:                   4 kB
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_the_file_itself_is_given_back() {
        let mapping = |start, len, resident| Mapping { start, len, resident };
        assert_eq!(
            mappings(SMAPS, "/a dir/sidecar"),
            [mapping(0x1000, 0x2000, 4096), mapping(0x3000, 0x6000, 12288), mapping(0xc000, 0x2000, 8192)]
        );
    }

    #[test]
    fn a_program_runs_on_without_the_pages_that_it_gave_back() {
        let before = give_back();
        assert!(before > 1 << 20, "{before} bytes of this very test program");
        let again = give_back();
        assert!(again > 0, "what ran in between has come back");
    }
}
