//! Strict serializability of transactions over lists, by the order of the lists themselves; revisions are not looked at.
//!
//! Every element is appended once, so the longest read of a list tells the order of its appends, and every other read
//! must be a prefix of it. That gives the edges of Adya's graph: who overwrote whom (ww), who read whom (wr), whom a
//! reader did not see yet (rw); real time adds that what ended came before what began later. A cycle is a contradiction.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Act, Deed, ListStep, Settled};

/// Why one act must come before another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why<'a> {
    /// The one appended directly before the other.
    Overwrote(&'a str),
    /// The other read what the one appended.
    WasRead(&'a str),
    /// The one did not see what the other appended.
    DidNotSee(&'a str),
    /// The one had ended before the other began.
    Ended,
}

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let acts: Vec<(&Act, &[ListStep])> = case
        .history
        .acts
        .iter()
        .filter_map(|act| match &act.deed {
            Deed::Lists(steps) => Some((act, steps.as_slice())),
            _ => None,
        })
        .collect();
    let lists = Lists::of(&acts, findings);
    let mut graph = Graph::new(acts.len());
    lists.edges(&acts, &mut graph);
    graph.add_real_time(&acts);
    for cycle in graph.cycles() {
        tell_cycle(&acts, &cycle, findings);
    }
    findings.judged(
        Checker::Lists,
        format!(
            "{} transactions over {} lists",
            acts.len(),
            lists.order.len()
        ),
    );
}

/// The order of each list, and who appended what.
struct Lists<'a> {
    order: BTreeMap<&'a str, &'a [u64]>,
    /// Who appended an element to a list.
    appends: HashMap<(&'a str, u64), usize>,
}

impl<'a> Lists<'a> {
    fn of(acts: &[(&'a Act, &'a [ListStep])], findings: &mut Findings) -> Lists<'a> {
        let mut lists = Lists {
            order: BTreeMap::new(),
            appends: HashMap::new(),
        };
        for (index, (_, steps)) in acts.iter().enumerate() {
            for step in *steps {
                if let ListStep::Append { key, element } = step {
                    lists.appends.insert((key, *element), index);
                }
            }
        }
        let mut longest: BTreeMap<&str, (usize, &[u64])> = BTreeMap::new();
        for (index, key, list) in reads(acts) {
            let best = longest.entry(key).or_insert((index, list));
            if list.len() > best.1.len() {
                *best = (index, list);
            }
        }
        for (index, key, list) in reads(acts) {
            let (witness, order) = longest[key];
            if !order.starts_with(list) {
                let sentence = format!(
                    "{} read list {key} as {}, and {} read it as {}: neither is the beginning of the other.",
                    words::capital(&name(acts[index].0)),
                    elements(list),
                    name(acts[witness].0),
                    elements(order)
                );
                tell(findings, &[acts[index].0, acts[witness].0], sentence);
            }
        }
        for (key, (witness, order)) in &longest {
            lists.elements(acts, key, *witness, order, findings);
        }
        lists.order = longest
            .into_iter()
            .map(|(key, (_, list))| (key, list))
            .collect();
        for (act, steps) in acts {
            if act.settled == Settled::Done {
                own(act, steps, findings);
            }
        }
        lists
    }

    /// Each element of a list must have been appended, once, by something that was not refused.
    fn elements(
        &self,
        acts: &[(&'a Act, &'a [ListStep])],
        key: &'a str,
        witness: usize,
        order: &[u64],
        findings: &mut Findings,
    ) {
        let reader = acts[witness].0;
        let mut held = HashSet::new();
        for element in order {
            if !held.insert(element) {
                let sentence = format!(
                    "{} read list {key} with the element {element} twice: it was appended again.",
                    words::capital(&name(reader))
                );
                let appender = self
                    .appends
                    .get(&(key, *element))
                    .map(|index| acts[*index].0);
                let blamed: Vec<&Act> = std::iter::once(reader).chain(appender).collect();
                tell(findings, &blamed, sentence);
            }
            match self
                .appends
                .get(&(key, *element))
                .map(|index| acts[*index].0)
            {
                None => {
                    let sentence = format!(
                        "{} read list {key} with the element {element}, which nobody appended.",
                        words::capital(&name(reader))
                    );
                    tell(findings, &[reader], sentence);
                }
                Some(appender) if appender.settled == Settled::Not => {
                    let sentence = format!(
                        "{} read list {key} with the element {element}, but {}, which appended it, did not happen.",
                        words::capital(&name(reader)),
                        name(appender)
                    );
                    tell(findings, &[reader, appender], sentence);
                }
                Some(_) => {}
            }
        }
    }

    fn edges(&self, acts: &[(&'a Act, &'a [ListStep])], graph: &mut Graph<'a>) {
        // Acknowledged appends that no read has: they come after all that were read.
        let mut unread: HashMap<&str, Vec<usize>> = HashMap::new();
        let read: HashMap<&str, HashSet<u64>> = self
            .order
            .iter()
            .map(|(key, list)| (*key, list.iter().copied().collect()))
            .collect();
        for ((key, element), index) in &self.appends {
            let was_read = read.get(key).is_some_and(|list| list.contains(element));
            if !was_read && acts[*index].0.settled == Settled::Done {
                unread.entry(key).or_default().push(*index);
            }
        }
        let appender = |key: &'a str, element: u64| self.appends.get(&(key, element)).copied();
        for (key, list) in &self.order {
            for pair in list.windows(2) {
                if let (Some(a), Some(b)) = (appender(key, pair[0]), appender(key, pair[1])) {
                    graph.add(a, b, Why::Overwrote(key));
                }
            }
            let last = list.last().and_then(|element| appender(key, *element));
            for later in unread.get(key).into_iter().flatten() {
                if let Some(last) = last {
                    graph.add(last, *later, Why::Overwrote(key));
                }
            }
        }
        for (index, key, list) in reads(acts) {
            let order = self.order[key];
            // A read within the act that appended sees its own: those edges point to itself, and are left out.
            if let Some(writer) = list.last().and_then(|element| appender(key, *element)) {
                graph.add(writer, index, Why::WasRead(key));
            }
            match order.get(list.len()) {
                Some(next) => {
                    if let Some(next) = appender(key, *next) {
                        graph.add(index, next, Why::DidNotSee(key));
                    }
                }
                None => {
                    for later in unread.get(key).into_iter().flatten() {
                        graph.add(index, *later, Why::DidNotSee(key));
                    }
                }
            }
        }
    }
}

