//! Whatever is compressed is what others unpack.

use std::io::Read;

use proptest::prelude::*;

use super::*;

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).expect("gzip");
    text
}

/// Appended in pieces of these sizes, over and over.
fn in_pieces(text: &[u8], sizes: &[usize]) -> Vec<u8> {
    // Buffers that another text was in.
    let mut scratch = Scratch::default();
    let mut gzip = Gzip::new(0, &mut scratch);
    gzip.text().extend_from_slice(&text[..text.len().min(70_000)]);
    gzip.finish(&mut scratch);
    let (mut gzip, mut rest, mut sizes) = (Gzip::new(text.len(), &mut scratch), text, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().expect("cycles")));
        gzip.text().extend_from_slice(piece);
        gzip.advance();
        rest = behind;
    }
    gzip.finish(&mut scratch)
}

/// A line as the sidecar's are.
fn line(n: u64) -> String {
    let x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"timestamp":"2026-11-20T19:{:02}:07.{:03}Z","level":"info","service":"order","trace_id":"{x:016x}{n:016x}","message":"order {} accepted","data":{{"user_id":"u-{}","duration_ms":{}}}}}"#,
        n % 60,
        n % 1000,
        x % 100_000,
        x % 7919,
        x % 400
    )
}

#[test]
fn lines_become_small() {
    let text: String = (0..5000).map(|n| line(n) + "\n").collect();
    let packed = Gzip::whole(text.as_bytes());
    assert_eq!(unpacked(&packed), text.as_bytes());
    assert!(packed.len() * 4 < text.len(), "{} of {}", packed.len(), text.len());
}

#[test]
fn nothing_one_byte_and_what_has_no_words_are_unpacked_too() {
    for text in [&b""[..], b"x", b"xxxxxxxx", b"       ", &[0xff; 70_000], &[b'a'; 200_000], &[b' '; 200_000]] {
        assert_eq!(unpacked(&Gzip::whole(text)), text);
    }
}

#[test]
fn a_repetition_is_found_across_chunks_and_not_beyond_the_window() {
    let words = |count: usize, seed: u64| -> Vec<u8> {
        (0..count as u64)
            .flat_map(|n| format!("{:x} ", (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes())
            .collect()
    };
    let (head, filling) = (words(40, 1), words(10_000, 1 << 40));
    for gap in [CHUNK_BYTES - 100, WINDOW_BYTES - head.len() - 10, WINDOW_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 7] {
        let text = [&filling[..30_000], &head, &filling[30_000..30_000 + gap], &head, &filling[..50]].concat();
        assert_eq!(unpacked(&in_pieces(&text, &[1000])), text, "{gap}");
    }
}

#[test]
fn other_text_behind_the_sample_is_written_with_its_codes() {
    let letters: String = (0..3000).map(line).collect();
    let bytes: Vec<u8> = (0..=255u8).cycle().step_by(7).take(300_000).collect();
    let text = [letters.as_bytes(), &bytes, letters.as_bytes()].concat();
    let packed = Gzip::whole(&text);
    assert_eq!(unpacked(&packed), text);
    assert!(packed.len() < text.len() * 3 / 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_unpacked_as_it_was(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 1usize..400, 0usize..6), 0..12),
        sizes in prop::collection::vec(1usize..100_000, 1..5)
    ) {
        let mut text = Vec::new();
        for (part, times, words) in parts {
            for n in 0..times {
                text.extend_from_slice(&part);
                (0..words).for_each(|word| text.extend_from_slice(line((n * 7 + word) as u64).as_bytes()));
            }
        }
        prop_assert_eq!(unpacked(&in_pieces(&text, &sizes)), text);
    }
}
