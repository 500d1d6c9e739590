//! The one field of a header block that is looked at: `:authority`.
//!
//! A field's value is plain text or Huffman-coded (RFC 7541, 5.2 and appendix B). Letters are replaced by others whose
//! codes are as long, in place, so that a block keeps its length, and what it adds to the compression's dynamic table keeps its
//! length too: both ends go on agreeing about that table.

/// The static table's index of `:authority` (RFC 7541, appendix A).
const AUTHORITY: usize = 1;

/// A value's letters, as the bits that stand for them.
struct Code {
    /// The widths that codes have, with the greatest code of each: the codes of a width follow each other, and lie
    /// below all that longer ones begin with. What is longer than these is in no host's name.
    widths: &'static [(usize, u32)],
    colon: u32,
    slash: u32,
    /// What replaces a scheme's colon: any letter whose code is as long.
    instead_of_colon: u32,
    /// What replaces a slash.
    instead_of_slash: u32,
}

const PLAIN: Code = Code {
    widths: &[(8, 0xff)],
    colon: b':' as u32,
    slash: b'/' as u32,
    instead_of_colon: b'x' as u32,
    instead_of_slash: b'-' as u32,
};

const HUFFMAN: Code = Code {
    widths: &[
        (5, 0x9),
        (6, 0x2d),
        (7, 0x7b),
        (8, 0xfd),
        (10, 0x3fc),
        (11, 0x7fc),
        (12, 0xffb),
        (13, 0x1ffd),
    ],
    colon: 0x5c,
    slash: 0x18,
    instead_of_colon: 0x79,
    instead_of_slash: 0x16,
};

/// Looks for the block's `:authority`, and if that is a URL makes a name of the same length of it: `http://host:port`
/// becomes `httpx--host:port`. Says whether it did. What is malformed, or ends too soon, is left as it is.
pub(super) fn mend(block: &mut [u8]) -> bool {
    let mut at = 0;
    while let Some(field) = Field::at(block, at) {
        if field.name == Some(AUTHORITY)
            && let Some((code, value)) = field.value
        {
            let value = block.get_mut(value.0..value.1);
            return value.is_some_and(|value| code.mend(value));
        }
        at = field.end;
    }
    false
}

/// A field of a block, without what it says.
struct Field {
    /// The static or dynamic table's index of its name, if it is there.
    name: Option<usize>,
    /// How its value is coded, and where it begins and ends, if it is not in a table.
    value: Option<(&'static Code, (usize, usize))>,
    /// Where the next one begins.
    end: usize,
}

impl Field {
    fn at(block: &[u8], at: usize) -> Option<Field> {
        let kind = *block.get(at)?;
        // Indexed whole, or no field but a new size of the dynamic table.
        let (width, is_literal) = match kind {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            _ => (4, true),
        };
        let (name, mut end) = integer(block, at, width)?;
        if !is_literal {
            return Some(Field {
                name: None,
                value: None,
                end,
            });
        }
        if name == 0 {
            (_, (_, end)) = text(block, end)?;
        }
        let value = text(block, end)?;
        let (_, (_, end)) = value;
        Some(Field {
            name: Some(name),
            value: Some(value),
            end,
        })
    }
}

/// The integer whose first `width` bits are the last ones of the byte at `at`, and where it ends (RFC 7541, 5.1).
fn integer(block: &[u8], at: usize, width: u32) -> Option<(usize, usize)> {
    let mask = (1 << width) - 1;
    let mut value = usize::from(*block.get(at)?) & mask;
    let mut end = at + 1;
    if value < mask {
        return Some((value, end));
    }
    // Three more bytes say lengths beyond any block's.
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(end)?);
        end += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, end));
        }
    }
    None
}

/// How the text at `at` is coded, and where it begins and ends.
fn text(block: &[u8], at: usize) -> Option<(&'static Code, (usize, usize))> {
    let code = if *block.get(at)? & 0x80 == 0 {
        &PLAIN
    } else {
        &HUFFMAN
    };
    let (len, begin) = integer(block, at, 7)?;
    Some((code, (begin, begin + len)))
}

impl Code {
    /// Replaces the colon before a slash, and every slash, if there is `://` in it.
    fn mend(&self, value: &mut [u8]) -> bool {
        let letters: Vec<(usize, usize, u32)> = self.letters(value).collect();
        let is = |at: usize, code| letters.get(at).is_some_and(|letter| letter.2 == code);
        let is_scheme_end = |at| is(at, self.colon) && is(at + 1, self.slash);
        if !(0..letters.len()).any(|at| is_scheme_end(at) && is(at + 2, self.slash)) {
            return false;
        }
        for (number, &(at, width, code)) in letters.iter().enumerate() {
            if is_scheme_end(number) {
                put(value, at, width, self.instead_of_colon);
            } else if code == self.slash {
                put(value, at, width, self.instead_of_slash);
            }
        }
        true
    }

    /// The letters up to the padding or the first that is in no host's name: where each begins, in bits, how many bits
    /// it has, and its code.
    fn letters(&self, value: &[u8]) -> impl Iterator<Item = (usize, usize, u32)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (width, code) = self.widths.iter().find_map(|&(width, greatest)| {
                let code = take(value, at, width)?;
                (code <= greatest).then_some((width, code))
            })?;
            let letter = (at, width, code);
            at += width;
            Some(letter)
        })
    }
}

