//! Where a range puts the keys that it finds, in their order.

use keelson_proto::mvccpb::KeyValue;

use crate::arena::Arena;
use crate::engine::EngineError;
use crate::format::Version;

/// Takes keys, one by one.
pub(crate) trait Kvs {
    /// A key with its record as it is stored, which is all that a client gets of it.
    fn record(&mut self, key: &[u8], record: &[u8]) -> Result<(), EngineError>;

    /// A key with what a client gets of its version.
    fn version(&mut self, key: &[u8], version: Version<'_>);
}

/// As messages, to be looked at or put into others.
#[derive(Default)]
pub(crate) struct Messages {
    pub kvs: Vec<KeyValue>,
    arena: Arena,
}

impl Kvs for Messages {
    fn record(&mut self, key: &[u8], record: &[u8]) -> Result<(), EngineError> {
        self.version(key, Version::parse(record)?);
        Ok(())
    }

    fn version(&mut self, key: &[u8], version: Version<'_>) {
        self.kvs.push(version.key_value(key, &mut self.arena));
    }
}
