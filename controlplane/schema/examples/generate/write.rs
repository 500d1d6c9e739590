//! Writes the table. `src/table/parse.rs` reads it, and describes its form.

use std::fmt::Write as _;

use anyhow::Context;

use crate::Package;
use crate::golang::{self, Go};
use crate::protos::{self, Message, Shape};

/// Types whose JSON form is not that of their message.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("resource", "Quantity", "quantity"),
    ("meta/v1", "Time", "time"),
    ("meta/v1", "MicroTime", "microtime"),
    ("meta/v1", "FieldsV1", "fields"),
    ("intstr", "IntOrString", "intorstring"),
    ("runtime", "RawExtension", "raw"),
];

/// Messages that are a means of the wire format, and no part of any object of the groups that there are.
const INTERNAL: &[(&str, &str)] = &[
    ("resource", "QuantityValue"),
    ("meta/v1", "Duration"),
    ("meta/v1", "Timestamp"),
    ("runtime", "TypeMeta"),
    ("runtime", "Unknown"),
];

const HEAD: &str = "\
# The types of the Kubernetes API, made by `make schema`: do not edit. NOTICE says where they come from.
# Columns are separated by tabs; descriptions are written as JSON writes strings.
# P package alias group version | T type flags description | F field number type flags description
# E enumeration | V value description
";

/// The table's text.
pub fn table(
    label: &str,
    packages: &[Package],
    messages: &[Message],
    go: &Go,
) -> anyhow::Result<String> {
    let table = Table { packages, go };
    let mut text = format!("{HEAD}# {label}\n");
    for (index, package) in packages.iter().enumerate() {
        let (group, version) = package
            .group
            .as_ref()
            .map_or(("-", "-"), |(group, version)| (group, version));
        let name = openapi_name(&package.proto);
        writeln!(text, "P\t{name}\t{}\t{group}\t{version}", package.alias)?;
        for ((_, name), values) in go.enums.iter().filter(|((of, _), _)| *of == index) {
            writeln!(text, "E\t{name}")?;
            for (value, meaning) in &values.values {
                writeln!(text, "V\t{value}\t{}", escaped(meaning))?;
            }
        }
        for message in messages.iter().filter(|message| message.package == index) {
            let lines = table.type_lines(message);
            text += &lines.with_context(|| format!("{}.{}", package.proto, message.name))?;
        }
    }
    Ok(text)
}

struct Table<'a> {
    packages: &'a [Package],
    go: &'a Go,
}