/// At most 16 bits from bit `at` on.
fn take(bytes: &[u8], at: usize, width: usize) -> Option<u32> {
    if at + width > bytes.len() * 8 {
        return None;
    }
    let byte = |number| u32::from(bytes.get(number).copied().unwrap_or(0));
    let first = at / 8;
    let window = (byte(first) << 16) | (byte(first + 1) << 8) | byte(first + 2);
    Some((window >> (24 - at % 8 - width)) & ((1 << width) - 1))
}

/// Overwrites bits that [`take`] gave.
fn put(bytes: &mut [u8], at: usize, width: usize, code: u32) {
    for number in 0..width {
        let (at, bit) = (at + number, (code >> (width - 1 - number)) & 1);
        if let Some(byte) = bytes.get_mut(at / 8) {
            let mask = 0x80 >> (at % 8);
            *byte = if bit == 1 {
                *byte | mask
            } else {
                *byte & !mask
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of the letters below (RFC 7541, appendix B), with their widths.
    const CODES: &[(char, u32, usize)] = &[
        ('0', 0x0, 5),
        ('1', 0x1, 5),
        ('2', 0x2, 5),
        ('3', 0x19, 6),
        ('7', 0x1d, 6),
        ('9', 0x1f, 6),
        ('a', 0x3, 5),
        ('b', 0x23, 6),
        ('h', 0x27, 6),
        ('o', 0x7, 5),
        ('p', 0x2b, 6),
        ('s', 0x8, 5),
        ('t', 0x9, 5),
        ('x', 0x79, 7),
        ('.', 0x17, 6),
        ('-', 0x16, 6),
        (':', 0x5c, 7),
        ('/', 0x18, 6),
        ('[', 0x1ffb, 13),
        (']', 0x1ffc, 13),
        ('{', 0x7ffe, 15),
    ];

    fn huffman(text: &str) -> Vec<u8> {
        let mut bits = String::new();
        for letter in text.chars() {
            let (_, code, width) = CODES.iter().find(|code| code.0 == letter).unwrap();
            bits += &format!("{code:0width$b}");
        }
        bits += &"1".repeat((8 - bits.len() % 8) % 8);
        let byte = |start| u8::from_str_radix(&bits[start..start + 8], 2).unwrap();
        (0..bits.len()).step_by(8).map(byte).collect()
    }

    /// What is made of a URL, plain and Huffman-coded; both must come to the same.
    fn mended(from: &str, to: &str) -> bool {
        let mut plain = from.as_bytes().to_vec();
        let mut coded = huffman(from);
        let did = PLAIN.mend(&mut plain);
        assert_eq!(did, HUFFMAN.mend(&mut coded), "{from}");
        assert_eq!(String::from_utf8(plain).unwrap(), to);
        assert_eq!(coded, huffman(to), "{from}");
        did
    }

    #[test]
    fn a_url_becomes_a_name_of_its_length() {
        assert!(mended("http://127.0.0.1:2379", "httpx--127.0.0.1:2379"));
        assert!(mended("https://a.b:1/", "httpsx--a.b:1-"));
        assert!(mended("http://[::1]:2379", "httpx--[::1]:2379"));
        for name in [
            "httpx--127.0.0.1:2379",
            "httpx--[::1]:2379",
            "httpsx--a.b:1-",
        ] {
            assert!(name.parse::<http::uri::Authority>().is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_url_stays_as_it_is() {
        for name in [
            "",
            "127.0.0.1:2379",
            "[::1]:2379",
            "a",
            "a/b",
            "a:/b",
            "//a:1",
        ] {
            assert!(!mended(name, name));
        }
    }

    /// A block with this value for `:authority`, after two fields and a change of the table's size, and one more.
    fn block(value: &[u8], is_huffman: bool, kind: u8) -> Vec<u8> {
        let coded = if is_huffman { 0x80 } else { 0 };
        let len = coded | u8::try_from(value.len()).unwrap();
        let before = [
            &[0x3f, 0x01, 0x83, 0x40, 1, b'n', 1, b'v', kind, len],
            value,
        ];
        [before.concat(), vec![0x5f, 0]].concat()
    }

    #[test]
    fn the_authority_is_found_wherever_and_however_it_is_written() {
        for kind in [0x41, 0x01, 0x11] {
            let mut plain = block(b"http://a:1", false, kind);
            assert!(mend(&mut plain));
            assert_eq!(plain, block(b"httpx--a:1", false, kind));
            let mut coded = block(&huffman("http://a:1"), true, kind);
            assert!(mend(&mut coded));
            assert_eq!(coded, block(&huffman("httpx--a:1"), true, kind));
        }
        // Another field that holds a URL, by the name that follows in the static table: `:method`.
        let mut other = block(b"http://a:1", false, 0x42);
        assert!(!mend(&mut other));
        assert_eq!(other, block(b"http://a:1", false, 0x42));
    }

    #[test]
    fn a_block_that_ends_too_soon_or_is_garbage_is_left_alone() {
        let whole = block(b"http://a:1", false, 0x41);
        for len in 0..whole.len() - 2 {
            let mut cut = whole[..len].to_vec();
            assert!(!mend(&mut cut), "{len}");
            assert_eq!(cut, whole[..len]);
        }
        // Every two bytes before a field that would be mended, the lengths of integers that overflow among them.
        for start in 0..=u16::MAX {
            let mut garbage = [&start.to_be_bytes()[..], &[0xff; 8], &whole].concat();
            mend(&mut garbage);
        }
    }
}
