//! The pairs of CPU and memory that Fargate has.

/// CPU units of a task, with the least and the most memory in MiB that goes with them and the step between.
const SIZES: [(u64, u64, u64, u64); 7] = [
    // 256 units: 512, 1024 and 2048 MiB; the step is not even, see `memories`.
    (256, 512, 2048, 512),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096),
    (16384, 32768, 122_880, 8192),
];

/// A task's size: CPU units (1,024 are a virtual CPU) and MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

impl Size {
    pub(super) fn is_valid(self) -> bool {
        memories(self.cpu).contains(&self.memory)
    }

    /// The smallest valid size that holds this one; None beyond the largest.
    pub(super) fn next_valid(self) -> Option<Size> {
        SIZES.iter().filter(|(cpu, ..)| *cpu >= self.cpu).find_map(|(cpu, ..)| {
            let memory = memories(*cpu).into_iter().find(|memory| *memory >= self.memory)?;
            Some(Size { cpu: *cpu, memory })
        })
    }
}

fn memories(cpu: u64) -> Vec<u64> {
    let Some((_, least, most, step)) = SIZES.iter().find(|(units, ..)| *units == cpu) else { return Vec::new() };
    let steps = (*least..=*most).step_by(*step as usize);
    steps.filter(|memory| cpu != 256 || *memory != 1536).collect()
}

/// `256`, `.25 vCPU`.
pub(super) fn parse_cpu(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.strip_suffix("vcpu") {
        Some(number) => fraction(number, 1024),
        None => lower.parse().ok(),
    }
}

/// `512`, `0.5 GB`.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.strip_suffix("gb") {
        Some(number) => fraction(number, 1024),
        None => lower.strip_suffix("mb").unwrap_or(&lower).trim().parse().ok(),
    }
}

fn fraction(number: &str, of: u64) -> Option<u64> {
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && (0.0..1e6).contains(&number)).then_some((number * of as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_valid_size_is_the_smallest_that_holds_what_is_wanted() {
        let next = |cpu, memory| Size { cpu, memory }.next_valid().map(|s| (s.cpu, s.memory));
        for (wanted, size) in [
            ((256, 512), Some((256, 512))),
            ((1, 1), Some((256, 512))),
            ((288, 544), Some((512, 1024))),
            ((256, 1025), Some((256, 2048))),
            ((256, 2049), Some((512, 3072))),
            ((1056, 2080), Some((2048, 4096))),
            ((4096, 30_721), Some((8192, 32_768))),
            ((16_384, 122_880), Some((16_384, 122_880))),
            ((16_384, 122_881), None),
            ((16_385, 1), None),
        ] {
            assert_eq!(next(wanted.0, wanted.1), size, "{wanted:?}");
        }
        assert!(!Size { cpu: 256, memory: 1536 }.is_valid());
        assert!(Size { cpu: 8192, memory: 20_480 }.is_valid());
    }

    #[test]
    fn sizes_are_read_in_both_notations() {
        assert_eq!([".25 vCPU", "1 vcpu", "256", "x"].map(parse_cpu), [Some(256), Some(1024), Some(256), None]);
        assert_eq!(["0.5 GB", "1GB", "512", "GB"].map(parse_memory), [Some(512), Some(1024), Some(512), None]);
    }
}
