//! The validator's verdicts beside those of a real API server with Istio's own admission webhook, on the cases in the folder
//! that `MESHWARD_CASES` names.
//!
//! Each object goes the way that a caller's does: DryRun of the validator, mesh-gateway, server-side dry run. Run
//! `deploy/local/install stack` once before. Without the folder there is nothing to show: it then says so, and no line of the
//! output claims that something passed.

#[path = "world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use meshward_local::{stack::ApiServer, tools::Tools};
use meshward_proto::{
    types::v1::{Finding, Severity},
    validator::v1::DryRunRequest,
};
use meshward_validator::{
    corpus::{Case, is_our_own, read},
    report::Findings,
    rules::catalogue as rule,
    text,
};
use serde_json::json;
use world::World;

/// The parts of the corpus whose objects are Istio's.
const PARTS: [&str; 3] = ["validation", "crd", "realistic"];
/// Where objects stand that name no namespace.
const NAMESPACE: &str = "default";
/// Objects asked about at once.
const PARALLEL: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("MESHWARD_CASES").filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        println!("NOT RUN: the comparison with a real API server, for MESHWARD_CASES names no folder of cases");
        return ExitCode::SUCCESS;
    };
    match run(&folder).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}: {error:#}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether all agree.
async fn run(folder: &Path) -> anyhow::Result<bool> {
    let (cases, others) = cases(folder)?;
    println!("{} cases are sent, {others} are no YAML or hold objects that are not Istio's", cases.len());
    let dir = tempfile::tempdir()?;
    let tools = Tools::locate()?;
    let cluster = ApiServer::start_with_istio(dir.path(), &tools).await?;
    let world = World::start(dir.path(), cluster.kubeconfig(), &tools).await?;
    create_namespaces(cluster.client(), &cases).await?;
    let world_ref = &world;
    let answers = stream::iter(&cases).map(|case| async move { (case, world_ref.ask(case).await) });
    let answers: Vec<_> = answers.buffered(PARALLEL).collect().await;
    world.stop().await?;
    cluster.stop().await;
    Ok(tell(&answers))
}

/// A case whose objects can be sent.
struct Sendable {
    case: Case,
    /// Each object as JSON.
    objects: Vec<String>,
    namespaces: BTreeSet<String>,
}

/// What both said of a case.
#[derive(Debug, Default)]
struct Answer {
    ours: Vec<String>,
    theirs: Vec<String>,
    /// Why there is no answer, if there is none.
    unasked: Option<String>,
}

/// The cases that can be sent, and how many cannot.
fn cases(folder: &Path) -> anyhow::Result<(Vec<Sendable>, usize)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    let mut cases = Vec::new();
    for file in &files {
        cases.extend(read(file, Case::of)?);
    }
    cases.retain(|case| PARTS.contains(&case.corpus.as_str()));
    let all = cases.len();
    let cases: Vec<_> = cases.into_iter().filter_map(sendable).collect();
    let others = all - cases.len();
    Ok((cases, others))
}

/// None if the text is no YAML, or one of its objects is not Istio's: nothing else is served here.
fn sendable(case: Case) -> Option<Sendable> {
    let mut findings = Findings::default();
    let mut sendable = Sendable { objects: Vec::new(), namespaces: BTreeSet::new(), case };
    for mut document in text::load(sendable.case.text.as_bytes(), &mut findings) {
        let group = document.value["apiVersion"].as_str()?.split('/').next()?;
        if !group.ends_with(".istio.io") {
            return None;
        }
        let metadata = document.value.get_mut("metadata")?.as_object_mut()?;
        let namespace = metadata.entry("namespace").or_insert_with(|| json!(NAMESPACE));
        sendable.namespaces.extend(namespace.as_str().map(str::to_owned));
        sendable.objects.push(document.value.to_string());
    }
    (!findings.has_errors()).then_some(sendable)
}

async fn create_namespaces(client: &kube::Client, cases: &[Sendable]) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let there: BTreeSet<_> =
        api.list(&Default::default()).await?.into_iter().filter_map(|one| one.metadata.name).collect();
    let wanted: BTreeSet<_> =
        cases.iter().flat_map(|case| &case.namespaces).filter(|name| !there.contains(*name)).collect();
    for name in wanted {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        api.create(&PostParams::default(), &namespace).await?;
    }
    Ok(())
}

impl World {
    async fn ask(&self, sendable: &Sendable) -> Answer {
        let mut answer = Answer::default();
        for object in &sendable.objects {
            let message = DryRunRequest { yaml: object.clone(), despite_errors: true, ..DryRunRequest::default() };
            let reply = match self.client.clone().dry_run(self.signed(message)).await {
                Ok(reply) => reply.into_inner(),
                Err(status) => return Answer { unasked: Some(status.message().to_owned()), ..answer },
            };
            if reply.objects.is_empty() {
                return Answer { unasked: Some("it has no name".to_owned()), ..answer };
            }
            for finding in reply.findings.iter().filter(|finding| refuses(finding)) {
                let line = format!("{} {}: {}", finding.id, finding.path, finding.message);
                if finding.id == rule::ADMISSION_REFUSED.id { answer.theirs.push(line) } else { answer.ours.push(line) }
            }
        }
        answer
    }
}

fn refuses(finding: &Finding) -> bool {
    finding.severity() == Severity::Error && finding.id.as_str() < "MW4" && !is_our_own(&finding.id)
}

/// Prints what was found; whether all agree. A part of the corpus that is not in the folder proves nothing, and fails; so does
/// a case that could not be asked.
fn tell(answers: &[(&Sendable, Answer)]) -> bool {
    let mut tallies: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let (mut unasked, mut other_verdicts) = (0, 0);
    for (Sendable { case, .. }, answer) in answers {
        if let Some(reason) = &answer.unasked {
            unasked += 1;
            println!("{}: not asked: {reason}", case.id);
            continue;
        }
        let tally = tallies.entry(&case.corpus).or_default();
        tally.1 += 1;
        if answer.ours.is_empty() == answer.theirs.is_empty() {
            tally.0 += 1;
        } else {
            println!("{}: the cluster says {:?}, we say {:?}", case.id, answer.theirs, answer.ours);
        }
        if answer.theirs.is_empty() != case.admitted {
            other_verdicts += 1;
            println!("{}: this cluster says {:?}, and the case {}", case.id, answer.theirs, case.admitted);
        }
    }
    for (corpus, (agreed, all)) in &tallies {
        println!("{corpus:<16} {agreed:>4} of {all:>4}");
    }
    println!(
        "{unasked} cases could not be asked; {other_verdicts} are judged otherwise by this cluster than by their file"
    );
    unasked == 0 && tallies.len() == PARTS.len() && tallies.values().all(|(agreed, all)| agreed == all)
}
