//! Where a value stands, built while a tree is walked, on the walker's stack.

use std::fmt;

/// A place in an object. It costs nothing until it is displayed, as in `spec.containers[0].image`.
#[derive(Clone, Copy)]
pub(crate) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    /// A field of a struct, and the struct inlined there that it comes from, if it does.
    Field(&'p str, Option<&'p str>),
    /// A key of a map, or of an object of which nothing more is known.
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub fn root() -> Self {
        Path {
            parent: None,
            step: Step::Root,
        }
    }

    pub fn field(&'p self, name: &'p str, inlined_from: Option<&'p str>) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Field(name, inlined_from),
        }
    }

    pub fn key(&'p self, key: &'p str) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The names of the struct fields on the way, with dots between: where Go's messages say that a value stands. To Go,
    /// a struct that JSON inlines is a field too.
    pub fn go_fields(&self) -> String {
        let mut out = self.parent.map(Path::go_fields).unwrap_or_default();
        if let Step::Field(name, inlined_from) = self.step {
            for name in inlined_from.into_iter().chain([name]) {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
        }
        out
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Root => {}
            Step::Field(name, _) | Step::Key(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                out.push('[');
                out.push_str(&index.to_string());
                out.push(']');
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out);
        f.write_str(&out)
    }
}
