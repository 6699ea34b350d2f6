//! The kinds that are known, by group, kind and version.

use std::{
    collections::BTreeMap,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, OnceLock},
};

use meshward_model::Mesh;
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    cel, convert, explain,
    outline::{self, Outline},
};
use crate::{
    report::{Hit, quote},
    rules::catalogue as rule,
};

/// Definitions that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error("{}: not YAML: {message}", path.display())]
    Yaml {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The schema of a version cannot be read.
    #[error("the definition of {kind} {version}: {message}")]
    Schema {
        /// Of what.
        kind: String,
        /// Which.
        version: String,
        /// Why.
        message: String,
    },
    /// Nothing was found, which is surely not what was meant.
    #[error("{}: no CustomResourceDefinition in it", path.display())]
    Empty {
        /// Where.
        path: PathBuf,
    },
}

/// The definitions of all kinds. Schemas are read and compiled when they are first needed, which takes some milliseconds each.
#[derive(Debug, Default)]
pub struct Catalogue {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<String, Served>>>,
    /// If these are a cluster's: those for a mesh of which the cluster has none.
    otherwise: Option<Arc<Catalogue>>,
}

/// One version of a kind.
#[derive(Debug)]
struct Served {
    source: Source,
    compiled: OnceLock<Result<Compiled, String>>,
}

/// Where a version's schema is.
#[derive(Debug)]
enum Source {
    /// It is read already.
    Read(Value),
    /// In the YAML text of a list with the version alone; it is read when it is first asked for.
    Text(String, OnceLock<Result<Value, String>>),
}

/// A schema that is ready to use.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) schema: Value,
    pub(super) validator: jsonschema::Validator,
    rules: cel::Node,
}

/// What a definition says of an object.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong.
    pub hits: Vec<Hit>,
    /// Rules that did not run, each with the reason.
    pub skipped: Vec<String>,
}

/// What the catalogue knows of a group, version and kind.
#[derive(Debug)]
pub enum Lookup<'c> {
    /// Its schema.
    Schema(Schema<'c>),
    /// The kind, in other versions only.
    OtherVersions(Vec<&'c str>),
    /// Other kinds of the mesh, but not this one: those of its group, or of all groups if the group is unknown too.
    OtherKinds(Vec<&'c str>),
    /// Nothing of that mesh.
    Nothing,
}

/// The schema of one version of a kind.
#[derive(Debug)]
pub struct Schema<'c>(&'c Served);

impl Catalogue {
    /// Reads definitions from files and folders; a folder's files that end with .yaml, .yml or .json are read.
    ///
    /// # Errors
    /// If something cannot be read, is not YAML, or holds no definition.
    pub fn read(paths: &[PathBuf]) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for path in paths {
            let before = catalogue.len();
            for file in files(path)? {
                catalogue.read_file(&file)?;
            }
            if catalogue.len() == before {
                return Err(CatalogueError::Empty { path: path.clone() });
            }
        }
        Ok(catalogue)
    }

    /// The definitions that a cluster has of its meshes' kinds; what it does not define, it does not serve. For a mesh of which it has
    /// none, those of another catalogue.
    #[must_use]
    pub fn of_cluster(definitions: &[Value], otherwise: Arc<Self>) -> Self {
        let mut catalogue = Self { otherwise: Some(otherwise), ..Self::default() };
        definitions.iter().for_each(|definition| catalogue.add(definition));
        catalogue
    }

    /// Whether a cluster has a say on an apiVersion's mesh; `None` if these are not the definitions of a cluster.
    #[must_use]
    pub fn cluster_has_mesh(&self, api_version: &str) -> Option<bool> {
        self.otherwise.as_ref().map(|_| !matches!(self.own(api_version, ""), Lookup::Nothing))
    }

    /// How many versions of kinds are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }

    /// Whether no kind is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.otherwise.as_ref().is_none_or(|other| other.is_empty())
    }

    fn read_file(&mut self, file: &FilePath) -> Result<(), CatalogueError> {
        let text = std::fs::read_to_string(file).map_err(|source| CatalogueError::Io { path: file.into(), source })?;
        for document in outline::documents(&text) {
            if let Some(Outline { group, kind, versions }) = outline::definition(document) {
                for (version, text) in versions {
                    self.insert(group, kind, version, Source::Text(text.to_owned(), OnceLock::new()));
                }
                continue;
            }
            for document in serde_yaml::Deserializer::from_str(document) {
                let value = Value::deserialize(document)
                    .map_err(|error| CatalogueError::Yaml { path: file.into(), message: error.to_string() })?;
                self.add(&value);
            }
        }
        Ok(())
    }

    /// Reads the schemas that were not needed yet, so that a server that starts tells what cannot be read.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn check(&self) -> Result<(), CatalogueError> {
        for (kind, versions) in self.groups.values().flatten() {
            for (version, served) in versions {
                let [kind, version] = [kind.clone(), version.clone()];
                let unread = |message: &String| CatalogueError::Schema { kind, version, message: message.clone() };
                served.source.openapi().map_err(unread)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, group: &str, kind: &str, version: &str, source: Source) {
        let kinds = self.groups.entry(group.to_owned()).or_default();
        let served = Served { source, compiled: OnceLock::new() };
        kinds.entry(kind.to_owned()).or_default().insert(version.to_owned(), served);
    }

    /// Adds a definition; anything else is left out, for the files of a mesh hold more than definitions.
    pub fn add(&mut self, definition: &Value) {
        let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
        let (Some("CustomResourceDefinition"), Some(group), Some(kind)) =
            (text("/kind"), text("/spec/group"), text("/spec/names/kind"))
        else {
            return;
        };
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten().filter(|version| version["served"] == true) {
            let (Some(name), Some(openapi)) = (version["name"].as_str(), version.pointer("/schema/openAPIV3Schema"))
            else {
                continue;
            };
            self.insert(group, kind, name, Source::Read(openapi.clone()));
        }
    }

    /// Judges an object, given its apiVersion and kind, or says what is known instead.
    pub fn find<'c>(&'c self, api_version: &str, kind: &str) -> Lookup<'c> {
        match (self.own(api_version, kind), &self.otherwise) {
            (Lookup::Nothing, Some(other)) => other.find(api_version, kind),
            (found, _) => found,
        }
    }

    fn own<'c>(&'c self, api_version: &str, kind: &str) -> Lookup<'c> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let Some(kinds) = self.groups.get(group) else {
            let mesh = Mesh::of_api_version(group);
            let same_mesh = |other: &&String| Mesh::of_api_version(other) == mesh;
            let groups = self.groups.iter().filter(|(other, _)| same_mesh(other));
            let kinds: Vec<&str> = groups.flat_map(|(_, kinds)| kinds.keys()).map(String::as_str).collect();
            return if kinds.is_empty() { Lookup::Nothing } else { Lookup::OtherKinds(kinds) };
        };
        let Some(versions) = kinds.get(kind) else {
            return Lookup::OtherKinds(kinds.keys().map(String::as_str).collect());
        };
        match versions.get(version) {
            Some(served) => Lookup::Schema(Schema(served)),
            None => Lookup::OtherVersions(versions.keys().map(String::as_str).collect()),
        }
    }

    /// The kinds of all groups that belong to a mesh.
    #[must_use]
    pub fn mesh_kinds(&self) -> Vec<&str> {
        let groups = self.groups.iter().filter(|(group, _)| Mesh::of_api_version(group).is_some());
        let kinds: Vec<&str> = groups.flat_map(|(_, kinds)| kinds.keys()).map(String::as_str).collect();
        match &self.otherwise {
            Some(other) if kinds.is_empty() => other.mesh_kinds(),
            _ => kinds,
        }
    }
}

