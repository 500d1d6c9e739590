//! The types of a document.

use std::collections::BTreeMap;

use super::json::Json;
use crate::table::{Element, Enum, Field, Form, Scalar, Schemas, Shape, Type};

/// The types that a document refers to, by name.
#[derive(Default)]
pub(super) struct Used<'s>(BTreeMap<String, Type<'s>>);

impl<'s> Used<'s> {
    /// Adds a type and all that it reaches.
    pub fn add(&mut self, ty: Type<'s>) {
        if ty.form() == Form::Strings || self.0.insert(ty.openapi_name(), ty).is_some() {
            return;
        }
        ty.fields()
            .filter_map(|field| field.element_type())
            .for_each(|ty| self.add(ty));
    }
}

/// The reference to a type.
pub(super) fn reference(ty: Type<'_>) -> String {
    format!("#/components/schemas/{}", ty.openapi_name())
}

/// Writes all types that are used, for the document of one group version.
pub(super) fn write(schemas: &Schemas, of: (&str, &str), used: Used<'_>, out: &mut Json) {
    let writer = Writer {
        type_meta: schemas.named("io.k8s.apimachinery.pkg.apis.meta.v1.TypeMeta"),
        of,
    };
    out.object(|out| {
        for (name, ty) in &used.0 {
            out.entry(name, |out| out.object(|out| writer.write_type(*ty, out)));
        }
    });
}

struct Writer<'a, 's> {
    /// What `apiVersion` and `kind` are, for all kinds.
    type_meta: Option<Type<'s>>,
    of: (&'a str, &'a str),
}

