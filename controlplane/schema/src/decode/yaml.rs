//! Parses YAML.

use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::tree::{self, Key, Parsed};
use super::{Error, Fault};

impl Key<'_> for Spanned<String> {
    fn into_parts(self) -> (String, u64) {
        (self.value, self.referenced.line())
    }
}

/// Parses one YAML document.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let mut duplicates = Vec::new();
    let value =
        serde_saphyr::with_deserializer_from_slice_with_options(body, options, |deserializer| {
            tree::build::<Spanned<String>, _>(deserializer, &mut duplicates)
        });
    let value = value.map_err(|error| {
        Error::Malformed(format!("error converting YAML to JSON: yaml: {error}"))
    })?;
    // Kubernetes turns YAML into JSON first, so that duplicates are told in the words of its YAML parser.
    let lines = duplicates.iter().map(|key| {
        format!(
            "\n  line {}: key {:?} already set in map",
            key.line, key.key
        )
    });
    let lines: String = lines.collect();
    let fault = (!lines.is_empty()).then(|| Fault::Yaml(format!("yaml: unmarshal errors:{lines}")));
    Ok(Parsed {
        value,
        faults: fault.into_iter().collect(),
    })
}