/// The reads of all acts that were done.
fn reads<'a>(
    acts: &[(&'a Act, &'a [ListStep])],
) -> impl Iterator<Item = (usize, &'a str, &'a [u64])> {
    acts.iter()
        .enumerate()
        .filter(|(_, (act, _))| act.settled == Settled::Done)
        .flat_map(|(index, (_, steps))| {
            steps.iter().filter_map(move |step| match step {
                ListStep::Read { key, list } => Some((index, key.as_str(), list.as_slice())),
                ListStep::Append { .. } => None,
            })
        })
}

/// Within one act, a read is what the last read of that list was and what was appended since.
fn own(act: &Act, steps: &[ListStep], findings: &mut Findings) {
    let mut seen: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut appended: HashMap<&str, Vec<u64>> = HashMap::new();
    for step in steps {
        match step {
            ListStep::Append { key, element } => {
                if let Some(list) = seen.get_mut(key.as_str()) {
                    list.push(*element);
                }
                appended.entry(key).or_default().push(*element);
            }
            ListStep::Read { key, list } => {
                let fits = match (seen.get(key.as_str()), appended.get(key.as_str())) {
                    (Some(should), _) => should == list,
                    (None, Some(own)) => list.ends_with(own),
                    (None, None) => true,
                };
                if !fits {
                    let sentence = format!(
                        "{} read list {key} as {}, which does not follow from what it had read and appended itself.",
                        words::capital(&name(act)),
                        elements(list)
                    );
                    tell(findings, &[act], sentence);
                }
                seen.insert(key, list.clone());
            }
        }
    }
}

/// What must come before what. The first nodes are acts; the others are moments, which carry real time: an act comes
/// before the moment of its end, a moment before the next, and before the acts that begin after it.
struct Graph<'a> {
    acts: usize,
    edges: Vec<Vec<(usize, Why<'a>)>>,
}

