//! The table of types: what [`Schemas`] holds, and how it is looked up.

mod parse;

use std::collections::HashMap;
use std::sync::OnceLock;

/// All types that are known, with their fields.
///
/// Names and descriptions are slices of the text that the table was read from; what is kept beside it is some 400 KiB
/// for the whole of Kubernetes' served groups.
#[derive(Debug, Default)]
pub struct Schemas {
    packages: Vec<Package>,
    types: Vec<TypeData>,
    enums: Vec<Enum>,
    kinds: HashMap<&'static str, Vec<u16>>,
}

#[derive(Debug)]
struct Package {
    /// As in `io.k8s.api.core.v1`.
    name: &'static str,
    /// As in `core/v1`.
    alias: &'static str,
    group: Option<(&'static str, &'static str)>,
}

#[derive(Debug)]
struct TypeData {
    package: u16,
    name: &'static str,
    form: Form,
    is_kind: bool,
    is_union: bool,
    map_type: Option<&'static str>,
    doc: &'static str,
    /// As the message has them, inlined messages included.
    own: Box<[FieldData]>,
    /// Every field of the JSON form by name: which of `own` it is, or is in.
    names: Box<[Named]>,
}

#[derive(Debug, Clone, Copy)]
struct Named {
    name: &'static str,
    own: u16,
    /// The field's place in the inlined type, if it comes from there.
    inner: Option<u16>,
}

#[derive(Debug)]
struct FieldData {
    name: &'static str,
    number: u32,
    shape: Shape,
    element: ElementId,
    required: bool,
    omitempty: bool,
    discriminator: bool,
    doc: &'static str,
    /// What few fields have.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    go_type: Option<&'static str>,
    patch_strategy: Option<&'static str>,
    patch_merge_key: Option<&'static str>,
    list_type: Option<&'static str>,
    list_map_keys: Vec<&'static str>,
    map_type: Option<&'static str>,
    default: Option<&'static str>,
    enumeration: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ElementId {
    Scalar(Scalar),
    Type(u16),
}

/// A named set of strings.
#[derive(Debug)]
pub struct Enum {
    package: u16,
    name: &'static str,
    values: Vec<(&'static str, &'static str)>,
}

impl Enum {
    /// The values, in alphabetical order, each with its description as JSON writes a string, without the quotes.
    pub fn values(&self) -> &[(&'static str, &'static str)] {
        &self.values
    }
}

/// How many of its element a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One, which Go holds by value: always there, if only as a zero.
    Single,
    /// One that may be absent.
    Pointer,
    /// A list.
    List,
    /// A map with string keys.
    Map,
}

/// A value that has no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer; a JSON number all the same.
    Int64,
    /// A floating point number.
    Double,
    /// Bytes; a base64 string in JSON.
    Bytes,
}

/// What a field, or each item of its list or map, is.
#[derive(Debug, Clone, Copy)]
pub enum Element<'s> {
    /// A value without fields.
    Scalar(Scalar),
    /// A value of a type of the table.
    Type(Type<'s>),
}

/// What a type looks like in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object with the type's fields.
    Object,
    /// A number with a suffix, such as `500m`.
    Quantity,
    /// A time, to the second.
    Time,
    /// A time, to the microsecond.
    MicroTime,
    /// A set of fields: any object.
    Fields,
    /// A number or a string.
    IntOrString,
    /// Any object, of a type of its own.
    Raw,
    /// A list of strings, which protobuf wraps in a message.
    Strings,
}

/// A type of the table.
#[derive(Clone, Copy)]
pub struct Type<'s> {
    schemas: &'s Schemas,
    id: u16,
}

/// A field of a type.
#[derive(Clone, Copy)]
pub struct Field<'s> {
    schemas: &'s Schemas,
    data: &'s FieldData,
    /// The type that it comes from, where that is not the one that was asked.
    inlined_from: Option<u16>,
}

