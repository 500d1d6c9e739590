//! Makes `data/kubernetes.schema` from Kubernetes' published API definitions.
//!
//! `generate PROTOS LABEL OUT` reads a folder that holds the repositories `k8s.io/api` and `k8s.io/apimachinery` at one
//! tag, laid out by their import paths. Two of their files say all that the table needs, and neither says it alone:
//! `generated.proto` has numbers, wire types and documentation (read through protoc, so that no parser of ours can
//! misread it), `types.go` has what only JSON knows: which structs are inlined, what is omitted when empty, what is a
//! pointer, and the values of enumerations.
//!
//! To serve another group, add it to [`GROUPS`] and run `make schema` again.

mod docs;
mod golang;
mod protos;
mod write;

use std::path::PathBuf;

use anyhow::{Context, bail};

/// The groups whose types the table has, as folders of `k8s.io/api`, besides what they reach.
const GROUPS: &[&str] = &[
    "core/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "coordination/v1",
    "discovery/v1",
    "events/v1",
    "policy/v1",
];

/// What the groups share, as folders of `k8s.io/apimachinery`.
const SHARED: &[&str] = &[
    "pkg/api/resource",
    "pkg/apis/meta/v1",
    "pkg/runtime",
    "pkg/util/intstr",
];

/// One folder of definitions.
pub struct Package {
    /// Where its Go and proto files are.
    pub folder: PathBuf,
    /// The proto package, as in `k8s.io.api.core.v1`.
    pub proto: String,
    /// What types of other packages call it in the data file, as in `core/v1`.
    pub alias: String,
    /// The API group and version, if the folder is one of an API.
    pub group: Option<(String, String)>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, label, out] = args.as_slice() else {
        bail!("usage: generate PROTOS LABEL OUT")
    };
    let root = PathBuf::from(root);

    let mut packages = Vec::new();
    for folder in SHARED {
        let alias = folder
            .trim_start_matches("pkg/")
            .trim_start_matches("apis/")
            .trim_start_matches("api/");
        packages.push(Package {
            folder: root.join("k8s.io/apimachinery").join(folder),
            proto: format!("k8s.io.apimachinery.{}", folder.replace('/', ".")),
            alias: alias.trim_start_matches("util/").to_owned(),
            group: (alias == "meta/v1").then(|| ("meta.k8s.io".to_owned(), "v1".to_owned())),
        });
    }
    for group in GROUPS {
        let folder = root.join("k8s.io/api").join(group);
        let (_, version) = group
            .split_once('/')
            .context("a group is a folder and a version")?;
        packages.push(Package {
            proto: format!("k8s.io.api.{}", group.replace('/', ".")),
            alias: (*group).to_owned(),
            group: Some((golang::group_name(&folder)?, version.to_owned())),
            folder,
        });
    }

    let messages = protos::read(&root, &packages)?;
    let go = golang::read(&packages)?;
    let text = write::table(label, &packages, &messages, &go)?;
    std::fs::write(out, &text).with_context(|| format!("write {out}"))?;
    eprintln!("{out}: {} types, {} bytes", messages.len(), text.len());
    Ok(())
}