impl Schema<'_> {
    /// Compiles the definition if nobody has done so, which [`Schema::check`] would do, too. Whoever knows what is going to be
    /// asked has several compiled at a time.
    pub fn prepare(&self) {
        let _ = self.compiled();
    }

    fn compiled(&self) -> Result<&Compiled, &str> {
        let compile = || self.0.source.openapi().map_err(Clone::clone).and_then(compile);
        self.0.compiled.get_or_init(compile).as_ref().map_err(String::as_str)
    }

    /// What the definition says of an object.
    ///
    /// # Errors
    /// A sentence, if the definition itself cannot be compiled.
    pub fn check(&self, object: &Value) -> Result<Checked, &str> {
        let compiled = self.compiled()?;
        let object = compiled.rules.filled(object);
        let mut hits = explain::hits(compiled, &object);
        if let Some(hit) = hits.iter().find(|hit| blocks(hit)) {
            let reason = format!("rules of the definition: not asked, because of {}", quote(&hit.path.to_string()));
            return Ok(Checked { hits, skipped: vec![reason] });
        }
        let cel::Outcome { hits: broken, skipped } = compiled.rules.judge(&object);
        hits.extend(broken);
        Ok(Checked { hits, skipped: skipped.into_iter().collect() })
    }
}

/// Whether the API server asks no rules after this: they rely on types and sizes.
fn blocks(hit: &Hit) -> bool {
    [rule::REQUIRED, rule::TYPE, rule::ENUM, rule::BOUNDS].contains(&hit.rule)
}

impl Source {
    fn openapi(&self) -> Result<&Value, &String> {
        match self {
            Self::Read(value) => Ok(value),
            Self::Text(text, read) => read.get_or_init(|| of_text(text)).as_ref(),
        }
    }
}

/// The schema in the text of a list with one version.
fn of_text(text: &str) -> Result<Value, String> {
    let mut versions: Vec<Value> =
        serde_yaml::from_str(text).map_err(|error| format!("the CRD's schema cannot be read: {error}"))?;
    let schema = versions.first_mut().and_then(|version| version.pointer_mut("/schema/openAPIV3Schema"));
    schema.map(Value::take).ok_or_else(|| "the CRD has no schema".to_owned())
}

fn compile(openapi: &Value) -> Result<Compiled, String> {
    let schema = convert::root(openapi);
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(false)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("the CRD's schema cannot be used: {error}"))?;
    Ok(Compiled { schema, validator, rules: cel::Node::root(openapi) })
}

fn files(path: &FilePath) -> Result<Vec<PathBuf>, CatalogueError> {
    let io = |source| CatalogueError::Io { path: path.into(), source };
    if !std::fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