impl Schemas {
    /// The types of Kubernetes that the table in this crate has. It is read when this is called first.
    pub fn kubernetes() -> &'static Schemas {
        static TABLE: OnceLock<Schemas> = OnceLock::new();
        let text = include_str!("../../data/kubernetes.schema");
        TABLE.get_or_init(|| Schemas::parse(text).expect("a test reads this very table"))
    }

    /// The type of a kind, if it is known. What every group has, such as `DeleteOptions`, is found in each.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<Type<'_>> {
        let of = |group: &str, version: &str| {
            let mut ids = self.kinds.get(kind)?.iter();
            let id = ids.find(|id| {
                self.packages[usize::from(self.types[usize::from(**id)].package)].group
                    == Some((group, version))
            })?;
            Some(Type {
                schemas: self,
                id: *id,
            })
        };
        of(group, version).or_else(|| of("meta.k8s.io", "v1"))
    }

    /// The type with this name in OpenAPI documents, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<Type<'_>> {
        let (package, name) = name.rsplit_once('.')?;
        let package = self
            .packages
            .iter()
            .position(|known| known.name == package)?;
        let id = self
            .types
            .iter()
            .position(|known| usize::from(known.package) == package && known.name == name)?;
        Some(Type {
            schemas: self,
            id: u16::try_from(id).ok()?,
        })
    }

    /// All types, in the order of the table.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (0..self.types.len()).map(|id| Type {
            schemas: self,
            id: id as u16,
        })
    }
}

impl PartialEq for Type<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schemas, other.schemas) && self.id == other.id
    }
}

impl Eq for Type<'_> {}

impl std::fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.openapi_name())
    }
}

impl<'s> Type<'s> {
    fn data(&self) -> &'s TypeData {
        &self.schemas.types[usize::from(self.id)]
    }

    fn package(&self) -> &'s Package {
        &self.schemas.packages[usize::from(self.data().package)]
    }

    /// The bare name, such as `PodSpec`.
    pub fn name(&self) -> &'s str {
        self.data().name
    }

    /// The name in OpenAPI documents, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn openapi_name(&self) -> String {
        format!("{}.{}", self.package().name, self.name())
    }

    /// The name in the messages of Go programs, such as `v1.PodSpec`.
    pub fn go_name(&self) -> String {
        go_name(&format!("{}.{}", self.package().alias, self.name()))
    }

    /// The group and version that the type is of. Types of no API, such as `Quantity`, have none.
    pub fn group_version(&self) -> Option<(&'s str, &'s str)> {
        self.package().group
    }

    /// What the type looks like in JSON.
    pub fn form(&self) -> Form {
        self.data().form
    }

    /// Whether `apiVersion` and `kind` stand in it.
    pub fn is_kind(&self) -> bool {
        self.data().is_kind
    }

    /// Whether at most one of its fields is set, as its discriminator says.
    pub fn is_union(&self) -> bool {
        self.data().is_union
    }

    /// `atomic` or `granular`, where the definitions say how its values are owned.
    pub fn map_type(&self) -> Option<&'s str> {
        self.data().map_type
    }

    /// The description, as JSON writes a string, without the quotes.
    pub fn doc(&self) -> &'s str {
        self.data().doc
    }

    /// The fields of the JSON form in alphabetical order, those of inlined types among them; without `apiVersion` and
    /// `kind`.
    pub fn fields(&self) -> impl Iterator<Item = Field<'s>> + use<'s> {
        let ty = *self;
        ty.data().names.iter().map(move |named| ty.resolve(*named))
    }

    /// The field with this JSON name. Names are compared exactly, as Kubernetes does.
    pub fn field(&self, name: &str) -> Option<Field<'s>> {
        let names = &self.data().names;
        let at = names.binary_search_by(|named| named.name.cmp(name)).ok()?;
        Some(self.resolve(names[at]))
    }

    /// The fields as the protobuf message has them: inlined types are one field, with an empty name.
    pub(crate) fn wire_fields(&self) -> impl Iterator<Item = Field<'s>> + use<'s> {
        let schemas = self.schemas;
        self.data().own.iter().map(move |data| Field {
            schemas,
            data,
            inlined_from: None,
        })
    }

    /// The field of the protobuf message with this number.
    pub(crate) fn wire_field(&self, number: u32) -> Option<Field<'s>> {
        self.wire_fields().find(|field| field.number() == number)
    }

    fn resolve(&self, named: Named) -> Field<'s> {
        let schemas = self.schemas;
        let outer = &self.data().own[usize::from(named.own)];
        match (named.inner, outer.element) {
            (Some(inner), ElementId::Type(id)) => {
                let data = &schemas.types[usize::from(id)].own[usize::from(inner)];
                Field {
                    schemas,
                    data,
                    inlined_from: Some(id),
                }
            }
            _ => Field {
                schemas,
                data: outer,
                inlined_from: None,
            },
        }
    }
}

impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<'s> Field<'s> {
    /// The JSON name. Empty for an inlined type.
    pub fn name(&self) -> &'s str {
        self.data.name
    }

    /// The number in the protobuf message that has the field.
    pub fn number(&self) -> u32 {
        self.data.number
    }

    /// Whether the type's fields stand in the JSON object of the type that has this field.
    pub fn is_inlined(&self) -> bool {
        self.data.name.is_empty()
    }

    /// The name of the inlined type that has the field, if it is not the one that was asked for it.
    pub fn inlined_from(&self) -> Option<&'s str> {
        Some(self.schemas.types[usize::from(self.inlined_from?)].name)
    }

    /// How many elements it holds.
    pub fn shape(&self) -> Shape {
        self.data.shape
    }

    /// What it holds.
    pub fn element(&self) -> Element<'s> {
        match self.data.element {
            ElementId::Scalar(scalar) => Element::Scalar(scalar),
            ElementId::Type(id) => Element::Type(Type {
                schemas: self.schemas,
                id,
            }),
        }
    }

    /// The type that it, or its list or map, holds; none if that is a scalar.
    pub fn element_type(&self) -> Option<Type<'s>> {
        match self.element() {
            Element::Type(ty) => Some(ty),
            Element::Scalar(_) => None,
        }
    }

    /// Whether the definitions ask for it.
    pub fn is_required(&self) -> bool {
        self.data.required
    }

    /// Whether JSON leaves it out when it is empty.
    pub fn omits_empty(&self) -> bool {
        self.data.omitempty
    }

    /// Whether it says which field of a union is set.
    pub fn is_discriminator(&self) -> bool {
        self.data.discriminator
    }

    /// The description, as JSON writes a string, without the quotes.
    pub fn doc(&self) -> &'s str {
        self.data.doc
    }

    /// What a strategic merge patch does with it: `merge`, `replace`, `retainKeys`, or several with commas between.
    pub fn patch_strategy(&self) -> Option<&'s str> {
        self.more()?.patch_strategy
    }

    /// The field by which a strategic merge patch finds the items of its list.
    pub fn patch_merge_key(&self) -> Option<&'s str> {
        self.more()?.patch_merge_key
    }

    /// `atomic`, `set` or `map`.
    pub fn list_type(&self) -> Option<&'s str> {
        self.more()?.list_type
    }

    /// The fields that name an item of a list of type `map`.
    pub fn list_map_keys(&self) -> &'s [&'static str] {
        self.more().map_or(&[], |more| &more.list_map_keys)
    }

    /// `atomic` or `granular`.
    pub fn map_type(&self) -> Option<&'s str> {
        self.more()?.map_type
    }

    /// The value that the definitions give it when it is absent, as JSON.
    pub fn default(&self) -> Option<&'s str> {
        self.more()?.default
    }

    /// The values that it may have.
    pub fn enumeration(&self) -> Option<&'s Enum> {
        Some(&self.schemas.enums[usize::from(self.more()?.enumeration?)])
    }

    /// The field's Go type as Go's messages name it, such as `[]v1.Container`; without a pointer's star.
    pub fn go_type(&self) -> String {
        if let Some(go_type) = self.more().and_then(|more| more.go_type) {
            return go_name(go_type);
        }
        let element = self.plain_element();
        match self.shape() {
            Shape::Single | Shape::Pointer => element,
            Shape::List => format!("[]{element}"),
            Shape::Map => format!("map[string]{element}"),
        }
    }

    /// The Go type of what the field's list or map holds; its own for others.
    pub fn go_element_type(&self) -> String {
        let go_type = self.go_type();
        match self.shape() {
            Shape::Single | Shape::Pointer => go_type,
            Shape::List => go_type.strip_prefix("[]").unwrap_or(&go_type).to_owned(),
            Shape::Map => match go_type.split_once(']') {
                Some((_, element)) => element.to_owned(),
                None => self.plain_element(),
            },
        }
    }

    fn plain_element(&self) -> String {
        match self.element() {
            Element::Scalar(Scalar::String) => "string".to_owned(),
            Element::Scalar(Scalar::Bool) => "bool".to_owned(),
            Element::Scalar(Scalar::Int32) => "int32".to_owned(),
            Element::Scalar(Scalar::Int64) => "int64".to_owned(),
            Element::Scalar(Scalar::Double) => "float64".to_owned(),
            Element::Scalar(Scalar::Bytes) => "[]uint8".to_owned(),
            Element::Type(ty) => ty.go_name(),
        }
    }

    fn more(&self) -> Option<&'s More> {
        self.data.more.as_deref()
    }
}

/// `core/v1.PodSpec` is `v1.PodSpec` to Go, also within a longer type.
fn go_name(name: &str) -> String {
    let Some(slash) = name.find('/') else {
        return name.to_owned();
    };
    let start = name[..slash].rfind([']', '[']).map_or(0, |at| at + 1);
    format!("{}{}", &name[..start], go_name(&name[slash + 1..]))
}
