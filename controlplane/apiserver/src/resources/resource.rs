//! An entry of the table.

use serde_json::Value;

use super::Rules;
use crate::status::Subject;
use crate::storage::ROOT;
use crate::value;

/// What there is to know about a resource.
pub struct Resource {
    /// "" for core.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `Deployment`
    pub kind: &'static str,
    /// `deployments`
    pub plural: &'static str,
    /// `deployment`
    pub singular: &'static str,
    /// `deploy`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Where its objects are, below `/registry/`.
    pub storage: &'static str,
    /// What can be done.
    pub verbs: &'static [&'static str],
    /// What its objects have beside themselves.
    pub subresources: &'static [Subresource],
    /// What a table shows.
    pub columns: &'static [Column],
    /// The cells of an object's row, at a time in seconds since 1970.
    pub row: fn(&Value, i64) -> Vec<Value>,
    /// The fields that selectors may name, beside name and namespace.
    pub fields: &'static [Field],
    /// The field by which watchers are found quickly.
    pub indexed_by: Option<&'static str>,
    /// How its objects are made, changed and deleted.
    pub rules: &'static dyn Rules,
    /// How its objects come from, and go to, the form in which another resource stores them.
    pub conversion: Option<Conversion>,
}

/// A part of an object with a path of its own.
pub struct Subresource {
    /// `status`
    pub name: &'static str,
    /// What is sent and answered there: group, version and kind.
    pub kind: (&'static str, &'static str, &'static str),
    /// What can be done there.
    pub verbs: &'static [&'static str],
}

impl Subresource {
    const CHANGED: &[&str] = &["get", "patch", "update"];

    /// How many replicas there are, and are to be.
    pub const SCALE: Subresource = Subresource {
        name: "scale",
        kind: ("autoscaling", "v1", "Scale"),
        verbs: Subresource::CHANGED,
    };

    /// What whoever looks after an object says of it: the object itself, of which only the status is written.
    pub const fn status(kind: (&'static str, &'static str, &'static str)) -> Subresource {
        Subresource {
            name: "status",
            kind,
            verbs: Subresource::CHANGED,
        }
    }
}

/// A column of a table.
pub struct Column {
    /// The head, as kubectl shows it in capitals.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// `name` for the object's name.
    pub format: &'static str,
    /// Whether it is shown with `-o wide` only.
    pub wide: bool,
}

/// A field that selectors may name.
pub struct Field {
    /// As in a selector.
    pub name: &'static str,
    /// Where it is.
    pub path: &'static [&'static str],
    /// What is compared if it is not there.
    pub absent: &'static str,
}

/// From and to the stored form.
pub struct Conversion {
    /// From what is stored.
    pub show: fn(Value) -> Value,
    /// To what is stored.
    pub store: fn(Value) -> Value,
}

impl Field {
    /// The text that a selector is compared with.
    pub fn read(&self, object: &Value) -> String {
        match value::at(object, self.path) {
            Value::Null => self.absent.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl Column {
    /// A column that is always shown.
    pub const fn new(name: &'static str, kind: &'static str) -> Column {
        Column {
            name,
            kind,
            format: "",
            wide: false,
        }
    }

    /// A column for `-o wide`.
    pub const fn wide(name: &'static str, kind: &'static str) -> Column {
        Column {
            name,
            kind,
            format: "",
            wide: true,
        }
    }

    /// The object's name.
    pub const fn object_name() -> Column {
        Column {
            name: "Name",
            kind: "string",
            format: "name",
            wide: false,
        }
    }
}

impl Resource {
    /// `v1`, `apps/v1`
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// What the keys of its objects begin with.
    pub fn prefix(&self) -> String {
        format!("{ROOT}/{}/", self.storage)
    }

    /// An object's key.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{}", self.prefix(), self.cache_key(namespace, name))
    }

    /// An object's key without the prefix.
    pub fn cache_key(&self, namespace: &str, name: &str) -> String {
        match self.namespaced {
            true => format!("{namespace}/{name}"),
            false => name.to_owned(),
        }
    }

    /// An object of it, for messages.
    pub fn subject<'a>(&self, name: &'a str) -> Subject<'a>
    where
        'static: 'a,
    {
        Subject {
            group: self.group,
            resource: self.plural,
            name,
        }
    }

    /// The names of the fields that selectors may name.
    pub fn field_names(&self) -> Vec<&'static str> {
        self.fields.iter().map(|field| field.name).collect()
    }

    /// A subresource by its name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }
}
