//! In which form the client wants what it asks for.

use crate::status::{ApiError, ApiResult};

/// What a row of a table carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Include {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

/// The form of objects and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// As they are.
    Full,
    /// Only their metadata.
    Partial,
    /// As rows for people.
    Table(Include),
}

impl Shape {
    /// Tells shapes apart where encoded events are kept.
    pub fn id(self) -> u64 {
        match self {
            Shape::Full => 0,
            Shape::Partial => 1,
            Shape::Table(Include::Metadata) => 2,
            Shape::Table(Include::Object) => 3,
            Shape::Table(Include::None) => 4,
        }
    }
}

/// One of the types that a client accepts.
struct Accepted<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Accepted<'_> {
    fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(key, _)| *key == name);
        found.map_or("", |(_, value)| value)
    }

    fn is_json(&self) -> bool {
        matches!(self.media, "application/json" | "application/*" | "*/*")
    }
}

fn accepted(header: &str) -> impl Iterator<Item = Accepted<'_>> {
    header.split(',').map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        Accepted {
            media: parts.next().unwrap_or(""),
            parameters: parts.filter_map(|part| part.split_once('=')).collect(),
        }
    })
}

/// The first form in `header` that can be given; `include` is what the query says about rows.
pub fn shape(header: &str, include: &str) -> ApiResult<Shape> {
    if header.trim().is_empty() {
        return Ok(Shape::Full);
    }
    for clause in accepted(header).filter(Accepted::is_json) {
        let is_meta = clause.get("g") == "meta.k8s.io" && clause.get("v") == "v1";
        match clause.get("as") {
            "" => return Ok(Shape::Full),
            "Table" if is_meta => {
                return Ok(Shape::Table(match include {
                    "Object" => Include::Object,
                    "None" => Include::None,
                    "" | "Metadata" => Include::Metadata,
                    other => {
                        return Err(ApiError::bad_request(format!(
                            "unrecognized includeObject value: {other:?}"
                        )));
                    }
                }));
            }
            "PartialObjectMetadata" | "PartialObjectMetadataList" if is_meta => {
                return Ok(Shape::Partial);
            }
            _ => {}
        }
    }
    Err(ApiError::not_acceptable(&["application/json"]))
}

/// The version of aggregated discovery that the client understands, if it does.
pub fn aggregated(header: &str) -> Option<&'static str> {
    for clause in accepted(header).filter(Accepted::is_json) {
        if clause.get("as").is_empty() {
            return None;
        }
        if clause.get("g") == "apidiscovery.k8s.io" && clause.get("as") == "APIGroupDiscoveryList" {
            match clause.get("v") {
                "v2" => return Some("v2"),
                "v2beta1" => return Some("v2beta1"),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_given_is() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(shape(kubectl, "").unwrap(), Shape::Table(Include::Metadata));
        assert_eq!(
            shape(kubectl, "Object").unwrap(),
            Shape::Table(Include::Object)
        );
        assert!(shape(kubectl, "Everything").is_err());
        let proto = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(shape(proto, "").unwrap(), Shape::Full);
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(shape(partial, "").unwrap(), Shape::Partial);
        assert_eq!(shape("*/*", "").unwrap(), Shape::Full);
        assert_eq!(shape("text/html", "").unwrap_err().code(), 406);
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_understand_it() {
        let new = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated(new), Some("v2"));
        assert_eq!(aggregated("application/json"), None);
    }
}
