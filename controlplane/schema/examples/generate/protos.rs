//! Reads messages, fields and their comments from `generated.proto`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::Package;
use crate::docs::Doc;

/// A message, under its full name without the leading dot.
pub struct Message {
    pub package: usize,
    pub name: String,
    pub doc: Doc,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub name: String,
    pub number: u32,
    pub shape: Shape,
    /// A scalar's name as proto writes it, or a message's full name.
    pub element: String,
    pub doc: Doc,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Single,
    List,
    Map,
}

/// All messages of the packages, in the order of their files.
pub fn read(root: &Path, packages: &[Package]) -> anyhow::Result<Vec<Message>> {
    let descriptor = tempfile::NamedTempFile::new()?;
    let run = Command::new("protoc")
        .arg("-I")
        .arg(root)
        .args([
            "--include_imports",
            "--include_source_info",
            "--descriptor_set_out",
        ])
        .arg(descriptor.path())
        .args(
            packages
                .iter()
                .map(|package| package.folder.join("generated.proto")),
        )
        .output()
        .context("run protoc")?;
    ensure!(
        run.status.success(),
        "protoc failed: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    let set = FileDescriptorSet::decode(&*std::fs::read(descriptor.path())?)?;

    let mut messages = Vec::new();
    for (index, package) in packages.iter().enumerate() {
        let file = set.file.iter().find(|file| file.package() == package.proto);
        let file = file.with_context(|| format!("protoc did not return {}", package.proto))?;
        let comments = comments(file);
        for (position, message) in file.message_type.iter().enumerate() {
            messages.push(read_message(index, message, position as i32, &comments)?);
        }
    }
    Ok(messages)
}

type Comments = HashMap<Vec<i32>, Doc>;

fn comments(file: &FileDescriptorProto) -> Comments {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .map(|at| (at.path.clone(), Doc::parse(at.leading_comments().lines())))
        .collect()
}

fn read_message(
    package: usize,
    message: &DescriptorProto,
    position: i32,
    comments: &Comments,
) -> anyhow::Result<Message> {
    // Paths into a file descriptor: 4 is its messages, 2 is a message's fields.
    let doc = |path: &[i32]| comments.get(path).cloned().unwrap_or_default();
    let mut fields = Vec::new();
    for (at, field) in message.field.iter().enumerate() {
        let (shape, element) = read_type(message, field)?;
        fields.push(Field {
            name: field.name().to_owned(),
            number: field.number().try_into()?,
            shape,
            element,
            doc: doc(&[4, position, 2, at as i32]),
        });
    }
    Ok(Message {
        package,
        name: message.name().to_owned(),
        doc: doc(&[4, position]),
        fields,
    })
}

fn read_type(
    message: &DescriptorProto,
    field: &FieldDescriptorProto,
) -> anyhow::Result<(Shape, String)> {
    // A map is a list of a message nested under the field's own.
    let entry = message
        .nested_type
        .iter()
        .find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
    if let Some(entry) = entry {
        let value = entry
            .field
            .iter()
            .find(|field| field.number() == 2)
            .context("a map entry has a value")?;
        return Ok((Shape::Map, element(value)?));
    }
    let shape = if field.label() == Label::Repeated {
        Shape::List
    } else {
        Shape::Single
    };
    Ok((shape, element(field)?))
}

fn element(field: &FieldDescriptorProto) -> anyhow::Result<String> {
    Ok(match field.r#type() {
        Type::Message => field.type_name().trim_start_matches('.').to_owned(),
        Type::String => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Double => "double".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        other => anyhow::bail!(
            "{}: nothing is known of the wire type {other:?}",
            field.name()
        ),
    })
}
