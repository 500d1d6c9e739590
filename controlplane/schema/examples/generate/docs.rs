//! From the comments of a definition to its description and its markers.

/// What a comment says about the thing below it.
#[derive(Debug, Default, Clone)]
pub struct Doc {
    /// The description, in paragraphs.
    pub text: String,
    /// Lines such as `+listType=map`, without the plus.
    pub markers: Vec<String>,
}

impl Doc {
    /// Takes the lines of a comment, each as it stands after `//`.
    ///
    /// The description is laid out as the Kubernetes project lays out those of its OpenAPI documents, so that `kubectl
    /// explain` prints the same: lines of a paragraph are joined, indented lines keep their breaks, notes to the
    /// maintainers (TODO, and all below `---`) are dropped.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut doc = Doc::default();
        let mut hidden = false;
        for line in lines {
            let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
            let bare = line.trim_start();
            if let Some(marker) = bare.strip_prefix('+') {
                doc.markers.push(marker.to_owned());
            } else if hidden || bare.starts_with("TODO") {
            } else if bare == "---" {
                hidden = true;
            } else if line.is_empty() {
                doc.drop_space();
                doc.text.push_str("\n\n");
            } else if line.starts_with([' ', '\t']) {
                doc.drop_space();
                doc.text.push('\n');
                doc.text.push_str(line);
                doc.text.push('\n');
            } else {
                doc.text.push_str(line);
                doc.text.push(' ');
            }
        }
        doc.text = doc.text.trim_matches(['\n', ' ']).to_owned();
        doc
    }

    /// The value of the marker `+name=value`, if it is there.
    pub fn marker<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The values of all markers `+name=value`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.markers
            .iter()
            .filter_map(move |marker| marker.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether the marker `+name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.markers.iter().any(|marker| marker == name)
    }

    fn drop_space(&mut self) {
        if self.text.ends_with([' ', '\n']) {
            self.text.pop();
        }
    }
}
