//! Which pods bear which taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration is for a taint: it is for every effect, key or value that it leaves out.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let value_fits = match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => given(&toleration.value) == given(&taint.value),
        _ => false,
    };
    value_fits
        && given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && given(&toleration.key).is_none_or(|key| key == taint.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_is_for_the_taints_that_it_describes() {
        let taint = |value: Option<&str>| Taint {
            key: "gpu".into(),
            value: value.map(str::to_owned),
            effect: "NoExecute".into(),
            time_added: None,
        };
        let (bare, old) = (taint(None), taint(Some("old")));
        // Key, operator, value, effect; whether it is for the taint without a value, and for that with one.
        let cases = [
            (["", "Exists", "", ""], [true, true]),
            (["gpu", "Exists", "", "NoExecute"], [true, true]),
            (["gpu", "Exists", "", "NoSchedule"], [false, false]),
            (["cpu", "Exists", "", ""], [false, false]),
            (["gpu", "Equal", "old", ""], [false, true]),
            (["gpu", "", "old", "NoExecute"], [false, true]),
            (["gpu", "Equal", "new", ""], [false, false]),
            (["gpu", "Equal", "", ""], [true, false]),
            // The API server refuses these; they mean what they say.
            (["", "Equal", "old", ""], [false, true]),
            (["gpu", "Unknown", "old", ""], [false, false]),
        ];
        for (words, expected) in cases {
            let [key, operator, value, effect] = words.map(|word| Some(word.to_owned()));
            let toleration = Toleration {
                key,
                operator,
                value,
                effect,
                toleration_seconds: None,
            };
            let found = [&bare, &old].map(|taint| tolerates(&toleration, taint));
            assert_eq!(found, expected, "{words:?}");
        }
    }
}
