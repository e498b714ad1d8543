//! Snappy's block format, written as the message grows: no more than a block of it has to lie there uncompressed.
//!
//! The format is the uncompressed length and then elements that refer back only into their own block of 64 KiB
//! (google/snappy, format_description.txt), so that bodies may be put one behind the other without their lengths.

/// What snappy compresses at a time, whatever it is given.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

pub(super) struct Blocks {
    encoder: snap::raw::Encoder,
    /// The body of one block with its length; reused.
    scratch: Vec<u8>,
    out: Vec<u8>,
    /// Before compression.
    bytes: usize,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Blocks { encoder: snap::raw::Encoder::new(), scratch: Vec::new(), out: Vec::new(), bytes: 0 }
    }

    /// How much was pushed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, message: &[u8]) {
        for block in message.chunks(BLOCK_BYTES) {
            self.scratch.resize(snap::raw::max_compress_len(BLOCK_BYTES), 0);
            // Refused only where the room is too small, which it is not.
            let written = self.encoder.compress(block, &mut self.scratch).unwrap_or_default();
            let body = &self.scratch[..written];
            let length_bytes = body.iter().take_while(|byte| **byte >= 0x80).count() + 1;
            self.out.extend_from_slice(body.get(length_bytes..).unwrap_or_default());
            self.bytes += block.len();
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.out.len() + 10);
        let mut rest = self.bytes;
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.extend_from_slice(&self.out);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_come_out_as_one_message() {
        let word = |i: u32| format!("series {} is {} ", i % 97, i.wrapping_mul(2_654_435_761));
        let message: Vec<u8> = (0..20_000).flat_map(|i| word(i).into_bytes()).collect();
        for piece in [1000, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5, message.len()] {
            for length in [0, 1, 127, 128, BLOCK_BYTES, message.len()] {
                let mut blocks = Blocks::new();
                message[..length].chunks(piece).for_each(|piece| blocks.push(piece));
                assert_eq!(blocks.bytes(), length);
                let plain = snap::raw::Decoder::new().decompress_vec(&blocks.finish()).expect("snappy");
                assert!(plain == message[..length], "{length} bytes in pieces of {piece}");
            }
        }
    }
}