impl Table<'_> {
    fn type_lines(&self, message: &Message) -> anyhow::Result<String> {
        let alias = self.packages[message.package].alias.as_str();
        if INTERNAL.contains(&(alias, &message.name)) {
            return Ok(String::new());
        }
        let doc = escaped(&message.doc.text);
        if let Some((.., form)) = SPECIAL
            .iter()
            .find(|(of, name, _)| (*of, *name) == (alias, &message.name))
        {
            return Ok(format!("T\t{}\tform={form}\t{doc}\n", message.name));
        }
        let known = self
            .go
            .structs
            .get(&(message.package, message.name.clone()));
        let Some(known) = known.or_else(|| self.borrowed(message)) else {
            // A list of strings cannot be a field's type on the wire, so that it is wrapped there.
            let is_list = message.fields.len() == 1 && message.fields[0].shape == Shape::List;
            anyhow::ensure!(is_list, "types.go does not have it");
            return Ok(format!("T\t{}\tform=strings\t{doc}\n", message.name));
        };
        let mut flags = Vec::new();
        flags.extend(known.is_kind.then(|| "kind".to_owned()));
        flags.extend(message.doc.has("union").then(|| "union".to_owned()));
        flags.extend(
            message
                .doc
                .marker("structType")
                .map(|how| format!("map={how}")),
        );
        let mut lines = format!("T\t{}\t{}\t{doc}\n", message.name, flags.join(" "));
        for field in &message.fields {
            let facts = known
                .fields
                .get(&field.number)
                .with_context(|| format!("types.go lacks {}", field.name))?;
            lines += &self
                .field(message.package, field, facts)
                .with_context(|| field.name.clone())?;
        }
        Ok(lines)
    }

    /// `type List metav1.List` is the only struct of one package that another renames.
    fn borrowed(&self, message: &Message) -> Option<&golang::Struct> {
        let meta = self
            .packages
            .iter()
            .position(|package| package.alias == "meta/v1")?;
        (message.name == "List").then(|| self.go.structs.get(&(meta, "List".to_owned())))?
    }

    fn field(
        &self,
        package: usize,
        field: &protos::Field,
        facts: &golang::Field,
    ) -> anyhow::Result<String> {
        let doc = &field.doc;
        let pointer = facts.go_type.starts_with('*');
        let shape = match field.shape {
            Shape::Map => "{}",
            Shape::List => "[]",
            Shape::Single if pointer => "*",
            Shape::Single => "",
        };
        let element = self.element(package, &field.element)?;
        let mut flags = Vec::new();
        if self.has_name_of_its_own(field, &facts.go_type) {
            flags.push(format!("go={}", self.go_type(package, &facts.go_type)));
        }
        let required = doc.has("required") || doc.has("k8s:required");
        let optional = doc.has("optional") || doc.has("k8s:optional") || facts.omitempty;
        if required || !optional && !facts.json.is_empty() {
            flags.push("required".to_owned());
        }
        if facts.omitempty {
            flags.push("omitempty".to_owned());
        }
        if doc.has("unionDiscriminator") {
            flags.push("discriminator".to_owned());
        }
        if let Some(strategy) = doc.marker("patchStrategy") {
            flags.push(format!("patch={}", strategy.trim_matches('"')));
        }
        if let Some(key) = doc.marker("patchMergeKey") {
            flags.push(format!("key={}", key.trim_matches('"')));
        }
        if let Some(list) = doc.marker("listType").or(doc.marker("k8s:listType")) {
            flags.push(format!("list={list}"));
        }
        let keys: Vec<&str> = doc.all("listMapKey").collect();
        if !keys.is_empty() {
            flags.push(format!("keys={}", keys.join(",")));
        }
        if let Some(how) = doc.marker("mapType").or(doc.marker("structType")) {
            flags.push(format!("map={how}"));
        }
        if let Some(default) = doc.marker("default") {
            flags.push(format!("default={}", self.default(package, default)?));
        }
        let (json, number, flags) = (&facts.json, field.number, flags.join(" "));
        Ok(format!(
            "F\t{json}\t{number}\t{shape}{element}\t{flags}\t{}\n",
            escaped(&doc.text)
        ))
    }

    /// Whether the Go type is called other than what it is made of, which messages about wrong types then tell.
    fn has_name_of_its_own(&self, field: &protos::Field, go_type: &str) -> bool {
        if field.element.contains('.') {
            return go_type.ends_with("ResourceList");
        }
        let plain = [
            "string",
            "bool",
            "int32",
            "int64",
            "float64",
            "byte",
            "map[string]string",
            "map[string][]byte",
        ];
        !plain.contains(&go_type.trim_start_matches(['*', '[', ']']))
    }

    fn element(&self, package: usize, element: &str) -> anyhow::Result<String> {
        let Some((proto, name)) = element.rsplit_once('.') else {
            return Ok(element.to_owned());
        };
        let of = self
            .packages
            .iter()
            .position(|package| package.proto == proto);
        let of = of.with_context(|| format!("{element} is of a package that was not read"))?;
        Ok(if of == package {
            format!(".{name}")
        } else {
            format!("{}.{name}", self.packages[of].alias)
        })
    }

    /// The Go type with the names of our packages in it, as in `[]core/v1.IPFamily`.
    fn go_type(&self, package: usize, go_type: &str) -> String {
        let bare = go_type.trim_start_matches('*');
        let (list, name) = bare
            .strip_prefix("[]")
            .map_or(("", bare), |name| ("[]", name));
        if name.starts_with("map[") {
            return bare.replace(
                "map[ResourceName]",
                &format!("map[{}.ResourceName]", self.packages[package].alias),
            );
        }
        match name.split_once('.') {
            None => format!("{list}{}.{name}", self.packages[package].alias),
            Some(("metav1", name)) => format!("{list}meta/v1.{name}"),
            Some(("v1", name)) => format!("{list}core/v1.{name}"),
            Some(_) => format!("{list}{name}"),
        }
    }

    /// A default as JSON, in which no space stands, since spaces separate flags.
    fn default(&self, package: usize, default: &str) -> anyhow::Result<String> {
        let value = match default
            .strip_prefix("ref(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            Some(name) => {
                let value = self.go.constants.get(&(package, name.to_owned()));
                serde_json::Value::from(
                    value
                        .with_context(|| format!("nothing defines {name}"))?
                        .as_str(),
                )
            }
            None => serde_json::from_str(default)
                .with_context(|| format!("the default {default} is no JSON"))?,
        };
        Ok(value.to_string().replace(' ', r"\u0020"))
    }
}

/// `k8s.io.api.core.v1` is `io.k8s.api.core.v1` in OpenAPI documents.
fn openapi_name(proto: &str) -> String {
    format!("io.k8s.{}", proto.trim_start_matches("k8s.io."))
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
