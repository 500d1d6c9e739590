//! Who asks, and in whose name something is changed.

/// The agent that is many nodes at once, which no node's own name can be: it may do for any node what a node may do
/// for itself.
pub const NODE_AGENTS: &str = "keelson:node-agents";
const NODES: &str = "system:nodes";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As certificates and messages name it.
    pub name: String,
    /// What decides about rights.
    pub groups: Vec<String>,
}

/// Which nodes a user speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes<'a> {
    /// The one that he is.
    One(&'a str),
    /// Any.
    Any,
}

/// In whose name an object is changed or deleted.
#[derive(Clone, Copy, Debug)]
pub enum Author<'a> {
    /// The server's own.
    Server,
    /// The name of who asks.
    User(&'a User),
}

impl User {
    /// Somebody who said nothing about himself.
    pub fn anonymous() -> User {
        User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// The nodes that the user speaks for; none if he is none.
    pub fn nodes(&self) -> Option<Nodes<'_>> {
        if self.is_in(NODE_AGENTS) {
            return Some(Nodes::Any);
        }
        let name = self.name.strip_prefix("system:node:")?;
        (self.is_in(NODES) && !name.is_empty()).then_some(Nodes::One(name))
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}

impl Nodes<'_> {
    /// Whether the node of a name is one of them.
    pub fn are(self, name: &str) -> bool {
        match self {
            Nodes::One(own) => own == name,
            Nodes::Any => !name.is_empty(),
        }
    }
}

impl<'a> Author<'a> {
    /// The nodes that he speaks for; none if he is none.
    pub fn nodes(self) -> Option<Nodes<'a>> {
        match self {
            Author::Server => None,
            Author::User(user) => user.nodes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_name_and_group() {
        let nodes = |name: &str, group: &str| {
            let user = User {
                name: name.to_owned(),
                groups: vec![group.to_owned()],
            };
            user.nodes().map(|nodes| match nodes {
                Nodes::One(name) => name.to_owned(),
                Nodes::Any => "any".to_owned(),
            })
        };
        assert_eq!(nodes("system:node:n1", NODES).as_deref(), Some("n1"));
        assert_eq!(nodes("agent", NODE_AGENTS).as_deref(), Some("any"));
        assert_eq!(nodes("system:node:n1", "system:authenticated"), None);
        assert_eq!(nodes("system:node:", NODES), None);
        assert_eq!(nodes("mallory", NODES), None);
    }
}
