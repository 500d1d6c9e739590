//! What holds for a pod's volumes.

use std::collections::HashSet;

use serde_json::Value;

use super::{check_inner_path, check_name, one_of, required};
use crate::status::FieldError;
use crate::value;

const HOST_PATHS: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// What is wrong with the volumes. Gives their names.
pub(super) fn validate<'a>(
    spec: &'a Value,
    at: &str,
    errors: &mut Vec<FieldError>,
) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, volume) in value::list_at(spec, &["volumes"]).iter().enumerate() {
        let here = format!("{at}.volumes[{index}]");
        let name = value::str_at(volume, &["name"]);
        check_name(name, format!("{here}.name"), &mut names, errors);
        let kinds = volume.as_object().into_iter().flatten();
        let kinds = kinds.filter(|(key, source)| *key != "name" && !source.is_null());
        for (number, (kind, source)) in kinds.enumerate() {
            let here = format!("{here}.{kind}");
            match number {
                0 => check_source(kind, source, &here, errors),
                _ => errors.push(FieldError::forbidden(
                    here,
                    "may not specify more than 1 volume type",
                )),
            }
        }
    }
    names
}

fn check_source(kind: &str, source: &Value, at: &str, errors: &mut Vec<FieldError>) {
    match kind {
        "configMap" => required(source, &["name"], at, errors),
        "secret" => required(source, &["secretName"], at, errors),
        "persistentVolumeClaim" => required(source, &["claimName"], at, errors),
        "hostPath" => {
            required(source, &["path"], at, errors);
            let path = value::str_at(source, &["path"]);
            if path.split('/').any(|part| part == "..") {
                let field = format!("{at}.path");
                errors.push(FieldError::invalid(field, path, "must not contain '..'"));
            }
            one_of(source, &["type"], at, &HOST_PATHS, errors);
        }
        "nfs" => {
            required(source, &["server"], at, errors);
            required(source, &["path"], at, errors);
        }
        "emptyDir" if value::str_at(source, &["sizeLimit"]).starts_with('-') => {
            errors.push(FieldError::forbidden(
                format!("{at}.sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            ));
        }
        _ => {}
    }
    check_mode(source, "defaultMode", at, errors);
    for (index, item) in value::list_at(source, &["items"]).iter().enumerate() {
        let here = format!("{at}.items[{index}]");
        if kind != "downwardAPI" {
            required(item, &["key"], &here, errors);
        }
        required(item, &["path"], &here, errors);
        let path = value::str_at(item, &["path"]);
        check_inner_path(path, format!("{here}.path"), errors);
        check_mode(item, "mode", &here, errors);
    }
}

fn check_mode(object: &Value, name: &str, at: &str, errors: &mut Vec<FieldError>) {
    let mode = value::int_at(object, &[name]);
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(format!("{at}.{name}"), mode, why));
    }
}
