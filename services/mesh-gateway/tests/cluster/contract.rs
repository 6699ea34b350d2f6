//! What every [`Cluster`] keeps to: the same small scenarios on the one in memory and on a real kube-apiserver.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use meshward_chassis::clock::SystemClock;
use meshward_local::stack::ApiServer;
use meshward_mesh_gateway::{
    cluster::{Change, Cluster, ClusterError, KubeCluster, KubeOptions, MemoryCluster, Mode, Selection},
    dialect::Newcomers,
    newcomers::admission,
    object,
};
use meshward_model::{Mesh, Target};
use serde_json::{Value, json};

use super::{
    alone::{Alone, account, allow, apply_as, eventually, kubeconfig},
    world::PATIENCE,
};

/// A cluster, and the hands of others on it.
#[async_trait]
pub trait Backend: Send + Sync {
    fn name(&self) -> &'static str;
    fn cluster(&self) -> Arc<dyn Cluster>;
    /// The same one, as others may change it who have every right.
    fn by_others(&self) -> Arc<dyn Cluster> {
        self.cluster()
    }
    /// Server-side apply by another field manager.
    async fn apply_as(&self, manager: &str, object: &Value) -> Value;
    /// How often [`Backend::cluster`] has written an object other than a pod, as the cluster's own log tells it; `None` if
    /// it has none.
    fn audited_writes(&self) -> Option<u32>;
}

pub struct Memory(MemoryCluster);

impl Memory {
    pub fn new() -> Self {
        Self(MemoryCluster::new(Arc::new(SystemClock)))
    }
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "in memory"
    }
    fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::new(self.0.clone())
    }
    async fn apply_as(&self, manager: &str, object: &Value) -> Value {
        let other = self.0.as_manager(manager);
        other.apply(&target_of(object), object, Mode::Store).await.expect("it is applied").object
    }
    fn audited_writes(&self) -> Option<u32> {
        None
    }
}

pub struct Real<'a> {
    server: &'a ApiServer,
    cluster: Arc<dyn Cluster>,
    by_others: Arc<dyn Cluster>,
    kubeconfig: PathBuf,
    audited: Mutex<Audited>,
}

/// What was read of an audit log so far.
#[derive(Default)]
struct Audited {
    offset: u64,
    writes: u32,
}

/// Who the gateway is for the audit log.
pub const ACCOUNT: &str = "contract";

impl<'a> Real<'a> {
    pub async fn new(world: &Alone, server: &'a ApiServer) -> Self {
        let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        Self::with(world, server, &everything).await
    }

    /// With an account that may do no more than this; others may do all.
    pub async fn with(world: &Alone, server: &'a ApiServer, rules: &Value) -> Self {
        let token = account(server, ACCOUNT).await;
        allow(server, ACCOUNT, rules).await;
        let kubeconfig = world.file("contract.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
        let cluster = connect(&kubeconfig).await;
        let may_read = || async { cluster.list("v1", "Pod", None).await.ok() };
        eventually("the account has its rights", may_read).await;
        let by_others = connect(server.kubeconfig()).await;
        Self { server, cluster, by_others, kubeconfig, audited: Mutex::default() }
    }

    /// How a gateway connects with the same rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Whether a line of an audit log is the account's write of an object other than a pod.
fn is_write(line: &str) -> bool {
    let user = format!("system:serviceaccount:shop:{ACCOUNT}");
    // Most lines are told by their text alone.
    let event = line.contains(&user).then(|| serde_json::from_str::<Value>(line).ok()).flatten();
    event.is_some_and(|event| {
        let verb = event["verb"].as_str().unwrap_or_default();
        ["create", "update", "patch", "delete"].contains(&verb)
            && event["user"]["username"] == user.as_str()
            && event["stage"] == "ResponseComplete"
            && event["objectRef"]["resource"] != "pods"
            && event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 400)
            && !event["requestURI"].as_str().unwrap_or_default().contains("dryRun")
    })
}

async fn connect(kubeconfig: &Path) -> Arc<dyn Cluster> {
    let options = KubeOptions { kubeconfig: Some(kubeconfig.to_owned()), timeout: PATIENCE };
    Arc::new(KubeCluster::new(&options).await.expect("a cluster"))
}

#[async_trait]
impl Backend for Real<'_> {
    fn name(&self) -> &'static str {
        "kube-apiserver"
    }
    fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::clone(&self.cluster)
    }
    fn by_others(&self) -> Arc<dyn Cluster> {
        Arc::clone(&self.by_others)
    }
    async fn apply_as(&self, manager: &str, object: &Value) -> Value {
        let target = target_of(object);
        let selection = self.cluster.kind_of(&target.api_version, &target.kind).await.expect("a kind");
        let Target { api_version, namespace, name, .. } = &target;
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let within = if namespace.is_empty() { String::new() } else { format!("namespaces/{namespace}/") };
        let path = format!("/{root}/{api_version}/{within}{}/{name}", selection.plural);
        apply_as(self.server, manager, &path, object).await
    }
    fn audited_writes(&self) -> Option<u32> {
        let mut audited = self.audited.lock().expect("nobody panicked");
        let mut log = File::open(self.server.audit_log()).expect("an audit log");
        log.seek(SeekFrom::Start(audited.offset)).expect("it has grown");
        let mut text = String::new();
        log.read_to_string(&mut text).expect("it is text");
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        audited.offset += u64::try_from(whole.len()).expect("a length");
        audited.writes += u32::try_from(whole.lines().filter(|line| is_write(line)).count()).expect("a count");
        Some(audited.writes)
    }
}

