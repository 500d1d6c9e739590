//! Writes JSON straight into bytes, since a document as a tree of values would take ten times its size.

/// A JSON text that is being written.
#[derive(Default)]
pub(super) struct Json {
    out: Vec<u8>,
}

impl Json {
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes an object; `entries` writes what is in it, with [`Json::entry`].
    pub fn object(&mut self, entries: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        entries(self);
        self.out.push(b'}');
    }

    /// Writes one entry of an object.
    pub fn entry(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        self.separate();
        self.text(key);
        self.out.push(b':');
        value(self);
    }

    /// Writes a list, each item by `write`.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.out.push(b'[');
        for item in items {
            self.separate();
            write(self, item);
        }
        self.out.push(b']');
    }

    /// Writes a string.
    pub fn text(&mut self, text: &str) {
        // Writing a string into memory does not fail.
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    /// Writes a string that is escaped already, in parts.
    pub fn escaped(&mut self, parts: &[&str]) {
        self.out.push(b'"');
        parts
            .iter()
            .for_each(|part| self.out.extend(part.as_bytes()));
        self.out.push(b'"');
    }

    /// Writes what is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.out.extend(json.as_bytes());
    }

    /// A comma stands between what stands side by side.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }
}
