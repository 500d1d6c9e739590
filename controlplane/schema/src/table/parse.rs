//! Reads the table from its text, which `make schema` writes.
//!
//! One line is one fact, and its columns are separated by tabs. The first column says what it is:
//!
//! ```text
//! P  package  alias  group  version       the package that the lines below are of; "-" where it is of no API
//! E  name                                 an enumeration
//! V  value  description                   one of its values
//! T  name  flags  description             a type
//! F  name  number  type  flags  description   one of its fields; without a name, the type is inlined
//! ```
//!
//! A field's type is a scalar, `.Name` of the same package or `alias.Name` of another, after `*` (a pointer), `[]` (a
//! list) or `{}` (a map). Flags are words and `word=value`, separated by spaces. Descriptions are escaped as JSON
//! escapes strings, so that a line holds one and an OpenAPI document can take it as it stands.

use std::collections::HashMap;

use super::{
    ElementId, Enum, FieldData, Form, More, Named, Package, Scalar, Schemas, Shape, TypeData,
};

/// A line that is not as this module's head says.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the table: {what}")]
pub(crate) struct ParseError {
    line: usize,
    what: &'static str,
}

impl Schemas {
    /// Reads a table.
    pub(crate) fn parse(text: &'static str) -> Result<Self, ParseError> {
        // Types are named before they are defined, so all names are learned first.
        let ids = number_types(text);
        let mut reader = Reader {
            ids,
            schemas: Schemas::default(),
            fields: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            reader.line(line).map_err(|what| ParseError {
                line: index + 1,
                what,
            })?;
        }
        reader.finish_type();
        let mut schemas = reader.schemas;
        schemas.index();
        Ok(schemas)
    }

    /// Fills in what is looked up: fields by name, kinds, enumerations.
    fn index(&mut self) {
        let names: Vec<_> = self.types.iter().map(|ty| self.names_of(ty)).collect();
        let enums: HashMap<String, u16> = (0..)
            .zip(&self.enums)
            .map(|(id, found)| {
                (
                    format!(
                        "{}.{}",
                        self.packages[usize::from(found.package)].alias,
                        found.name
                    ),
                    id,
                )
            })
            .collect();
        for ((id, ty), names) in (0..).zip(&mut self.types).zip(names) {
            ty.names = names;
            if ty.is_kind {
                self.kinds.entry(ty.name).or_default().push(id);
            }
            for more in ty.own.iter_mut().filter_map(|field| field.more.as_mut()) {
                more.enumeration = more
                    .go_type
                    .and_then(|name| enums.get(name.trim_start_matches("[]")).copied());
            }
        }
    }

    fn names_of(&self, ty: &TypeData) -> Box<[Named]> {
        let mut names = Vec::new();
        for (own, field) in (0..).zip(&ty.own) {
            match field.element {
                ElementId::Type(id) if field.name.is_empty() => {
                    let inner = &self.types[usize::from(id)].own;
                    names.extend((0..).zip(inner).map(|(at, field)| Named {
                        name: field.name,
                        own,
                        inner: Some(at),
                    }));
                }
                _ => names.push(Named {
                    name: field.name,
                    own,
                    inner: None,
                }),
            }
        }
        names.sort_by_key(|named| named.name);
        names.into()
    }
}

fn number_types(text: &'static str) -> HashMap<(&'static str, &'static str), u16> {
    let mut alias = "";
    let mut ids = HashMap::new();
    for line in text.lines() {
        let mut columns = line.split('\t');
        match (columns.next(), columns.next()) {
            (Some("P"), _) => alias = columns.next().unwrap_or_default(),
            (Some("T"), Some(name)) => _ = ids.insert((alias, name), ids.len() as u16),
            _ => {}
        }
    }
    ids
}

struct Reader {
    ids: HashMap<(&'static str, &'static str), u16>,
    schemas: Schemas,
    /// Those of the type that is being read.
    fields: Vec<FieldData>,
}

