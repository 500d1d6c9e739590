//! What holds for a container's probes and hooks.

use serde_json::Value;

use super::{NOT_NEGATIVE, PORT_RANGE, one_of, required};
use crate::status::FieldError;
use crate::validate::names;
use crate::value;

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HOOKS: [&str; 2] = ["postStart", "preStop"];

/// What is wrong with the probes and hooks of a container that stays.
pub(super) fn validate(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for hook in HOOKS {
        let handler = value::at(container, &["lifecycle", hook]);
        let here = format!("{at}.lifecycle.{hook}");
        let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
        check_handler(handler, &here, &kinds, errors);
    }
    for name in PROBES {
        let probe = value::at(container, &[name]);
        let here = format!("{at}.{name}");
        let kinds = ["exec", "httpGet", "tcpSocket", "grpc"];
        check_handler(probe, &here, &kinds, errors);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            if let Some(below) = value::int_at(probe, &[number]).filter(|number| *number < 0) {
                let field = format!("{here}.{number}");
                errors.push(FieldError::invalid(field, below, NOT_NEGATIVE));
            }
        }
        let successes = value::int_at(probe, &["successThreshold"]);
        if name != "readinessProbe"
            && let Some(other) = successes.filter(|successes| *successes != 1)
        {
            let field = format!("{here}.successThreshold");
            errors.push(FieldError::invalid(field, other, "must be 1"));
        }
        let grace = value::int_at(probe, &["terminationGracePeriodSeconds"]);
        let why = match (name, grace) {
            (_, None) => None,
            ("readinessProbe", Some(_)) => Some("must not be set for readinessProbes"),
            (_, Some(..=0)) => Some("must be greater than 0"),
            _ => None,
        };
        if let Some(why) = why {
            let field = format!("{here}.terminationGracePeriodSeconds");
            errors.push(FieldError::invalid(field, grace, why));
        }
    }
}

/// A container that is to end has none.
pub(super) fn forbid(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for name in ["lifecycle"].iter().chain(&PROBES) {
        if !value::at(container, &[name]).is_null() {
            errors.push(FieldError::forbidden(
                format!("{at}.{name}"),
                "may not be set for init containers without restartPolicy=Always",
            ));
        }
    }
}

fn check_handler(handler: &Value, at: &str, kinds: &[&str], errors: &mut Vec<FieldError>) {
    if handler.is_null() {
        return;
    }
    let given: Vec<&str> = kinds
        .iter()
        .copied()
        .filter(|kind| !value::at(handler, &[kind]).is_null())
        .collect();
    if given.is_empty() {
        errors.push(FieldError::required(at, "must specify a handler type"));
    }
    for (number, kind) in given.into_iter().enumerate() {
        let (one, here) = (value::at(handler, &[kind]), format!("{at}.{kind}"));
        if number > 0 {
            let why = "may not specify more than 1 handler type";
            errors.push(FieldError::forbidden(here, why));
            continue;
        }
        match kind {
            "exec" if value::list_at(one, &["command"]).is_empty() => {
                errors.push(FieldError::required(format!("{here}.command"), ""));
            }
            "httpGet" => {
                required(one, &["path"], &here, errors);
                check_port(value::at(one, &["port"]), format!("{here}.port"), errors);
                one_of(one, &["scheme"], &here, &["HTTP", "HTTPS"], errors);
            }
            "tcpSocket" | "grpc" => {
                check_port(value::at(one, &["port"]), format!("{here}.port"), errors);
            }
            _ => {}
        }
    }
}

/// A port by its number or by its name.
fn check_port(port: &Value, field: String, errors: &mut Vec<FieldError>) {
    match port {
        Value::String(name) => {
            for problem in names::port_name(name) {
                errors.push(FieldError::invalid(field.as_str(), name.as_str(), problem));
            }
        }
        number => {
            let number = number.as_i64().unwrap_or(0);
            if !(1..=65_535).contains(&number) {
                errors.push(FieldError::invalid(field, number, PORT_RANGE));
            }
        }
    }
}