impl<'a> Graph<'a> {
    fn new(acts: usize) -> Graph<'a> {
        Graph {
            acts,
            edges: vec![Vec::new(); acts],
        }
    }

    fn add(&mut self, from: usize, to: usize, why: Why<'a>) {
        if from != to {
            self.edges[from].push((to, why));
        }
    }

    fn add_real_time(&mut self, acts: &[(&'a Act, &'a [ListStep])]) {
        // What is unknown may happen at any time after its start, so it has no end.
        let mut ends: Vec<usize> = (0..acts.len())
            .filter(|index| acts[*index].0.settled == Settled::Done)
            .collect();
        ends.sort_by_key(|index| acts[*index].0.end);
        self.edges.resize(self.acts + ends.len(), Vec::new());
        for (moment, act) in ends.iter().enumerate() {
            self.edges[*act].push((self.acts + moment, Why::Ended));
            if moment + 1 < ends.len() {
                self.edges[self.acts + moment].push((self.acts + moment + 1, Why::Ended));
            }
        }
        for (index, (act, _)) in acts.iter().enumerate() {
            let ended = ends.partition_point(|other| acts[*other].0.end < act.start);
            if let Some(last) = ended.checked_sub(1) {
                self.edges[self.acts + last].push((index, Why::Ended));
            }
        }
    }

    /// A short cycle of each knot: the acts on it, each with why it comes before the next.
    fn cycles(&self) -> Vec<Vec<(usize, Why<'a>)>> {
        let component = self.components();
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (node, component) in component.iter().enumerate() {
            members.entry(*component).or_default().push(node);
        }
        let knots = members.into_values().filter(|nodes| nodes.len() > 1);
        knots
            .filter_map(|nodes| {
                // Few nodes are tried: any cycle will do, and a short one is better.
                let acts = nodes.iter().filter(|node| **node < self.acts).take(64);
                acts.filter_map(|start| self.cycle_from(*start, &component))
                    .min_by_key(Vec::len)
            })
            .collect()
    }

    /// The shortest cycle through a node, by breadth; moments are left out of what is told.
    fn cycle_from(&self, start: usize, component: &[usize]) -> Option<Vec<(usize, Why<'a>)>> {
        let mut came: HashMap<usize, (usize, Why<'a>)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for (next, why) in &self.edges[node] {
                if component[*next] != component[start] {
                    continue;
                }
                if *next == start {
                    let mut path = vec![(node, why.clone())];
                    let mut at = node;
                    while at != start {
                        let (from, why) = came.get(&at)?.clone();
                        path.push((from, why));
                        at = from;
                    }
                    path.reverse();
                    path.retain(|(node, _)| *node < self.acts);
                    return Some(path);
                }
                if !came.contains_key(next) {
                    came.insert(*next, (node, why.clone()));
                    queue.push_back(*next);
                }
            }
        }
        None
    }

    /// The strongly connected component of each node: Tarjan's algorithm, with a stack of its own.
    fn components(&self) -> Vec<usize> {
        const NONE: usize = usize::MAX;
        let nodes = self.edges.len();
        let mut index = vec![NONE; nodes];
        let mut low = vec![0; nodes];
        let mut component = vec![NONE; nodes];
        let mut stack = Vec::new();
        let mut counter = 0;
        let mut components = 0;
        for root in 0..nodes {
            if index[root] != NONE {
                continue;
            }
            let mut work = vec![(root, 0)];
            while let Some((node, edge)) = work.pop() {
                if edge == 0 {
                    index[node] = counter;
                    low[node] = counter;
                    counter += 1;
                    stack.push(node);
                }
                if let Some((next, _)) = self.edges[node].get(edge) {
                    work.push((node, edge + 1));
                    if index[*next] == NONE {
                        work.push((*next, 0));
                    } else if component[*next] == NONE {
                        low[node] = low[node].min(index[*next]);
                    }
                    continue;
                }
                if low[node] == index[node] {
                    while let Some(member) = stack.pop() {
                        component[member] = components;
                        if member == node {
                            break;
                        }
                    }
                    components += 1;
                }
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
            }
        }
        component
    }
}

fn tell_cycle(acts: &[(&Act, &[ListStep])], cycle: &[(usize, Why<'_>)], findings: &mut Findings) {
    let on: Vec<&Act> = cycle.iter().map(|(index, _)| acts[*index].0).collect();
    let steps: Vec<String> = cycle
        .iter()
        .enumerate()
        .map(|(at, (index, why))| {
            let next = name(on[(at + 1) % on.len()]);
            let this = name(acts[*index].0);
            match why {
                Why::Overwrote(key) => format!("{this} appended to {key} before {next} did"),
                Why::WasRead(key) => format!("{this} appended to {key} what {next} read"),
                Why::DidNotSee(key) => {
                    format!("{this} read {key} without what {next} appended")
                }
                Why::Ended => format!("{this} ended before {next} began"),
            }
        })
        .collect();
    let sentence = format!(
        "{} transactions each come before the next in a circle: {}.",
        on.len(),
        steps.join("; ")
    );
    tell(findings, &on, sentence);
}

fn name(act: &Act) -> String {
    let id = act.operations.last().map_or(0, |id| id.0);
    format!(
        "the transaction of client {} at {} (operation {id})",
        act.client.0,
        words::time(act.start)
    )
}

fn elements(list: &[u64]) -> String {
    const SHOWN: usize = 8;
    let tail: Vec<String> = list
        .iter()
        .skip(list.len().saturating_sub(SHOWN))
        .map(u64::to_string)
        .collect();
    let cut = if list.len() > SHOWN { "…, " } else { "" };
    format!("[{cut}{}]", tail.join(", "))
}

fn tell(findings: &mut Findings, acts: &[&Act], sentence: String) {
    findings.add(Violation {
        checker: Checker::Lists,
        sentence,
        operations: acts.iter().flat_map(|act| act.operations.clone()).collect(),
        watches: Vec::new(),
        at: acts.iter().map(|act| act.end).max().unwrap_or_default(),
    });
}
