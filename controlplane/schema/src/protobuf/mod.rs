//! The protobuf encoding of objects.
//!
//! A body is the four bytes `k8s\0` and then a message `runtime.Unknown`, which names a kind and has that kind's message
//! as bytes. The messages' fields are those of the table.

mod read;
mod wire;
mod write;

pub(crate) use read::Envelope;
pub use write::encode;
/// What a protobuf body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deep messages may be nested, in levels of the JSON that comes of them; Kubernetes' own go some 20 deep.
const DEPTH_MAX: usize = 100;

/// Numbers in the messages whose JSON form is not an object of their fields.
mod number {
    /// `runtime.Unknown` and the `TypeMeta` in it.
    pub const TYPE_META: u32 = 1;
    pub const RAW: u32 = 2;
    pub const API_VERSION: u32 = 1;
    pub const KIND: u32 = 2;
    /// The only field of `Quantity`, `FieldsV1`, `RawExtension`, and lists of strings.
    pub const ONLY: u32 = 1;
    /// `Time` and `MicroTime`.
    pub const SECONDS: u32 = 1;
    pub const NANOS: u32 = 2;
    /// `IntOrString`.
    pub const IS_STRING: u32 = 1;
    pub const INT: u32 = 2;
    pub const STRING: u32 = 3;
    /// An entry of a map.
    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;
}
