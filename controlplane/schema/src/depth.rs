//! How deep values are nested.

use serde_json::Value;

/// The deepest JSON that can be read back: serde_json refuses what is deeper, lest its stack overflow.
pub const DEPTH_MAX: usize = 127;

/// How many lists and objects are around the innermost value.
pub fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_deep_as_it_may_be_is_read_and_nothing_deeper() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let read = |levels: usize| serde_json::from_str::<Value>(&nested(levels));
        assert_eq!(depth(&read(DEPTH_MAX).unwrap()), DEPTH_MAX);
        assert!(read(DEPTH_MAX + 1).is_err());
    }
}
