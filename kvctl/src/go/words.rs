//! The words of a line typed into `txn` or `watch -i`, split as etcdctl splits them.
//!
//! A word is a Go string literal in double quotes, anything in single quotes (no escapes), or a run
//! of other characters, which may hold quotes after its first. etcdctl skips a quote that is never
//! closed and goes on with what follows it; that changes data without a word, so it is refused here.

use super::quote;

/// Splits a line into words.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        let Some(&first) = rest.first() else {
            return Ok(words);
        };
        let (word, tail) = match first {
            b'"' => quote::unquote_prefix(rest).ok_or_else(|| {
                format!(
                    "the double-quoted word at `{}` is not closed, or has an unknown escape",
                    String::from_utf8_lossy(rest)
                )
            })?,
            b'\'' => {
                let body = &rest[1..];
                let end = body.iter().position(|&b| b == b'\'').ok_or_else(|| {
                    format!(
                        "the single-quoted word at `{}` is not closed",
                        String::from_utf8_lossy(rest)
                    )
                })?;
                (body[..end].to_vec(), &body[end + 1..])
            }
            _ => {
                let end = rest
                    .iter()
                    .position(u8::is_ascii_whitespace)
                    .unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        words.push(word);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes())
            .unwrap()
            .into_iter()
            .map(|word| String::from_utf8(word).unwrap())
            .collect()
    }

    #[test]
    fn plain_words_are_split_at_white_space() {
        assert_eq!(words("  put key\tvalue "), ["put", "key", "value"]);
        assert!(words("   ").is_empty());
    }

    #[test]
    fn double_quotes_take_escapes_and_single_quotes_take_none() {
        assert_eq!(
            words(r#"put "a \"b\"\n" 'c \n d'"#),
            ["put", "a \"b\"\n", r"c \n d"]
        );
        assert_eq!(words(r#"put "" ''"#), ["put", "", ""]);
    }

    #[test]
    fn a_quote_inside_a_word_is_a_character() {
        assert_eq!(words(r#"put it's a"b"#), ["put", "it's", "a\"b"]);
    }

    #[test]
    fn an_open_quote_is_refused() {
        assert!(split(b"put a \"b").is_err());
        assert!(split(b"put a 'b").is_err());
        assert!(split(br#"put a "\q""#).is_err());
    }
}
