//! Makes random objects from the table.

use keelson_schema::{Element, Field, Form, Scalar, Shape, Type};
use serde_json::{Map, Value, json};

/// A source of objects: the same ones from the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// An object of a kind.
    pub fn object(&mut self, ty: Type<'_>) -> Value {
        let mut object = self.fields(ty, 0);
        let (group, version) = ty.group_version().unwrap_or_default();
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        object.insert("apiVersion".to_owned(), Value::from(api_version));
        object.insert("kind".to_owned(), Value::from(ty.name()));
        Value::Object(object)
    }

    fn fields(&mut self, ty: Type<'_>, depth: u64) -> Map<String, Value> {
        let mut object = Map::new();
        for field in ty.fields() {
            // The deeper, the fewer, so that objects end.
            let picked = self.below(2 + depth * depth) < 2 && depth < 12;
            // Typed structs cannot do without these.
            if picked || field.is_required() {
                object.insert(field.name().to_owned(), self.field(field, depth));
            }
        }
        object
    }

    fn field(&mut self, field: Field<'_>, depth: u64) -> Value {
        // An empty list that is not omitted cannot be told from none in protobuf.
        let count = self.below(3) + u64::from(!field.omits_empty());
        match field.shape() {
            Shape::Single | Shape::Pointer => self.element(field, depth),
            Shape::List => (0..count.max(1))
                .map(|_| self.element(field, depth))
                .collect(),
            Shape::Map => {
                let entries =
                    (0..count.max(1)).map(|_| (self.string(), self.element(field, depth)));
                Value::Object(entries.collect())
            }
        }
    }

    fn element(&mut self, field: Field<'_>, depth: u64) -> Value {
        let ty = match field.element() {
            Element::Scalar(Scalar::String) => return Value::from(self.string()),
            Element::Scalar(Scalar::Bool) => return Value::from(self.below(2) == 0),
            Element::Scalar(Scalar::Int32) => {
                return Value::from(self.pick(&[0, 1, -1, 80, i32::MAX, i32::MIN]));
            }
            Element::Scalar(Scalar::Int64) => {
                return Value::from(self.pick(&[0, 1, -1, i64::MAX, i64::MIN]));
            }
            Element::Scalar(Scalar::Double) => return Value::from(self.pick(&[0.0, 1.5, -2.0])),
            Element::Scalar(Scalar::Bytes) => {
                return Value::from(self.pick(&["", "AA==", "aGVsbG8=", "////"]));
            }
            Element::Type(ty) => ty,
        };
        match ty.form() {
            Form::Object => Value::Object(self.fields(ty, depth + 1)),
            Form::Quantity => json!(self.pick(&["0", "500m", "1Gi", "1536Mi", "1e3", "-2k", "1n"])),
            Form::Time => json!(self.pick(&[
                "2026-11-28T13:00:00Z",
                "1970-01-01T00:00:00Z",
                "0001-01-01T00:00:01Z"
            ])),
            Form::MicroTime => {
                json!(self.pick(&["2026-11-28T13:00:00.123456Z", "1969-12-31T23:59:59.000001Z"]))
            }
            Form::Fields => json!({"f:metadata": {"f:labels": {}}}),
            Form::Raw => json!({"any": [1, {"thing": null}]}),
            Form::IntOrString => match self.below(2) {
                0 => json!(self.pick(&["25%", "http", ""])),
                _ => json!(self.pick(&[1, 8080, -1])),
            },
            Form::Strings => (0..self.below(3))
                .map(|_| Value::from(self.string()))
                .collect(),
        }
    }

    fn string(&mut self) -> String {
        self.pick(&[
            "",
            "a",
            "web",
            "app.kubernetes.io/name",
            "ü☃",
            "line\nbreak",
            "\"quoted\"",
            "true",
            "10",
        ])
        .to_owned()
    }
}
