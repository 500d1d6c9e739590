//! Pod templates: whether two are equal, and the name that one goes by.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// The label that keeps the pods of a deployment's replica sets apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Letters that make no words, so that no name does either.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates ask for the same pods, whatever their hash labels say. Nothing and empty are the same.
pub fn are_equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    canonical(a) == canonical(b)
}

/// The template's hash, as it goes into names and labels. The same template and count give the same hash in every
/// process, so that a replica set whose creation was lost is found, not created twice.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let text = canonical(template).to_string();
    let mut sum: u32 = 0x811c_9dc5;
    let salt = collisions.map(|count| count.to_le_bytes());
    for byte in text.bytes().chain(salt.into_iter().flatten()) {
        sum = (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let digits = sum.to_string();
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    digits.bytes().map(letter).collect()
}

/// So many letters that stand for a text: the same in every process.
pub fn letters(text: &str, count: usize) -> String {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of such a sum hardly depend on the first bytes.
    sum ^= sum >> 32;
    let base = ALPHABET.len() as u64;
    let digit = |_| {
        let letter = char::from(ALPHABET[(sum % base) as usize]);
        sum /= base;
        letter
    };
    (0..count).map(digit).collect()
}

/// The template as a value in which what is empty is absent. `serde_json`'s maps are ordered, so its text is too.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).expect("a template serializes");
    if let Some(labels) = value
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH_LABEL);
    }
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| {
                prune(field);
                !is_nothing(field)
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => (),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        // An empty object may mean something: `emptyDir: {}`. Maps of text do not, but look alike; both sides come
        // through the same server, which writes them alike.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    use kube::api::ObjectMeta;

    use super::*;

    fn template(labels: &[(&str, &str)], image: &str) -> PodTemplateSpec {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let container = Container {
            name: "main".into(),
            image: Some(image.into()),
            ..Container::default()
        };
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
        }
    }

    #[test]
    fn templates_are_equal_but_for_their_hash_labels() {
        let cases = [
            ("the same", vec![("a", "b")], vec![("a", "b")], true),
            (
                "different hashes",
                vec![(HASH_LABEL, "1"), ("a", "b")],
                vec![(HASH_LABEL, "2"), ("a", "b")],
                true,
            ),
            (
                "a hash on one side",
                vec![("a", "b")],
                vec![(HASH_LABEL, "2"), ("a", "b")],
                true,
            ),
            (
                "another label",
                vec![(HASH_LABEL, "1"), ("a", "b")],
                vec![(HASH_LABEL, "1"), ("a", "c")],
                false,
            ),
            (
                "a hash here, and another label there",
                vec![(HASH_LABEL, "1"), ("a", "b")],
                vec![("c", "d"), ("a", "b")],
                false,
            ),
            (
                "nothing but a hash here, and another label there",
                vec![(HASH_LABEL, "1")],
                vec![("a", "b")],
                false,
            ),
            (
                "nothing but a hash here, and nothing there",
                vec![(HASH_LABEL, "1")],
                vec![],
                true,
            ),
            (
                "one label more",
                vec![("a", "b")],
                vec![("a", "b"), ("c", "d")],
                false,
            ),
        ];
        for (name, a, b, equal) in cases {
            let (a, b) = (template(&a, "i"), template(&b, "i"));
            assert_eq!(are_equal(&a, &b), equal, "{name}");
            assert_eq!(are_equal(&b, &a), equal, "{name}");
        }
        let plain = template(&[], "i");
        let mut annotated = plain.clone();
        let meta = annotated.metadata.as_mut().unwrap();
        meta.annotations = Some([("a".into(), "b".into())].into());
        let mut placed = plain.clone();
        placed.spec.as_mut().unwrap().node_name = Some("n".into());
        for other in [template(&[], "j"), annotated, placed] {
            assert!(!are_equal(&plain, &other), "{other:?}");
            assert!(!are_equal(&other, &plain), "{other:?}");
        }
    }

    #[test]
    fn nothing_and_empty_are_the_same() {
        let (a, mut b) = (template(&[], "i"), template(&[], "i"));
        b.spec.as_mut().unwrap().volumes = Some(vec![]);
        b.spec.as_mut().unwrap().containers[0].env = Some(vec![]);
        assert!(are_equal(&a, &b));
        assert_eq!(hash(&a, None), hash(&b, None));
    }

    #[test]
    fn the_hash_is_fixed_and_differs_by_template_and_collisions() {
        let one = template(&[("a", "b")], "i");
        // Names of replica sets that exist depend on it: it must never change.
        assert_eq!(hash(&one, None), hash(&one, None));
        assert_ne!(hash(&one, None), hash(&template(&[("a", "b")], "j"), None));
        assert_ne!(hash(&one, None), hash(&one, Some(1)));
        assert_ne!(hash(&one, Some(0)), hash(&one, Some(1)));
        assert!(hash(&one, None).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