impl Reader {
    fn line(&mut self, line: &'static str) -> Result<(), &'static str> {
        let columns: Vec<&'static str> = line.split('\t').collect();
        match columns.as_slice() {
            ["P", name, alias, group, version] => {
                self.finish_type();
                let group = (*group != "-" || *version != "-").then_some((*group, *version));
                self.schemas.packages.push(Package { name, alias, group });
            }
            ["E", name] => self.schemas.enums.push(Enum {
                package: self.package()?,
                name,
                values: Vec::new(),
            }),
            ["V", value, doc] => {
                self.schemas
                    .enums
                    .last_mut()
                    .ok_or("a value of no enumeration")?
                    .values
                    .push((*value, *doc));
            }
            ["T", name, flags, doc] => {
                self.finish_type();
                let ty = self.type_data(name, flags, doc)?;
                self.schemas.types.push(ty);
            }
            ["F", name, number, ty, flags, doc] => {
                let field = self.field_data(name, number, ty, flags, doc)?;
                self.fields.push(field);
            }
            [comment] if comment.starts_with('#') || comment.is_empty() => {}
            _ => return Err("not a line of any sort"),
        }
        Ok(())
    }

    fn finish_type(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        if let Some(ty) = self.schemas.types.last_mut()
            && !fields.is_empty()
        {
            ty.own = fields.into();
        }
    }

    fn package(&self) -> Result<u16, &'static str> {
        (self.schemas.packages.len() as u16)
            .checked_sub(1)
            .ok_or("stands before any package")
    }

    fn type_data(
        &self,
        name: &'static str,
        flags: &'static str,
        doc: &'static str,
    ) -> Result<TypeData, &'static str> {
        let mut ty = TypeData {
            package: self.package()?,
            name,
            form: Form::Object,
            is_kind: false,
            is_union: false,
            map_type: None,
            doc,
            own: Box::default(),
            names: Box::default(),
        };
        for flag in flags.split(' ').filter(|flag| !flag.is_empty()) {
            match flag.split_once('=').unwrap_or((flag, "")) {
                ("kind", "") => ty.is_kind = true,
                ("union", "") => ty.is_union = true,
                ("map", how) => ty.map_type = Some(how),
                ("form", "quantity") => ty.form = Form::Quantity,
                ("form", "time") => ty.form = Form::Time,
                ("form", "microtime") => ty.form = Form::MicroTime,
                ("form", "fields") => ty.form = Form::Fields,
                ("form", "intorstring") => ty.form = Form::IntOrString,
                ("form", "raw") => ty.form = Form::Raw,
                ("form", "strings") => ty.form = Form::Strings,
                _ => return Err("a flag that types do not have"),
            }
        }
        Ok(ty)
    }

    fn field_data(
        &self,
        name: &'static str,
        number: &str,
        ty: &'static str,
        flags: &'static str,
        doc: &'static str,
    ) -> Result<FieldData, &'static str> {
        let number = number.parse().map_err(|_| "a field's number is not one")?;
        let (shape, element) = match ty {
            ty if ty.starts_with("[]") => (Shape::List, &ty[2..]),
            ty if ty.starts_with("{}") => (Shape::Map, &ty[2..]),
            ty if ty.starts_with('*') => (Shape::Pointer, &ty[1..]),
            ty => (Shape::Single, ty),
        };
        let element = self.element(element)?;
        let (mut required, mut omitempty, mut discriminator) = (false, false, false);
        let mut more = More::default();
        let mut has_more = false;
        for flag in flags.split(' ').filter(|flag| !flag.is_empty()) {
            let (word, value) = flag.split_once('=').unwrap_or((flag, ""));
            has_more |= !value.is_empty();
            match word {
                "required" => required = true,
                "omitempty" => omitempty = true,
                "discriminator" => discriminator = true,
                "go" => more.go_type = Some(value),
                "patch" => more.patch_strategy = Some(value),
                "key" => more.patch_merge_key = Some(value),
                "list" => more.list_type = Some(value),
                "keys" => more.list_map_keys = value.split(',').collect(),
                "map" => more.map_type = Some(value),
                "default" => more.default = Some(value),
                _ => return Err("a flag that fields do not have"),
            }
        }
        let more = has_more.then(|| Box::new(more));
        Ok(FieldData {
            name,
            number,
            shape,
            element,
            required,
            omitempty,
            discriminator,
            doc,
            more,
        })
    }

    fn element(&self, element: &'static str) -> Result<ElementId, &'static str> {
        Ok(ElementId::Scalar(match element {
            "string" => Scalar::String,
            "bool" => Scalar::Bool,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "double" => Scalar::Double,
            "bytes" => Scalar::Bytes,
            _ => {
                let (alias, name) = element
                    .rsplit_once('.')
                    .ok_or("neither a scalar nor a type")?;
                let here = self
                    .schemas
                    .packages
                    .last()
                    .ok_or("stands before any package")?
                    .alias;
                let alias = if alias.is_empty() { here } else { alias };
                return self
                    .ids
                    .get(&(alias, name))
                    .map(|id| ElementId::Type(*id))
                    .ok_or("a type that nothing defines");
            }
        }))
    }
}