impl Writer<'_, '_> {
    fn write_type(&self, ty: Type<'_>, out: &mut Json) {
        description(&[ty.doc()], out);
        match ty.form() {
            Form::Object => self.write_object(ty, out),
            Form::Quantity => entry("oneOf", r#"[{"type":"string"},{"type":"number"}]"#, out),
            Form::IntOrString => {
                entry("format", r#""int-or-string""#, out);
                entry("oneOf", r#"[{"type":"integer"},{"type":"string"}]"#, out);
            }
            Form::Time | Form::MicroTime => {
                entry("format", r#""date-time""#, out);
                entry("type", r#""string""#, out);
            }
            Form::Fields | Form::Raw => entry("type", r#""object""#, out),
            Form::Strings => strings(out),
        }
    }

    fn write_object(&self, ty: Type<'_>, out: &mut Json) {
        let mut fields: BTreeMap<&str, Field<'_>> =
            ty.fields().map(|field| (field.name(), field)).collect();
        if let (true, Some(meta)) = (ty.is_kind(), self.type_meta) {
            fields.extend(meta.fields().map(|field| (field.name(), field)));
        }
        if !fields.is_empty() {
            out.entry("properties", |out| {
                out.object(|out| {
                    fields.iter().for_each(|(name, of)| {
                        out.entry(name, |out| out.object(|out| field(*of, out)))
                    });
                });
            });
        }
        let required: Vec<&str> = fields
            .values()
            .filter(|field| field.is_required())
            .map(|field| field.name())
            .collect();
        if !required.is_empty() {
            out.entry("required", |out| {
                out.list(&required, |out, name| out.text(name))
            });
        }
        entry("type", r#""object""#, out);
        if ty.is_kind() {
            // What every group has is of this one, here.
            let of = ty
                .group_version()
                .filter(|(group, _)| *group != "meta.k8s.io");
            let of = if ty.name() == "Status" {
                ("", "v1")
            } else {
                of.unwrap_or(self.of)
            };
            out.entry("x-kubernetes-group-version-kind", |out| {
                out.list([()], |out, ()| group_version_kind(of, ty.name(), out));
            });
        }
        if let Some(how) = ty.map_type() {
            out.entry("x-kubernetes-map-type", |out| out.text(how));
        }
        if ty.is_union() {
            out.entry("x-kubernetes-unions", |out| {
                out.list([()], |out, ()| union(ty, out))
            });
        }
    }
}

fn field(field: Field<'_>, out: &mut Json) {
    let is_one = matches!(field.shape(), Shape::Single | Shape::Pointer);
    match field.enumeration().filter(|_| is_one) {
        Some(values) => enum_description(field, values, out),
        None => description(&[field.doc()], out),
    }
    match field.shape() {
        Shape::Single | Shape::Pointer => element(field, out),
        Shape::List => {
            out.entry("items", |out| out.object(|out| item(field, out)));
            entry("type", r#""array""#, out);
        }
        Shape::Map => {
            out.entry("additionalProperties", |out| {
                out.object(|out| item(field, out))
            });
            entry("type", r#""object""#, out);
        }
    }
    match (field.default(), field.shape()) {
        (Some(default), _) => entry("default", default, out),
        (None, Shape::Single) => zero(field, field.omits_empty(), out),
        (None, _) => {}
    }
    extensions(field, out);
}

/// What a list or map holds.
fn item(field: Field<'_>, out: &mut Json) {
    element(field, out);
    zero(field, false, out);
}

fn element(field: Field<'_>, out: &mut Json) {
    if let Some(values) = field.enumeration() {
        out.entry("enum", |out| {
            out.list(values.values(), |out, (value, _)| out.text(value))
        });
    }
    let (kind, format) = match field.element() {
        Element::Type(ty) if ty.form() == Form::Strings => return strings(out),
        Element::Type(ty) => {
            // A bare reference would hide what stands beside it.
            return out.entry("allOf", |out| {
                out.list([ty], |out, ty| {
                    out.object(|out| out.entry("$ref", |out| out.text(&reference(ty))))
                });
            });
        }
        Element::Scalar(Scalar::String) => ("string", None),
        Element::Scalar(Scalar::Bool) => ("boolean", None),
        Element::Scalar(Scalar::Int32) => ("integer", Some("int32")),
        Element::Scalar(Scalar::Int64) => ("integer", Some("int64")),
        Element::Scalar(Scalar::Double) => ("number", Some("double")),
        Element::Scalar(Scalar::Bytes) => ("string", Some("byte")),
    };
    if let Some(format) = format {
        out.entry("format", |out| out.text(format));
    }
    out.entry("type", |out| out.text(kind));
}

/// The default that Go gives what it holds by value.
fn zero(field: Field<'_>, omits_empty: bool, out: &mut Json) {
    let zero = match field.element() {
        Element::Type(ty) if ty.form() == Form::Object => "{}",
        Element::Type(_) | Element::Scalar(Scalar::Bytes) => return,
        Element::Scalar(_) if omits_empty => return,
        Element::Scalar(Scalar::String) => r#""""#,
        Element::Scalar(Scalar::Bool) => "false",
        Element::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double) => "0",
    };
    entry("default", zero, out);
}

fn extensions(field: Field<'_>, out: &mut Json) {
    let keys = field.list_map_keys();
    if !keys.is_empty() {
        out.entry("x-kubernetes-list-map-keys", |out| {
            out.list(keys, |out, key| out.text(key))
        });
    }
    for (name, value) in [
        ("x-kubernetes-list-type", field.list_type()),
        ("x-kubernetes-map-type", field.map_type()),
        ("x-kubernetes-patch-merge-key", field.patch_merge_key()),
        ("x-kubernetes-patch-strategy", field.patch_strategy()),
    ] {
        if let Some(value) = value {
            out.entry(name, |out| out.text(value));
        }
    }
}

fn strings(out: &mut Json) {
    entry("items", r#"{"default":"","type":"string"}"#, out);
    entry("type", r#""array""#, out);
}

fn enum_description(field: Field<'_>, values: &Enum, out: &mut Json) {
    let mut text = vec![field.doc(), r"\n\nPossible enum values:"];
    for (value, meaning) in values.values() {
        text.extend([r#"\n - `\""#, value, r#"\"`"#]);
        if !meaning.is_empty() {
            text.extend([" ", meaning]);
        }
    }
    description(&text, out);
}

fn description(parts: &[&str], out: &mut Json) {
    if parts.iter().any(|part| !part.is_empty()) {
        out.entry("description", |out| out.escaped(parts));
    }
}

fn entry(key: &str, json: &str, out: &mut Json) {
    out.entry(key, |out| out.raw(json));
}

/// Names a kind, as extensions do.
pub(super) fn group_version_kind((group, version): (&str, &str), kind: &str, out: &mut Json) {
    out.object(|out| {
        out.entry("group", |out| out.text(group));
        out.entry("kind", |out| out.text(kind));
        out.entry("version", |out| out.text(version));
    });
}

/// Which field of a union is set, by the values of its discriminator: these are the fields' names in Go.
fn union(ty: Type<'_>, out: &mut Json) {
    out.object(|out| {
        if let Some(discriminator) = ty.fields().find(|field| field.is_discriminator()) {
            out.entry("discriminator", |out| out.text(discriminator.name()));
        }
        out.entry("fields-to-discriminateBy", |out| {
            out.object(|out| {
                for field in ty.fields().filter(|field| !field.is_discriminator()) {
                    let name = field.name();
                    let (first, rest) =
                        name.split_at(name.chars().next().map_or(0, char::len_utf8));
                    out.entry(name, |out| out.text(&(first.to_uppercase() + rest)));
                }
            });
        });
    });
}
