//! Warning headers, which kubectl prints before anything else.
//!
//! They are bounded as in Kubernetes, since what they tell of may be as long as a request: a client that takes no such
//! header would hold a write for failed that was carried out.

use std::collections::HashSet;

use http::HeaderValue;

/// Characters of all together, as long as none has to be cut.
const ALL_MAX: usize = 4_096;
/// Characters of one, if all together are too many.
const ONE_MAX: usize = 256;

/// The values of the headers for what there is to be warned of, each once.
pub(super) fn headers<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<HeaderValue> {
    let mut seen = HashSet::new();
    let mut texts: Vec<String> = texts
        .into_iter()
        .filter(|text| !text.is_empty() && seen.insert(*text))
        .map(printable)
        .collect();
    let length = |text: &String| text.chars().count();
    if texts.iter().map(length).sum::<usize>() > ALL_MAX {
        let mut left = ALL_MAX;
        for text in &mut texts {
            *text = text.chars().take(ONE_MAX).collect();
        }
        texts.retain(|text| {
            let fits = length(text) <= left;
            left = left.saturating_sub(length(text));
            fits
        });
    }
    let value = |text: &String| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()).ok()
    };
    texts.iter().filter_map(value).collect()
}

/// The text without what would end a header.
fn printable(text: &str) -> String {
    let is_odd = |c: char| c.is_control();
    let shown = |c: char| match is_odd(c) {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(texts: &[&str]) -> Vec<String> {
        let values = headers(texts.iter().copied());
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        values.iter().map(text).collect()
    }

    #[test]
    fn each_text_is_told_once_and_whatever_is_in_it() {
        assert_eq!(
            shown(&["unknown field \"é\"", "a\nb\\", "a\nb\\", ""]),
            ["299 - \"unknown field \\\"é\\\"\"", "299 - \"a\\\\nb\\\\\""]
        );
    }

    #[test]
    fn texts_are_cut_if_they_are_too_long_together() {
        let long = "x".repeat(100_000);
        assert_eq!(
            shown(&[&long]),
            [format!("299 - \"{}\"", "x".repeat(ONE_MAX))]
        );
        let fits = "y".repeat(ALL_MAX);
        assert_eq!(shown(&[&fits]), [format!("299 - \"{fits}\"")]);
        let many: Vec<String> = (0..100).map(|n| format!("{n:03}{long}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(shown(&many).len(), ALL_MAX / ONE_MAX);
    }
}
