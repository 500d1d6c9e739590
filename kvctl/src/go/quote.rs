//! Go's quoted strings: `strconv.Quote` (the verb `%q`) and `strconv.Unquote`.

use std::fmt::Write as _;

/// The bytes as a double-quoted Go string. Printable characters stay as they are; bytes that are
/// not UTF-8 become `\xNN`.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_print(c) => out.push(c),
        // Go 1.16, with which etcdctl 3.5 is built, does so below the space only; later ones do
        // so for 0x7f too.
        '\0'..' ' => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if (c as u32) < 0x10000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
///
/// The standard library's `Debug` draws the same line (it escapes the categories C and Z), from a
/// newer Unicode table. It would also escape a combining mark at the head of a string, hence the
/// letter in front.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let mut buffer = [b'a'; 5];
    let width = c.encode_utf8(&mut buffer[1..]).len();
    let probe = std::str::from_utf8(&buffer[..=width]).expect("a letter and an encoded character");
    probe.escape_debug().nth(1) != Some('\\')
}

/// Reads the Go string literal (`"…"` with escapes, or `` `…` `` without) at the head of `text`.
/// Gives its bytes and what follows it; `None` if there is none, or it is malformed.
pub fn unquote_prefix(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match text.split_first()? {
        (b'`', body) => {
            let end = body.iter().position(|&b| b == b'`')?;
            Some((body[..end].to_vec(), &body[end + 1..]))
        }
        (b'"', body) => unquote_body(body),
        _ => None,
    }
}

fn unquote_body(body: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut rest = body;
    loop {
        let (&byte, tail) = rest.split_first()?;
        match byte {
            b'"' => return Some((out, tail)),
            b'\n' => return None,
            b'\\' => rest = unescape(tail, &mut out)?,
            byte => {
                out.push(byte);
                rest = tail;
            }
        }
    }
}

/// Decodes one escape, whose backslash is gone already; gives what follows it.
fn unescape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, tail) = text.split_first()?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => kind,
        b'x' => {
            let (value, tail) = digits(tail, 2, 16)?;
            out.push(u8::try_from(value).ok()?);
            return Some(tail);
        }
        b'0'..=b'7' => {
            let (value, tail) = digits(text, 3, 8)?;
            out.push(u8::try_from(value).ok()?);
            return Some(tail);
        }
        b'u' | b'U' => {
            let (value, tail) = digits(tail, if kind == b'u' { 4 } else { 8 }, 16)?;
            let c = char::from_u32(value)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(tail);
        }
        _ => return None,
    };
    out.push(simple);
    Some(tail)
}

fn digits(text: &[u8], count: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, tail) = text.split_at_checked(count)?;
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some((u32::from_str_radix(digits, radix).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_strconv_quotes_them() {
        for (bytes, text) in [
            (&b"plain key"[..], r#""plain key""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            (b"\x00\x1b\x7f", r#""\x00\x1b\u007f""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            (b"\xe2\x82", r#""\xe2\x82""#),
            ("café ☃ 日本".as_bytes(), "\"café ☃ 日本\""),
            (
                "\u{a0}\u{ad}\u{200b}\u{feff}".as_bytes(),
                r#""\u00a0\u00ad\u200b\ufeff""#,
            ),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
            ("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
            ("\u{fffd}".as_bytes(), "\"\u{fffd}\""),
        ] {
            assert_eq!(quote(bytes), text);
        }
    }

    #[test]
    fn a_literal_is_read_and_what_follows_is_left() {
        assert_eq!(
            unquote_prefix(br#""a\x00\377\u00e9\n\"" = 1"#),
            Some((b"a\x00\xff\xc3\xa9\n\"".to_vec(), &b" = 1"[..]))
        );
        assert_eq!(
            unquote_prefix(b"`a\\n`)"),
            Some((b"a\\n".to_vec(), &b")"[..]))
        );
    }

    #[test]
    fn malformed_literals_are_refused() {
        for bad in [
            &b""[..],
            b"a",
            b"\"a",
            b"\"\\q\"",
            b"\"\\x1\"",
            b"\"\\x+1\"",
            b"\"\\777\"",
            b"\"\\ud800\"",
            b"`a",
            b"\"a\nb\"",
        ] {
            assert_eq!(
                unquote_prefix(bad),
                None,
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn quoting_and_reading_are_inverse_for_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(
            unquote_prefix(quote(&all).as_bytes()),
            Some((all, &b""[..]))
        );
    }
}
