//! The Huffman code of HPACK (RFC 7541, appendix B), for reading.

/// How many bits each byte's code has. The code is canonical: shorter codes come first, and within a length the codes
/// follow the bytes' order, so the lengths say it all. The end-of-string symbol, which nobody may send, is left out.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: u8 = 30;

/// Codes by length and value.
#[derive(Debug)]
pub struct Decoder {
    /// For each length, the first code of that length and the bytes whose codes they are, in order.
    lengths: Vec<(u32, Vec<u8>)>,
}

impl Decoder {
    pub fn new() -> Decoder {
        let mut code = 0;
        let mut lengths = Vec::new();
        for length in 0..=LENGTH_MAX {
            code <<= 1;
            let bytes: Vec<u8> = (0..=255)
                .filter(|byte| LENGTHS[usize::from(*byte)] == length)
                .collect();
            let first = code;
            code += bytes.len() as u32;
            lengths.push((first, bytes));
        }
        Decoder { lengths }
    }

    /// None if it is no Huffman code.
    pub fn decode(&self, coded: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        let (mut code, mut length) = (0_u32, 0_usize);
        let mut only_ones = true;
        for byte in coded {
            for bit in (0..8).rev() {
                let bit = u32::from(byte >> bit & 1);
                code = code << 1 | bit;
                only_ones &= bit == 1;
                length += 1;
                let (first, bytes) = self.lengths.get(length)?;
                let found = code
                    .checked_sub(*first)
                    .and_then(|place| bytes.get(place as usize));
                if let Some(byte) = found {
                    decoded.push(*byte);
                    (code, length, only_ones) = (0, 0, true);
                }
            }
        }
        // What is left over is padding: the beginning of the end-of-string symbol, which is all ones.
        (length < 8 && only_ones).then_some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let decoder = Decoder::new();
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoder.decode(&coded).unwrap(), b"www.example.com");
        let coded = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
        assert_eq!(decoder.decode(&coded).unwrap(), b"custom-value");
        assert_eq!(decoder.decode(&[]).unwrap(), b"");
    }

    #[test]
    fn padding_that_is_no_padding_is_refused() {
        let decoder = Decoder::new();
        // '0' is five zeros; three more zeros are not the beginning of the end.
        assert_eq!(decoder.decode(&[0b0000_0111]).unwrap(), b"0");
        assert_eq!(decoder.decode(&[0b0000_0000]), None);
        assert_eq!(
            decoder.decode(&[0xff, 0xff]),
            None,
            "a byte of padding too many"
        );
    }
}