/// What is of no mesh (a pod, say) can be written as well.
pub fn target_of(object: &Value) -> Target {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    Target {
        cluster: String::new(),
        mesh: Mesh::of_api_version(&api_version).unwrap_or(Mesh::Istio),
        api_version,
        kind: text(&object["kind"]),
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
    }
}

fn version(name: &str, host: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": name, "namespace": "shop"},
           "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

/// Who owns fields: manager and operation of each entry.
fn owners(object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut owners: Vec<_> = entries.map(|entry| (text(&entry["manager"]), text(&entry["operation"]))).collect();
    owners.sort();
    owners
}

fn pair(manager: &str, operation: &str) -> (String, String) {
    (manager.to_owned(), operation.to_owned())
}

fn replaced(live: &Value, operations: &[Value]) -> Value {
    let fence = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": object::resource_version(live)});
    [fence].into_iter().chain(operations.iter().cloned()).collect()
}

fn is_conflict<T: std::fmt::Debug>(answer: Result<T, ClusterError>) {
    assert!(matches!(answer, Err(ClusterError::Conflict(_))), "{answer:?}");
}

/// Runs all of them; each on objects of its own.
pub async fn every_cluster_keeps_to_it(backend: &dyn Backend) {
    made_and_read(backend).await;
    applied_and_counted(backend).await;
    owned_and_let_go(backend).await;
    patched(backend).await;
    owners_put_back(backend).await;
    deleted(backend).await;
    selected(backend).await;
    watched(backend).await;
    install_admission(backend).await;
    labelled_from_their_creation(backend).await;
    println!("contract of a cluster: {}: 9 scenarios hold", backend.name());
}

async fn made_and_read(backend: &dyn Backend) {
    let (cluster, wanted) = (backend.cluster(), version("made", "a"));
    let target = target_of(&wanted);
    assert_eq!(cluster.get(&target).await, Ok(None));
    let made = cluster.create(&target, &wanted).await.expect("it is made");
    assert_eq!((&made["spec"], object::generation(&made)), (&wanted["spec"], 1));
    assert!(!object::uid(&made).is_empty() && made["metadata"]["creationTimestamp"].is_string(), "{made}");
    assert_eq!(owners(&made), [pair("meshward", "Update")]);
    is_conflict(cluster.create(&target, &wanted).await);
    assert_eq!(cluster.get(&target).await, Ok(Some(made)));
}

async fn applied_and_counted(backend: &dyn Backend) {
    let (cluster, mut wanted) = (backend.cluster(), version("applied", "a"));
    let target = target_of(&wanted);
    let dry = cluster.apply(&target, &wanted, Mode::DryRun).await.expect("it would be applied").object;
    assert_eq!(dry["spec"], wanted["spec"]);
    assert_eq!(cluster.get(&target).await, Ok(None), "nothing is stored");
    let first = cluster.apply(&target, &wanted, Mode::Store).await.expect("it is applied").object;
    let again = cluster.apply(&target, &wanted, Mode::Store).await.expect("again").object;
    assert_eq!(again, first, "nothing is written");
    wanted["metadata"]["labels"] = json!({"team": "a"});
    let labelled = cluster.apply(&target, &wanted, Mode::Store).await.expect("a label").object;
    assert_eq!(object::generation(&labelled), 1, "labels do not count");
    assert_ne!(object::resource_version(&labelled), object::resource_version(&first));
    wanted["spec"]["hosts"] = json!(["b"]);
    wanted["metadata"]["resourceVersion"] = object::resource_version(&first).into();
    is_conflict(cluster.apply(&target, &wanted, Mode::Store).await);
    wanted["metadata"]["resourceVersion"] = object::resource_version(&labelled).into();
    let changed = cluster.apply(&target, &wanted, Mode::Store).await.expect("it is applied").object;
    assert_eq!(object::generation(&changed), 2);
    assert_eq!(object::uid(&changed), object::uid(&first));
}

async fn owned_and_let_go(backend: &dyn Backend) {
    let (cluster, mut theirs) = (backend.cluster(), version("owned", "a"));
    let target = target_of(&theirs);
    theirs["metadata"]["labels"] = json!({"shared": "1", "theirs": "1"});
    backend.apply_as("kubectl", &theirs).await;
    let mut ours = version("owned", "b");
    ours["metadata"]["labels"] = json!({"shared": "1"});
    ours["metadata"]["annotations"] = json!({"ours": "1"});
    let live = cluster.apply(&target, &ours, Mode::Store).await.expect("by force").object;
    assert_eq!(live["spec"], ours["spec"]);
    assert_eq!(live["metadata"]["labels"], json!({"shared": "1", "theirs": "1"}), "what we leave out stays theirs");
    assert_eq!(owners(&live), [pair("kubectl", "Apply"), pair("meshward", "Apply")]);
    let bare = json!({"apiVersion": ours["apiVersion"], "kind": ours["kind"],
                      "metadata": {"name": "owned", "namespace": "shop"}, "spec": ours["spec"]});
    let live = cluster.apply(&target, &bare, Mode::Store).await.expect("less").object;
    assert_eq!(live["metadata"]["annotations"], Value::Null, "what only we owned goes");
    assert_eq!(live["metadata"]["labels"], json!({"shared": "1", "theirs": "1"}), "what others own too stays");
    let live = backend.apply_as("kubectl", &theirs).await;
    assert_eq!(live["spec"], theirs["spec"], "they take it back");
    assert_eq!(owners(&live), [pair("kubectl", "Apply")], "nothing is left to us");
}

async fn patched(backend: &dyn Backend) {
    let (cluster, wanted) = (backend.cluster(), version("patched", "a"));
    let target = target_of(&wanted);
    is_conflict(cluster.patch(&target, &json!([{"op": "add", "path": "/spec", "value": wanted["spec"]}])).await);
    let first = backend.apply_as("kubectl", &wanted).await;
    let spec = json!({"hosts": ["b"]});
    let patch = replaced(&first, &[json!({"op": "add", "path": "/spec", "value": spec})]);
    let live = cluster.patch(&target, &patch).await.expect("it is patched");
    assert_eq!((&live["spec"], object::generation(&live)), (&spec, 2), "what it left out is gone");
    assert_eq!(owners(&live), [pair("meshward", "Update")], "kubectl owns nothing of it any more");
    is_conflict(cluster.patch(&target, &patch).await);
    let nothing = replaced(&live, &[]);
    assert_eq!(cluster.patch(&target, &nothing).await, Ok(live), "nothing is written");
}

async fn owners_put_back(backend: &dyn Backend) {
    let (cluster, wanted) = (backend.cluster(), version("owners", "a"));
    let target = target_of(&wanted);
    let before = backend.apply_as("kubectl", &wanted).await;
    let ours = cluster.apply(&target, &version("owners", "b"), Mode::Store).await.expect("by force").object;
    let content = replaced(&ours, &[json!({"op": "add", "path": "/spec", "value": before["spec"]})]);
    let content = cluster.patch(&target, &content).await.expect("the content");
    let saved =
        json!({"op": "replace", "path": "/metadata/managedFields", "value": before["metadata"]["managedFields"]});
    let live = cluster.patch(&target, &replaced(&content, &[saved])).await.expect("the owners");
    assert_eq!(live["metadata"]["managedFields"], before["metadata"]["managedFields"]);
    assert_eq!(object::generation(&live), object::generation(&content), "owners do not count");
    only_what_is_added_is_ours(backend, &live).await;
    let live = cluster.get(&target).await.expect("an answer").expect("it is there");
    let nobody = json!({"op": "replace", "path": "/metadata/managedFields", "value": [{}]});
    let live = cluster.patch(&target, &replaced(&live, &[nobody])).await.expect("no owners");
    assert_eq!((owners(&live), &live["spec"]), (Vec::new(), &before["spec"]));
}

/// What a write takes away needs no second one for the owners.
async fn only_what_is_added_is_ours(backend: &dyn Backend, before: &Value) {
    let (cluster, target) = (backend.cluster(), target_of(before));
    let mut more = version("owners", "a");
    more["metadata"]["annotations"] = json!({"ours": "1"});
    more["spec"]["exportTo"] = json!(["."]);
    let ours = cluster.apply(&target, &more, Mode::Store).await.expect("it is applied").object;
    let owners_and = |operations: &[Value]| {
        let saved =
            json!({"op": "replace", "path": "/metadata/managedFields", "value": before["metadata"]["managedFields"]});
        replaced(&ours, &[&[saved], operations].concat())
    };
    let back = owners_and(&[
        json!({"op": "remove", "path": "/metadata/annotations"}),
        json!({"op": "replace", "path": "/spec", "value": before["spec"]}),
    ]);
    let live = cluster.patch(&target, &back).await.expect("both at once");
    for field in ["managedFields", "annotations"] {
        assert_eq!(live["metadata"][field], before["metadata"][field], "{}: {field}", backend.name());
    }
    assert_eq!(live["spec"], before["spec"]);
}

async fn deleted(backend: &dyn Backend) {
    let (cluster, wanted) = (backend.cluster(), version("deleted", "a"));
    let target = target_of(&wanted);
    let live = cluster.create(&target, &wanted).await.expect("it is made");
    let (uid, at) = (object::uid(&live), object::resource_version(&live));
    is_conflict(cluster.delete(&target, "00000000-0000-0000-0000-00000000dead", at).await);
    is_conflict(cluster.delete(&target, uid, "1").await);
    assert_eq!(cluster.delete(&target, uid, at).await, Ok(()));
    assert_eq!(cluster.get(&target).await, Ok(None));
    assert_eq!(cluster.delete(&target, uid, at).await, Ok(()), "what is gone is deleted");
    let anew = cluster.create(&target, &wanted).await.expect("it is made anew");
    assert_ne!(object::uid(&anew), uid);
}

fn names(objects: &[Arc<Value>]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
}

async fn selected(backend: &dyn Backend) {
    let cluster = backend.cluster();
    for (name, tier) in [("sel-a", "web"), ("sel-b", "db"), ("sel-c", "web")] {
        let mut object = version(name, "a");
        object["metadata"]["labels"] = json!({"suite": "select", "tier": tier});
        backend.apply_as("kubectl", &object).await;
    }
    let all = cluster.kind_of("networking.istio.io/v1", "VirtualService").await.expect("a kind").within("shop");
    for (labels, fields, expected) in [
        ("suite=select", "", &["sel-a", "sel-b", "sel-c"][..]),
        ("suite=select,tier!=db", "", &["sel-a", "sel-c"]),
        ("suite=select,tier in (db)", "", &["sel-b"]),
        ("suite,tier notin (web)", "", &["sel-b"]),
        ("suite=select", "metadata.name=sel-c", &["sel-c"]),
    ] {
        let selection = Selection { labels: labels.to_owned(), fields: fields.to_owned(), ..all.clone() };
        assert_eq!(names(&cluster.select(&selection).await.expect("a list").objects), expected, "{labels} {fields}");
        let (mut paged, mut page) = (Vec::new(), Selection { limit: 1, only_metadata: true, ..selection });
        loop {
            let listed = cluster.select(&page).await.expect("a page");
            assert!(listed.objects.len() <= 1 && listed.objects.iter().all(|object| object["spec"].is_null()));
            paged.extend(names(&listed.objects).into_iter().map(str::to_owned));
            page.from = listed.next;
            if page.from.is_empty() {
                break;
            }
        }
        assert_eq!(paged, expected, "page by page");
    }
    let nonsense = Selection { from: "nonsense".to_owned(), limit: 1, ..all };
    assert!(matches!(cluster.select(&nonsense).await, Err(ClusterError::Schema(_))));
}

async fn watched(backend: &dyn Backend) {
    let cluster = backend.cluster();
    let all = cluster.kind_of("networking.istio.io/v1", "VirtualService").await.expect("a kind").within("shop");
    let selection = Selection { labels: "suite=watch".to_owned(), ..all };
    let listed = cluster.select(&selection).await.expect("a list");
    let mut labelled = version("watched", "a");
    labelled["metadata"]["labels"] = json!({"suite": "watch"});
    let made = backend.apply_as("kubectl", &labelled).await;
    let mut changes = cluster.watch(&selection, &listed.resource_version).await.expect("a watch");
    labelled["spec"]["hosts"] = json!(["b"]);
    let changed = backend.apply_as("kubectl", &labelled).await;
    backend.apply_as("kubectl", &version("unwatched", "a")).await;
    backend.apply_as("kubectl", &version("watched", "a")).await;
    let back = backend.apply_as("kubectl", &labelled).await;
    let target = target_of(&labelled);
    cluster.delete(&target, object::uid(&back), object::resource_version(&back)).await.expect("it is deleted");
    let mut told = Vec::new();
    while told.len() < 5 {
        let next = tokio::time::timeout(PATIENCE, changes.try_next()).await.expect("in time");
        match next.expect("no error").expect("no end") {
            Change::Bookmark(_) => {}
            Change::Stored(object) => told.push(("stored", object::resource_version(&object).to_owned())),
            Change::Deleted(object) => told.push(("deleted", object["metadata"]["name"].to_string())),
        }
    }
    let stored = |object: &Value| ("stored", object::resource_version(object).to_owned());
    let gone = ("deleted", "\"watched\"".to_owned());
    assert_eq!(told, [stored(&made), stored(&changed), gone.clone(), stored(&back), gone], "{}", backend.name());
}

/// What is installed with the service.
pub async fn install_admission(backend: &dyn Backend) {
    for object in admission::manifests() {
        backend.apply_as("kubectl", &object).await;
    }
}

async fn labelled_from_their_creation(backend: &dyn Backend) {
    let cluster = backend.cluster();
    let pod = |name: &str, labels: &Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels},
               "spec": {"containers": [{"name": "app", "image": "none"}]}})
    };
    let parameter = |key: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        admission::parameter(&Newcomers { namespace: "shop".to_owned(), labels, key: key.to_owned() })
    };
    let (some, all) = ("meshward.io/cohort-0000000001", "meshward.io/cohort-0000000002");
    let mut other = parameter("meshward.io/other", &[]);
    other["metadata"]["name"] = "meshward-other".into();
    for object in [parameter(some, &[("app", "new"), ("t.io/tier", "web")]), parameter(all, &[]), other] {
        cluster.create(&target_of(&object), &object).await.expect("it is made");
    }
    let both = json!({"app": "new", "t.io/tier": "web", some: "stable", all: "stable"});
    let dry = pod("probe", &json!({"app": "new", "t.io/tier": "web"}));
    eventually("the API server follows what was installed", || async {
        let probe = cluster.apply(&target_of(&dry), &dry, Mode::DryRun).await.expect("an answer").object;
        (probe["metadata"]["labels"] == both).then_some(())
    })
    .await;
    for (name, labels, expected) in [
        ("new-a", json!({"app": "new", "t.io/tier": "web"}), both.clone()),
        ("new-b", json!({"app": "new", "t.io/tier": "db"}), json!({"app": "new", "t.io/tier": "db", all: "stable"})),
        ("new-c", Value::Null, json!({all: "stable"})),
    ] {
        let made = backend.apply_as("kubectl", &pod(name, &labels)).await;
        assert_eq!(made["metadata"]["labels"], expected, "{name} on {}", backend.name());
    }
    let mut elsewhere = pod("new-d", &json!({"app": "new"}));
    elsewhere["metadata"]["namespace"] = "default".into();
    let made = backend.apply_as("kubectl", &elsewhere).await;
    assert_eq!(made["metadata"]["labels"], json!({"app": "new"}), "another namespace on {}", backend.name());
    for object in [parameter(some, &[]), parameter(all, &[])] {
        let live = cluster.get(&target_of(&object)).await.expect("an answer").expect("it is there");
        let (uid, at) = (object::uid(&live), object::resource_version(&live));
        cluster.delete(&target_of(&object), uid, at).await.expect("it is deleted");
    }
    eventually("what was told is taken back", || async {
        let probe = cluster.apply(&target_of(&dry), &dry, Mode::DryRun).await.expect("an answer").object;
        (probe["metadata"]["labels"] == dry["metadata"]["labels"]).then_some(())
    })
    .await;
}
