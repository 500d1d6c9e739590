//! How many pods there may be, and how few.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The bounds of a roll-out, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenceposts {
    /// How many pods there may be over what is asked for.
    pub surge: i32,
    /// How many of what is asked for may be missing.
    pub unavailable: i32,
}

impl Fenceposts {
    /// The bounds of a deployment. One that recreates has none: it stops everything.
    pub fn of(spec: &DeploymentSpec) -> Fenceposts {
        let replicas = replicas(spec);
        let strategy = spec.strategy.as_ref();
        if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
            return Fenceposts {
                surge: 0,
                unavailable: 0,
            };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        Fenceposts::resolve(
            surge.unwrap_or(&quarter),
            unavailable.unwrap_or(&quarter),
            replicas,
        )
    }

    /// Resolves percentages: a surge is rounded up, what may be missing is rounded down. Where that leaves neither, one
    /// may be missing, or nothing could ever move.
    pub fn resolve(surge: &IntOrString, unavailable: &IntOrString, replicas: i32) -> Fenceposts {
        let surge = part_of(surge, replicas, true);
        let mut unavailable = part_of(unavailable, replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Fenceposts { surge, unavailable }
    }

    /// How many of `replicas` may be missing: never more than all.
    pub fn missing(&self, replicas: i32) -> i32 {
        self.unavailable.min(replicas)
    }
}

/// How many pods a deployment asks for.
pub fn replicas(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

fn part_of(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|text| text.parse::<i64>().ok());
            // Validation lets nothing else through.
            let scaled = percent.unwrap_or_default().max(0) * i64::from(total.max(0));
            let rounded = if up {
                (scaled + 99) / 100
            } else {
                scaled / 100
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> IntOrString {
        match text.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(text.into()),
        }
    }

    #[test]
    fn a_surge_is_rounded_up_what_may_be_missing_down_and_one_of_them_is_not_zero() {
        let cases = [
            // surge, unavailable, replicas: surge, unavailable
            ("0", "0", 0, 0, 1),
            ("1", "0", 0, 1, 0),
            ("0", "1", 0, 0, 1),
            ("0", "0", 1, 0, 1),
            ("1", "0", 1, 1, 0),
            ("0", "1", 1, 0, 1),
            ("1", "1", 1, 1, 1),
            ("0%", "0%", 1, 0, 1),
            ("1%", "0%", 1, 1, 0),
            ("0%", "1%", 1, 0, 1),
            ("1%", "1%", 1, 1, 0),
            ("0%", "0%", 10, 0, 1),
            ("25%", "25%", 10, 3, 2),
            ("25%", "25%", 1, 1, 0),
            ("25%", "25%", 3, 1, 0),
            ("50%", "0%", 3, 2, 0),
            ("100%", "100%", 7, 7, 7),
            ("0%", "9%", 10, 0, 1),
        ];
        for (surge, unavailable, replicas, s, u) in cases {
            let posts = Fenceposts::resolve(&value(surge), &value(unavailable), replicas);
            let expected = Fenceposts {
                surge: s,
                unavailable: u,
            };
            assert_eq!(posts, expected, "{surge} and {unavailable} of {replicas}");
        }
    }

    #[test]
    fn a_deployment_that_recreates_has_no_bounds_and_one_that_says_nothing_has_a_quarter() {
        let of = |kind: &str, replicas| {
            let strategy = k8s_openapi::api::apps::v1::DeploymentStrategy {
                type_: Some(kind.into()),
                rolling_update: None,
            };
            Fenceposts::of(&DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(strategy),
                ..DeploymentSpec::default()
            })
        };
        assert_eq!(
            of("Recreate", 10),
            Fenceposts {
                surge: 0,
                unavailable: 0
            }
        );
        assert_eq!(
            of("RollingUpdate", 10),
            Fenceposts {
                surge: 3,
                unavailable: 2
            }
        );
    }

    #[test]
    fn no_more_may_be_missing_than_there_shall_be() {
        let posts = |unavailable: &str, replicas| {
            Fenceposts::resolve(&value("1"), &value(unavailable), replicas).missing(replicas)
        };
        assert_eq!(posts("5", 10), 5);
        assert_eq!(posts("10", 5), 5);
        assert_eq!(posts("50%", 10), 5);
        assert_eq!(posts("200%", 10), 10);
        assert_eq!(posts("10", 0), 0);
    }
}
