//! How rules look at the world.

use std::{cell::RefCell, collections::BTreeSet};

use jiff::civil::DateTime;
use meshward_model::Confidence;

use super::{Asked, Entry, Id, Key, Kind, Labels, SELECTOR, Workload, World, has_all, host, keys};
use crate::rules::field::Field;

/// The namespace of policies for the whole mesh where no MeshConfig says another.
const ROOT_NAMESPACE: &str = "istio-system";

/// The world as one object's rules see it; remembers what they asked.
#[derive(Debug)]
pub struct View<'w> {
    world: &'w World,
    asked: RefCell<Asked>,
    skipped: RefCell<BTreeSet<String>>,
}

impl<'w> View<'w> {
    /// A view of which nothing has been asked.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        Self { world, asked: RefCell::default(), skipped: RefCell::default() }
    }

    /// What was asked, and which rules could not run, with the reason.
    #[must_use]
    pub fn into_parts(self) -> (Asked, BTreeSet<String>) {
        (self.asked.into_inner(), self.skipped.into_inner())
    }

    fn ask(&self, key: Key) -> Vec<&'w Entry> {
        let entry = |id: &Id| self.world.get(*id);
        let found = self.world.ids(&key).iter().filter_map(entry).collect();
        self.asked.borrow_mut().insert(key);
        found
    }

    /// All of a kind.
    #[must_use]
    pub fn all(&self, kind: Kind) -> Vec<&'w Entry> {
        self.ask(Key::All(kind))
    }

    /// All of a kind in a namespace.
    #[must_use]
    pub fn all_in(&self, kind: Kind, namespace: &str) -> Vec<&'w Entry> {
        self.ask(Key::In(kind, namespace.to_owned()))
    }

    /// One object.
    #[must_use]
    pub fn named(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'w Entry> {
        self.ask(Key::Named(kind, namespace.to_owned(), name.to_owned())).first().copied()
    }

    /// All of a kind that define or configure exactly this host (full name, or a wildcard).
    #[must_use]
    pub fn of_host(&self, kind: Kind, name: &str) -> Vec<&'w Entry> {
        if name.starts_with('*') {
            let mut found = self.wildcards(kind);
            found.retain(|entry| keys::hosts(entry).iter().any(|own| own == name));
            return found;
        }
        self.ask(Key::Host(kind, name.to_owned()))
    }

    /// All of a kind with a wildcard host.
    #[must_use]
    pub fn wildcards(&self, kind: Kind) -> Vec<&'w Entry> {
        self.ask(Key::Host(kind, "*".to_owned()))
    }

    /// All of a kind that refer to a host by its full name.
    #[must_use]
    pub fn referring_to_host(&self, kind: Kind, name: &str) -> Vec<&'w Entry> {
        self.ask(Key::Refers(kind, name.to_owned()))
    }

    /// All of a kind that refer to an object.
    #[must_use]
    pub fn referring_to(&self, kind: Kind, to: Kind, namespace: &str, name: &str) -> Vec<&'w Entry> {
        self.ask(Key::Refers(kind, keys::object(to, namespace, name)))
    }

    /// How sure a rule may be that something is absent, given the kinds that it would be among. `None` if none of them is at
    /// hand: the rule cannot run, and `what` goes to the list of those.
    #[must_use]
    pub fn absence(&self, kinds: &[Kind], what: &str) -> Option<Confidence> {
        if self.world.complete {
            return Some(Confidence::Definite);
        }
        let present = |kind: &&Kind| {
            self.asked.borrow_mut().insert(Key::Presence(**kind));
            self.world.is_given(**kind)
        };
        if kinds.iter().any(|kind| present(&kind)) {
            return Some(Confidence::Possible);
        }
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        self.skip(what, &format!("no {} was given as context", names.join(" or ")));
        None
    }

    /// Puts what cannot be judged on the list of that, with the reason.
    pub fn skip(&self, what: &str, why: &str) {
        self.skipped.borrow_mut().insert(format!("{what}: {why}"));
    }

    /// What time it is, in UTC. If nobody has said so, `what` goes to the list of what cannot be judged.
    #[must_use]
    pub fn now(&self, what: &str) -> Option<DateTime> {
        self.asked.borrow_mut().insert(Key::Time);
        if self.world.now.is_none() {
            self.skip(what, "nobody has said what time it is");
        }
        self.world.now
    }

    /// Istio's MeshConfig; a cursor at nothing if there is none.
    #[must_use]
    pub fn mesh_config(&self) -> Field<'w> {
        let configs = self.all(Kind::MeshConfig);
        configs.first().map_or_else(Field::nothing, |entry| entry.root().get("mesh"))
    }

    /// The namespace of policies for the whole mesh.
    #[must_use]
    pub fn root_namespace(&self) -> &'w str {
        match self.mesh_config().get("rootNamespace").text() {
            "" => ROOT_NAMESPACE,
            namespace => namespace,
        }
    }

    /// The workloads of a namespace.
    #[must_use]
    pub fn workloads(&self, namespace: &str) -> Vec<Workload<'w>> {
        self.all_in(Kind::Workload, namespace).into_iter().map(Workload::of).collect()
    }

    /// The workloads of a namespace that have these labels.
    #[must_use]
    pub fn selected(&self, namespace: &str, wanted: &Labels<'_>) -> Vec<Workload<'w>> {
        let found = self.labelled(Kind::Workload, namespace, wanted).into_iter();
        found.filter(|entry| Workload::has(entry, wanted)).map(Workload::of).collect()
    }

    /// Workloads or Services of a namespace, those with these labels among them: all that have the rarest one.
    #[must_use]
    pub fn labelled(&self, kind: Kind, namespace: &str, wanted: &Labels<'_>) -> Vec<&'w Entry> {
        let key = |(name, value): (&&str, &&str)| Key::Labelled(kind, namespace.to_owned(), keys::label(name, value));
        let rarest = wanted.iter().map(key).min_by_key(|key| self.world.ids(key).len());
        rarest.map_or_else(|| self.all_in(kind, namespace), |key| self.ask(key))
    }

    /// The policies of a namespace whose selector fits one of several workloads, given their labels. Those without a selector
    /// fit every workload.
    #[must_use]
    pub fn applying(&self, kind: Kind, namespace: &str, to: &[&Labels<'_>]) -> Vec<&'w Entry> {
        let labels = to.iter().flat_map(|of| of.iter()).map(|(name, value)| keys::label(name, value));
        let labels: BTreeSet<String> = labels.chain([String::new()]).collect();
        let asked: Vec<Key> =
            labels.into_iter().map(|label| Key::Labelled(kind, namespace.to_owned(), label)).collect();
        let ids: BTreeSet<Id> = asked.iter().flat_map(|key| self.world.ids(key)).copied().collect();
        self.asked.borrow_mut().extend(asked);
        let found = ids.iter().filter_map(|id| self.world.get(*id));
        found.filter(|entry| to.iter().any(|of| has_all(entry, SELECTOR, of))).collect()
    }

    /// Whether a workload of a namespace runs as a service account.
    #[must_use]
    pub fn is_used(&self, namespace: &str, account: &str) -> bool {
        !self.referring_to(Kind::Workload, Kind::ServiceAccount, namespace, account).is_empty()
    }

    /// All workloads.
    #[must_use]
    pub fn all_workloads(&self) -> Vec<Workload<'w>> {
        self.all(Kind::Workload).into_iter().map(Workload::of).collect()
    }

    /// The Services and ServiceEntries of a host (full name) that objects of a namespace can use, the exact ones first.
    #[must_use]
    pub fn providers(&self, name: &str, from: &[&str]) -> Vec<&'w Entry> {
        let mut found: Vec<&Entry> = Vec::new();
        found.extend(self.ask(Key::Host(Kind::Service, name.to_owned())));
        found.extend(self.of_host(Kind::ServiceEntry, name));
        if found.is_empty() {
            let covering = |entry: &&Entry| keys::hosts(entry).iter().any(|own| host::covers(own, name));
            found.extend(self.wildcards(Kind::ServiceEntry).into_iter().filter(covering));
        }
        found.retain(|entry| is_visible(entry, from));
        found
    }
}

/// Whether one of the namespaces may use an object.
#[must_use]
pub(crate) fn is_visible(entry: &Entry, from: &[&str]) -> bool {
    let annotation = entry.root().get("metadata").get("annotations").get("networking.istio.io/exportTo");
    let list = entry.spec().get("exportTo").items();
    let of_service: Vec<&str> = annotation.text().split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    let entries: Vec<&str> =
        if entry.kind == Kind::Service { of_service } else { list.iter().map(Field::text).collect() };
    host::exported(&entries, entry.namespace()).is_none_or(|to| from.iter().any(|from| to.contains(from)))
}
