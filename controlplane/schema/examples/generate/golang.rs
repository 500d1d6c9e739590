//! Reads from `types.go` what only the JSON form knows. The files are machine-formatted, so lines are all there is to
//! parse.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context;

use crate::Package;
use crate::docs::Doc;

/// Facts by package and type name.
#[derive(Default)]
pub struct Go {
    pub structs: HashMap<(usize, String), Struct>,
    /// Values of the types marked `+enum`, with what each means.
    pub enums: BTreeMap<(usize, String), Enum>,
    /// String constants, for defaults that refer to one.
    pub constants: HashMap<(usize, String), String>,
}

pub struct Enum {
    pub values: Vec<(String, String)>,
}

#[derive(Default)]
pub struct Struct {
    /// Whether `apiVersion` and `kind` stand in it.
    pub is_kind: bool,
    /// By protobuf number.
    pub fields: HashMap<u32, Field>,
}

pub struct Field {
    /// The Go type, such as `*metav1.Time`.
    pub go_type: String,
    /// The JSON name; empty where the struct is inlined.
    pub json: String,
    pub omitempty: bool,
}

/// The API group that the Go package in `folder` says it is of.
pub fn group_name(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("register.go");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("const GroupName = "));
    Ok(line
        .context("register.go names its group")?
        .trim_matches('"')
        .to_owned())
}

/// Reads the packages' structs and enumerations.
pub fn read(packages: &[Package]) -> anyhow::Result<Go> {
    let mut go = Go::default();
    for (package, Package { folder, .. }) in packages.iter().enumerate() {
        let mut texts = Vec::new();
        for entry in
            std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let generated =
                name.starts_with("zz_") || name.contains("generated") || name.ends_with("_test.go");
            if name.ends_with(".go") && !generated {
                texts.push(std::fs::read_to_string(&path)?);
            }
        }
        let mut file = File {
            go: &mut go,
            package,
            enums: Vec::new(),
            values: Vec::new(),
        };
        texts.iter().for_each(|text| file.read(text));
        file.finish();
    }
    Ok(go)
}

struct File<'a> {
    go: &'a mut Go,
    package: usize,
    /// Types marked `+enum`; their values may stand in front of them.
    enums: Vec<String>,
    /// Typed string constants: type, value, meaning.
    values: Vec<(String, String, String)>,
}

impl File<'_> {
    fn read(&mut self, text: &str) {
        let mut comment: Vec<&str> = Vec::new();
        let mut open: Option<(String, Struct)> = None;
        for line in text.lines() {
            let bare = line.trim();
            if let Some(rest) = bare.strip_prefix("//") {
                comment.push(rest);
                continue;
            }
            let doc = Doc::parse(std::mem::take(&mut comment).into_iter());
            if let Some((name, fields)) = &mut open {
                if line == "}" {
                    self.go
                        .structs
                        .insert((self.package, std::mem::take(name)), std::mem::take(fields));
                    open = None;
                } else {
                    read_field(fields, bare);
                }
            } else if let Some(name) = line
                .strip_prefix("type ")
                .and_then(|rest| rest.strip_suffix(" struct {"))
            {
                open = Some((name.to_owned(), Struct::default()));
            } else if let Some(name) = line
                .strip_prefix("type ")
                .and_then(|rest| rest.strip_suffix(" struct{}"))
            {
                self.go
                    .structs
                    .insert((self.package, name.to_owned()), Struct::default());
            } else if let Some((name, "string")) = line
                .strip_prefix("type ")
                .and_then(|rest| rest.split_once(' '))
            {
                if doc.has("enum") {
                    self.enums.push(name.to_owned());
                }
            } else {
                self.read_constant(bare, doc);
            }
        }
    }

    fn read_constant(&mut self, line: &str, doc: Doc) {
        let line = line.strip_prefix("const ").unwrap_or(line);
        let Some((left, right)) = line.split_once('=') else {
            return;
        };
        // A note behind the value is not a part of it; it describes it where nothing stands above.
        let (value, aside) = right.split_once("//").unwrap_or((right, ""));
        let value = value.trim();
        let Some(value) = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
        else {
            return;
        };
        let doc = if doc.text.is_empty() {
            Doc::parse([aside].into_iter())
        } else {
            doc
        };
        let mut words = left.split_whitespace();
        let Some(name) = words.next() else { return };
        self.go
            .constants
            .insert((self.package, name.to_owned()), value.to_owned());
        if let Some(go_type) = words.next() {
            // "PullAlways means that …" goes on with what the value, and not the constant, means.
            let meaning = doc.text.strip_prefix(name).unwrap_or(&doc.text);
            let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
            self.values
                .push((go_type.to_owned(), value.to_owned(), meaning));
        }
    }

    fn finish(self) {
        for name in self.enums {
            let of = self.values.iter().filter(|(go_type, ..)| *go_type == name);
            let mut values: Vec<_> = of
                .map(|(_, value, meaning)| (value.clone(), meaning.clone()))
                .collect();
            values.sort();
            if !values.is_empty() {
                self.go.enums.insert((self.package, name), Enum { values });
            }
        }
    }
}

fn read_field(fields: &mut Struct, line: &str) {
    let Some((declaration, tags)) = line.split_once('`') else {
        return;
    };
    let mut words = declaration.split_whitespace();
    let Some(first) = words.next() else { return };
    let go_type = words.next().unwrap_or(first);
    if go_type.ends_with("TypeMeta") {
        fields.is_kind = true;
        return;
    }
    let (Some(json), Some(protobuf)) = (tag(tags, "json"), tag(tags, "protobuf")) else {
        return;
    };
    let Some(number) = protobuf
        .split(',')
        .nth(1)
        .and_then(|number| number.parse().ok())
    else {
        return;
    };
    let mut options = json.split(',');
    let json = options.next().unwrap_or_default().to_owned();
    let omitempty = options.any(|option| option == "omitempty");
    fields.fields.insert(
        number,
        Field {
            go_type: go_type.to_owned(),
            json,
            omitempty,
        },
    );
}

fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{name}:\""))? + name.len() + 2;
    let rest = &tags[start..];
    Some(&rest[..rest.find('"')?])
}
